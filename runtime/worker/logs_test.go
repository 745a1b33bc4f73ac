package worker_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker/workertest"
)

// A lockedBuffer is a writer that may be read while others write to it.
type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestLinesBelongToTheCall(t *testing.T) {
	w := start(t, config())
	for i := range 50 {
		resp := call(t, w, workertest.Args{Stdout: i % 3, Stderr: i % 2, Print: fmt.Sprintf("end of %d", i)})
		var want, got []string
		for j := range i % 3 {
			want = append(want, fmt.Sprintf("1 line %d", j))
		}
		want = append(want, fmt.Sprintf("1 end of %d", i))
		for j := range i % 2 {
			want = append(want, fmt.Sprintf("2 line %d", j))
		}
		for _, stream := range []actions.Stream{actions.Stdout, actions.Stderr} {
			for _, line := range resp.Logs {
				if line.Stream == stream {
					got = append(got, fmt.Sprintf("%d %s", line.Stream, line.Text))
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("call %d: %s", i, diff)
		}
		if i%5 == 0 {
			if resp := call(t, w, workertest.Args{}); len(resp.Logs) > 0 {
				t.Fatalf("a call that prints nothing got %v", resp.Logs)
			}
		}
	}
}

func TestManyLines(t *testing.T) {
	w := start(t, config())
	resp := call(t, w, workertest.Args{Stdout: 20_000})
	if n := len(resp.Logs); n != 20_000 || resp.Logs[n-1].Text != "line 19999" {
		t.Errorf("got %d lines", n)
	}
}

func TestLongLinesAreSplit(t *testing.T) {
	w := start(t, config())
	resp := call(t, w, workertest.Args{LineBytes: 150_000})
	var sizes []int
	for _, line := range resp.Logs {
		sizes = append(sizes, len(line.Text))
	}
	if diff := cmp.Diff([]int{64 << 10, 64 << 10, 150_000 - 128<<10}, sizes); diff != "" {
		t.Error(diff)
	}
}

func TestTooManyLinesAreDropped(t *testing.T) {
	w := start(t, config())
	resp := call(t, w, workertest.Args{LineBytes: 11 << 20})
	size := 0
	for _, line := range resp.Logs {
		size += len(line.Text)
	}
	last := resp.Logs[len(resp.Logs)-1]
	if size > 10<<20+1000 || !strings.Contains(last.Text, "more lines were dropped") {
		t.Errorf("got %d bytes, the last line is %.100q", size, last.Text)
	}
	if resp := call(t, w, workertest.Args{Stdout: 1}); len(resp.Logs) != 1 {
		t.Errorf("the next call got %d lines", len(resp.Logs))
	}
}

// A child that prints without end blocks neither calls nor Close.
func TestFlood(t *testing.T) {
	w := start(t, config())
	call(t, w, workertest.Args{Flood: true})
	for range 20 {
		echo(t, w)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestLinesOutsideOfCallsGoToTheLog(t *testing.T) {
	var log lockedBuffer
	cfg := config()
	cfg.Log = slog.New(slog.NewJSONHandler(&log, nil))
	w := start(t, cfg)
	later := t.TempDir() + "/later"
	if resp := call(t, w, workertest.Args{Later: later}); len(resp.Logs) > 0 {
		t.Errorf("the call got %v", resp.Logs)
	}
	touch(t, later)
	eventually(t, "the line comes", func() bool { return strings.Contains(log.String(), "\n") })
	var got struct{ Msg, Stream, Line string }
	if err := json.Unmarshal([]byte(log.String()), &got); err != nil {
		t.Fatal(err)
	}
	if got.Msg != "worker output" || got.Stream != "stderr" || got.Line != "a line after the answer" {
		t.Errorf("got %+v", got)
	}
	if resp := call(t, w, workertest.Args{}); len(resp.Logs) > 0 {
		t.Errorf("the next call got %v", resp.Logs)
	}
}

// What was printed while the model was loaded is in the log, and in the logs of the first
// call, before its own lines.
func TestLinesOfTheStartBelongToTheFirstCall(t *testing.T) {
	var log lockedBuffer
	cfg := config()
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	cfg.Setup = workertest.Setup{Print: "imported"}.JSON()
	w := start(t, cfg)
	if !strings.Contains(log.String(), "imported") {
		t.Errorf("the log has no line of the start: %s", log.String())
	}
	want := []actions.LogLine{{Stream: actions.Stdout, Text: "imported"}, {Stream: actions.Stdout, Text: "called"}}
	if diff := cmp.Diff(want, call(t, w, workertest.Args{Print: "called\n"}).Logs); diff != "" {
		t.Errorf("the first call: %s", diff)
	}
	if diff := cmp.Diff(want[1:], call(t, w, workertest.Args{Print: "called\n"}).Logs); diff != "" {
		t.Errorf("the second call: %s", diff)
	}
}

// With several calls at a time no line can be attributed.
func TestLinesOfConcurrentCallsGoToTheLog(t *testing.T) {
	var log lockedBuffer
	cfg := config()
	cfg.Concurrency = 2
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	w := start(t, cfg)
	if resp := call(t, w, workertest.Args{Stdout: 3}); len(resp.Logs) > 0 {
		t.Errorf("the call got %v", resp.Logs)
	}
	eventually(t, "the lines come", func() bool { return strings.Count(log.String(), "\n") == 3 })
}
