package controller_test

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
)

// Turns are the runs that there were.
type turns struct {
	mu  sync.Mutex // guards ran
	ran []string   // their arguments
}

// TestResume runs what was accepted and had not begun when the server ended: in its order,
// once, with its id and arguments. What had begun is not run again.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		w := open(t, func(c *controller.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		w.python(t, "a", "one")
		w.sequence(t, "s", "/_/a")
		place := make(chan struct{}, 1)
		var did turns
		w.queue = func(ctx context.Context) error {
			select {
			case place <- struct{}{}:
				return nil
			case <-ctx.Done():
				return actions.Errorf(actions.Canceled, "gone")
			}
		}
		w.run = func(ctx context.Context, in actions.Activation) (actions.Response, error) {
			defer func() { <-place }()
			did.mu.Lock()
			did.ran = append(did.ran, string(in.Value))
			did.mu.Unlock()
			select {
			case <-time.After(10 * time.Second):
				return echo(in)
			case <-ctx.Done():
				return actions.Response{}, actions.Errorf(actions.Canceled, "gone")
			}
		}
		var ids, want []string
		for i := range 20 {
			action, args := "a", `{"n":`+strconv.Itoa(i)+`}`
			if i == 19 {
				action = "s"
			}
			out, err := w.Invoke(t.Context(), whisk.Guest, name(t, action), whisk.Invocation{Args: []byte(args)})
			if err != nil {
				t.Fatal(err)
			}
			ids, want = append(ids, out.Activation.ID), append(want, args)
			synctest.Wait()
			time.Sleep(time.Millisecond)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.Close(ctx); err == nil {
			t.Error("Close has cut nothing off")
		}
		if !strings.Contains(log.String(), `ended=1 left_for_the_next_start=19`) {
			t.Errorf("logged %s", log.String())
		}
		if err := w.store.Close(); err != nil {
			t.Fatal(err)
		}
		w.start(t)
		if a := w.recorded(t, ids[0]); string(a.Response.Result) != `{"error":"The server ended before the activation was done."}` {
			t.Errorf("what had begun: %s", text(t, a))
		}
		w.Resume()
		time.Sleep(10 * time.Minute)
		for i, id := range ids[1:] {
			a := w.recorded(t, id)
			if a.Response.Code != whisk.Success || !strings.HasSuffix(string(a.Response.Result), `"value":`+want[i+1]+`}`) || a.ID != id {
				t.Errorf("%s: %s", want[i+1], text(t, a))
			}
		}
		ofAction := slices.DeleteFunc(slices.Clone(did.ran), func(args string) bool { return args == want[19] })
		if !slices.Equal(ofAction, want[:19]) || len(did.ran) != 20 {
			t.Errorf("ran %s", did.ran)
		}
		if left, err := w.store.Pending(); err != nil || len(left) != 0 {
			t.Errorf("left are %+v, %v", left, err)
		}
	})
}

// TestResumeKilled is a server that was killed: what had begun is not run again, what had not
// is, unless its action is another one now.
func TestResumeKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		for _, n := range []string{"runs", "waits", "changed", "gone"} {
			w.put(t, whisk.Actions, n, `{"exec":{"kind":"deepfn:digits"}}`)
		}
		blocked := make(chan struct{})
		first := true
		w.queue = func(context.Context) error {
			if first {
				first = false
				return nil
			}
			<-blocked
			return actions.Errorf(actions.Canceled, "killed")
		}
		w.run = func(context.Context, actions.Activation) (actions.Response, error) {
			<-blocked
			return actions.Response{}, actions.Errorf(actions.Canceled, "killed")
		}
		ids := make(map[string]string)
		for _, n := range []string{"runs", "waits", "changed", "gone"} {
			out, err := w.Invoke(t.Context(), whisk.Guest, name(t, n), whisk.Invocation{Args: []byte(`{"n":1}`)})
			if err != nil {
				t.Fatal(err)
			}
			ids[n] = out.Activation.ID
			synctest.Wait()
		}
		w.update(t, whisk.Actions, "changed", `{"annotations":[{"key":"x","value":1}]}`)
		if _, err := w.Delete(t.Context(), whisk.Guest, whisk.Actions, name(t, "gone"), false); err != nil {
			t.Fatal(err)
		}
		old := w.Controller
		if err := w.store.Close(); err != nil { // nothing more gets to the disk
			t.Fatal(err)
		}
		w.queue, w.run = nil, nil
		w.start(t)
		w.Resume()
		time.Sleep(time.Second)
		for n, want := range map[string]string{
			"runs": `{"error":"The server ended before the activation was done."}`, "waits": `{"model":"digits","value":{"n":1}}`,
			"changed": `{"error":"Action version is not compatible and cannot be invoked."}`,
			"gone":    `{"error":"Action could not be found or may have been deleted."}`,
		} {
			if a := w.recorded(t, ids[n]); string(a.Response.Result) != want {
				t.Errorf("%s: got %s", n, text(t, a))
			}
		}
		close(blocked)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = old.Close(ctx)
	})
}
