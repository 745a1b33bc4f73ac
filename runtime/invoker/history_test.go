package invoker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

func TestHistoryWindow(t *testing.T) {
	add := func(h *history, n int, idle time.Duration) {
		for range n {
			h.add(idle)
		}
	}
	tests := map[string]struct {
		fill     func(*history)
		from, to time.Duration
		known    bool
	}{
		"nothing":    {func(*history) {}, 0, 0, false},
		"too little": {func(h *history) { add(h, minIdleTimes-1, 30*time.Minute) }, 0, 0, false},
		"regular":    {func(h *history) { add(h, 100, 30*time.Minute) }, 27 * time.Minute, 34*time.Minute + 6*time.Second, true},
		"at once":    {func(h *history) { add(h, 100, 10*time.Second) }, 0, 66 * time.Second, true},
		"mixed": {func(h *history) {
			add(h, 4, 2*time.Minute)
			add(h, 94, 10*time.Minute)
			add(h, 2, 60*time.Minute)
		}, 9 * time.Minute, 67*time.Minute + 6*time.Second, true},
		"mostly beyond the end": {func(h *history) { add(h, 30, time.Minute); add(h, 40, 5*time.Hour) }, 0, 0, false},
		"spread evenly": {func(h *history) {
			for m := range 240 {
				add(h, 3, time.Duration(m)*time.Minute)
			}
		}, 0, 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var h history
			test.fill(&h)
			from, to, known := h.window()
			if from != test.from || to != test.to || known != test.known {
				t.Errorf("got %v, %v, %t, want %v, %v, %t", from, to, known, test.from, test.to, test.known)
			}
		})
	}
}

// A model that is asked every half an hour is there when the request comes, and not in
// between; as long as nothing is known, and without KeepAlive, it is kept for IdleTime.
func TestStartAhead(t *testing.T) {
	for name, test := range map[string]struct {
		keep KeepAlive
		gpu  int64
		warm bool
	}{
		"learned":             {Histogram, 0, true},
		"learned on a device": {Histogram, 20, true},
		"fixed":               {Fixed, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, f := newGPUFleet(Config{KeepAlive: test.keep, IdleTime: 10 * time.Minute}, map[string]int64{"m": test.gpu, "full": 80}, 80)
				defer f.finish(t, v)
				var last actions.Response
				for i := range 30 {
					last = mustAsk(t, v, "m", `{}`)
					if i < 20 && last.Timing.From == actions.TierWarm && test.gpu == 0 {
						t.Errorf("request %d was warm before anything was known", i)
					}
					if test.gpu > 0 { // else it stays
						time.Sleep(15 * time.Minute)
						mustAsk(t, v, "full", `{}`)
						f.kill(-1)
						time.Sleep(15*time.Minute - 200*time.Millisecond)
						continue
					}
					time.Sleep(15 * time.Minute)
					if states(t, v, "m") != "" {
						t.Errorf("request %d: it is %s after 15 minutes", i, states(t, v, "m"))
					}
					time.Sleep(15 * time.Minute)
				}
				if warm := last.Timing.From == actions.TierWarm; warm != test.warm {
					t.Errorf("the last of 30 requests: got %+v", last.Timing)
				}
			})
		})
	}
}

// Nobody has to leave for what nobody has asked for.
func TestStartAheadEvictsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{KeepAlive: Histogram, IdleTime: 5 * time.Minute}, map[string]int64{"m": 50, "other": 50}, 80)
		defer f.finish(t, v)
		for range 30 {
			mustAsk(t, v, "m", `{}`)
			time.Sleep(time.Minute)
			mustAsk(t, v, "other", `{}`)
			time.Sleep(29 * time.Minute)
			if got := states(t, v, "other"); got != "idle" {
				t.Fatalf("the other is %q", got)
			}
		}
	})
}

// The queue's refusal says when it is worth to come again.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newGPUFleet(Config{QueueDepth: 1}, map[string]int64{"m": 20}, 80)
		defer f.finish(t, v)
		f.loadTime["m"] = 40 * time.Second
		refused := func() time.Duration {
			t.Helper()
			_, err := ask(t, v, "m", `{}`)
			e, ok := err.(*actions.Error) //nolint:errorlint // the pool's own
			if !ok || e.Code != actions.Busy {
				t.Fatalf("got %v, want Busy", err)
			}
			return e.RetryAfter
		}
		go func() { _, _ = ask(t, v, "m", `{}`) }()
		synctest.Wait()
		if got := refused(); got != time.Second+time.Duration(20*gib/loadRate*float64(time.Second)) {
			t.Errorf("never loaded: got %v", got)
		}
		time.Sleep(time.Hour)
		f.kill(0)
		time.Sleep(time.Second)
		go func() { _, _ = ask(t, v, "m", `{"Sleep":8000000000}`) }()
		synctest.Wait()
		if got := refused(); got != 40*time.Second+100*time.Millisecond {
			t.Errorf("loaded once: got %v, want as long as that took", got)
		}
		time.Sleep(time.Minute)
	})
}
