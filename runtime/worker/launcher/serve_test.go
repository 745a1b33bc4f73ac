package launcher_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// does is a function that runs the Python of its argument do, in which x are the bytes of
// a file and result is what it returns.
const does = `
import ctypes, datetime, os, sys, threading, time
def predict(do: str, x: bytes = None):
    scope = {"x": x, "result": None}
    exec(do, globals(), scope)
    return scope["result"]
`

// call runs do in a worker that runs does.
func call(tb testing.TB, w *worker.Worker, do string, files ...actions.File) (actions.Response, *actions.Error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	args, err := json.Marshal(map[string]string{"do": do})
	if err != nil {
		tb.Fatal(err)
	}
	resp, err := w.Call(ctx, actions.Request{Model: "model", Args: args, Files: files})
	if err == nil {
		return resp, nil
	}
	failure, ok := err.(*actions.Error) //nolint:errorlint // Call says that it is one
	if !ok {
		tb.Fatalf("got a %T, want an *actions.Error", err)
	}
	return resp, failure
}

// works checks that the worker answers what it is asked.
func works(tb testing.TB, w *worker.Worker) {
	tb.Helper()
	if resp, err := call(tb, w, "result = 41 + 1"); err != nil || string(resp.Data) != "42" {
		tb.Fatalf("afterwards: got %s, %v, want 42", resp.Data, err)
	}
}

func TestServeResults(t *testing.T) {
	w := open(t, launcher.Config{}).start(t, action(t, does))
	tests := []struct {
		name, do, data, media string
	}{
		{"json", "result = {'a': [1, 2.5, None, 'ä']}", `{"a": [1, 2.5, null, "\u00e4"]}`, "application/json"},
		{"nan", "result = [float('nan'), float('-inf')]", `[null, null]`, "application/json"},
		{"array", "import numpy; result = numpy.arange(3)", `[0, 1, 2]`, "application/json"},
		{"scalar", "import numpy; result = {'s': numpy.float32(0.5)}", `{"s": 0.5}`, "application/json"},
		{"date", "result = datetime.datetime(2026, 1, 2)", `"2026-01-02T00:00:00"`, "application/json"},
		{"set", "result = {2, 1}", `[1, 2]`, "application/json"},
		{"large integer", "result = 2**64 + 1", `18446744073709551617`, "application/json"},
		{"bytes", "result = b'%PDF-1.7'", `%PDF-1.7`, "application/pdf"},
		{"file", "result = x", "abc", "application/octet-stream"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, err := call(t, w, tt.do, actions.File{Name: "x", Data: []byte("abc")})
			if err != nil || string(resp.Data) != tt.data || resp.ContentType != tt.media {
				t.Errorf("got %s of %s, %v, want %s of %s", resp.Data, resp.ContentType, err, tt.data, tt.media)
			}
			if resp.Timing.Run <= 0 {
				t.Errorf("got a run of %v", resp.Timing.Run)
			}
		})
	}
}

// TestServeSurvives has a module do what ends a call, not the worker.
func TestServeSurvives(t *testing.T) {
	w := open(t, launcher.Config{}).start(t, action(t, does))
	tests := []struct {
		name, do string
		code     actions.Code
		msg      string
	}{
		{"exception", "1 / 0", actions.Failed, "ZeroDivisionError: division by zero"},
		{"exit", "sys.exit(3)", actions.Failed, "predict called sys.exit(3)"},
		{"interrupt", "raise KeyboardInterrupt", actions.Failed, "KeyboardInterrupt"},
		{"no memory", "raise MemoryError", actions.Failed, "ran out of memory"},
		{"not implemented", "raise NotImplementedError", actions.Unsupported, "predict"},
		{"status", "class HTTPException(Exception): status, reason = 404, 'no picture'\nraise HTTPException", actions.NotFound, "no picture"},
		{"circle", "a = {}; a['b'] = [0, a]; result = a", actions.Failed, "circular structure at predictions.b[1]"},
		{"no json", "result = {'a': object()}", actions.Failed, "predictions.a"},
		{"no text", "class E(Exception):\n  def __str__(self): raise ValueError\nraise E", actions.Failed, "E: <its __str__ raised ValueError>"},
		{"deep", "r = []\nfor _ in range(10**5): r = [r]\nresult = r", actions.Failed, "nested"},
		{"too large", "result = bytes(70 << 20)", actions.TooLarge, "73400320 bytes"},
		{"copy of the process", "if os.fork() == 0: raise ValueError\nos.wait(); 1 / 0", actions.Failed, "ZeroDivisionError"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := call(t, w, tt.do)
			if err == nil || err.Code != tt.code || !strings.Contains(err.Msg, tt.msg) {
				t.Errorf("got %v, want %s with %q", err, tt.code, tt.msg)
			}
			works(t, w)
		})
	}
}

