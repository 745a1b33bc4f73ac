package invoker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A fleet is a fake runtime and catalog whose instances obey knobs.
type fleet struct {
	mu        sync.Mutex // guards everything below
	started   []*fake
	startErrs []error // the next starts fail with these; nil starts well
	startTime time.Duration
}

func (f *fleet) Model(_ context.Context, name string) (actions.Model, error) {
	if name == "unknown" {
		return actions.Model{}, actions.Errorf(actions.NotFound, "there is no model %q", name)
	}
	return actions.Model{Name: strings.TrimPrefix(name, "./")}, nil
}

func (f *fleet) start(ctx context.Context, m actions.Model) (Instance, error) {
	select {
	case <-time.After(f.startTime):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.startErrs) > 0 {
		err := f.startErrs[0]
		f.startErrs = f.startErrs[1:]
		if err != nil {
			return nil, err
		}
	}
	inst := &fake{number: len(f.started), done: make(chan struct{}), settled: make(chan struct{}, 1)}
	f.started = append(f.started, inst)
	return inst, nil
}

// A fake instance answers {"instance": number} after as long as the arguments ask.
type fake struct {
	number  int
	done    chan struct{}
	once    sync.Once
	settled chan struct{}
	calls   sync.Mutex // held during a call: two at once are a fault of the pool
}

func (f *fake) Call(ctx context.Context, req actions.Request) (actions.Response, error) {
	if !f.calls.TryLock() {
		panic("two calls on one instance at once")
	}
	var args struct {
		Sleep time.Duration
		Die   bool
		Fail  bool
	}
	if err := json.Unmarshal(req.Args, &args); err != nil && req.Args != nil {
		panic(err)
	}
	if args.Die {
		f.kill()
		f.calls.Unlock()
		return actions.Response{}, actions.Errorf(actions.Unavailable, "the worker died")
	}
	timer := time.NewTimer(args.Sleep)
	select {
	case <-timer.C:
	case <-f.done:
		f.calls.Unlock()
		return actions.Response{}, actions.Errorf(actions.Unavailable, "the worker died")
	case <-ctx.Done():
		go func() { // the late answer
			<-timer.C
			f.calls.Unlock()
			f.settled <- struct{}{}
		}()
		return actions.Response{}, actions.Errorf(actions.Deadline, "late: %w", ctx.Err())
	}
	f.calls.Unlock()
	if args.Fail {
		return actions.Response{}, actions.Errorf(actions.Failed, "the model failed")
	}
	return actions.Response{Data: fmt.Appendf(nil, `{"instance":%d,"id":%q}`, f.number, req.ID)}, nil
}

func (f *fake) Settle() error {
	select {
	case <-f.settled:
		return nil
	case <-f.done:
		return errors.New("died")
	}
}

func (f *fake) kill()                 { f.once.Do(func() { close(f.done) }) }
func (f *fake) Info() json.RawMessage { return fmt.Appendf(nil, `{"number":%d}`, f.number) }
func (f *fake) Done() <-chan struct{} { return f.done }
func (f *fake) Err() error            { return errors.New("signal: killed") }
func (f *fake) Close() error          { f.kill(); return nil }

func newFleet(cfg Config) (*Invoker, *fleet) {
	f := &fleet{startTime: 100 * time.Millisecond}
	cfg.Catalog, cfg.Start = f, f.start
	return New(cfg), f
}

func invoke(t *testing.T, v *Invoker, args string) (actions.Response, error) {
	t.Helper()
	return v.Invoke(t.Context(), actions.Request{Model: "m", Args: json.RawMessage(args)})
}

func mustInvoke(t *testing.T, v *Invoker, args string) actions.Response {
	t.Helper()
	resp, err := invoke(t, v, args)
	if err != nil {
		t.Fatalf("Invoke(%s): %v", args, err)
	}
	return resp
}

func closeNow(t *testing.T, v *Invoker) {
	t.Helper()
	if err := v.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestColdThenWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _ := newFleet(Config{})
		defer closeNow(t, v)
		cold := mustInvoke(t, v, `{"Sleep":5000000}`)
		if want := (actions.Timing{Start: 100 * time.Millisecond, Cold: true, Run: 5 * time.Millisecond}); cold.Timing != want {
			t.Errorf("cold: got %+v, want %+v", cold.Timing, want)
		}
		warm := mustInvoke(t, v, `{}`)
		if warm.Timing != (actions.Timing{}) {
			t.Errorf("warm: got %+v, want no time at all", warm.Timing)
		}
		st := v.Stats()[0]
		if st.ColdStarts != 1 || st.Invocations != 2 || st.Idle != 1 || st.WaitCount != 1 || st.WaitDuration != 100*time.Millisecond {
			t.Errorf("stats: got %+v", st)
		}
		if got := string(v.Info("m")); got != `{"number":0}` {
			t.Errorf("Info: got %s", got)
		}
		if got := v.Info("never"); got != nil {
			t.Errorf("Info of a model that was not loaded: got %s", got)
		}
	})
}

func TestNewestIdleFirstAndExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{MaxInstances: 3, IdleTime: time.Minute})
		defer closeNow(t, v)
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() { mustInvoke(t, v, fmt.Sprintf(`{"Sleep":%d}`, (i+1)*int(time.Second))) })
		}
		wg.Wait()
		if st := v.Stats()[0]; st.Idle != 3 || st.ColdStarts != 3 {
			t.Fatalf("got %+v, want 3 idle instances", st)
		}
		newest := string(mustInvoke(t, v, `{}`).Data)
		for range 3 {
			time.Sleep(25 * time.Second)
			if got := string(mustInvoke(t, v, `{}`).Data); got != newest {
				t.Errorf("got %s, want the newest, %s", got, newest)
			}
		}
		st := v.Stats()[0]
		if st.Idle != 1 || st.MaxIdleTimeClosed != 2 {
			t.Errorf("after a minute: got %+v, want 2 of 3 expired", st)
		}
		time.Sleep(2 * time.Minute)
		if st := v.Stats()[0]; st.Idle != 0 || st.MaxIdleTimeClosed != 3 {
			t.Errorf("after two minutes more: got %+v, want none left", st)
		}
		mustInvoke(t, v, `{}`)
		if len(f.started) != 4 {
			t.Errorf("got %d starts, want 4", len(f.started))
		}
	})
}

func TestQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _ := newFleet(Config{QueueDepth: 2})
		defer closeNow(t, v)
		mustInvoke(t, v, `{}`)
		var wg sync.WaitGroup
		for range 3 { // one runs, two wait
			wg.Go(func() { mustInvoke(t, v, `{"Sleep":1000000000}`) })
		}
		synctest.Wait()
		_, err := invoke(t, v, `{}`)
		if actions.CodeOf(err) != actions.Busy || !strings.Contains(err.Error(), "2 requests") {
			t.Errorf("got %v, want Busy that names the depth", err)
		}
		wg.Wait()
		if st := v.Stats()[0]; st.QueueFull != 1 || st.Waiting != 0 {
			t.Errorf("got %+v", st)
		}
	})
}

func TestDeadlineInQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _ := newFleet(Config{})
		defer closeNow(t, v)
		mustInvoke(t, v, `{}`)
		var wg sync.WaitGroup
		wg.Go(func() { mustInvoke(t, v, `{"Sleep":1000000000}`) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := v.Invoke(ctx, actions.Request{Model: "m"})
		if actions.CodeOf(err) != actions.Deadline || time.Since(began) != 10*time.Millisecond {
			t.Errorf("got %v after %v, want Deadline after 10ms", err, time.Since(began))
		}
		wg.Wait()
		if _, err = v.Invoke(ctx, actions.Request{Model: "m"}); actions.CodeOf(err) != actions.Deadline {
			t.Errorf("with a deadline in the past: got %v", err)
		}
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _ := newFleet(Config{Timeout: time.Second})
		defer closeNow(t, v)
		began := time.Now()
		_, err := invoke(t, v, `{"Sleep":3600000000000}`)
		if actions.CodeOf(err) != actions.Deadline || time.Since(began) != time.Second {
			t.Errorf("got %v after %v, want Deadline after a second", err, time.Since(began))
		}
	})
}

// The caller leaves in the middle of a call: he is answered at once, and the instance
// serves nobody until it has settled.
func TestDeadlineInCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{})
		defer closeNow(t, v)
		mustInvoke(t, v, `{}`)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := v.Invoke(ctx, actions.Request{Model: "m", Args: []byte(`{"Sleep":1000000000}`)})
		if actions.CodeOf(err) != actions.Deadline {
			t.Fatalf("got %v, want Deadline", err)
		}
		resp := mustInvoke(t, v, `{}`)
		if want := 990 * time.Millisecond; resp.Timing.Queue != want {
			t.Errorf("the next request waited %v, want %v", resp.Timing.Queue, want)
		}
		if len(f.started) != 1 {
			t.Errorf("got %d starts, want the one instance kept", len(f.started))
		}
	})
}

// A caller who leaves during a cold start does not end the start.
func TestStartOutlivesCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{})
		defer closeNow(t, v)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := v.Invoke(ctx, actions.Request{Model: "m"}); actions.CodeOf(err) != actions.Deadline {
			t.Fatalf("got %v, want Deadline", err)
		}
		time.Sleep(time.Second)
		if resp := mustInvoke(t, v, `{}`); resp.Timing.Queue != 0 || len(f.started) != 1 {
			t.Errorf("got %+v with %d starts, want the instance of the first caller", resp.Timing, len(f.started))
		}
	})
}

func TestDeathUnderRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{})
		defer closeNow(t, v)
		mustInvoke(t, v, `{}`)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := invoke(t, v, `{"Sleep":1000000000}`); actions.CodeOf(err) != actions.Unavailable {
				t.Errorf("the request that the instance held: got %v, want Unavailable", err)
			}
		})
		synctest.Wait()
		for range 5 {
			wg.Go(func() { mustInvoke(t, v, `{}`) })
		}
		synctest.Wait()
		f.started[0].kill()
		wg.Wait()
		if st := v.Stats()[0]; st.Died != 1 || st.ColdStarts != 2 {
			t.Errorf("got %+v, want one death and a second start", st)
		}
	})
}

// An idle instance that died is never given to a request.
func TestDeathWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{})
		defer closeNow(t, v)
		mustInvoke(t, v, `{}`)
		f.started[0].kill()
		mustInvoke(t, v, `{}`)
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{MaxInstances: 2})
		mustInvoke(t, v, `{}`)
		var wg sync.WaitGroup
		wg.Go(func() { mustInvoke(t, v, `{"Sleep":1000000000}`) })
		synctest.Wait()
		wg.Go(func() { // waits while a second instance starts
			if _, err := invoke(t, v, `{}`); actions.CodeOf(err) != actions.Unavailable {
				t.Errorf("in the queue: got %v, want Unavailable", err)
			}
		})
		synctest.Wait()
		if err := v.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
		wg.Wait()
		for _, model := range []string{"m", "other"} {
			if _, err := v.Invoke(t.Context(), actions.Request{Model: model}); actions.CodeOf(err) != actions.Unavailable {
				t.Errorf("%s after Close: got %v, want Unavailable", model, err)
			}
		}
		for _, inst := range f.started {
			select {
			case <-inst.done:
			default:
				t.Errorf("instance %d lives after Close", inst.number)
			}
		}
	})
}

func TestCloseCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _ := newFleet(Config{})
		mustInvoke(t, v, `{}`)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := invoke(t, v, `{"Sleep":3600000000000}`); actions.CodeOf(err) != actions.Unavailable {
				t.Errorf("got %v, want Unavailable", err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := v.Close(ctx); err == nil || !strings.Contains(err.Error(), "cut off: 1") {
			t.Errorf("got %v, want an error that counts what was cut off", err)
		}
		wg.Wait()
	})
}

func TestUnknownModel(t *testing.T) {
	v, _ := newFleet(Config{})
	if _, err := v.Invoke(t.Context(), actions.Request{Model: "unknown"}); actions.CodeOf(err) != actions.NotFound {
		t.Errorf("got %v, want NotFound", err)
	}
	if err := v.Warm(t.Context(), "unknown", 1); actions.CodeOf(err) != actions.NotFound {
		t.Errorf("Warm: got %v, want NotFound", err)
	}
}

// Many requests, callers that leave, deaths: every answer is the caller's own, and in
// the end nothing is lost.
func TestRandomLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{MaxInstances: 3, QueueDepth: 1000, IdleTime: time.Second})
		var wg sync.WaitGroup
		var good atomic.Int64
		for i := range 1000 {
			wg.Go(func() {
				time.Sleep(time.Duration(i%97) * 7 * time.Millisecond)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(20+i%500)*time.Millisecond)
				defer cancel()
				id := fmt.Sprint(i)
				args := fmt.Sprintf(`{"Sleep":%d,"Die":%t}`, (i%13)*int(time.Millisecond), i%101 == 100)
				resp, err := v.Invoke(ctx, actions.Request{Model: "m", ID: id, Args: json.RawMessage(args)})
				switch code := actions.CodeOf(err); {
				case err == nil && !strings.Contains(string(resp.Data), fmt.Sprintf("%q", id)):
					t.Errorf("request %s: got %s", id, resp.Data)
				case err == nil:
					good.Add(1)
				case code != actions.Deadline && code != actions.Unavailable:
					t.Errorf("request %s: got %v", id, err)
				}
			})
		}
		wg.Wait()
		if good.Load() < 300 {
			t.Errorf("got %d good answers of 1000", good.Load())
		}
		time.Sleep(time.Minute)
		mustInvoke(t, v, `{}`)
		closeNow(t, v)
		st := v.Stats()[0]
		if st.Waiting+st.Idle+st.InUse+st.Starting+st.Draining != 0 {
			t.Errorf("after Close: got %+v, want nothing left", st)
		}
		if int(st.ColdStarts) != len(f.started) || st.Died == 0 {
			t.Errorf("got %+v with %d starts", st, len(f.started))
		}
	})
}
