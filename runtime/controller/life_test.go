package controller_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
	"github.com/deepfn/deepfn/runtime/store"
)

// TestClose waits for what runs, and then ends it. Either way its record is on disk.
func TestClose(t *testing.T) {
	for what, test := range map[string]struct {
		patience time.Duration
		err      error
		code     int
		result   string
	}{
		"waits": {time.Minute, nil, whisk.Success, `{"model":"digits"`},
		"ends":  {time.Second, context.DeadlineExceeded, whisk.WhiskError, `{"error":"The server ended before the activation was done."}`},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := open(t)
				w.run = func(ctx context.Context, in actions.Activation) (actions.Response, error) {
					select {
					case <-time.After(30 * time.Second):
						return echo(in)
					case <-ctx.Done():
						return actions.Response{}, &actions.Error{Code: actions.Canceled, Msg: "gone"}
					}
				}
				background, err := w.Invoke(t.Context(), whisk.Guest, name(t, digits), whisk.Invocation{})
				if err != nil {
					t.Fatal(err)
				}
				waiting := make(chan whisk.Outcome, 1)
				go func() {
					out, err := w.Invoke(t.Context(), whisk.Guest, name(t, digits), whisk.Invocation{Blocking: true})
					if err != nil || !out.Done {
						t.Errorf("who waits: got %+v, %v", out, err)
					}
					waiting <- out
				}()
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), test.patience)
				defer cancel()
				if err := w.Close(ctx); !errors.Is(err, test.err) {
					t.Errorf("Close: got %v, want %v", err, test.err)
				}
				_, err = w.Invoke(t.Context(), whisk.Guest, name(t, digits), whisk.Invocation{Blocking: true})
				refused(t, "afterwards", err, actions.Unavailable, "shutting down")
				for _, id := range []string{background.Activation.ID, (<-waiting).Activation.ID} {
					a := w.recorded(t, id)
					if a.Response.Code != test.code || !strings.HasPrefix(string(a.Response.Result), test.result) {
						t.Errorf("got %s", text(t, a))
					}
				}
				if err := w.Close(t.Context()); err != nil {
					t.Errorf("Close again: %v", err)
				}
			})
		})
	}
}

// TestRestart finds everything again, and ends what was accepted.
func TestRestart(t *testing.T) {
	w := open(t)
	w.put(t, whisk.Packages, "pkg", `{}`)
	w.python(t, "pkg/hello", hello)
	done := w.invoke(t, "pkg/hello", `{"a":1}`)
	hello, list := w.entity(t, whisk.Actions, "pkg/hello"), text(t, w.recorded(t, done.ID))
	pending := whisk.Activation{
		ID: strings.Repeat("a", 32), Namespace: "guest", Name: "hello", Version: "0.0.7", Subject: "guest", Start: 1000,
		Annotations: whisk.KeyValues{}.With("path", "guest/pkg/hello"),
	}
	for _, p := range []store.Pending{
		{ID: pending.ID, Doc: []byte(text(t, pending))},
		{ID: strings.Repeat("b", 32), Doc: []byte("{")},
	} {
		p.Namespace, p.Name, p.Path, p.Start = "guest", "hello", "guest/pkg/hello", time.UnixMilli(1000)
		if err := w.store.Begin(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	w.stop(t)
	w.start(t)
	if got := w.entity(t, whisk.Actions, "pkg/hello"); got != hello {
		t.Errorf("the action: got %s, want %s", got, hello)
	}
	if got := text(t, w.recorded(t, done.ID)); got != list {
		t.Errorf("the activation: got %s, want %s", got, list)
	}
	for _, id := range []string{pending.ID, strings.Repeat("b", 32)} {
		a := w.recorded(t, id)
		if a.Response.Code != whisk.WhiskError || string(a.Response.Result) != `{"error":"The server ended before the activation was done."}` || a.Name != "hello" || a.Start != 1000 || a.End <= 1000 {
			t.Errorf("what was accepted: %s", text(t, a))
		}
	}
	if a := w.recorded(t, pending.ID); a.Version != "0.0.7" || note(a, "path") != `"guest/pkg/hello"` {
		t.Errorf("what was accepted: %s", text(t, a))
	}
	if left, err := w.store.Pending(); err != nil || len(left) != 0 {
		t.Errorf("pending are %+v, %v", left, err)
	}
	found, err := w.Activations(t.Context(), whisk.Guest, whisk.ActivationQuery{Name: "pkg/hello"})
	if err != nil || len(found.Items) != 3 {
		t.Errorf("found %d, %v", len(found.Items), err)
	}
}

// TestStoreGone is a disk that does not take records.
func TestStoreGone(t *testing.T) {
	w := open(t)
	w.run = func(_ context.Context, in actions.Activation) (actions.Response, error) {
		_ = w.store.Close()
		return echo(in)
	}
	_, err := w.Invoke(t.Context(), whisk.Guest, name(t, digits), whisk.Invocation{Blocking: true})
	refused(t, "the end", err, actions.Unavailable, "closed")
	_, err = w.Invoke(t.Context(), whisk.Guest, name(t, digits), whisk.Invocation{})
	refused(t, "the beginning", err, actions.Unavailable, "closed")
	_, err = w.Put(t.Context(), whisk.Guest, whisk.Triggers, name(t, "t"), json.RawMessage(`{}`), false)
	refused(t, "an entity", err, actions.Unavailable, "closed")
	_, err = w.Activations(t.Context(), whisk.Guest, whisk.ActivationQuery{})
	refused(t, "a list", err, actions.Unavailable, "closed")
	_, err = w.Activation(t.Context(), whisk.Guest, "x")
	refused(t, "an activation", err, actions.Unavailable, "closed")
	if _, err := controller.New(w.cfg); actions.CodeOf(err) != actions.Unavailable {
		t.Errorf("New: got %v", err)
	}
}

// TestCloseWhileBusy leaves what waits for its turn to the next server.
func TestCloseWhileBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		w.queue = func(context.Context) error { return actions.Errorf(actions.Busy, "full") }
		out, err := w.Invoke(t.Context(), whisk.Guest, name(t, digits), whisk.Invocation{})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.Close(ctx); err != nil {
			t.Errorf("got %v", err)
		}
		if left, err := w.store.Pending(); err != nil || len(left) != 1 || left[0].ID != out.Activation.ID || !left[0].Waits {
			t.Errorf("left are %+v, %v", left, err)
		}
	})
}

// TestStoreGoneMeanwhile tries for a while to keep the record of what was accepted, and not
// for ever.
func TestStoreGoneMeanwhile(t *testing.T) {
	for what, patience := range map[string]time.Duration{"until Close": 5 * time.Second, "until it is enough": time.Hour} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				w := open(t, func(c *controller.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
				w.run = func(_ context.Context, in actions.Activation) (actions.Response, error) {
					time.Sleep(time.Second)
					return echo(in)
				}
				began := time.Now()
				out, err := w.Invoke(t.Context(), whisk.Guest, name(t, digits), whisk.Invocation{})
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // until it runs
				if err := w.store.Close(); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				err = w.Close(ctx)
				if took := time.Since(began); patience < time.Hour && (err == nil || took != patience) || patience == time.Hour && (err != nil || took < time.Minute || took > 3*time.Minute) {
					t.Errorf("after %v: %v", took, err)
				}
				if !strings.Contains(log.String(), `msg="activation was not kept" activation_id=`+out.Activation.ID) {
					t.Errorf("logged %s", log.String())
				}
			})
		})
	}
}
