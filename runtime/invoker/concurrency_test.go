package invoker

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// TestConcurrency: an instance that takes three calls at a time gets three, and a
// second one is started for what does not fit.
func TestConcurrency(t *testing.T) {
	for _, test := range []struct {
		name                    string
		requests, instances     int
		wantStarts, wantAnswers int64
	}{
		{"fits into one", 3, 2, 1, 3},
		{"needs two", 6, 2, 2, 6},
		{"more than two take", 9, 2, 2, 9},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, f := newFleet(Config{MaxInstances: test.instances, IdleTime: time.Minute})
				f.room = 3
				defer closeNow(t, v)
				mustInvoke(t, v, `{}`) // says how many calls an instance takes
				var wg sync.WaitGroup
				for range test.requests {
					wg.Go(func() { mustInvoke(t, v, `{"Sleep":1000000000}`) })
				}
				wg.Wait()
				st := v.Stats()[0]
				if st.ColdStarts != test.wantStarts || st.Invocations != test.wantAnswers+1 || st.InUse != 0 || st.Idle != int(test.wantStarts) {
					t.Errorf("got %+v, want %d starts, all idle", st, test.wantStarts)
				}
				time.Sleep(2 * time.Minute)
				if st := v.Stats()[0]; st.Idle != 0 || st.MaxIdleTimeClosed != test.wantStarts {
					t.Errorf("after IdleTime: got %+v, want none left", st)
				}
			})
		})
	}
}

// TestConcurrencyBusyIsNotIdle: an instance with a call in progress and room for more
// does not expire.
func TestConcurrencyBusyIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{IdleTime: time.Minute})
		f.room = 2
		defer closeNow(t, v)
		var wg sync.WaitGroup
		wg.Go(func() { mustInvoke(t, v, `{"Sleep":600000000000}`) })
		time.Sleep(time.Second)
		mustInvoke(t, v, `{}`)
		time.Sleep(5 * time.Minute)
		if st := v.Stats()[0]; st.InUse != 1 || st.ColdStarts != 1 {
			t.Errorf("got %+v, want the one instance, in use", st)
		}
		wg.Wait()
	})
}

// TestConcurrencyAbandoned: a call whose caller has left keeps its place until it has
// ended, and the others go on.
func TestConcurrencyAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{})
		f.room = 2
		defer closeNow(t, v)
		mustInvoke(t, v, `{}`)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := v.Invoke(ctx, actions.Request{Model: "m", Args: []byte(`{"Sleep":10000000000}`)})
		if actions.CodeOf(err) != actions.Deadline {
			t.Fatalf("got %v, want deadline", err)
		}
		began := time.Now()
		var wg sync.WaitGroup
		for range 3 { // one place is left: they follow one another
			wg.Go(func() { mustInvoke(t, v, `{"Sleep":2000000000}`) })
		}
		wg.Wait()
		if took := time.Since(began); took != 6*time.Second {
			t.Errorf("three calls took %v, want 6 s: one at a time beside the abandoned one", took)
		}
	})
}

// TestConcurrencyClose: an instance with calls in progress ends when the last has.
func TestConcurrencyClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{})
		f.room = 2
		var wg sync.WaitGroup
		for _, args := range []string{`{"Sleep":1000000000}`, `{"Sleep":3000000000}`} {
			wg.Go(func() { mustInvoke(t, v, args) })
		}
		time.Sleep(500 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := v.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
		wg.Wait()
		if st := v.Stats()[0]; st.Invocations != 2 || st.Died != 0 {
			t.Errorf("got %+v", st)
		}
	})
}
