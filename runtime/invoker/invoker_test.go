package invoker

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

func TestColdThenWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _ := newFleet(Config{})
		defer closeNow(t, v)
		cold := mustInvoke(t, v, `{"Sleep":5000000}`)
		if want := (actions.Timing{Start: 100 * time.Millisecond, Cold: true, From: actions.TierDisk, Run: 5 * time.Millisecond}); cold.Timing != want {
			t.Errorf("cold: got %+v, want %+v", cold.Timing, want)
		}
		warm := mustInvoke(t, v, `{}`)
		if warm.Timing != (actions.Timing{From: actions.TierWarm}) {
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
