package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(store.Config{Path: filepath.Join(dir, "openwhisk.db"), MaxActivations: 1000})
	if err != nil {
		panic(err)
	}
	defer s.Close()

	ctx, now := context.Background(), time.Now()
	err = s.Begin(ctx, store.Pending{Namespace: "guest", ID: "1", Path: "guest/hello", Start: now})
	if err != nil {
		panic(err)
	}
	err = s.End(ctx, store.Record{Namespace: "guest", ID: "1", Path: "guest/hello", Start: now, Summary: []byte("{}")})
	if err != nil {
		panic(err)
	}
	_ = s.Activations("guest", whisk.ActivationQuery{Name: "hello"}, func(r store.Record) bool {
		fmt.Println(r.ID, r.Path)
		return true
	})
	// Output: 1 guest/hello
}
