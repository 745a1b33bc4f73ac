package controller_test

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
)

// TestLimitWithoutWait has a time limit count from the run, and neither from the wait for an
// instance nor from its start.
func TestLimitWithoutWait(t *testing.T) {
	for what, test := range map[string]struct {
		runs     time.Duration
		code     int
		result   string
		duration int64
	}{
		"in time": {400 * time.Millisecond, whisk.Success, "{}", 900},
		"late":    {2 * time.Second, whisk.DeveloperError, `{"error":"The action exceeded its time limits of 1000 milliseconds."}`, 1500},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := open(t)
				w.put(t, whisk.Actions, "a", `{"exec":{"kind":"deepfn:digits"},"limits":{"timeout":1000}}`)
				w.queue = func(context.Context) error {
					time.Sleep(30*time.Second + 500*time.Millisecond) // to be started is part of it
					return nil
				}
				w.run = func(ctx context.Context, _ actions.Activation) (actions.Response, error) {
					resp := actions.Response{Timing: actions.Timing{Queue: 30 * time.Second, Start: 500 * time.Millisecond, Cold: true}}
					began := time.Now()
					select {
					case <-time.After(test.runs):
						resp.Data = []byte("{}")
						resp.Timing.Run = time.Since(began)
						return resp, nil
					case <-ctx.Done():
						resp.Timing.Run = time.Since(began)
						return resp, &actions.Error{Code: actions.Deadline, Msg: "late"}
					}
				}
				a := w.recorded(t, w.invoke(t, "a", "{}").ID)
				if a.Response.Code != test.code || string(a.Response.Result) != test.result || a.Duration != test.duration ||
					note(a, "waitTime") != "30000" || note(a, "initTime") != "500" || note(a, "timeout") != strconv.FormatBool(test.code != 0) {
					t.Errorf("got %s", text(t, a))
				}
				if w.last(t).Limit != time.Second {
					t.Errorf("the limit of the run is %v", w.last(t).Limit)
				}
			})
		})
	}
}

// TestQueuedTooLong gives an activation up that has waited for ten minutes.
func TestQueuedTooLong(t *testing.T) {
	for what, ignores := range map[string]bool{"while it waits": false, "when its turn comes": true} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := open(t)
				w.run = func(context.Context, actions.Activation) (actions.Response, error) {
					t.Error("it ran")
					return actions.Response{}, nil
				}
				w.queue = func(ctx context.Context) error {
					if ignores {
						time.Sleep(11 * time.Minute)
						return nil
					}
					<-ctx.Done()
					return actions.Errorf(actions.Canceled, "gone")
				}
				out, err := w.Invoke(t.Context(), whisk.Guest, name(t, digits), whisk.Invocation{Blocking: true})
				if err != nil || out.Done {
					t.Fatalf("got %+v, %v", out, err)
				}
				time.Sleep(11 * time.Minute)
				if a := w.recorded(t, out.Activation.ID); a.Response.Code != whisk.WhiskError || string(a.Response.Result) != `{"error":"System is overloaded, try again later."}` {
					t.Errorf("got %s", text(t, a))
				}
			})
		})
	}
}

// TestBusyWithin does not run an activation again whose run has begun.
func TestBusyWithin(t *testing.T) {
	w := open(t)
	w.run = func(context.Context, actions.Activation) (actions.Response, error) {
		return actions.Response{}, actions.Errorf(actions.Busy, "another server is")
	}
	if a := w.invoke(t, digits, "{}"); a.Response.Code != whisk.WhiskError || len(w.ran) != 1 {
		t.Errorf("ran %d times: %s", len(w.ran), text(t, a))
	}
}

// TestLoweredLimit is an action whose limit was allowed once.
func TestLoweredLimit(t *testing.T) {
	w := open(t)
	w.put(t, whisk.Actions, "a", `{"exec":{"kind":"deepfn:digits"},"limits":{"timeout":60000}}`)
	w.stop(t)
	w.cfg.Timeout = controller.Range{Min: 100, Max: 5000, Default: 5000}
	w.start(t)
	w.invoke(t, "a", "{}")
	if got := w.last(t).Limit; got != 5*time.Second {
		t.Errorf("got %v", got)
	}
}
