package invoker

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// The tests in this file are faults of another scheduler of models on GPUs, Ollama's
// server/sched.go, as its issues and pull requests tell of them: the numbers in the names are
// theirs (github.com/ollama/ollama).

// 5724, 14578: a request for a model that is loaded waits while another is loaded, or evicted.
func TestOllama5724And14578(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"a": 50, "b": 20, "old": 50}, 80)
		defer f.finish(t, v)
		f.loadTime["a"], f.lag = 10*time.Second, 3*time.Second
		mustAsk(t, v, "b", `{}`)
		mustAsk(t, v, "old", `{}`)
		time.Sleep(5 * time.Second)
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { mustAsk(t, v, "a", `{}`) }) // evicts old, then loads
		var worst time.Duration
		for range 2000 {
			time.Sleep(6 * time.Millisecond)
			at := time.Now()
			mustAsk(t, v, "b", `{"Sleep":1000000}`)
			worst = max(worst, time.Since(at))
		}
		if worst != time.Millisecond {
			t.Errorf("a request for the warm model took %v while another was evicted and loaded, want the 1 ms of its run", worst)
		}
		wg.Wait()
		if took := time.Since(began); took < 13*time.Second {
			t.Errorf("the other was there after %v: it was not loaded meanwhile", took)
		}
	})
}

// 17408: the one that is to be evicted gets a request at the same moment, its eviction never
// ends, and all loads hang.
func TestOllama17408(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{Residency: -1}, map[string]int64{"a": 50, "b": 50}, 80)
		defer f.finish(t, v)
		var wg sync.WaitGroup
		var good atomic.Int64
		for i := range 400 {
			wg.Go(func() {
				time.Sleep(time.Duration(i/8) * 300 * time.Millisecond)
				if _, err := ask(t, v, []string{"a", "b"}[i%2], `{"Sleep":2000000}`); err != nil {
					t.Errorf("request %d: %v", i, err)
					return
				}
				good.Add(1)
			})
		}
		wg.Wait()
		if good.Load() != 400 || stat(t, v, "a").ColdStarts+stat(t, v, "b").ColdStarts < 40 {
			t.Errorf("got %d good answers, %+v, %+v", good.Load(), stat(t, v, "a"), stat(t, v, "b"))
		}
	})
}

// 14407 (a pull request): who is to be evicted is busy all the time, so the other waits for
// ever.
func TestOllama14407(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{DrainAfter: 3 * time.Second, DeviceCalls: -1}, map[string]int64{"a": 50, "b": 50}, 80)
		f.room = 4
		defer f.finish(t, v)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				for ctx.Err() == nil {
					mustAsk(t, v, "a", `{"Sleep":400000000}`)
				}
			})
		}
		time.Sleep(10 * time.Second)
		began := time.Now()
		mustAsk(t, v, "b", `{}`)
		if took := time.Since(began); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("b waited for %v, want the 3 s of DrainAfter and a call", took)
		}
		cancel()
		wg.Wait()
	})
}

// 17318 (a pull request): the end of another model's instance is taken for that of the victim,
// and a load begins although its memory is not there yet.
func TestOllama17318(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"big": 60, "tiny": 1, "new": 60}, 80)
		defer f.finish(t, v) // sees when more was taken than there is
		mustAsk(t, v, "big", `{}`)
		mustAsk(t, v, "tiny", `{}`)
		time.Sleep(time.Minute)
		f.lag = 2 * time.Second
		f.instances[0].slow = 5 * time.Second // takes long to end
		var wg sync.WaitGroup
		began := time.Now()
		wg.Go(func() { mustAsk(t, v, "new", `{}`) })
		synctest.Wait()
		f.kill(1) // tiny ends, just now
		wg.Wait()
		if took := time.Since(began); took < 7*time.Second {
			t.Errorf("loaded after %v, before the victim's memory was there", took)
		}
	})
}

// 17516 (a pull request), 17428: an instance that has died stays in the list, and requests for
// it hang.
func TestOllama17516And17428(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"a": 50, "b": 50}, 80)
		defer f.finish(t, v)
		for i := range 10 {
			mustAsk(t, v, "a", `{}`)
			time.Sleep(3 * time.Second)
			f.kill(i)
			if i%2 == 0 { // also when nobody has had the time to notice
				synctest.Wait()
			}
			began := time.Now()
			mustAsk(t, v, "a", `{}`)
			if took := time.Since(began); took > 300*time.Millisecond {
				t.Errorf("after death %d: %v", i, took)
			}
		}
		f.kill(10)
		mustAsk(t, v, "b", `{}`) // has the memory of the dead
	})
}