// TestServeDeaths has a module end its process.
func TestServeDeaths(t *testing.T) {
	b := open(t, launcher.Config{})
	tests := []struct {
		name, do, msg, log string
	}{
		{"exit", "print('last words', flush=True); os._exit(7)", "exit status 7", "last words"},
		{"crash", "ctypes.string_at(0)", "segmentation fault", "in predict"},
		{"kill", "os.kill(os.getpid(), 9)", "killed", ""},
		{"abort", "os.abort()", "abort", "in predict"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := b.start(t, action(t, does))
			_, err := call(t, w, tt.do)
			if err == nil || err.Code != actions.Unavailable || !strings.Contains(err.Msg, tt.msg) {
				t.Errorf("got %v, want unavailable with %q", err, tt.msg)
			}
			if err != nil && !strings.Contains(fmt.Sprint(err.Logs), tt.log) {
				t.Errorf("got the lines %v, want %q among them", err.Logs, tt.log)
			}
			<-w.Done()
		})
	}
}

func TestServeKeepsWhatIsPrinted(t *testing.T) {
	w := open(t, launcher.Config{}).start(t, action(t, does))
	tests := []struct {
		name, do, want string
	}{
		{"both streams", "print('out'); print('err', file=sys.stderr)", "[{1 out} {2 err}]"},
		{"no end of line", "print('out', end='')", "[{1 out}]"},
		{"native code", "ctypes.CDLL(None).printf(b'from C')", "[{1 from C}]"},
		{"a child", "os.system('echo child')", "[{1 child}]"},
		{"closed descriptor", "print('a'); os.close(1)", "[{1 a}]"},
		{"after it was closed", "print('b')", "[{1 b}]"},
		{"no stdout", "sys.stdout = None", "[]"},
		{"after there was none", "print('c')", "[{1 c}]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, err := call(t, w, tt.do)
			// Two pipes have no order between them.
			slices.SortStableFunc(resp.Logs, func(a, b actions.LogLine) int { return int(a.Stream) - int(b.Stream) })
			if err != nil || fmt.Sprint(resp.Logs) != tt.want {
				t.Errorf("got %v, %v, want %s", resp.Logs, err, tt.want)
			}
		})
	}
}

func TestServeMuchOutput(t *testing.T) {
	w := open(t, launcher.Config{}).start(t, action(t, does))
	resp, err := call(t, w, "line = 'x' * 99 + chr(10)\nfor _ in range(1000): print(line * 1000, end='')\nresult = 1")
	if err != nil || string(resp.Data) != "1" {
		t.Fatalf("got %s, %v, want 1", resp.Data, err)
	}
	if n := len(resp.Logs); n < 1000 || !strings.Contains(resp.Logs[n-1].Text, "dropped") {
		t.Errorf("got %d lines, want as many as are kept, and how many were dropped", n)
	}
	works(t, w)
}

func TestServeMegabytes(t *testing.T) {
	w := open(t, launcher.Config{}).start(t, action(t, does))
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	resp, err := call(t, w, "result = x", actions.File{Name: "x", Data: data})
	if err != nil || !bytes.Equal(resp.Data, data) {
		t.Errorf("got %d bytes, %v, want the %d that were sent", len(resp.Data), err, len(data))
	}
}

func TestServeStartFailures(t *testing.T) {
	b := open(t, launcher.Config{})
	tests := []struct {
		name, text, msg string
		code            actions.Code
	}{
		{"warm raises", "def predict(): pass\ndef warm(): raise ValueError('no weights')", "warm: ValueError: no weights", actions.Failed},
		{"warm exits", "def predict(): pass\ndef warm(): raise SystemExit(4)", "sys.exit(4)", actions.Failed},
		{"warm is killed", "import os\ndef predict(): pass\ndef warm(): os.kill(os.getpid(), 9)", "killed", actions.Unavailable},
		{"import", "import nowhere_at_all\ndef main(args): pass", "nowhere_at_all", actions.Failed},
		{"syntax", "def main(args:", "SyntaxError", actions.Failed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := b.Start(t.Context(), action(t, tt.text))
			if actions.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.msg) {
				t.Errorf("got %v, want %s with %q", err, tt.code, tt.msg)
			}
		})
	}
}

