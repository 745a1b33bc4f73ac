package proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/proxy"
)

// shout is an invoker and a catalog of one model.
type shout struct{}

func (shout) Invoke(_ context.Context, req actions.Request) (actions.Response, error) {
	return actions.Response{ContentType: "application/json", Data: []byte(strings.ToUpper(string(req.Args)))}, nil
}
func (shout) Info(string) json.RawMessage { return nil }
func (shout) Stats() []actions.PoolStats  { return nil }

func (shout) Models(context.Context) ([]actions.Model, error) {
	return []actions.Model{{Name: "shout", Runtime: actions.ONNX, Arguments: []actions.Argument{{Name: "text", Type: actions.TypeString}}}}, nil
}

func (s shout) Model(ctx context.Context, _ string) (actions.Model, error) {
	models, err := s.Models(ctx)
	return models[0], err
}

func (s shout) Import(ctx context.Context, _ actions.Source) (actions.Model, error) {
	return s.Model(ctx, "shout")
}

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error)
	go func() {
		done <- proxy.New(proxy.Config{Invoker: shout{}, Catalog: shout{}, Model: "shout"}).Serve(ctx, ln)
	}()

	post := func(path, body string) {
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+ln.Addr().String()+path, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		answer, _ := io.ReadAll(resp.Body)
		fmt.Println(resp.StatusCode, strings.TrimSpace(string(answer)))
	}
	post("/run", `{"value":{"text":"hello"}}`)
	post("/v2/models/shout/predict/", `{"text":"hello"}`)

	stop()
	fmt.Println(<-done)
	// Output:
	// 200 {"TEXT":"HELLO"}
	// 200 {"status": "OK", "predictions": {"TEXT":"HELLO"}}
	// <nil>
}
