package invoker

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// An instance that must go is suspended if it can be, and comes back faster than it was
// loaded.
func TestSuspendAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{HostMemory: 100 * gib}, map[string]int64{"a": 50, "b": 50}, 80)
		defer f.finish(t, v)
		f.loadTime["a"], f.loadTime["b"] = 10*time.Second, 10*time.Second
		f.suspend["a"] = &tier{time: time.Second, back: 500 * time.Millisecond, residue: gib}
		f.suspend["b"] = &tier{time: time.Second, back: 500 * time.Millisecond}
		mustAsk(t, v, "a", `{}`)
		time.Sleep(time.Minute)
		mustAsk(t, v, "b", `{}`)
		st := stat(t, v, "a")
		if inst := st.Instances[0]; inst.State != "suspended" || inst.HostMemory != 50*gib || inst.Memory != gib || st.Suspensions[actions.EvictMemory] != 1 {
			t.Errorf("got %+v", st)
		}
		time.Sleep(time.Minute)
		f.check(t, v)
		resp := mustAsk(t, v, "a", `{}`)
		if tm := resp.Timing; tm.From != actions.TierHost || tm.Cold || tm.Start != 500*time.Millisecond || tm.Queue < time.Second || tm.Queue > 1100*time.Millisecond {
			t.Errorf("got %+v, want a resume of 500 ms behind a suspension of 1 s", tm)
		}
		if st := stat(t, v, "a"); st.ColdStarts != 1 || st.Resumes != 1 || st.From[actions.TierHost] != 1 || st.From[actions.TierDisk] != 1 || v.HostMemory() != 50*gib {
			t.Errorf("got %+v, %d bytes of the host", st, v.HostMemory())
		}
	})
}

// Every way in which a suspension or a resumption can fail costs a load and no more.
func TestSuspendFails(t *testing.T) {
	unsupported := actions.Errorf(actions.Unsupported, "no hooks")
	tests := map[string]struct {
		tier  tier
		host  int64  // GiB
		state string // of a, when b has its memory
		asked int    // how often it was suspended in the end
	}{
		"it cannot":             {tier{err: unsupported}, 100, "", 0},
		"it fails":              {tier{err: errors.New("out of memory")}, 100, "", 0},
		"it hangs":              {tier{time: time.Hour}, 100, "", 0},
		"no memory on the host": {tier{}, 40, "", 0},
		"none is allowed":       {tier{}, 0, "", 0},
		"resuming fails":        {tier{backErr: errors.New("out of memory")}, 100, "suspended", 1},
		"resuming hangs":        {tier{back: time.Hour}, 100, "suspended", 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, f := newGPUFleet(Config{HostMemory: test.host * gib, MemoryWait: 5 * time.Minute}, map[string]int64{"a": 50, "b": 50}, 80)
				defer f.finish(t, v)
				f.suspend["a"] = &test.tier
				mustAsk(t, v, "a", `{}`)
				time.Sleep(time.Minute)
				mustAsk(t, v, "b", `{}`)
				f.check(t, v)
				if got := states(t, v, "a"); got != test.state {
					t.Errorf("a is %q, want %q", got, test.state)
				}
				time.Sleep(time.Minute)
				mustAsk(t, v, "a", `{}`)
				if st := stat(t, v, "a"); st.ColdStarts != 2 || test.tier.suspends != test.asked || st.Died != 0 {
					t.Errorf("%d suspensions, %+v", test.tier.suspends, st)
				}
			})
		})
	}
}

// It may die at any moment of its way to the host and back.
func TestDeathWhileMoving(t *testing.T) {
	for _, at := range []time.Duration{500 * time.Millisecond, 30 * time.Second, 61 * time.Second} { // suspending, suspended, resuming
		t.Run(at.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, f := newGPUFleet(Config{HostMemory: 100 * gib}, map[string]int64{"a": 50, "b": 50}, 80)
				defer f.finish(t, v)
				f.suspend["a"] = &tier{time: time.Second, back: 5 * time.Second}
				mustAsk(t, v, "a", `{}`)
				time.Sleep(time.Minute)
				var wg sync.WaitGroup
				wg.Go(func() { mustAsk(t, v, "b", `{}`) })
				time.AfterFunc(at, func() { f.kill(0) })
				time.Sleep(time.Minute)
				mustAsk(t, v, "a", `{}`)
				wg.Wait()
				if st := stat(t, v, "a"); st.Died != 1 || st.ColdStarts != 2 {
					t.Errorf("got %+v", st)
				}
			})
		})
	}
}

