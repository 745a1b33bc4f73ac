package invoker

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// Models share a device as long as there is memory, and each has its own where there are
// several.
func TestPlacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"a": 30, "b": 30, "c": 30, "two": 20, "none": 0}, 80, 80)
		defer f.finish(t, v)
		f.change("two", func(m *actions.Model) { m.Resources.GPUs = 2 })
		for _, model := range []string{"a", "b", "c", "two", "none"} {
			mustAsk(t, v, model, `{}`)
			f.check(t, v)
		}
		on := func(model string) string { return strings.Join(stat(t, v, model).Instances[0].Devices, " ") }
		if on("a") == on("b") || on("c") == "" || on("none") != "" || on("two") != "GPU-1 GPU-0" && on("two") != "GPU-0 GPU-1" {
			t.Errorf("a on %s, b on %s, c on %s, two on %s, none on %q", on("a"), on("b"), on("c"), on("two"), on("none"))
		}
		for _, d := range v.DeviceStats() {
			if d.Foreign != 0 || d.Room != 80*gib-d.Reserved || d.Instances < 2 {
				t.Errorf("got %+v", d)
			}
		}
	})
}

// A further instance of a model goes to a device where it need not take turns with the first, though
// there may be less room.
func TestFurtherInstanceElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{MaxInstances: 2}, map[string]int64{"m": 10}, 80, 40)
		defer f.finish(t, v)
		mustAsk(t, v, "m", `{}`) // on the larger one
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { mustAsk(t, v, "m", `{"Sleep":1000000000}`) })
		}
		wg.Wait()
		var on []string
		for _, inst := range stat(t, v, "m").Instances {
			on = append(on, inst.Devices...)
		}
		if slices.Sort(on); !slices.Equal(on, []string{"GPU-0", "GPU-1"}) {
			t.Errorf("got them on %v, want one on each", on)
		}
	})
}

// Two loads go on at the same time on one device, and together they do not take more than
// there is.
func TestLoadsAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"a": 40, "b": 40, "c": 1}, 80)
		defer f.finish(t, v)
		began := time.Now()
		var wg sync.WaitGroup
		for _, model := range []string{"a", "b"} {
			wg.Go(func() { mustAsk(t, v, model, `{}`) })
		}
		synctest.Wait()
		if got := states(t, v, "a") + " " + states(t, v, "b"); got != "starting starting" {
			t.Errorf("got %s", got)
		}
		wg.Wait()
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("took %v, want the time of one start", took)
		}
	})
}

// The smallest set goes that makes enough room, and of two such sets the one that is worth
// less; those with calls, pinned and kept ones stay.
func TestVictims(t *testing.T) {
	tests := map[string]struct {
		models  map[string]int64
		uses    map[string]int // requests of each
		change  func(*gpuFleet)
		keep    string
		evicted []string
	}{
		"the one that is enough": {
			models:  map[string]int64{"small": 10, "large": 40, "middle": 20, "new": 35},
			uses:    map[string]int{"small": 1, "large": 1, "middle": 1},
			evicted: []string{"large"},
		},
		"the one that is used least": {
			models:  map[string]int64{"a": 30, "b": 30, "new": 40},
			uses:    map[string]int{"a": 3, "b": 1},
			evicted: []string{"b"},
		},
		"two small ones before one that is worth more": {
			models:  map[string]int64{"a": 20, "b": 20, "large": 40, "new": 40},
			uses:    map[string]int{"a": 1, "b": 1, "large": 50},
			evicted: []string{"a", "b"},
		},
		"not the pinned one": {
			models:  map[string]int64{"a": 40, "b": 40, "new": 40},
			uses:    map[string]int{"a": 1, "b": 9},
			change:  func(f *gpuFleet) { f.change("a", func(m *actions.Model) { m.Scale.Pin = true }) },
			evicted: []string{"b"},
		},
		"not the one that is kept": {
			models: map[string]int64{"a": 40, "b": 40, "new": 40},
			uses:   map[string]int{"a": 1, "b": 9}, keep: "a",
			evicted: []string{"b"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, f := newGPUFleet(Config{}, test.models, 80)
				defer f.finish(t, v)
				if test.change != nil {
					test.change(f)
				}
				if test.keep != "" {
					if err := v.Warm(t.Context(), test.keep, 1); err != nil {
						t.Fatal(err)
					}
				}
				for _, model := range []string{"a", "b", "small", "middle", "large"} {
					for range test.uses[model] {
						mustAsk(t, v, model, `{}`)
					}
				}
				time.Sleep(time.Minute)
				mustAsk(t, v, "new", `{}`)
				f.check(t, v)
				var evicted []string
				for _, st := range v.Stats() {
					if st.Evictions[actions.EvictMemory] > 0 {
						evicted = append(evicted, st.Model)
					}
				}
				if !slices.Equal(evicted, test.evicted) {
					t.Errorf("got %v evicted, want %v", evicted, test.evicted)
				}
			})
		})
	}
}

