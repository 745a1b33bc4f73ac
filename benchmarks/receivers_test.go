package benchmarks

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"

	sdk "github.com/cloudevents/sdk-go/v2"
	sdkhttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// The receivers of BenchmarkEvents: processes of the test binary, each with a pool of one
// Python worker of its own.
const (
	modeEvents   = "events"   // ours
	modeReceiver = "receiver" // that of the Go SDK
)

// The models of the receivers: a plain function in Python of one event, one of a list of them, and the
// plain one as a program in Go, which costs as little as a model can.
const (
	plainModel   = "plain"
	rowsModel    = "rows"
	programModel = "program"
)

// eventModel is a model by its name, and its source.
func eventModel(name string) (m actions.Model, source string) {
	m = actions.Model{Name: name, Runtime: actions.Python}
	if name == programModel {
		m.Runtime = actions.Executable
		return m, ""
	}
	if name == plainModel {
		return m, "def main(args):\n    return {\"n\": args[\"n\"] + 1}\n"
	}
	m.Batching = actions.Batching{Argument: "rows", Size: eventsOfBatch}
	return m, "def predict(rows: list):\n    return [{\"n\": row[\"n\"] + 1} for row in rows]\n"
}

// serveReceiver is a receiver until ctx ends. It prints its address.
func serveReceiver(ctx context.Context, mode, model string) (err error) {
	dir, err := os.MkdirTemp("", "receiver")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	m, source := eventModel(model)
	m.Dir = dir
	if err := os.WriteFile(filepath.Join(dir, "model.py"), []byte(source), 0o600); err != nil {
		return err
	}
	l, err := launcher.New(launcher.Config{Dir: filepath.Join(dir, "launcher")})
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	var pool *invoker.Invoker
	if model == programModel {
		pool = programPool(m)
	} else {
		pool = pythonPool(l, m)
	}
	defer func() { _ = pool.Close(context.WithoutCancel(ctx)) }()
	var cfg net.ListenConfig
	ln, err := cfg.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	if mode == modeReceiver {
		return receive(ctx, ln, m, pool)
	}
	return proxy.New(proxy.Config{Invoker: pool, Catalog: only{m}, Model: m.Name}).Serve(ctx, ln)
}

// pythonPool is a pool of one worker of a model that is a file.
func pythonPool(l *launcher.Launcher, m actions.Model) *invoker.Invoker {
	python := os.Getenv("DEEPFN_TEST_PYTHON_CURRENT")
	return invoker.New(invoker.Config{Catalog: only{m}, Start: func(ctx context.Context, m actions.Model, _ []string) (invoker.Instance, error) {
		w, err := l.Start(ctx, launcher.Run{Model: m, Spec: launcher.Spec{Path: "model.py"}, Python: python})
		if err != nil {
			return nil, err
		}
		return w, nil
	}})
}

// programPool is a pool of one worker that is this program again.
func programPool(m actions.Model) *invoker.Invoker {
	return invoker.New(invoker.Config{Catalog: only{m}, Start: func(ctx context.Context, _ actions.Model, _ []string) (invoker.Instance, error) {
		w, err := worker.Start(ctx, worker.Config{Argv: []string{"/proc/self/exe"}, Env: append(os.Environ(), programChild+"=1")})
		if err != nil {
			return nil, err
		}
		return w, nil
	}})
}

// programChild is the variable of a process that is the worker of programModel.
const programChild = "DEEPFN_BENCH_PROGRAM"

// serveProgram is that worker.
func serveProgram() {
	if err := worker.Serve(context.Background(), nextProgram{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A nextProgram is what plainModel is, in Go.
type nextProgram struct{}

func (nextProgram) Start(context.Context, json.RawMessage) (any, error) {
	return actions.Description{Predict: &actions.Signature{Parameters: []actions.Parameter{}, Open: true}}, nil
}

func (nextProgram) Call(_ context.Context, req actions.Request) (actions.Response, error) {
	var args struct {
		N int `json:"n"`
	}
	if err := json.Unmarshal(req.Args, &args); err != nil {
		return actions.Response{}, actions.Errorf(actions.Invalid, "arguments: %w", err)
	}
	return actions.Response{ContentType: "application/json", Data: fmt.Appendf(nil, `{"n": %d}`, args.N+1)}, nil
}

// only is the catalog of one model.
type only struct{ m actions.Model }

func (o only) Model(context.Context, string) (actions.Model, error) { return o.m, nil }

func (o only) Models(context.Context) ([]actions.Model, error) { return []actions.Model{o.m}, nil }

func (only) Import(context.Context, actions.Source) (actions.Model, error) {
	return actions.Model{}, actions.Errorf(actions.Unsupported, "no code is taken here")
}

// receive is the SDK's receiver with a function that calls the model.
func receive(ctx context.Context, ln net.Listener, m actions.Model, pool *invoker.Invoker) error {
	protocol, err := sdk.NewHTTP(sdkhttp.WithListener(ln))
	if err != nil {
		return err
	}
	c, err := sdk.NewClient(protocol, sdk.WithTimeNow(), sdk.WithUUIDs())
	if err != nil {
		return err
	}
	return c.StartReceiver(ctx, func(ctx context.Context, in sdk.Event) (*sdk.Event, error) {
		args := in.Data()
		if m.Batching.Argument != "" {
			args = fmt.Appendf(nil, `{%q:[%s]}`, m.Batching.Argument, args)
		}
		resp, err := pool.Invoke(ctx, actions.Request{Model: m.Name, Verb: actions.Predict, ID: in.ID(), Args: args})
		if err != nil {
			return nil, err
		}
		out := sdk.NewEvent()
		out.SetSource("/models/" + m.Name)
		out.SetType("dev.deepfn.prediction")
		out.SetSubject(in.ID())
		return &out, out.SetData(sdk.ApplicationJSON, json.RawMessage(resp.Data))
	})
}
