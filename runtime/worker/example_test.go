package worker_test

import (
	"context"
	"fmt"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/workertest"
)

func Example() {
	// A child that echoes; in earnest, a program that calls worker.Serve.
	argv, env := workertest.Command()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, err := worker.Start(ctx, worker.Config{Argv: argv, Env: env})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close()

	resp, err := w.Call(ctx, actions.Request{
		Files: []actions.File{{Name: "image", ContentType: "text/plain", Data: []byte("hello")}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %s\n", resp.ContentType, resp.Data)
	// Output: text/plain: hello
}
