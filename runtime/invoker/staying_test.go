package invoker

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// What was wanted and has gone comes back when there is room again, without a request.
func TestWantedComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"a": 50, "b": 50}, 80)
		defer f.finish(t, v)
		if err := v.Want(t.Context(), "a", 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		mustAsk(t, v, "b", `{}`)
		time.Sleep(10 * time.Second)
		if got := states(t, v, "a"); got != "" {
			t.Fatalf("a is %q", got)
		}
		f.kill(-1)
		time.Sleep(20 * time.Second)
		if got := states(t, v, "a"); got != "idle" {
			t.Errorf("a is %q when there is room for it again", got)
		}
	})
}

// A model that says so itself has its instances as soon as the pool knows it.
func TestScaleMin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"a": 50}, 80)
		defer f.finish(t, v)
		f.change("a", func(m *actions.Model) { m.Scale.Min = 1 })
		left, leave := context.WithCancel(t.Context())
		leave()
		if _, err := v.Invoke(left, actions.Request{Model: "a"}); actions.CodeOf(err) != actions.Canceled {
			t.Fatalf("got %v", err)
		}
		time.Sleep(10 * time.Second)
		if err := v.Ready(); err != nil {
			t.Errorf("Ready: %v", err)
		}
	})
}

// An instance whose device has failed while it was started is not what somebody waited for.
func TestFailsWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"a": 50}, 80, 80)
		defer f.finish(t, v)
		f.loadTime["a"] = 10 * time.Second
		time.AfterFunc(time.Second, func() {
			f.set(0, func(d *actions.Device) { d.Health, d.Reason = actions.Unhealthy, "XID 79" })
		})
		if err := v.Await(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if got := states(t, v, "a"); got != "idle" {
			t.Errorf("a is %q after Await", got)
		}
	})
}

// A model that has said that it cannot be suspended is not tried again, which would cost others
// their place in the host's memory.
func TestCannotBeSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{HostMemory: 60 * gib}, map[string]int64{"can": 30, "cannot": 50, "large": 80}, 80)
		defer f.finish(t, v)
		f.suspend["can"] = &tier{}
		f.suspend["cannot"] = &tier{err: actions.Errorf(actions.Unsupported, "no hooks")}
		for _, model := range []string{"cannot", "large", "can", "large", "cannot", "cannot", "cannot", "large"} {
			mustAsk(t, v, model, `{}`)
			time.Sleep(10 * time.Second)
		}
		if got := states(t, v, "can"); got != "suspended" {
			t.Errorf("the one that can be suspended is %q", got)
		}
	})
}

// What was released because nobody asked is not started ahead of a request: it would be
// released at once.
func TestNothingAheadAfterRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{KeepAlive: Histogram, ReleaseTime: 8 * time.Second}, map[string]int64{"a": 50}, 80)
		defer f.finish(t, v)
		const requests = 30
		for range requests {
			mustAsk(t, v, "a", `{}`)
			time.Sleep(30 * time.Minute)
		}
		if f.loads() != requests {
			t.Errorf("%d loads for %d requests", f.loads(), requests)
		}
	})
}

// A caller who leaves when the instance has ended and is forgotten leaves nothing behind, not
// even for Close to wait for.
func TestLeavesOneThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inst := &lateFake{fake: &fake{done: make(chan struct{}), calls: make(chan struct{}, 1)}, answer: make(chan struct{})}
		v := New(Config{Catalog: &fleet{}, Start: func(context.Context, actions.Model, []string) (Instance, error) { return inst, nil }})
		asked := make(chan error)
		go func() { _, err := invoke(t, v, `{}`); asked <- err }()
		synctest.Wait()
		inst.kill()
		closeNow(t, v)
		close(inst.answer)
		if err := <-asked; actions.CodeOf(err) != actions.Canceled {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if inst.settles != 0 {
			t.Errorf("Settle was called %d times after Close", inst.settles)
		}
	})
}

// A lateFake answers Canceled when it is told to, dead or not.
type lateFake struct {
	*fake
	answer  chan struct{}
	settles int
}

func (f *lateFake) Call(context.Context, actions.Request) (actions.Response, error) {
	<-f.answer
	return actions.Response{}, actions.Errorf(actions.Canceled, "the caller has left")
}

func (f *lateFake) Settle() error {
	f.settles++
	return f.fake.Settle()
}

// A start that ends because the pool closes is no failure of the model.
func TestCloseWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		v, f := newFleet(Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
		f.startTime = time.Minute
		if err := v.Keep(t.Context(), "m", 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		closeNow(t, v)
		if log.Len() > 0 {
			t.Errorf("got %s", log.String())
		}
	})
}

// A driver that does not answer is told of once, and again when it says something else.
func TestReadErrorsAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		v, f := newGPUFleet(Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, map[string]int64{"a": 50}, 80)
		defer f.finish(t, v)
		mustAsk(t, v, "a", `{}`)
		f.kill(-1)
		for _, text := range []string{"no answer", "no library"} {
			f.gpus.mu.Lock()
			f.err = errors.New(text)
			f.gpus.mu.Unlock()
			_, _ = askFor(t, v, "a", `{}`, 20*time.Second)
			if n := strings.Count(log.String(), `could not be read" error="`+text); n != 1 {
				t.Errorf("%q: %d lines, want one", text, n)
			}
		}
		f.gpus.mu.Lock()
		f.err = nil
		f.gpus.mu.Unlock()
		mustAsk(t, v, "a", `{}`)
	})
}
