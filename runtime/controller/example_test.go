package controller_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
	"github.com/deepfn/deepfn/runtime/store"
)

// Example makes an action and invokes it.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s, err := store.Open(store.Config{Path: filepath.Join(dir, "whisk.db")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	run := func(_ context.Context, in actions.Activation) (actions.Response, error) {
		return actions.Response{Data: in.Value}, nil
	}
	c, err := controller.New(controller.Config{Store: s, Catalog: newCatalog(), Run: run})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	defer func() { _ = c.Close(ctx) }()

	hello := whisk.Name{Namespace: whisk.Guest, Entity: "hello"}
	body := `{"exec": {"kind": "python:3", "code": "def main(args): return args"}, "parameters": [{"key": "a", "value": 1}]}`
	if _, err := c.Put(ctx, whisk.Guest, whisk.Actions, hello, json.RawMessage(body), false); err != nil {
		fmt.Println(err)
		return
	}
	out, err := c.Invoke(ctx, whisk.Guest, hello, whisk.Invocation{Args: json.RawMessage(`{"b": 2}`), Blocking: true})
	fmt.Printf("%s %v\n", out.Activation.Response.Result, err)
	// Output: {"a":1,"b":2} <nil>
}
