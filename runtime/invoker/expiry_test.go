package invoker

import (
	"testing"
	"testing/synctest"
	"time"
)

// freeze is what the owner finds when this process goes on after it was frozen for d:
// everything that it remembers was longer ago, and its timer, if it fell due, fires.
func freeze(t *testing.T, v *Invoker, d time.Duration) {
	t.Helper()
	o := v.owner
	o.mu.Lock()
	o.quiet = o.quiet.Add(-d)
	for p := range o.pools {
		for s := range p.slots {
			s.idleSince = s.idleSince.Add(-d)
		}
	}
	o.clockDue = o.clockDue.Add(-d)
	fires := time.Until(o.clockDue) <= 0 && o.clock.Stop()
	o.mu.Unlock()
	if fires {
		o.tick()
	}
}

func TestFreeze(t *testing.T) {
	tests := map[string]struct {
		idle   time.Duration   // before the freeze
		frozen []time.Duration // one after the other
		want   time.Duration   // from the last thaw to the expiry: a freeze counts for one look at most
	}{
		"at the beginning":           {0, []time.Duration{time.Hour}, 7 * time.Second},
		"in the middle":              {4500 * time.Millisecond, []time.Duration{15 * time.Second}, 3 * time.Second},
		"for not even the idle time": {4500 * time.Millisecond, []time.Duration{3 * time.Second}, 3 * time.Second},
		"at the end":                 {7900 * time.Millisecond, []time.Duration{15 * time.Second}, time.Second},
		"twice":                      {4500 * time.Millisecond, []time.Duration{time.Hour, time.Hour}, 2 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, f := newFleet(Config{IdleTime: 8 * time.Second})
				defer closeNow(t, v)
				mustInvoke(t, v, `{}`)
				time.Sleep(test.idle)
				for _, d := range test.frozen {
					freeze(t, v, d)
				}
				time.Sleep(test.want - time.Millisecond)
				if st := v.Stats()[0]; st.Idle != 1 {
					t.Errorf("it has expired too early: %+v", st)
				}
				time.Sleep(2 * time.Millisecond)
				if st := v.Stats()[0]; st.Idle != 0 || st.MaxIdleTimeClosed != 1 {
					t.Errorf("it has not expired: %+v", st)
				}
				mustInvoke(t, v, `{}`)
				if len(f.started) != 2 {
					t.Errorf("%d starts, want 2", len(f.started))
				}
			})
		})
	}
}

// A request that came during the freeze has the warm instance, however long that was.
func TestInvokeAfterFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{IdleTime: time.Second})
		defer closeNow(t, v)
		for range 5 {
			mustInvoke(t, v, `{}`)
			time.Sleep(990 * time.Millisecond)
			freeze(t, v, time.Hour)
			time.Sleep(100 * time.Millisecond)
		}
		mustInvoke(t, v, `{}`)
		if st := v.Stats()[0]; len(f.started) != 1 || st.ColdStarts != 1 || st.MaxIdleTimeClosed != 0 {
			t.Errorf("%d starts, %+v", len(f.started), st)
		}
	})
}

// Who looks late because the machine is busy has not been frozen.
func TestBusyMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _ := newFleet(Config{IdleTime: time.Second})
		defer closeNow(t, v)
		mustInvoke(t, v, `{}`)
		for range 10 { // 125 ms between looks, each 125 ms late
			time.Sleep(100 * time.Millisecond)
			if v.Stats()[0].Idle == 1 {
				freeze(t, v, 150*time.Millisecond)
			}
		}
		if st := v.Stats()[0]; st.MaxIdleTimeClosed != 1 {
			t.Errorf("it has not expired: %+v", st)
		}
	})
}
