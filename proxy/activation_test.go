package proxy

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A stuckWriter takes nothing before it is released.
type stuckWriter struct {
	lockedBuffer
	released chan struct{}
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	<-w.released
	return w.lockedBuffer.Write(p)
}

// printing makes an answer that prints the activation's id.
func printing(_ context.Context, req actions.Request) (actions.Response, error) {
	return actions.Response{
		ContentType: jsonType, Data: []byte(`{}`),
		Logs: []actions.LogLine{{Stream: actions.Stdout, Text: req.ID}},
	}, nil
}

// A pipe that nobody reads holds up one answer for a second and no other; what it did
// not take comes in order as soon as it takes something.
func TestRunStuckStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, st := newServer(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: printing}})
		out := &stuckWriter{released: make(chan struct{})}
		s.activations.out = out
		begun := time.Now()
		for i, want := range []time.Duration{time.Second, 0, 0} {
			start := time.Now()
			wantResponse(t, post(t, s, "/run", `{"activation_id":"`+string(rune('a'+i))+`"}`), 200, `{}`)
			if got := time.Since(start); got != want {
				t.Errorf("got answer %d after %v, want %v", i, got, want)
			}
		}
		synctest.Wait()
		if got := strings.Count(st.log.String(), "nobody reads the logs"); got != 1 {
			t.Errorf("got %d lines of log, want 1", got)
		}
		if got := string(get(t, s, "/metrics").body); !strings.Contains(got, `deepfn_activation_log_failures_total{reason="late"} 3`) {
			t.Error("the failures are not counted")
		}
		close(out.released)
		s.activations.flush(time.Minute)
		const end = "\n" + sentinel + "\n"
		if got, want := out.String(), "a"+end+"b"+end+"c"+end; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := time.Since(begun); got != time.Second {
			t.Errorf("it took %v", got)
		}
	})
}

// The wait ends before the deadline does.
func TestRunStuckStreamDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer(t, Config{Model: "echo"})
		out := &stuckWriter{released: make(chan struct{})}
		s.activations.out = out
		start := time.Now()
		s.activations.end(start.Add(100*time.Millisecond), nil)
		if got := time.Since(start); got != 50*time.Millisecond {
			t.Errorf("got an end after %v, want 50 ms", got)
		}
		s.activations.flush(time.Second)
		if got := time.Since(start); got != 1050*time.Millisecond {
			t.Errorf("got the flush after %v, want 1.05 s", got)
		}
		close(out.released)
	})
}

func TestActivationLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer(t, Config{Model: "echo"})
		out := &stuckWriter{released: make(chan struct{})}
		s.activations.out = out
		lines := []actions.LogLine{{Stream: actions.Stdout, Text: strings.Repeat("a", maxQueued/2)}}
		for range 10 {
			s.activations.end(time.Time{}, lines)
		}
		if got := s.activations.size; got > maxQueued {
			t.Errorf("got %d bytes in the queue, want %d at most", got, maxQueued)
		}
		close(out.released)
		s.activations.flush(time.Minute)
		if s.activations.size != 0 {
			t.Errorf("got %d bytes left", s.activations.size)
		}
	})
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
func (brokenWriter) Flush() error              { return errors.New("not reached") }

// A reader that has gone ends nothing, and the other stream still gets its lines.
func TestRunBrokenStream(t *testing.T) {
	s, st := newServer(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: printing}})
	s.activations.out = brokenWriter{}
	for range 2 {
		wantResponse(t, post(t, s, "/run", `{}`), 200, `{}`)
	}
	if got := st.err.String(); got != sentinel+"\n"+sentinel+"\n" {
		t.Errorf("got stderr %q", got)
	}
	if got := string(get(t, s, "/metrics").body); !strings.Contains(got, `deepfn_activation_log_failures_total{reason="broken"} 2`) {
		t.Error("the failures are not counted")
	}
}

// A full pipe is not written to by who would wait for it.
func TestTakes(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	defer func() { _ = w.Close() }()
	if !takes(w) || !takes(io.Discard) || takes(&lockedBuffer{}) {
		t.Error("got false for an empty pipe or nothing, or true for a writer that may block")
	}
	for err = error(nil); err == nil; {
		_ = w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		_, err = w.Write(make([]byte, 4096))
	}
	if takes(w) {
		t.Error("got true for a full pipe")
	}
}