func TestServeWarmThatHangs(t *testing.T) {
	b := open(t, launcher.Config{})
	dir := t.TempDir()
	run := action(t, "import time\ndef predict(): pass\ndef warm():\n  open('"+dir+"/warming', 'w').close()\n  time.sleep(1000)\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := b.Start(ctx, run)
		failed <- err
	}()
	eventually(t, "warm is called", func() bool {
		_, err := os.Stat(dir + "/warming")
		return err == nil
	})
	cancel()
	if err := <-failed; actions.CodeOf(err) != actions.Canceled {
		t.Errorf("got %v, want canceled", err)
	}
}

func TestServeCancel(t *testing.T) {
	w := open(t, launcher.Config{}).start(t, action(t, does))
	dir := t.TempDir()
	for i, do := range []string{"while True: pass", "time.sleep(1000)", "while True:\n  try: time.sleep(0.01)\n  except Exception: pass"} {
		began := fmt.Sprintf("%s/began%d", dir, i)
		ctx, cancel := context.WithCancel(t.Context())
		args, err := json.Marshal(map[string]string{"do": "open('" + began + "', 'w').close()\n" + do})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := w.Call(ctx, actions.Request{Args: args})
			done <- err
		}()
		eventually(t, "the call has begun", func() bool {
			_, err := os.Stat(began)
			return err == nil
		})
		cancel()
		if err := <-done; actions.CodeOf(err) != actions.Canceled {
			t.Errorf("%s: got %v, want canceled", do, err)
		}
		if err := w.Settle(); err != nil {
			t.Fatalf("%s: the worker has died: %v", do, err)
		}
		works(t, w)
	}
}

func TestServeConcurrency(t *testing.T) {
	run := action(t, "import threading\nb = threading.Barrier(4, timeout=60)\ndef predict(n: int):\n  b.wait()\n  return n\n")
	run.Concurrency = 4
	w := open(t, launcher.Config{}).start(t, run)
	for range 20 {
		var wg sync.WaitGroup
		for n := range 4 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				resp, err := w.Call(ctx, actions.Request{Args: fmt.Appendf(nil, `{"n": %d}`, n)})
				if err != nil || string(resp.Data) != fmt.Sprint(n) {
					t.Errorf("got %s, %v, want %d", resp.Data, err, n)
				}
			})
		}
		wg.Wait()
	}
}

func TestServeClose(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, does)
	run.StopGrace = patience
	w := b.start(t, run)
	if _, err := call(t, w, "import atexit, subprocess; atexit.register(print, 'the end')\n"+
		"threading.Thread(target=time.sleep, args=(1000,)).start(); subprocess.Popen(['sleep', '1000'])"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := w.Close(); err != nil || w.Err() != nil {
		t.Errorf("Close: %v, %v", err, w.Err())
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("Close waited %v for what the module had left", took)
	}
	if !strings.Contains(b.log.String(), "the end") {
		t.Errorf("the exit handler's line is not logged: %s", b.log.String())
	}
}

func TestServeWholeFunctions(t *testing.T) {
	w := open(t, launcher.Config{}).start(t, action(t, "import os\ndef main(args):\n  return {'args': args, 'id': os.environ.get('__OW_ACTIVATION_ID')}\n"))
	resp, err := w.Call(t.Context(), actions.Request{
		Args:  json.RawMessage(`{"a": 1}`),
		Texts: []actions.Text{{Origin: actions.FromContext, Name: "__OW_ACTIVATION_ID", Value: "7"}},
		Files: []actions.File{{Name: "f", Data: []byte("abc")}},
	})
	if want := `{"args": {"a": 1, "f": "YWJj"}, "id": "7"}`; err != nil || string(resp.Data) != want {
		t.Errorf("got %s, %v, want %s", resp.Data, err, want)
	}
}

func BenchmarkServe(b *testing.B) {
	w := open(b, launcher.Config{}).start(b, action(b, "def predict(x: bytes): return x\n"))
	for _, size := range []int{100, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			req := actions.Request{Files: []actions.File{{Name: "x", Data: make([]byte, size)}}}
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := w.Call(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