// What can never fit is refused at once, with the numbers, and nobody is evicted for it.
func TestNeverFits(t *testing.T) {
	tests := map[string]struct {
		change func(*gpuFleet)
		want   string
	}{
		"too large":      {func(f *gpuFleet) { f.change("m", func(m *actions.Model) { m.Resources.GPUMemory = 81 * gib }) }, "needs 81 GiB"},
		"beside pinned":  {func(f *gpuFleet) { f.change("a", func(m *actions.Model) { m.Scale.Pin = true }) }, "needs 60 GiB"},
		"too many":       {func(f *gpuFleet) { f.change("m", func(m *actions.Model) { m.Resources.GPUs = 2 }) }, "2 devices with 60 GiB"},
		"too old device": {func(f *gpuFleet) { f.change("m", func(m *actions.Model) { m.Resources.ComputeCapability = "8.9" }) }, "compute capability 8.9"},
		"a bad device": {func(f *gpuFleet) {
			f.set(0, func(d *actions.Device) { d.Health, d.Reason = actions.Unhealthy, "Xid 79" })
		}, "Xid 79"},
		"no device":  {func(f *gpuFleet) { f.devices = nil }, "there is no device"},
		"no reading": {func(f *gpuFleet) { f.err = errors.New("the driver is gone") }, "the driver is gone"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, f := newGPUFleet(Config{}, map[string]int64{"a": 30, "m": 60}, 80)
				defer f.finish(t, v)
				test.change(f)
				if name == "beside pinned" || name == "too large" {
					mustAsk(t, v, "a", `{}`)
				}
				began := time.Now()
				_, err := ask(t, v, "m", `{}`)
				if actions.CodeOf(err) != actions.Unavailable || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want Unavailable with %q", err, test.want)
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("it took %v to say so", took)
				}
				if name == "too large" && (states(t, v, "a") != "idle" || !strings.Contains(err.Error(), "80 GiB")) {
					t.Errorf("a is %s; got %v", states(t, v, "a"), err)
				}
			})
		})
	}
}

// A model that is only guessed to need a device runs on the processor where there is none that
// is well.
func TestWithoutDevice(t *testing.T) {
	for name, change := range map[string]func(*gpuFleet){
		"no device":  func(f *gpuFleet) { f.devices = nil },
		"no reading": func(f *gpuFleet) { f.err = errors.New("the driver is gone") },
		"a bad one":  func(f *gpuFleet) { f.set(0, func(d *actions.Device) { d.Health = actions.Unhealthy }) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				guess := func(actions.Model) Demand { return Demand{Devices: 1, Memory: gib, Guess: true} }
				v, f := newGPUFleet(Config{Demand: guess}, map[string]int64{"a": 0}, 80)
				defer f.finish(t, v)
				change(f)
				mustAsk(t, v, "a", `{}`)
				if on := stat(t, v, "a").Instances[0].Devices; len(on) != 0 {
					t.Errorf("it is on %v", on)
				}
			})
		})
	}
}

// Somebody else's memory is not reserved, comes and goes, and is waited for as long as
// MemoryWait.
func TestForeignMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{MemoryWait: 10 * time.Second}, map[string]int64{"a": 30, "m": 60}, 80)
		defer f.finish(t, v)
		mustAsk(t, v, "a", `{}`)
		f.take(0, "GPU-0", 40*gib)
		began := time.Now()
		_, err := ask(t, v, "m", `{}`)
		e, ok := errors.AsType[*actions.Error](err)
		if !ok || e.Code != actions.Unavailable || e.RetryAfter < time.Second || !strings.Contains(e.Msg, "40 GiB somebody else's") {
			t.Errorf("got %v, want Unavailable with the numbers and a time to try again", err)
		}
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("after %v, want 10 s", took)
		}
		if got := states(t, v, "a"); got != "idle" {
			t.Errorf("a is %q: it was evicted although that did not help", got)
		}
		time.AfterFunc(3*time.Second, func() { f.take(0, "GPU-0", 0) })
		began = time.Now()
		mustAsk(t, v, "m", `{}`)
		if took := time.Since(began); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("after it had gone: %v, want little more than 3 s", took)
		}
	})
}

