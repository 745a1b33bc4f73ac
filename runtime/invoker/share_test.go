package invoker

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// busyFor has callers ask a model with calls of that length until ctx ends.
func busyFor(ctx context.Context, t *testing.T, v *Invoker, wg *sync.WaitGroup, model string, callers int, length time.Duration) {
	t.Helper()
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				mustAsk(t, v, model, fmt.Sprintf(`{"Sleep":%d}`, length))
			}
		})
	}
}

// Models that share a device have as much of its time each, however long their calls are, how
// many callers they have and how many calls an instance takes at a time.
func TestFairShares(t *testing.T) {
	for name, test := range map[string]struct{ room, callers int }{
		"one call at a time":       {1, 4},
		"several calls at a time":  {4, 12},
		"one more caller than one": {1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, f := newGPUFleet(Config{}, map[string]int64{"long": 20, "short": 20, "alone": 20}, 80)
				f.room = test.room
				defer f.finish(t, v)
				for _, model := range []string{"long", "short", "alone"} {
					mustAsk(t, v, model, `{}`)
				}
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				busyFor(ctx, t, v, &wg, "long", test.callers, 200*time.Millisecond)
				busyFor(ctx, t, v, &wg, "short", test.callers, 10*time.Millisecond)
				time.Sleep(2 * time.Minute)
				f.check(t, v)
				cancel()
				wg.Wait()
				long, short := stat(t, v, "long").DeviceTime, stat(t, v, "short").DeviceTime
				if ratio := float64(long) / float64(short); ratio < 0.9 || ratio > 1.1 {
					t.Errorf("got %v and %v of the device's time, want as much each", long, short)
				}
				if busy := v.DeviceStats()[0].Busy; busy < 119*time.Second || long+short != busy {
					t.Errorf("the device was busy for %v, the models' shares are %v and %v", busy, long, short)
				}
			})
		})
	}
}

// Who has not used the device for long does not have it for himself now, and one who comes
// does not wait until he has had as little.
func TestNoCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"old": 20, "new": 20}, 80)
		defer f.finish(t, v)
		mustAsk(t, v, "old", `{}`)
		mustAsk(t, v, "new", `{}`)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		busyFor(ctx, t, v, &wg, "old", 3, 50*time.Millisecond)
		time.Sleep(time.Hour)
		before := stat(t, v, "old").DeviceTime
		busyFor(ctx, t, v, &wg, "new", 3, 50*time.Millisecond)
		time.Sleep(time.Minute)
		cancel()
		wg.Wait()
		if old := stat(t, v, "old").DeviceTime - before; old < 28*time.Second || old > 32*time.Second {
			t.Errorf("the one that was there had %v of the minute, want half", old)
		}
	})
}

// A model on two devices has both at one time and is not kept from them by those on one.
func TestShareOfSeveralDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"both": 20, "a": 50, "b": 50, "other": 10}, 80, 80)
		defer f.finish(t, v)
		for _, model := range []string{"both", "other"} {
			f.change(model, func(m *actions.Model) { m.Resources.GPUs = 2 })
		}
		for _, model := range []string{"both", "other", "a", "b"} {
			mustAsk(t, v, model, `{}`)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		busyFor(ctx, t, v, &wg, "a", 3, 30*time.Millisecond)
		busyFor(ctx, t, v, &wg, "b", 3, 70*time.Millisecond)
		busyFor(ctx, t, v, &wg, "both", 2, 20*time.Millisecond)
		busyFor(ctx, t, v, &wg, "other", 2, 50*time.Millisecond)
		time.Sleep(time.Minute)
		cancel()
		wg.Wait()
		for model, least := range map[string]time.Duration{"a": 8 * time.Second, "b": 8 * time.Second, "both": 16 * time.Second, "other": 16 * time.Second} {
			if got := stat(t, v, model).DeviceTime; got < least {
				t.Errorf("%s had %v of the devices' time in a minute, want %v at least", model, got, least)
			}
		}
	})
}

// Without a limit, and with NVIDIA's multi-process service, calls of different models go on at
// the same time.
func TestNoSharing(t *testing.T) {
	for name, test := range map[string]struct {
		calls int
		mps   bool
		want  time.Duration
	}{
		"one":      {1, false, 2 * time.Second},
		"two":      {2, false, time.Second},
		"no limit": {-1, false, time.Second},
		"MPS":      {1, true, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, f := newGPUFleet(Config{DeviceCalls: test.calls}, map[string]int64{"a": 20, "b": 20}, 80)
				defer f.finish(t, v)
				f.set(0, func(d *actions.Device) { d.MPS = test.mps })
				mustAsk(t, v, "a", `{}`)
				mustAsk(t, v, "b", `{}`)
				began := time.Now()
				var wg sync.WaitGroup
				for _, model := range []string{"a", "b"} {
					wg.Go(func() { mustAsk(t, v, model, `{"Sleep":1000000000}`) })
				}
				wg.Wait()
				if took := time.Since(began); took != test.want {
					t.Errorf("took %v, want %v", took, test.want)
				}
			})
		})
	}
}

// A call whose instance dies gives its device back.
func TestShareOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"a": 20, "b": 20}, 80)
		defer f.finish(t, v)
		mustAsk(t, v, "b", `{}`)
		mustAsk(t, v, "a", `{}`)
		for range 5 {
			var wg sync.WaitGroup
			wg.Go(func() { mustAsk(t, v, "b", `{"Sleep":10000000}`) })
			if _, err := ask(t, v, "a", `{"Die":true}`); actions.CodeOf(err) != actions.Unavailable {
				t.Errorf("got %v", err)
			}
			wg.Wait()
			f.check(t, v)
			mustAsk(t, v, "a", `{}`)
		}
	})
}
