package controller_test

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
)

const digits = "/whisk.system/models/digits"

// TestBackground invokes without waiting. The caller's bytes are his again at once.
func TestBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		hold := make(chan struct{})
		w.run = func(_ context.Context, in actions.Activation) (actions.Response, error) {
			<-hold
			return echo(in)
		}
		args := []byte(`{"a":"mine"}`)
		ctx, cancel := context.WithCancel(t.Context())
		out, err := w.Invoke(ctx, whisk.Guest, name(t, digits), whisk.Invocation{Args: args})
		if err != nil || out.Done || len(out.Activation.ID) != 32 {
			t.Fatalf("got %+v, %v", out, err)
		}
		cancel()
		clear(args)
		_, err = w.Activation(t.Context(), whisk.Guest, out.Activation.ID)
		refused(t, "while it runs", err, actions.NotFound, "does not exist")
		if pending, err := w.store.Pending(); err != nil || len(pending) != 1 || pending[0].ID != out.Activation.ID {
			t.Errorf("pending are %+v, %v", pending, err)
		}
		time.Sleep(time.Second)
		close(hold)
		synctest.Wait()
		time.Sleep(time.Second)
		a := w.recorded(t, out.Activation.ID)
		if !strings.Contains(string(a.Response.Result), `"value":{"a":"mine"}`) || a.Duration != 1000 {
			t.Errorf("got %s", text(t, a))
		}
		if pending, err := w.store.Pending(); err != nil || len(pending) != 0 {
			t.Errorf("pending are %+v, %v", pending, err)
		}
	})
}

// TestWait stops waiting, for three reasons, and the activation goes on.
func TestWait(t *testing.T) {
	for what, test := range map[string]struct {
		wait  time.Duration
		leave bool
		want  time.Duration
	}{
		"the API's limit":   {0, false, time.Minute},
		"the caller's":      {3 * time.Second, false, 3 * time.Second},
		"more than that":    {time.Hour, false, time.Minute},
		"the caller leaves": {0, true, 5 * time.Second},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := open(t)
				w.put(t, whisk.Actions, "slow", `{"exec":{"kind":"deepfn:digits"},"limits":{"timeout":120000}}`)
				w.run = func(_ context.Context, in actions.Activation) (actions.Response, error) {
					time.Sleep(90 * time.Second)
					return echo(in)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if test.leave {
					time.AfterFunc(5*time.Second, cancel)
				}
				began := time.Now()
				out, err := w.Invoke(ctx, whisk.Guest, name(t, "slow"), whisk.Invocation{Blocking: true, Wait: test.wait})
				if err != nil || out.Done || time.Since(began) != test.want {
					t.Fatalf("after %v: got %+v, %v", time.Since(began), out, err)
				}
				if pending, err := w.store.Pending(); err != nil || len(pending) != 1 {
					t.Errorf("pending are %+v, %v", pending, err)
				}
				time.Sleep(2 * time.Minute)
				if a := w.recorded(t, out.Activation.ID); a.Response.Code != whisk.Success || a.Duration != 90_000 {
					t.Errorf("got %s", text(t, a))
				}
			})
		})
	}
}

// TestBusy is an error to who waits, and patience to who does not.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		var busy atomic.Bool
		busy.Store(true)
		w.queue = func(context.Context) error {
			if busy.Load() {
				return actions.Errorf(actions.Busy, "the queue is full")
			}
			return nil
		}
		_, err := w.Invoke(t.Context(), whisk.Guest, name(t, digits), whisk.Invocation{Blocking: true})
		refused(t, "who waits", err, actions.Busy, "the queue is full")
		list, err := w.Activations(t.Context(), whisk.Guest, whisk.ActivationQuery{})
		if err != nil || len(list.Items) != 0 {
			t.Errorf("an activation is recorded: %s, %v", text(t, list.Items), err)
		}
		out, err := w.Invoke(t.Context(), whisk.Guest, name(t, digits), whisk.Invocation{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		busy.Store(false)
		time.Sleep(time.Second)
		time.Sleep(time.Second)
		a := w.recorded(t, out.Activation.ID)
		if a.Response.Code != whisk.Success || a.Duration != 0 || len(note(a, "waitTime")) != 5 {
			t.Errorf("who does not: %s", text(t, a))
		}
		busy.Store(true)
		if out, err = w.Invoke(t.Context(), whisk.Guest, name(t, digits), whisk.Invocation{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		a = w.recorded(t, out.Activation.ID)
		if a.Response.Code != whisk.WhiskError || string(a.Response.Result) != `{"error":"System is overloaded, try again later."}` {
			t.Errorf("after an hour: %s", text(t, a))
		}
	})
}

// TestTooMany bounds what nobody waits for.
func TestTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, func(c *controller.Config) { c.MaxBackground = 3 })
		hold := make(chan struct{})
		w.run = func(_ context.Context, in actions.Activation) (actions.Response, error) {
			<-hold
			return echo(in)
		}
		for range 3 {
			if _, err := w.Invoke(t.Context(), whisk.Guest, name(t, digits), whisk.Invocation{}); err != nil {
				t.Fatal(err)
			}
		}
		_, err := w.Invoke(t.Context(), whisk.Guest, name(t, digits), whisk.Invocation{})
		refused(t, "one too many", err, actions.Busy, "Too many concurrent requests in flight (count: 3, allowed: 3).")
		close(hold)
		synctest.Wait()
		time.Sleep(time.Second)
		if _, err := w.Invoke(t.Context(), whisk.Guest, name(t, digits), whisk.Invocation{}); err != nil {
			t.Error(err)
		}
	})
}

