package invoker

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// Of several instances of one model only those above its minimum are given up together.
func TestMinimumStays(t *testing.T) {
	for name, test := range map[string]struct {
		host    int64
		suspend bool
	}{"they end": {0, false}, "they are suspended": {100, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, f := newGPUFleet(Config{MaxInstances: 2, DeviceCalls: -1, HostMemory: test.host * gib}, map[string]int64{"a": 30, "b": 20, "new": 60}, 80)
				defer f.finish(t, v)
				f.change("a", func(m *actions.Model) { m.Scale.Min = 1 })
				if test.suspend {
					f.suspend["a"] = &tier{residue: gib}
				}
				var wg sync.WaitGroup
				for range 2 {
					wg.Go(func() { mustAsk(t, v, "a", `{"Sleep":1000000000}`) })
				}
				wg.Wait()
				if got := states(t, v, "a"); got != "idle idle" {
					t.Fatalf("a is %q", got)
				}
				time.Sleep(time.Minute)
				mustAsk(t, v, "b", `{}`)
				time.Sleep(time.Minute)
				if _, err := askFor(t, v, "new", `{}`, time.Minute); actions.CodeOf(err) != actions.Unavailable {
					t.Errorf("got %v, want Unavailable: one of a stays", err)
				}
				if st := stat(t, v, "a"); st.Evictions[actions.EvictMemory] > 1 || st.ColdStarts != 2 || st.InUse+st.Idle+st.Suspended == 0 {
					t.Errorf("got %+v, want that one stays", st)
				}
			})
		})
	}
}

// A model whose callers wait for their turn on a device is not given up as one that is idle.
func TestWaitingForTurnIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"a": 30, "b": 30, "c": 40}, 80)
		defer f.finish(t, v)
		mustAsk(t, v, "a", `{}`)
		mustAsk(t, v, "b", `{}`)
		time.Sleep(time.Minute)
		var wg sync.WaitGroup
		wg.Go(func() { mustAsk(t, v, "b", `{"Sleep":4000000000}`) })
		time.Sleep(100 * time.Millisecond)
		wg.Go(func() { mustAsk(t, v, "a", `{"Sleep":500000000}`) })
		time.Sleep(100 * time.Millisecond)
		wg.Go(func() { mustAsk(t, v, "c", `{}`) })
		wg.Wait()
		if st := stat(t, v, "a"); st.Evictions[actions.EvictMemory] != 0 {
			t.Errorf("a was given up while a caller waited for it: %+v", st)
		}
		if st := stat(t, v, "b"); st.Evictions[actions.EvictMemory] != 1 {
			t.Errorf("got %+v, want b to go", st)
		}
	})
}

// However long one waits, none leaves before its residency is over.
func TestResidencyIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{Residency: 20 * time.Second}, map[string]int64{"a": 50, "b": 50}, 80)
		defer f.finish(t, v)
		mustAsk(t, v, "a", `{}`)
		if took, err := askFor(t, v, "b", `{}`, time.Minute); err != nil || took < 20*time.Second || took > 21*time.Second {
			t.Errorf("got %v after %v, want it to wait until a was there for 20 s", err, took)
		}
	})
}

// An instance on two devices that leaves for another on the same two is suspended once, and
// stays so.
func TestSuspendedOnceForTwoDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{HostMemory: 200 * gib}, map[string]int64{"a": 50, "b": 50}, 80, 80)
		defer f.finish(t, v)
		for _, model := range []string{"a", "b"} {
			f.change(model, func(m *actions.Model) { m.Resources.GPUs = 2 })
		}
		f.suspend["a"] = &tier{time: time.Second}
		mustAsk(t, v, "a", `{}`)
		time.Sleep(time.Minute)
		mustAsk(t, v, "b", `{}`)
		time.Sleep(time.Minute)
		if st := stat(t, v, "a"); states(t, v, "a") != "suspended" || st.Evictions[actions.EvictMemory] != 0 {
			t.Errorf("got %+v", st)
		}
	})
}

// What has an instance already gets no further one at the cost of models that are busy, nor
// keeps free memory from them.
func TestFurtherInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{MaxInstances: 2}, map[string]int64{"a": 35, "b": 35, "c": 10}, 80)
		defer f.finish(t, v)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		busyFor(ctx, t, v, &wg, "a", 3, 100*time.Millisecond)
		time.Sleep(3 * time.Second) // it has two
		busyFor(ctx, t, v, &wg, "b", 3, 100*time.Millisecond)
		time.Sleep(20 * time.Second)
		took, err := askFor(t, v, "c", `{}`, time.Minute)
		time.Sleep(2 * time.Minute)
		loads := f.loads()
		cancel()
		wg.Wait()
		if err != nil || took > time.Second {
			t.Errorf("c: got %v after %v, though there was room", err, took)
		}
		if loads != 4 {
			t.Errorf("%d loads, want two of a and one of b and c: they chase each other out", loads)
		}
	})
}

// Nobody leaves one device for an instance that cannot have its other one.
func TestNobodyLeavesInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{HostMemory: 200 * gib}, map[string]int64{"a": 50, "other": 60, "kept": 60}, 80, 80)
		defer f.finish(t, v)
		f.change("a", func(m *actions.Model) { m.Resources.GPUs = 2 })
		f.suspend["a"] = &tier{}
		mustAsk(t, v, "a", `{}`)
		time.Sleep(time.Minute)
		if err := v.Warm(t.Context(), "kept", 1); err != nil {
			t.Fatal(err)
		}
		mustAsk(t, v, "other", `{}`)
		time.Sleep(time.Minute)
		if got := states(t, v, "a"); got != "suspended" {
			t.Fatalf("a is %q", got)
		}
		if _, err := askFor(t, v, "a", `{}`, 20*time.Second); actions.CodeOf(err) != actions.Deadline {
			t.Errorf("got %v", err)
		}
		if got := states(t, v, "other"); got != "idle" {
			t.Errorf("the other is %q, want it where it was", got)
		}
	})
}