// What is measured counts from then on, also for a server that starts later.
func TestPeaks(t *testing.T) {
	for name, hidden := range map[string]bool{"by process": false, "by difference": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kept := &peaks{}
				cfg := Config{Peaks: kept, Demand: func(m actions.Model) Demand {
					return Demand{Devices: 1, Memory: int64(m.Resources.GPUMemory), Guess: true}
				}}
				v, f := newGPUFleet(cfg, map[string]int64{"a": 60, "m": 60}, 80)
				f.takes["a"], f.hidden = 10*gib, hidden
				mustAsk(t, v, "a", `{}`)
				time.Sleep(10 * time.Second)
				if st := stat(t, v, "a").Instances[0]; st.Memory != 10*gib {
					t.Errorf("got %d GiB reserved, want the 10 that were measured", st.Memory/gib)
				}
				mustAsk(t, v, "m", `{}`)
				if got := stat(t, v, "a").Instances; len(got) != 1 {
					t.Error("a was evicted although there was room")
				}
				f.finish(t, v)
				if got, ok := kept.Peak("a", "Test"); !ok || got != 10*gib {
					t.Errorf("got %d, %t", got, ok)
				}
				v, f = newGPUFleet(cfg, map[string]int64{"a": 60}, 20)
				defer f.finish(t, v)
				f.takes["a"] = 10 * gib
				mustAsk(t, v, "a", `{}`)
			})
		})
	}
}

// peaks are Peaks in memory.
type peaks struct {
	mu    sync.Mutex // guards bytes
	bytes map[string]int64
}

func (p *peaks) Peak(model, device string) (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.bytes[model+" "+device]
	return n, ok
}

func (p *peaks) Record(model, device string, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes == nil {
		p.bytes = map[string]int64{}
	}
	p.bytes[model+" "+device] = n
}

// A device that turns bad gives its instances up and takes no other.
func TestBadDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"a": 30}, 80, 80)
		defer f.finish(t, v)
		mustAsk(t, v, "a", `{}`)
		for i, want := range []string{"GPU-1", "GPU-0"} {
			f.set(i, func(d *actions.Device) { d.Health, d.Reason = actions.Unhealthy, "Xid 79" })
			synctest.Wait()
			time.Sleep(time.Second)
			mustAsk(t, v, "a", `{}`)
			st := stat(t, v, "a")
			if got := st.Instances[0].Devices[0]; got != want || st.Evictions[actions.EvictHealth] != int64(i+1) {
				t.Errorf("got it on %s, %v", got, st.Evictions)
			}
			f.set(i, func(d *actions.Device) { d.Health = actions.Healthy })
		}
	})
}

// Instances that were not used for the idle time stay on their device until somebody needs
// it, and are the first to go then, whatever they are worth.
func TestExpiredStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{IdleTime: time.Minute}, map[string]int64{"a": 40, "b": 40, "c": 40}, 80)
		defer f.finish(t, v)
		for range 100 {
			mustAsk(t, v, "a", `{}`)
		}
		time.Sleep(time.Hour)
		mustAsk(t, v, "b", `{}`)
		if got := states(t, v, "a"); got != "idle" {
			t.Fatalf("a is %q", got)
		}
		time.Sleep(10 * time.Second)
		mustAsk(t, v, "c", `{}`)
		if a, b := states(t, v, "a"), states(t, v, "b"); a != "" || b != "idle" {
			t.Errorf("a is %q, b is %q, want a gone", a, b)
		}
	})
}

// An instance that has just been loaded is not given up at once.
func TestResidency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{Residency: 4 * time.Second}, map[string]int64{"a": 60, "b": 60}, 80)
		defer f.finish(t, v)
		mustAsk(t, v, "a", `{}`)
		resp := mustAsk(t, v, "b", `{}`)
		if wait := resp.Timing.Queue; wait < 4*time.Second || wait > 4200*time.Millisecond {
			t.Errorf("b waited for %v, want 4 s", wait)
		}
	})
}

// What is only wanted to be there makes room for what is asked for, and comes back when there
// is room for both.
func TestWant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{IdleTime: time.Minute}, map[string]int64{"a": 50, "b": 50, "none": 0}, 80)
		defer f.finish(t, v)
		for _, model := range []string{"a", "none", "b"} {
			if err := errors.Join(v.Want(t.Context(), model, 1), v.Await(t.Context(), model)); err != nil {
				t.Fatal(err)
			}
		}
		if a, b := states(t, v, "a"), states(t, v, "b"); a != "" || b != "idle" {
			t.Errorf("a is %q, b is %q, want b in the place of a", a, b)
		}
		time.Sleep(time.Hour)
		if got := states(t, v, "none"); got != "idle" {
			t.Errorf("the one that needs no device is %q after an hour", got)
		}
		mustAsk(t, v, "a", `{}`)
		loads := f.loads()
		time.Sleep(time.Hour)
		if states(t, v, "a") != "idle" || f.loads() != loads {
			t.Errorf("a is %q, %d loads: they chase each other out", states(t, v, "a"), f.loads()-loads)
		}
		v.Cool("a")
		f.kill(-1)
		synctest.Wait()
		f.kill(0) // the one without a device is replaced
		time.Sleep(time.Second)
		if got := states(t, v, "none"); got != "idle" {
			t.Errorf("after its death: %q", got)
		}
		v.Cool("none")
		time.Sleep(2 * time.Minute)
		if got := states(t, v, "none"); got != "" {
			t.Errorf("when nobody wants it any more: %q", got)
		}
	})
}
