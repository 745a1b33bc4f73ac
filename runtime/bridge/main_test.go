package bridge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/bridge"
	"github.com/deepfn/deepfn/runtime/command"
	"github.com/deepfn/deepfn/runtime/worker"
)

// The variables that say what the test binary is.
const (
	childVariable  = "DEEPFN_TEST_CHILD"  // the child of a worker
	serverVariable = "DEEPFN_TEST_SERVER" // a server, with the fault of its start
)

// patience bounds what a test waits for.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(serverVariable) != "":
		serve(os.Getenv(serverVariable))
	case os.Getenv(childVariable) != "":
		p := bridge.New()
		err := worker.Serve(context.Background(), p)
		p.Close()
		if err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func hang() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	for {
		time.Sleep(time.Hour)
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// spec is that of the server, with additions to its environment.
func spec(start string, env ...string) bridge.Spec {
	s := bridge.Spec{
		Command: []string{"/proc/self/exe"},
		Env:     map[string]string{serverVariable: start, "PORT": "{port}", "GORACE": "atexit_sleep_ms=0"},
	}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		s.Env[name] = value
	}
	return s
}

// config is that of a worker.
func config(tb testing.TB, s bridge.Spec) worker.Config {
	tb.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		tb.Fatal(err)
	}
	const limit = 4 << 20
	setup, err := json.Marshal(command.NewSetup(actions.Model{Spec: raw}, limit))
	if err != nil {
		tb.Fatal(err)
	}
	return worker.Config{
		Argv: []string{"/proc/self/exe"}, Env: []string{childVariable + "=1", "GORACE=atexit_sleep_ms=0"},
		Setup: setup, MaxPayload: 2 * limit, CancelGrace: patience,
	}
}

// start starts a worker that ends with the test.
func start(tb testing.TB, s bridge.Spec) *worker.Worker {
	tb.Helper()
	return startConfig(tb, config(tb, s))
}

// startConfig does so with a configuration.
func startConfig(tb testing.TB, cfg worker.Config) *worker.Worker {
	tb.Helper()
	w, err := worker.Start(tb.Context(), cfg)
	if err != nil {
		e, _ := errors.AsType[*actions.Error](err)
		tb.Fatalf("Start: %v %v", err, e.Logs)
	}
	tb.Cleanup(func() { _ = w.Close() })
	return w
}

// do returns a request that makes the server do something.
func do(what string) actions.Request {
	return actions.Request{Texts: []actions.Text{{Origin: actions.FromQuery, Name: "do", Value: what}}}
}

// pid returns the id of the server's process.
func pid(tb testing.TB, w *worker.Worker) int {
	tb.Helper()
	resp, err := w.Call(tb.Context(), actions.Request{Verb: actions.Metadata})
	var m struct{ PID int }
	if err != nil || json.Unmarshal(resp.Data, &m) != nil || m.PID == 0 {
		tb.Fatalf("got %s, %v, want a pid", resp.Data, err)
	}
	return m.PID
}

// works checks that the server answers.
func works(tb testing.TB, w *worker.Worker) {
	tb.Helper()
	resp, err := w.Call(tb.Context(), do("result"))
	if err != nil || string(resp.Data) != `{"a": 1.0}` || resp.Whole || resp.ContentType != "application/json" {
		tb.Fatalf("got %s %v, %v", resp.Data, resp.Whole, err)
	}
}

// wantError checks an error and returns it.
func wantError(tb testing.TB, err error, code actions.Code, msg string) *actions.Error {
	tb.Helper()
	e, ok := errors.AsType[*actions.Error](err)
	if !ok || e.Code != code || !strings.Contains(e.Msg, msg) {
		tb.Fatalf("got error %q %v, want %q with %q", actions.CodeOf(err), err, code, msg)
	}
	return e
}

// wantCode checks the code of an error, on any goroutine.
func wantCode(tb testing.TB, err error, code actions.Code) {
	tb.Helper()
	if actions.CodeOf(err) != code {
		tb.Errorf("got error %q %v, want %q", actions.CodeOf(err), err, code)
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

// alive reports whether a process runs.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return fields[0] != "Z" && fields[0] != "X"
}

// listen takes a port and returns it.
func listen(tb testing.TB) (net.Listener, int) {
	tb.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	return l, l.Addr().(*net.TCPAddr).Port
}