// TestMany has many callers at a time: each gets his own, and every activation is recorded
// with its own logs.
func TestMany(t *testing.T) {
	w := open(t)
	w.python(t, "echo", hello)
	w.run = func(_ context.Context, in actions.Activation) (actions.Response, error) {
		resp, err := echo(in)
		resp.Logs = []actions.LogLine{{Stream: actions.Stdout, Text: string(in.Value)}}
		return resp, err
	}
	var all sync.WaitGroup
	var mu sync.Mutex // guards ids
	ids := make(map[string]string)
	for caller := range 16 {
		all.Go(func() {
			for i := range 20 {
				args := `{"token":"` + strconv.Itoa(caller) + "-" + strconv.Itoa(i) + `"}`
				out, err := w.Invoke(t.Context(), whisk.Guest, name(t, "echo"), whisk.Invocation{Args: json.RawMessage(args), Blocking: i%4 != 0})
				if err != nil || out.Done && !strings.HasSuffix(string(out.Activation.Response.Result), `"value":`+args+`}`) {
					t.Errorf("%s: got %s, %v", args, out.Activation.Response.Result, err)
				}
				mu.Lock()
				ids[out.Activation.ID] = args
				mu.Unlock()
			}
		})
	}
	all.Wait()
	w.stop(t)
	w.start(t)
	for id, args := range ids {
		a := w.recorded(t, id)
		if !strings.HasSuffix(string(a.Response.Result), `"value":`+args+`}`) || len(a.Logs) != 1 || !strings.HasSuffix(a.Logs[0], " stdout: "+args) {
			t.Errorf("%s: recorded %s", args, text(t, a))
		}
	}
	list, err := w.Activations(t.Context(), whisk.Guest, whisk.ActivationQuery{})
	if err != nil || len(list.Items) != 320 || len(ids) != 320 {
		t.Errorf("listed %d, %v", len(list.Items), err)
	}
}

// TestChanges changes one entity from many sides: no change is lost.
func TestChanges(t *testing.T) {
	w := open(t)
	w.put(t, whisk.Triggers, "t", `{}`)
	w.put(t, whisk.Actions, "a", `{"exec":{"kind":"deepfn:digits"}}`)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			n := "r" + strconv.Itoa(i)
			w.put(t, whisk.Rules, n, `{"trigger":"/_/t","action":"/_/a"}`)
			w.update(t, whisk.Actions, "a", `{"annotations":[{"key":"`+n+`","value":1}]}`)
			w.update(t, whisk.Triggers, "t", `{"publish":true}`)
			if err := w.SetRule(t.Context(), whisk.Guest, name(t, n), whisk.Inactive); err != nil {
				t.Error(err)
			}
			_, err := w.Put(t.Context(), whisk.Guest, whisk.Packages, name(t, "same"), json.RawMessage(`{}`), false)
			if err != nil && actions.CodeOf(err) != actions.Conflict {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := w.entity(t, whisk.Triggers, "t"); strings.Count(got, `"status":"inactive"`) != 8 || !strings.Contains(got, `"version":"0.0.9"`) {
		t.Errorf("the trigger is %s", got)
	}
	if got := w.entity(t, whisk.Actions, "a"); strings.Count(got, `{"key":"r`) != 8 || !strings.Contains(got, `"version":"0.0.9"`) {
		t.Errorf("the action is %s", got)
	}
}
