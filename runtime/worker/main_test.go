package worker_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/workertest"
)

func TestMain(m *testing.M) {
	jsonLinesMain()
	zygoteMain()
	parentMain()
	workertest.Main()
	os.Exit(m.Run())
}

// patience bounds what a test waits for.
const patience = 30 * time.Second

// config returns the configuration of a child with the given faults.
func config(faults ...workertest.Fault) worker.Config {
	argv, env := workertest.Command(faults...)
	return worker.Config{Argv: argv, Env: env}
}

// start starts a worker that ends with the test.
func start(tb testing.TB, cfg worker.Config) *worker.Worker {
	tb.Helper()
	w, err := worker.Start(tb.Context(), cfg)
	if err != nil {
		tb.Fatalf("Start: %v", err)
	}
	tb.Cleanup(func() {
		if err := w.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return w
}

// call runs a call that has to succeed.
func call(tb testing.TB, w *worker.Worker, args workertest.Args) actions.Response {
	tb.Helper()
	resp, err := w.Call(tb.Context(), actions.Request{Args: args.JSON()})
	if err != nil {
		tb.Fatalf("Call: %v", err)
	}
	return resp
}

// echo checks that a worker is usable.
func echo(tb testing.TB, w *worker.Worker) {
	tb.Helper()
	resp, err := w.Call(tb.Context(), actions.Request{Args: []byte(`[1,2,3]`)})
	if err != nil || string(resp.Data) != `[1,2,3]` || resp.ContentType != "application/json" {
		tb.Fatalf("echo: got %q %q, %v", resp.ContentType, resp.Data, err)
	}
}

// wantCode checks the code of an error and returns the error.
func wantCode(tb testing.TB, err error, code actions.Code) *actions.Error {
	tb.Helper()
	e, ok := errors.AsType[*actions.Error](err)
	if !ok || e.Code != code {
		tb.Fatalf("got error %v (code %q), want code %q", err, actions.CodeOf(err), code)
	}
	return e
}

// wantDone waits for the end of a worker.
func wantDone(tb testing.TB, w *worker.Worker) {
	tb.Helper()
	select {
	case <-w.Done():
	case <-time.After(patience):
		tb.Fatal("the worker does not end")
	}
}

// eventually waits until ok.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// abandon starts a call, waits until the child works on it, and cancels it.
func abandon(tb testing.TB, w *worker.Worker, args workertest.Args) *actions.Error {
	tb.Helper()
	args.Touch = tb.TempDir() + "/begun"
	ctx, cancel := context.WithCancel(tb.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := w.Call(ctx, actions.Request{Args: args.JSON()})
		done <- err
	}()
	eventually(tb, "the call begins", func() bool { return exists(args.Touch) })
	cancel()
	select {
	case err := <-done:
		return wantCode(tb, err, actions.Canceled)
	case <-time.After(patience):
		tb.Fatal("a canceled call does not return")
		return nil
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
