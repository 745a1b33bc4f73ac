package controller_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
)

// forgotten returns what was forgotten since it was last called, sorted.
func (w *world) forgotten() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	forgot := slices.Sorted(slices.Values(w.forgot))
	w.forgot = nil
	return forgot
}

// TestForget forgets the code that no action has any more, and nothing else.
func TestForget(t *testing.T) {
	w := open(t)
	w.python(t, "a", "one")
	w.python(t, "twin", "one")
	w.invoke(t, "a", "{}")
	one := w.last(t).Model
	w.invoke(t, "twin", "{}")
	for _, body := range []string{
		`{"annotations":[{"key":"x","value":1}],"limits":{"timeout":5000}}`, `{"parameters":[{"key":"x","value":1}]}`,
		`{"exec":{"kind":"python:3","code":"one"}}`, `{"exec":{"kind":"python:3","code":"two"}}`,
	} {
		w.update(t, whisk.Actions, "a", body)
		if got := w.forgotten(); len(got) != 0 {
			t.Errorf("%s: forgot %s", body, got)
		}
	}
	w.invoke(t, "a", "{}")
	two := w.last(t).Model
	w.update(t, whisk.Actions, "a", `{"parameters":[{"key":"E","value":1,"init":true}]}`)
	if got := w.forgotten(); !slices.Equal(got, []string{two}) {
		t.Errorf("another environment: forgot %s, want %s", got, two)
	}
	w.invoke(t, "a", "{}")
	three := w.last(t).Model
	w.update(t, whisk.Actions, "a", `{"exec":{"kind":"deepfn:digits"},"parameters":[]}`)
	if got := w.forgotten(); !slices.Equal(got, []string{three}) {
		t.Errorf("a model: forgot %s, want %s", got, three)
	}
	if _, err := w.Delete(t.Context(), whisk.Guest, whisk.Actions, name(t, "twin"), false); err != nil {
		t.Fatal(err)
	}
	if got := w.forgotten(); !slices.Equal(got, []string{one}) {
		t.Errorf("deleted: forgot %s, want %s", got, one)
	}
	w.python(t, "twin", "one")
	before := len(w.catalog.imports())
	if a := w.invoke(t, "twin", "{}"); a.Response.Code != whisk.Success || len(w.catalog.imports()) != before+1 {
		t.Errorf("made again: %d imports, %s", len(w.catalog.imports())-before, text(t, a))
	}
}

// TestForgetInUse forgets the code of a deleted action when its activations have ended, those
// included that have not begun.
func TestForgetInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		w.python(t, "a", "one")
		w.invoke(t, "a", "{}")
		queue, run := make(chan struct{}), make(chan struct{})
		w.queue = func(context.Context) error {
			<-queue
			return nil
		}
		w.run = func(_ context.Context, in actions.Activation) (actions.Response, error) {
			<-run
			if _, err := w.catalog.Model(t.Context(), in.Model); err != nil {
				t.Error(err)
			}
			return echo(in)
		}
		for range 2 {
			if _, err := w.Invoke(t.Context(), whisk.Guest, name(t, "a"), whisk.Invocation{}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if _, err := w.Delete(t.Context(), whisk.Guest, whisk.Actions, name(t, "a"), false); err != nil {
			t.Fatal(err)
		}
		for _, step := range []chan struct{}{queue, run, queue} {
			if got := w.forgotten(); len(got) != 0 {
				t.Errorf("forgot %s", got)
			}
			step <- struct{}{}
			synctest.Wait()
		}
		run <- struct{}{}
		synctest.Wait()
		time.Sleep(time.Second) // for the disk
		synctest.Wait()
		if got := w.forgotten(); len(got) != 1 {
			t.Errorf("forgot %s", got)
		}
	})
}

// TestMaxLoaded bounds what is loaded: what is in use stays, of the rest what was used last.
func TestMaxLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, func(c *controller.Config) { c.MaxLoaded = 3 })
		hold := make(chan struct{})
		w.run = func(_ context.Context, in actions.Activation) (actions.Response, error) {
			if string(in.Value) == `{"hold":1}` {
				<-hold
			}
			return echo(in)
		}
		models := make([]string, 6)
		for i := range models {
			n := "a" + strconv.Itoa(i)
			w.python(t, n, fmt.Sprint("code ", i))
			if i == 0 {
				if _, err := w.Invoke(t.Context(), whisk.Guest, name(t, n), whisk.Invocation{Args: []byte(`{"hold":1}`)}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			} else {
				w.invoke(t, n, "{}")
			}
			time.Sleep(time.Second)
			models[i] = w.last(t).Model
			if i == 2 {
				w.invoke(t, "a1", "{}") // after a2
				time.Sleep(time.Second)
			}
		}
		want := slices.Sorted(slices.Values([]string{models[2], models[1], models[3]}))
		if got := w.forgotten(); !slices.Equal(got, want) {
			t.Errorf("forgot %s, want %s", got, want)
		}
		close(hold)
		synctest.Wait()
		w.invoke(t, "a5", "{}")
		if got := w.forgotten(); len(got) != 0 {
			t.Errorf("forgot %s", got)
		}
	})
}
