package catalog_test

import (
	"context"
	"fmt"
	"testing/fstest"

	"github.com/deepfn/deepfn/actions/catalog"
)

func ExampleCatalog() {
	c := catalog.New(catalog.Config{
		Shipped: fstest.MapFS{"cats/action.yaml": {Data: []byte(`
title: Tells cats from dogs
runtime: onnx
arguments:
  - {name: image, type: file, required: true}
`)}},
		CacheDir: "/var/cache/deepfn",
	})
	ctx := context.Background()
	models, err := c.Models(ctx)
	fmt.Println(models[0].Name, models[0].Arguments[0].Name, err)
	files, err := c.Fetch(ctx, models[0]) // this one needs none
	fmt.Println(len(files), err)
	_, err = c.Model(ctx, "dogs")
	fmt.Println(err)
	// Output:
	// cats image <nil>
	// 0 <nil>
	// there is no model "dogs"; there are: cats
}
