package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/node"
)

// A teller is a pool whose models say what they were asked.
type teller struct{}

func (teller) Invoke(_ context.Context, req actions.Request) (actions.Response, error) {
	return actions.Response{Data: fmt.Appendf(req.Buffer[:0], "%s of %s", req.Args, req.Model)}, nil
}
func (teller) Info(string) json.RawMessage             { return nil }
func (teller) Stats() []actions.PoolStats              { return nil }
func (teller) Warm(context.Context, string, int) error { return nil }
func (teller) Keep(context.Context, string, int) error { return nil }
func (teller) Cool(string)                             {}

// A shelf is a catalog that has every model.
type shelf struct{}

func (shelf) Models(context.Context) ([]actions.Model, error) { return nil, nil }

func (shelf) Model(_ context.Context, name string) (actions.Model, error) {
	return actions.Model{Name: name}, nil
}

func (shelf) Import(context.Context, actions.Source) (actions.Model, error) {
	return actions.Model{}, actions.Errorf(actions.Unsupported, "no code")
}

// A node serves its pool on a socket; a relay, mostly in another process, is that pool.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	socket := filepath.Join(dir, "node.sock")
	ln, err := node.Listen(ctx, socket, 0o600)
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error, 1)
	go func() { // ends with cancel
		served <- node.New(node.Config{Pool: teller{}, Catalog: shelf{}, Forget: func(string) {}}).Serve(ctx, ln)
	}()

	relay := node.NewRelay(node.RelayConfig{Path: socket})
	resp, err := relay.Invoke(ctx, actions.Request{Model: "cats", Args: []byte("pictures")})
	fmt.Printf("%s %v\n", resp.Data, err)

	_ = relay.Close()
	cancel()
	fmt.Println(<-served)
	// Output:
	// pictures of cats <nil>
	// <nil>
}
