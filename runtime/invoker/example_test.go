package invoker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/invoker"
)

// An echo is an instance, and a catalog of one model, that answers with its arguments.
type echo struct{ done chan struct{} }

func (e *echo) Call(_ context.Context, req actions.Request) (actions.Response, error) {
	return actions.Response{ContentType: "application/json", Data: req.Args}, nil
}
func (e *echo) Concurrency() int      { return 1 }
func (e *echo) Settle() error         { return nil }
func (e *echo) Info() json.RawMessage { return nil }
func (e *echo) Done() <-chan struct{} { return e.done }
func (e *echo) Err() error            { return nil }
func (e *echo) Close() error          { close(e.done); return nil }

type echoes struct{}

func (echoes) Model(_ context.Context, name string) (actions.Model, error) {
	return actions.Model{Name: name}, nil
}

func start(context.Context, actions.Model, []string) (invoker.Instance, error) {
	return &echo{done: make(chan struct{})}, nil
}

func Example() {
	v := invoker.New(invoker.Config{Catalog: echoes{}, Start: start})
	resp, err := v.Invoke(context.Background(), actions.Request{Model: "echo", Args: []byte(`{"n":1}`)})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s, cold: %t\n", resp.Data, resp.Timing.Cold)
	resp, _ = v.Invoke(context.Background(), actions.Request{Model: "echo", Args: []byte(`{"n":2}`)})
	fmt.Printf("%s, cold: %t\n", resp.Data, resp.Timing.Cold)
	if err := v.Close(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// {"n":1}, cold: true
	// {"n":2}, cold: false
}

// BenchmarkInvoke is what the pool adds to a call of a warm instance: alone, and with
// more callers than instances.
func BenchmarkInvoke(b *testing.B) {
	v := invoker.New(invoker.Config{Catalog: echoes{}, Start: start})
	b.Cleanup(func() { _ = v.Close(context.Background()) })
	req := actions.Request{Model: "echo"}
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Invoke(context.Background(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("queued", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := v.Invoke(context.Background(), req); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