// 18282: a model that can never fit evicts all others, one after the other, again and again.
func TestOllama18282(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"a": 30, "b": 30, "huge": 90}, 80)
		defer f.finish(t, v)
		mustAsk(t, v, "a", `{}`)
		mustAsk(t, v, "b", `{}`)
		time.Sleep(time.Minute)
		for range 100 {
			if _, err := ask(t, v, "huge", `{}`); actions.CodeOf(err) != actions.Unavailable {
				t.Fatalf("got %v, want Unavailable", err)
			}
		}
		if states(t, v, "a") != "idle" || states(t, v, "b") != "idle" || f.loads() != 2 {
			t.Errorf("a %q, b %q, %d starts", states(t, v, "a"), states(t, v, "b"), f.loads())
		}
	})
}

// 7130, 9016, 7654: the memory of the evicted does not come back as expected because somebody
// else takes it, or gives his back; the load waits for a number that never comes, or begins
// too early.
func TestOllama7130And9016And7654(t *testing.T) {
	for name, change := range map[string]func(f *gpuFleet){
		"somebody takes it":           func(f *gpuFleet) { f.take(0, "GPU-0", 10*gib) },
		"somebody gives his own back": func(f *gpuFleet) { f.take(0, "GPU-0", 0) },
		"nothing else":                func(*gpuFleet) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, f := newGPUFleet(Config{}, map[string]int64{"a": 40, "b": 30, "new": 35}, 80)
				defer f.finish(t, v)
				f.take(0, "GPU-0", 5*gib)
				mustAsk(t, v, "b", `{}`)
				for range 9 {
					mustAsk(t, v, "b", `{}`)
				}
				mustAsk(t, v, "a", `{}`)
				time.Sleep(time.Minute)
				f.lag = time.Second
				time.AfterFunc(500*time.Millisecond, func() { change(f) })
				began := time.Now()
				mustAsk(t, v, "new", `{}`)
				if took := time.Since(began); took > 2500*time.Millisecond {
					t.Errorf("took %v, want little more than the second for which the memory shows as used", took)
				}
				if states(t, v, "b") != "idle" {
					t.Error("b was evicted too")
				}
			})
		})
	}
}

// Own reading 1 of its code: the difference of two unsigned numbers is huge when memory became
// less meanwhile, so that it counts as recovered at once.
func TestOllamaUnsigned(t *testing.T) {
	now := time.Now()
	d := &device{slots: map[*slot]struct{}{}}
	d.MemoryTotal, d.MemoryUsed = 80*gib, 90*gib
	d.weigh(now)
	if d.foreign != 90*gib || d.room() != -10*gib || d.soon() != -10*gib {
		t.Errorf("got %d foreign, %d room, want 90 and -10 GiB", d.foreign/gib, d.room()/gib)
	}
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{MemoryWait: 20 * time.Second}, map[string]int64{"a": 50, "b": 50}, 80)
		defer f.finish(t, v)
		mustAsk(t, v, "a", `{}`)
		time.Sleep(time.Minute)
		f.lag = 2 * time.Second
		time.AfterFunc(time.Second, func() { f.take(0, "GPU-0", 25*gib) }) // while a's memory shows still
		time.AfterFunc(6*time.Second, func() { f.take(0, "GPU-0", 0) })
		resp := mustAsk(t, v, "b", `{}`)
		if wait := resp.Timing.Queue; wait < 2*time.Second {
			t.Errorf("b was loaded after %v, before the memory was there", wait)
		}
	})
}

// Own reading 2 of its code: a caller who leaves ends the load for all who wait for the model.
func TestOllamaCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"a": 50}, 80)
		defer f.finish(t, v)
		f.loadTime["a"] = 10 * time.Second
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := v.Invoke(ctx, actions.Request{Model: "a"}); actions.CodeOf(err) != actions.Deadline {
				t.Errorf("got %v, want Deadline", err)
			}
		})
		synctest.Wait()
		wg.Go(func() { mustAsk(t, v, "a", `{}`) })
		wg.Wait()
		if f.loads() != 1 {
			t.Errorf("%d loads, want one", f.loads())
		}
	})
}

// Its order of eviction is that of the names: the least used one must go, whatever it is called.
func TestOllamaOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{}, map[string]int64{"a": 40, "z": 40, "new": 40}, 80)
		defer f.finish(t, v)
		for _, model := range slices.Repeat([]string{"a"}, 10) {
			mustAsk(t, v, model, `{}`)
		}
		mustAsk(t, v, "z", `{}`)
		time.Sleep(time.Minute)
		mustAsk(t, v, "new", `{}`)
		if states(t, v, "a") != "idle" || states(t, v, "z") != "" {
			t.Errorf("a is %q, z is %q", states(t, v, "a"), states(t, v, "z"))
		}
	})
}
