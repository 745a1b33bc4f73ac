package invoker

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// slowDevices are devices that take their time to be read.
type slowDevices struct {
	*gpus
	time time.Duration
}

func (s slowDevices) Read(ctx context.Context) ([]actions.Device, error) {
	time.Sleep(s.time)
	return s.gpus.Read(ctx)
}

// newSlowFleet is newGPUFleet with devices that take their time to be read.
func newSlowFleet(t *testing.T, cfg Config, read time.Duration, models map[string]int64, sizes ...int64) (*Invoker, *gpuFleet) {
	t.Helper()
	fast, f := newGPUFleet(cfg, models, sizes...)
	closeNow(t, fast)
	cfg.Catalog, cfg.Start, cfg.Devices, cfg.Headroom = f, f.start, slowDevices{f.gpus, read}, -1
	return New(cfg), f
}

// askFor asks as long as d at most, and returns the error and when it came.
func askFor(t *testing.T, v *Invoker, model, args string, d time.Duration) (time.Duration, error) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	_, err := v.Invoke(ctx, actions.Request{Model: model, Args: []byte(args)})
	return time.Since(began), err
}

// A request that comes while an instance of its model is looked for that nobody had asked for
// has that one's place, and others leave for it.
func TestAskedForMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newSlowFleet(t, Config{}, 500*time.Millisecond, map[string]int64{"a": 50, "b": 50}, 80)
		defer f.finish(t, v)
		mustAsk(t, v, "b", `{}`)
		time.Sleep(9 * time.Second) // nobody has read the devices for more than a second
		if err := v.Want(t.Context(), "a", 1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := states(t, v, "a"); got != "wanted" {
			t.Fatalf("a is %q, want it in line until the devices have been read", got)
		}
		if took, err := askFor(t, v, "a", `{}`, time.Minute); err != nil || took > 2*time.Second {
			t.Errorf("got %v after %v", err, took)
		}
	})
}

// Who waits because another model comes first goes on when that one's callers have left, also
// on an instance that is busy and has room.
func TestFirstOneLeaves(t *testing.T) {
	for name, test := range map[string]struct {
		room  int
		first string // what occupies the device
	}{
		"an idle instance": {1, ""},
		"one with room":    {4, `{"Sleep":60000000000}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, f := newGPUFleet(Config{}, map[string]int64{"both": 20, "a": 50, "b": 50}, 80, 80)
				f.room = test.room
				defer f.finish(t, v)
				f.change("both", func(m *actions.Model) { m.Resources.GPUs = 2 })
				for _, model := range []string{"both", "a", "b"} {
					mustAsk(t, v, model, `{}`)
				}
				var wg sync.WaitGroup
				defer wg.Wait()
				wg.Go(func() { mustAsk(t, v, "b", `{"Sleep":60000000000}`) })
				if test.first != "" {
					wg.Go(func() { mustAsk(t, v, "a", test.first) })
				}
				time.Sleep(time.Second)
				wg.Go(func() { _, _ = askFor(t, v, "both", `{}`, 5*time.Second) })
				time.Sleep(time.Second)
				if took, err := askFor(t, v, "a", `{}`, time.Minute); err != nil || took != 4*time.Second {
					t.Errorf("got %v after %v, want it to go on when the callers of both have left", err, took)
				}
			})
		})
	}
}

// A model that is forgotten keeps nobody waiting for it.
func TestFirstOneIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"both": 20, "a": 50, "b": 50}, 80, 80)
		defer f.finish(t, v)
		f.change("both", func(m *actions.Model) { m.Resources.GPUs = 2 })
		for _, model := range []string{"both", "a", "b"} {
			mustAsk(t, v, model, `{}`)
		}
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { mustAsk(t, v, "b", `{"Sleep":60000000000}`) })
		time.Sleep(time.Second)
		wg.Go(func() { _, _ = askFor(t, v, "both", `{}`, time.Minute) })
		time.Sleep(time.Second)
		time.AfterFunc(5*time.Second, func() { v.Forget("both") })
		if took, err := askFor(t, v, "a", `{}`, time.Minute); err != nil || took != 5*time.Second {
			t.Errorf("got %v after %v, want it to go on when both is forgotten", err, took)
		}
	})
}

// A caller waits for memory as long as MemoryWait, also when the model has an instance that is
// about to end, or one in the host's memory that finds no way back.
func TestMemoryWait(t *testing.T) {
	t.Run("beside one that drains", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			v, f := newGPUFleet(Config{MaxInstances: 2}, map[string]int64{"a": 50, "b": 50}, 80)
			defer f.finish(t, v)
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() { mustAsk(t, v, "a", `{"Sleep":300000000000}`) })
			time.Sleep(time.Second)
			wg.Go(func() { _, _ = askFor(t, v, "b", `{}`, 100*time.Second) })
			time.Sleep(10 * time.Second)
			if got := states(t, v, "a"); got != "draining" {
				t.Fatalf("a is %q", got)
			}
			wantNoMemory(t, v, "a")
		})
	})
	t.Run("on the way back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			v, f := newGPUFleet(Config{HostMemory: 100 * gib}, map[string]int64{"a": 50, "b": 50}, 80)
			defer f.finish(t, v)
			f.suspend["a"] = &tier{}
			mustAsk(t, v, "a", `{}`)
			time.Sleep(10 * time.Second)
			if err := v.Warm(t.Context(), "b", 1); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			if got := states(t, v, "a"); got != "suspended" {
				t.Fatalf("a is %q", got)
			}
			wantNoMemory(t, v, "a")
		})
	})
}

// wantNoMemory asks a model for which there is no memory now.
func wantNoMemory(t *testing.T, v *Invoker, model string) {
	t.Helper()
	took, err := askFor(t, v, model, `{}`, 2*time.Minute)
	if actions.CodeOf(err) != actions.Unavailable || took > 31*time.Second || !strings.Contains(err.Error(), "found no memory within 30s") {
		t.Errorf("got %v after %v, want Unavailable after 30 s", err, took)
	}
}
