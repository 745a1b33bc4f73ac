package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/workertest"
)

func TestInfo(t *testing.T) {
	cfg := config()
	cfg.Setup = workertest.Setup{Info: json.RawMessage(`{"inputs":["x"]}`)}.JSON()
	w := start(t, cfg)
	if got, want := string(w.Info()), `{"inputs":["x"]}`; got != want {
		t.Errorf("Info: got %s, want %s", got, want)
	}
	if w.PID() <= 1 || w.Err() != nil {
		t.Errorf("PID %d, Err %v", w.PID(), w.Err())
	}
	echo(t, w)
}

func TestRequestArrivesWhole(t *testing.T) {
	w := start(t, config())
	req := actions.Request{
		Model: "digits", Verb: actions.Train, ID: "4711", Accept: "text/plain, */*",
		Args: workertest.Args{Describe: true}.JSON(),
		Files: []actions.File{
			{Name: "image", Filename: "é.png", ContentType: "image/png", Data: bytes.Repeat([]byte{1, 2, 3}, 1000)},
			{Name: "image", Data: []byte{}},
			{Name: "", ContentType: "x", Data: []byte("y")},
		},
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	resp, err := w.Call(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	var got workertest.Description
	if err := json.Unmarshal(resp.Data, &got); err != nil {
		t.Fatal(err)
	}
	want := workertest.Description{
		PID: w.PID(), Model: req.Model, Verb: req.Verb, ID: req.ID, Accept: req.Accept,
		Args: req.Args, Files: req.Files, HasDeadline: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if resp.Timing.Run <= 0 {
		t.Errorf("Timing.Run: got %v", resp.Timing.Run)
	}
}

func TestZeroRequest(t *testing.T) {
	w := start(t, config())
	resp, err := w.Call(t.Context(), actions.Request{})
	if err != nil || len(resp.Data) != 0 {
		t.Errorf("got %q, %v", resp.Data, err)
	}
}

func TestFilesOfManySizes(t *testing.T) {
	w := start(t, config())
	for _, size := range []int{0, 1, 63, 64, 65, 4095, 4096, 1 << 20, 9 << 20, 9<<20 + 1, 100} {
		data := bytes.Repeat([]byte{byte(size), 7}, size)[:size]
		resp, err := w.Call(t.Context(), actions.Request{Files: []actions.File{{
			Name: "f", Filename: "n.bin", ContentType: "application/x-bytes", Data: data,
		}}})
		if err != nil || !bytes.Equal(resp.Data, data) || resp.Filename != "n.bin" || resp.ContentType != "application/x-bytes" {
			t.Errorf("%d bytes: got %d bytes, %q, %q, %v", size, len(resp.Data), resp.Filename, resp.ContentType, err)
		}
	}
}

func TestLargePayloadsAreGivenBack(t *testing.T) {
	w := start(t, config())
	data := make([]byte, 32<<20)
	for i := range data {
		data[i] = byte(i)
	}
	if _, err := w.Call(t.Context(), actions.Request{Files: []actions.File{{Data: data}}}); err != nil {
		t.Fatal(err)
	}
	for _, fd := range []int{5, 6} {
		var st unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", w.PID(), fd), &st); err != nil {
			t.Fatal(err)
		}
		if used := st.Blocks * 512; used > 1<<20 {
			t.Errorf("descriptor %d: %d bytes are still in use", fd, used)
		}
	}
	echo(t, w)
}

func TestTooLarge(t *testing.T) {
	cfg := config()
	cfg.MaxPayload = 10_000
	w := start(t, cfg)
	_, err := w.Call(t.Context(), actions.Request{Files: []actions.File{{Data: make([]byte, 10_000)}}})
	if e := wantCode(t, err, actions.TooLarge); !strings.Contains(e.Msg, "10000") {
		t.Errorf("request: %q does not name the limit", e.Msg)
	}
	_, err = w.Call(t.Context(), actions.Request{Args: workertest.Args{Bytes: 10_000}.JSON()})
	if e := wantCode(t, err, actions.TooLarge); !strings.Contains(e.Msg, "10000") {
		t.Errorf("response: %q does not name the limit", e.Msg)
	}
	if n := len(call(t, w, workertest.Args{Bytes: 9_000}).Data); n != 9_000 {
		t.Errorf("got %d bytes, want 9000", n)
	}
	_, err = w.Call(t.Context(), actions.Request{ID: strings.Repeat("x", 70_000)})
	wantCode(t, err, actions.TooLarge)
	echo(t, w)
}

func TestProgramError(t *testing.T) {
	w := start(t, config())
	_, err := w.Call(t.Context(), actions.Request{Args: workertest.Args{Stderr: 1, Error: "no", Code: actions.Invalid}.JSON()})
	got := wantCode(t, err, actions.Invalid)
	want := &actions.Error{
		Code: actions.Invalid, Msg: "no", Fields: map[string][]string{"field": {"no"}},
		Logs: []actions.LogLine{{Stream: actions.Stderr, Text: "line 0"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, err = w.Call(t.Context(), actions.Request{Args: workertest.Args{Error: "plain"}.JSON()})
	wantCode(t, err, actions.Failed)
	_, err = w.Call(t.Context(), actions.Request{Args: workertest.Args{Error: "odd", Code: "no such code"}.JSON()})
	wantCode(t, err, actions.Failed)
	echo(t, w)
}

func TestPanicIsAnAnswer(t *testing.T) {
	w := start(t, config())
	_, err := w.Call(t.Context(), actions.Request{Args: workertest.Args{Panic: "ouch"}.JSON()})
	e := wantCode(t, err, actions.Failed)
	if !strings.Contains(e.Msg, "ouch") {
		t.Errorf("got %q", e.Msg)
	}
	if text := fmt.Sprint(e.Logs); !strings.Contains(text, "workertest.(*program).Call") {
		t.Errorf("no trace in the logs: %s", text)
	}
	echo(t, w)
}

func TestBusy(t *testing.T) {
	w := start(t, config())
	dir := t.TempDir()
	args := workertest.Args{Touch: dir + "/begun", Until: dir + "/go"}
	done := make(chan error, 1)
	go func() {
		_, err := w.Call(t.Context(), actions.Request{Args: args.JSON()})
		done <- err
	}()
	eventually(t, "the call begins", func() bool { return exists(args.Touch) })
	_, err := w.Call(t.Context(), actions.Request{})
	wantCode(t, err, actions.Unavailable)
	touch(t, args.Until)
	if err := <-done; err != nil {
		t.Error(err)
	}
	echo(t, w)
}

func TestConcurrentCalls(t *testing.T) {
	cfg := config()
	cfg.Concurrency = 8
	w := start(t, cfg)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				want := fmt.Sprintf("[%d,%d]", i, j)
				resp, err := w.Call(t.Context(), actions.Request{Args: []byte(want)})
				if err != nil || string(resp.Data) != want {
					t.Errorf("got %q, %v, want %q", resp.Data, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

// Calls that are answered in another order than they were made, with callers that
// leave while they read for the others.
func TestConcurrentLeaving(t *testing.T) {
	cfg := config()
	cfg.Concurrency = 4
	w := start(t, cfg)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			args := workertest.Args{Touch: fmt.Sprintf("%s/begun%d", dir, i), Until: fmt.Sprintf("%s/go%d", dir, i)}
			if _, err := w.Call(t.Context(), actions.Request{Args: args.JSON()}); err != nil {
				t.Error(err)
			}
		})
		eventually(t, "the call begins", func() bool { return exists(fmt.Sprintf("%s/begun%d", dir, i)) })
	}
	for range 20 {
		abandon(t, w, workertest.Args{Wait: true})
		if err := w.Settle(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		touch(t, fmt.Sprintf("%s/go%d", dir, 2-i))
		echo(t, w)
	}
	wg.Wait()
}

func TestStartContextIsNotTheLife(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w, err := worker.Start(ctx, config())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cancel()
	for range 100 {
		echo(t, w)
	}
}

func TestClose(t *testing.T) {
	w := start(t, config())
	for range 2 {
		if err := w.Close(); err != nil || w.Err() != nil {
			t.Errorf("Close: %v, Err: %v", err, w.Err())
		}
	}
	wantDone(t, w)
	_, err := w.Call(t.Context(), actions.Request{})
	wantCode(t, err, actions.Unavailable)
	if w.Settle() == nil {
		t.Error("a closed worker settles")
	}
}

// A call that is being worked on may end when the worker is closed.
func TestCloseLetsTheCallEnd(t *testing.T) {
	w := start(t, config())
	dir := t.TempDir()
	args := workertest.Args{Touch: dir + "/begun", Until: dir + "/go"}
	done := make(chan error, 1)
	go func() {
		_, err := w.Call(t.Context(), actions.Request{Args: args.JSON()})
		done <- err
	}()
	eventually(t, "the call begins", func() bool { return exists(args.Touch) })
	closed := make(chan error, 1)
	go func() { closed <- w.Close() }()
	eventually(t, "the worker refuses calls", func() bool {
		_, err := w.Call(t.Context(), actions.Request{})
		return err != nil && strings.Contains(err.Error(), "closed")
	})
	touch(t, args.Until)
	if err := <-done; err != nil {
		t.Errorf("Call: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestDescriptorsDoNotLeak(t *testing.T) {
	cycle := func() {
		w, err := worker.Start(t.Context(), config())
		if err != nil {
			t.Fatal(err)
		}
		echo(t, w)
		_ = w.Close()
		_, err = worker.Start(t.Context(), worker.Config{Argv: []string{"/no/such/program"}})
		wantCode(t, err, actions.Unavailable)
	}
	cycle()
	before := descriptors(t)
	for range 50 {
		cycle()
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after 50 workers", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func touch(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}
