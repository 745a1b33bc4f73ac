package catalog

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// A library is where the shared library of ONNX Runtime comes from.
type library struct {
	file actions.ModelFile
	// platform is the tag of the wheel that holds it.
	platform string
}

// libraries are those of the version that package onnx is built for, by GOOS/GOARCH.
func libraries() map[string]library {
	onnxruntime := func(platform, sum string) library {
		return library{platform: platform, file: actions.ModelFile{
			Package: "onnxruntime==1.27.0",
			Path:    "onnxruntime/capi/libonnxruntime.so.1.27.0",
			SHA256:  sum,
		}}
	}
	return map[string]library{
		"linux/amd64": onnxruntime("manylinux_2_28_x86_64", "b5c9d4f124d24707f514dad926dc181820807178855df1c528e3addb2dd0e6f7"),
		"linux/arm64": onnxruntime("manylinux_2_28_aarch64", "9275ef52956228686ae47b0219f67476a1148505084bdc5571e7bf1bf69b11f2"),
	}
}

// Library returns the absolute path of ONNX Runtime's shared library, which it fetches
// and verifies like the file of a model. The wheel is that of one Python version,
// whatever the interpreter's is, so that the hash is known. The error is Unsupported
// where there is no such library for the machine, else as that of Fetch.
func (c *Catalog) Library(ctx context.Context) (string, error) {
	return c.library(ctx, runtime.GOOS+"/"+runtime.GOARCH)
}

func (c *Catalog) library(ctx context.Context, platform string) (string, error) {
	l, ok := c.libraries[platform]
	if !ok {
		return "", actions.Errorf(actions.Unsupported, "libonnxruntime: none is known for %s, only for %s; name one of your own",
			platform, strings.Join(slices.Sorted(maps.Keys(c.libraries)), " and "))
	}
	const name = "libonnxruntime"
	p, err := c.piece(name, l.file)
	if err == nil && !c.cached(p) {
		err = c.fetch(ctx, p.source(), []piece{p}, []string{
			"--platform", l.platform, "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311",
		})
	}
	if err != nil {
		return "", fetchError(ctx, name, err)
	}
	return p.path, nil
}
