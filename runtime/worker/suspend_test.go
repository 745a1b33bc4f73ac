package worker_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/workertest"
)

// tiered returns the configuration of a child that can suspend and resume.
func tiered(tiers workertest.Tiers) worker.Config {
	cfg := config()
	cfg.Setup = workertest.Setup{Tiers: &tiers}.JSON()
	return cfg
}

// describe asks a child what it knows of a request.
func describe(tb testing.TB, w *worker.Worker, req actions.Request) workertest.Description {
	tb.Helper()
	req.Args = workertest.Args{Describe: true}.JSON()
	resp, err := w.Call(tb.Context(), req)
	if err != nil {
		tb.Fatalf("Call: %v", err)
	}
	var d workertest.Description
	if err := json.Unmarshal(resp.Data, &d); err != nil {
		tb.Fatal(err)
	}
	return d
}

func TestSuspendAndResume(t *testing.T) {
	w := start(t, tiered(workertest.Tiers{HostBytes: 7 << 30}))
	if err := w.Resume(t.Context()); err != nil {
		t.Errorf("Resume of a warm worker: %v", err)
	}
	for range 2 {
		for range 2 { // the second time there is nothing to do
			if host, err := w.Suspend(t.Context()); host != 7<<30 || err != nil {
				t.Errorf("Suspend: got %d, %v, want %d", host, err, int64(7<<30))
			}
		}
		for range 2 {
			if err := w.Resume(t.Context()); err != nil {
				t.Errorf("Resume: %v", err)
			}
		}
		echo(t, w)
	}
	if got := describe(t, w, actions.Request{}).Resumes; got != 2 {
		t.Errorf("the child has resumed %d times, want 2", got)
	}
}

// A request that was on its way to a worker that was suspended is answered, later.
func TestSuspendedWorkerIsCalled(t *testing.T) {
	w := start(t, tiered(workertest.Tiers{HostBytes: 1}))
	if _, err := w.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, w, actions.Request{}).Resumes; got != 1 {
		t.Errorf("the child has resumed %d times, want 1", got)
	}
}

func TestSuspendUnsupported(t *testing.T) {
	w := start(t, config())
	_, err := w.Suspend(t.Context())
	wantCode(t, err, actions.Unsupported)
	wantCode(t, w.Resume(t.Context()), actions.Unsupported)
	echo(t, w)
}

func TestSuspendFaults(t *testing.T) {
	tests := []struct {
		name  string
		fault workertest.TierFault
		code  actions.Code
		lives bool
		said  string
	}{
		{"fails", workertest.TierFails, actions.Failed, true, "fails"},
		{"has no room", workertest.TierFull, actions.Unavailable, true, "no room to"},
		{"hangs", workertest.TierHangs, actions.Deadline, false, "took longer"},
		{"dies", workertest.TierDies, actions.Unavailable, false, "exit status 5"},
	}
	for _, tt := range tests {
		for _, verb := range []actions.Verb{actions.Suspend, actions.Resume} {
			t.Run(string(verb)+" "+tt.name, func(t *testing.T) {
				tiers := workertest.Tiers{Resume: tt.fault}
				if verb == actions.Suspend {
					tiers = workertest.Tiers{Suspend: tt.fault}
				}
				cfg := tiered(tiers)
				cfg.CancelGrace = 100 * time.Millisecond
				w := start(t, cfg)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.fault == workertest.TierHangs {
					ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
					defer cancel()
				}
				_, err := w.Suspend(ctx)
				if verb == actions.Resume {
					if err != nil {
						t.Fatal(err)
					}
					err = w.Resume(ctx)
				}
				if e := wantCode(t, err, tt.code); !strings.Contains(e.Error(), tt.said) {
					t.Errorf("got %q, want %q in it", e.Error(), tt.said)
				}
				if !tt.lives {
					wantDone(t, w)
				} else if w.Err() != nil {
					t.Errorf("the worker has died: %v", w.Err())
				}
			})
		}
	}
}

// A child whose answer cannot be true is killed, as any that breaks the protocol.
func TestSuspendLies(t *testing.T) {
	w := start(t, tiered(workertest.Tiers{Suspend: workertest.TierLies}))
	_, err := w.Suspend(t.Context())
	if e := wantCode(t, err, actions.Unavailable); !strings.Contains(e.Msg, "answer to suspend") {
		t.Errorf("got %q", e.Msg)
	}
	wantDone(t, w)
}

// A resume for which there was no room can be tried again.
func TestResumeAgain(t *testing.T) {
	full := filepath.Join(t.TempDir(), "full")
	if err := os.WriteFile(full, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := start(t, tiered(workertest.Tiers{Resume: workertest.TierFull, FaultIf: full}))
	if _, err := w.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, w.Resume(t.Context()), actions.Unavailable)
	_, err := w.Call(t.Context(), actions.Request{})
	wantCode(t, err, actions.Unavailable)
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	if err := w.Resume(t.Context()); err != nil {
		t.Errorf("Resume: %v", err)
	}
	echo(t, w)
}

// What is printed while the pool suspends a worker is nobody's answer: it is logged, and
// does not take the lines of the start from the first call.
func TestSuspendPrints(t *testing.T) {
	var mu sync.Mutex
	var logged strings.Builder
	cfg := config()
	cfg.Setup = workertest.Setup{Print: "loaded", Tiers: &workertest.Tiers{Print: "moved"}}.JSON()
	cfg.Log = slog.New(slog.NewTextHandler(writer(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return logged.Write(b)
	}), nil))
	w := start(t, cfg)
	if _, err := w.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	resp := call(t, w, workertest.Args{Print: "called\n"})
	want := []actions.LogLine{{Stream: actions.Stdout, Text: "loaded"}, {Stream: actions.Stdout, Text: "called"}}
	if diff := cmp.Diff(want, resp.Logs); diff != "" {
		t.Error(diff)
	}
	eventually(t, "two lines are logged", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Count(logged.String(), "line=moved") == 2
	})
}

// writer is a function that is an io.Writer.
type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestTraceArrives(t *testing.T) {
	w := start(t, config())
	parent := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, tt := range []struct{ given, want actions.Trace }{
		{},
		{actions.Trace{Parent: parent}, actions.Trace{Parent: parent}},
		{actions.Trace{Parent: parent, State: "a=b,c=d"}, actions.Trace{Parent: parent, State: "a=b,c=d"}},
		{actions.Trace{State: "a=b"}, actions.Trace{}}, // a state belongs to a parent
	} {
		texts := []actions.Text{{Origin: actions.FromHeader, Name: "traceparent", Value: "of a caller"}}
		got := describe(t, w, actions.Request{Trace: tt.given, Texts: texts})
		if got.Trace != tt.want {
			t.Errorf("%v: got %v, want %v", tt.given, got.Trace, tt.want)
		}
	}
}