// The host's memory is for those that are worth most.
func TestHostMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{HostMemory: 60 * gib}, map[string]int64{"a": 30, "b": 30, "c": 30, "new": 80}, 80)
		defer f.finish(t, v)
		for _, model := range []string{"a", "b", "c"} {
			f.suspend[model] = &tier{}
		}
		for range 5 {
			mustAsk(t, v, "a", `{}`)
			mustAsk(t, v, "b", `{}`)
		}
		time.Sleep(time.Minute)
		mustAsk(t, v, "new", `{}`)
		if a, b := states(t, v, "a"), states(t, v, "b"); a != "suspended" || b != "suspended" {
			t.Fatalf("a is %q, b is %q", a, b)
		}
		time.Sleep(time.Minute)
		mustAsk(t, v, "c", `{}`)
		time.Sleep(time.Minute)
		mustAsk(t, v, "new", `{}`)
		f.check(t, v)
		if got := states(t, v, "c"); got != "suspended" {
			t.Errorf("c is %q, want it in the place of one that was used longer ago", got)
		}
		if n := len(states(t, v, "a") + states(t, v, "b")); n != len("suspended") {
			t.Errorf("a is %q, b is %q, want one of them gone", states(t, v, "a"), states(t, v, "b"))
		}
	})
}

// Before the platform freezes the process, the devices are given up: by the host's memory or
// by an end, also of those that are kept or pinned; the next request has them back.
func TestReleaseBeforePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{ReleaseTime: 8 * time.Second, HostMemory: 100 * gib}, map[string]int64{"a": 20, "b": 20, "kept": 20, "none": 0}, 80)
		defer f.finish(t, v)
		f.suspend["a"], f.suspend["kept"] = &tier{}, &tier{}
		if err := v.Warm(t.Context(), "kept", 1); err != nil {
			t.Fatal(err)
		}
		f.change("b", func(m *actions.Model) { m.Scale.Pin = true })
		for range 3 {
			for _, model := range []string{"a", "b", "none"} {
				mustAsk(t, v, model, `{}`)
			}
			time.Sleep(7900 * time.Millisecond)
		}
		if a, b := states(t, v, "a"), states(t, v, "b"); a != "idle" || b != "idle" {
			t.Errorf("too early: a is %q, b is %q", a, b)
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		got := states(t, v, "a") + "," + states(t, v, "b") + "," + states(t, v, "kept") + "," + states(t, v, "none")
		if want := "suspended,,suspended,idle"; got != want {
			t.Errorf("after the pause: got %s, want %s", got, want)
		}
		if err := v.Ready(); err != nil {
			t.Errorf("Ready: %v", err)
		}
		time.Sleep(time.Minute)
		freeze(t, v, time.Hour)
		resp := mustAsk(t, v, "a", `{}`)
		if resp.Timing.From != actions.TierHost {
			t.Errorf("got %+v", resp.Timing)
		}
		mustAsk(t, v, "b", `{}`)
		f.check(t, v)
	})
}

// A long request is not a pause, and the time in the freezer does not count.
func TestNoReleaseWhileBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{ReleaseTime: 8 * time.Second}, map[string]int64{"a": 20, "b": 20}, 80)
		defer f.finish(t, v)
		mustAsk(t, v, "b", `{}`)
		mustAsk(t, v, "a", `{"Sleep":60000000000}`)
		if got := states(t, v, "b"); got != "idle" {
			t.Errorf("b is %q after a minute in which a was busy", got)
		}
		time.Sleep(5 * time.Second)
		freeze(t, v, time.Hour)
		time.Sleep(time.Second)
		mustAsk(t, v, "b", `{}`)
		if f.loads() != 2 {
			t.Errorf("%d starts: b was released by the time in the freezer", f.loads())
		}
	})
}

// A willing instance says that it can be suspended.
type willing struct{ suspendable }

func (willing) Suspendable() bool { return true }

// Before a pause, the host's memory is not kept for those that cannot make use of it.
func TestReleaseOfTheWilling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		models := map[string]int64{"a": 20, "b": 20, "c": 20, "willing": 20}
		v, f := newGPUFleet(Config{ReleaseTime: 8 * time.Second, HostMemory: 25 * gib}, models, 80)
		defer f.finish(t, v)
		start := v.owner.cfg.Start
		v.owner.cfg.Start = func(ctx context.Context, m actions.Model, devices []string) (Instance, error) {
			inst, err := start(ctx, m, devices)
			if s, ok := inst.(suspendable); ok && m.Name == "willing" {
				return willing{s}, nil
			}
			return inst, err
		}
		for model := range models {
			f.suspend[model] = &tier{err: actions.Errorf(actions.Unsupported, "no hooks")}
		}
		f.suspend["willing"] = &tier{}
		for _, model := range []string{"willing", "a", "b", "c"} {
			mustAsk(t, v, model, `{}`)
		}
		time.Sleep(9 * time.Second)
		if got := states(t, v, "willing"); got != "suspended" {
			t.Errorf("it is %q, want it in the host's memory", got)
		}
	})
}

// Only the pool suspends and resumes: a caller who asks a model for it is refused.
func TestVerbsOfThePool(t *testing.T) {
	v, f := newFleet(Config{})
	defer closeNow(t, v)
	for _, verb := range []actions.Verb{actions.Suspend, actions.Resume} {
		if _, err := v.Invoke(t.Context(), actions.Request{Model: "m", Verb: verb}); actions.CodeOf(err) != actions.Invalid {
			t.Errorf("%s: got %v, want Invalid", verb, err)
		}
	}
	if len(f.started) != 0 {
		t.Errorf("%d instances were started for it", len(f.started))
	}
}
