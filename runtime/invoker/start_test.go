package invoker

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// TestDeathsInCalls: requests that kill cost a start each and delay nobody.
func TestDeathsInCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{})
		defer closeNow(t, v)
		began := time.Now()
		for i := range 20 {
			if _, err := invoke(t, v, `{"Die":true}`); actions.CodeOf(err) != actions.Unavailable {
				t.Fatalf("got %v, want Unavailable", err)
			}
			if got, want := time.Since(began), time.Duration(i+1)*100*time.Millisecond; got != want {
				t.Fatalf("death %d: after %v, want %v: a start takes 100 ms", i, got, want)
			}
		}
		mustInvoke(t, v, `{}`)
		if got := time.Since(began); got != 2100*time.Millisecond {
			t.Errorf("the first good answer came after %v, want 2.1 s", got)
		}
		if len(f.started) != 21 {
			t.Errorf("got %d starts, want 21", len(f.started))
		}
	})
}

// TestBackOffAfterDeaths: instances that die by themselves right after their start are
// started again with a growing delay.
func TestBackOffAfterDeaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{})
		defer closeNow(t, v)
		began := time.Now()
		if err := v.Keep(t.Context(), "m", 1); err != nil {
			t.Fatal(err)
		}
		want := []time.Duration{100, 200, 400, 700, 1200} // each start takes 100 ms
		for i, at := range want {
			time.Sleep(time.Until(began.Add(at*time.Millisecond - time.Millisecond)))
			synctest.Wait()
			f.mu.Lock()
			before := len(f.started)
			f.mu.Unlock()
			time.Sleep(time.Millisecond)
			synctest.Wait()
			f.mu.Lock()
			after := len(f.started)
			last := f.started[after-1]
			f.mu.Unlock()
			if before != i || after != i+1 {
				t.Fatalf("start %d: %d before and %d at %v ms, want it then", i+1, before, after, int(at))
			}
			last.kill()
		}
	})
}

func TestStartFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{})
		defer closeNow(t, v)
		for range 6 {
			f.startErrs = append(f.startErrs, errors.New("no such file"))
		}
		var last error
		for range 6 {
			_, last = invoke(t, v, `{}`)
			if actions.CodeOf(last) != actions.Unavailable || !strings.Contains(last.Error(), "no such file") {
				t.Fatalf("got %v, want Unavailable with the cause", last)
			}
		}
		e, ok := errors.AsType[*actions.Error](last)
		if !ok || e.RetryAfter < time.Second {
			t.Errorf("got %#v, want a time to try again", last)
		}
		time.Sleep(e.RetryAfter)
		time.Sleep(10 * time.Second)
		f.mu.Lock()
		f.startErrs = nil
		f.mu.Unlock()
		mustInvoke(t, v, `{}`)
		if st := v.Stats()[0]; st.StartFailures == 0 || st.ColdStarts != 1 {
			t.Errorf("got %+v", st)
		}
	})
}

// To who warms a model the error says whose fault it is; to who invokes it, it is always
// the server's. Both see what the child printed.
func TestStartErrorCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{})
		defer closeNow(t, v)
		cause := actions.Errorf(actions.Invalid, "model.onnx is not an ONNX file")
		cause.Logs = []actions.LogLine{{Stream: actions.Stderr, Text: "bad magic"}}
		f.startErrs = []error{cause, cause}
		_, invokeErr := invoke(t, v, `{}`)
		warmErr := v.Warm(t.Context(), "m", 1)
		for err, want := range map[error]actions.Code{invokeErr: actions.Unavailable, warmErr: actions.Invalid} {
			e, ok := errors.AsType[*actions.Error](err)
			if !ok || e.Code != want || len(e.Logs) != 1 || !strings.Contains(e.Msg, "not an ONNX file") {
				t.Errorf("got %#v, want %s with the cause and its log", err, want)
			}
		}
	})
}

// One instance serves and a second can never start: the attempts become rare, although
// the first answers all the time.
func TestNoStartStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{MaxInstances: 2})
		defer closeNow(t, v)
		mustInvoke(t, v, `{}`)
		for range 1000 {
			f.startErrs = append(f.startErrs, errors.New("no memory on the device"))
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for began := time.Now(); time.Since(began) < time.Minute; {
					mustInvoke(t, v, `{"Sleep":10000000}`)
				}
			})
		}
		wg.Wait()
		if st := v.Stats()[0]; st.StartFailures < 3 || st.StartFailures > 12 {
			t.Errorf("got %d attempts in a minute, want a few", st.StartFailures)
		}
		f.mu.Lock()
		f.startErrs = nil
		f.mu.Unlock()
		f.started[0].kill()
		began := time.Now()
		mustInvoke(t, v, `{}`)
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("after the death of the one that answered: %v, want the start alone", took)
		}
	})
}

// An instance that nobody asked for a day and that dies is replaced at once, every day.
func TestRareDeaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{})
		defer closeNow(t, v)
		if err := v.Warm(t.Context(), "m", 1); err != nil {
			t.Fatal(err)
		}
		for day := range 10 {
			time.Sleep(24 * time.Hour)
			f.mu.Lock()
			last := f.started[len(f.started)-1]
			f.mu.Unlock()
			last.kill()
			synctest.Wait()
			time.Sleep(101 * time.Millisecond)
			if err := v.Ready(); err != nil {
				t.Errorf("day %d, after the time of a start: %v", day, err)
			}
		}
	})
}

func TestWarmKeepsAndReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{MaxInstances: 2, IdleTime: time.Minute})
		defer closeNow(t, v)
		if err := v.Warm(t.Context(), "./m", 2); err != nil {
			t.Fatal(err)
		}
		if err := v.Ready(); err != nil {
			t.Errorf("Ready: %v", err)
		}
		time.Sleep(time.Hour)
		if st := v.Stats()[0]; st.Idle != 2 || st.Invocations != 0 {
			t.Errorf("after an hour: got %+v, want 2 idle", st)
		}
		f.startErrs = []error{errors.New("no memory"), errors.New("no memory")}
		f.started[0].kill()
		f.started[1].kill()
		synctest.Wait()
		if v.Ready() == nil {
			t.Error("ready without an instance")
		}
		time.Sleep(time.Minute)
		if err := v.Ready(); err != nil {
			t.Errorf("a minute later: %v", err)
		}
		if st := v.Stats()[0]; st.Idle != 2 || st.Died != 2 || len(v.Stats()) != 1 {
			t.Errorf("a minute later: got %+v, want 2 idle in the one pool", st)
		}
	})
}

func TestWarmReportsFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{})
		defer closeNow(t, v)
		f.startErrs = []error{errors.New("wrong hash")}
		if err := v.Warm(t.Context(), "m", 1); err == nil || !strings.Contains(err.Error(), "wrong hash") {
			t.Errorf("got %v, want the cause", err)
		}
		if err := v.Ready(); err == nil || !strings.Contains(err.Error(), "wrong hash") {
			t.Errorf("Ready: got %v, want the cause", err)
		}
		time.Sleep(time.Second)
		if err := v.Ready(); err != nil {
			t.Errorf("a second later: %v", err)
		}
	})
}

// From the moment that a model is to be kept there is no readiness without it.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _ := newFleet(Config{})
		defer closeNow(t, v)
		if err := v.Keep(t.Context(), "unknown", 1); actions.CodeOf(err) != actions.NotFound {
			t.Errorf("got %v, want NotFound", err)
		}
		if err := v.Keep(t.Context(), "m", 1); err != nil {
			t.Fatal(err)
		}
		if err := v.Ready(); err == nil || !strings.Contains(err.Error(), "being loaded") {
			t.Errorf("at once: got %v, want that it is being loaded", err)
		}
		time.Sleep(time.Second)
		if err := v.Ready(); err != nil {
			t.Errorf("a second later: %v", err)
		}
	})
}

// What could not be warmed and is given up keeps nobody from being ready.
func TestCool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{IdleTime: time.Minute})
		defer closeNow(t, v)
		f.startErrs = []error{errors.New("wrong hash")}
		if err := v.Warm(t.Context(), "bad", 1); err == nil {
			t.Fatal("got no error")
		}
		if err := v.Ready(); err == nil {
			t.Error("ready without the model that is to be kept")
		}
		v.Cool("bad")
		v.Cool("never seen")
		if err := v.Warm(t.Context(), "good", 1); err != nil {
			t.Fatal(err)
		}
		if err := v.Ready(); err != nil {
			t.Errorf("Ready: %v", err)
		}
		time.Sleep(time.Hour)
		if bad := v.Stats()[0]; bad.StartFailures != 1 || bad.ColdStarts != 0 {
			t.Errorf("got %+v, want no further start", bad)
		}
		v.Cool("good")
		time.Sleep(2 * time.Minute)
		if good := v.Stats()[1]; good.Idle != 0 {
			t.Errorf("got %+v, want it expired", good)
		}
	})
}

// A model that was forgotten is asked for again. Its instance ends when its call has, with
// Close at the latest.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{})
		if err := v.Warm(t.Context(), "m", 1); err != nil {
			t.Fatal(err)
		}
		old := make(chan error, 1)
		go func() { // ends with its call
			_, err := v.Invoke(t.Context(), actions.Request{Model: "m", Args: []byte(`{"Sleep": 60000000000}`)})
			old <- err
		}()
		synctest.Wait()
		v.Forget("m")
		v.Forget("never seen")
		if _, err := v.Invoke(t.Context(), actions.Request{Model: "m"}); err != nil || len(f.started) != 2 {
			t.Errorf("got %d instances, %v, want a second one", len(f.started), err)
		}
		if err := <-old; err != nil {
			t.Errorf("the call of the old instance: %v", err)
		}
		<-f.started[0].Done()

		f.startErrs = []error{errors.New("no weights")}
		if err := v.Warm(t.Context(), "broken", 1); err == nil {
			t.Error("got no error")
		}
		v.Forget("broken")
		if err := v.Warm(t.Context(), "broken", 1); err != nil {
			t.Errorf("after Forget: %v, want no delay for another model", err)
		}
		if err := v.Ready(); err != nil {
			t.Errorf("Ready: %v", err)
		}
		closeNow(t, v)
		<-f.started[1].Done()
	})
}
