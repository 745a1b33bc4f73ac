package invoker

import (
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// TestWeigh: what is used is divided into the instances' and somebody else's, also while
// instances load and leave. All numbers are GiB.
func TestWeigh(t *testing.T) {
	type entry struct {
		state  state
		memory int64
	}
	tests := map[string]struct {
		slots                  []entry
		foreign, ghost         int64 // before
		late                   bool  // the ghost's time is over
		used                   int64
		wantForeign, wantGhost int64
		room, soon             int64
	}{
		"empty":                       {nil, 0, 0, false, 0, 0, 0, 80, 80},
		"foreign":                     {nil, 0, 0, false, 30, 30, 0, 50, 50},
		"ours":                        {[]entry{{idle, 30}}, 0, 0, false, 30, 0, 0, 50, 50},
		"ours takes less":             {[]entry{{idle, 30}}, 0, 0, false, 10, 0, 0, 50, 50},
		"both":                        {[]entry{{busy, 30}}, 0, 0, false, 40, 10, 0, 40, 40},
		"loading has none yet":        {[]entry{{starting, 30}}, 5, 0, false, 5, 5, 0, 45, 45},
		"loading has all":             {[]entry{{starting, 30}}, 5, 0, false, 35, 5, 0, 45, 45},
		"loading, others came":        {[]entry{{starting, 30}}, 5, 0, false, 45, 15, 0, 35, 35},
		"loading, others went":        {[]entry{{starting, 30}}, 50, 0, false, 10, 10, 0, 40, 40},
		"leaving":                     {[]entry{{draining, 30}, {idle, 20}}, 5, 0, false, 55, 5, 0, 25, 55},
		"suspending":                  {[]entry{{suspending, 30}}, 0, 0, false, 30, 0, 0, 50, 80},
		"gone and shows still":        {nil, 5, 30, false, 35, 5, 30, 45, 75},
		"gone and shows half":         {nil, 5, 30, false, 20, 5, 15, 60, 75},
		"gone and does not show":      {nil, 5, 30, false, 5, 5, 0, 75, 75},
		"gone, others took it":        {nil, 5, 30, false, 50, 20, 30, 30, 60},
		"gone for long, others have":  {nil, 5, 30, true, 35, 35, 0, 45, 45},
		"gone, others went too":       {nil, 5, 30, false, 3, 3, 0, 77, 77},
		"more than there is":          {[]entry{{idle, 70}}, 0, 0, false, 90, 20, 0, -10, -10},
		"over its reservation":        {[]entry{{idle, 10}}, 0, 0, false, 15, 5, 0, 65, 65},
		"suspended leaves a context":  {[]entry{{suspended, 1}}, 0, 29, false, 30, 0, 29, 50, 79},
		"a load beside one that left": {[]entry{{starting, 30}}, 0, 20, false, 40, 0, 20, 30, 50},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			d := &device{slots: map[*slot]struct{}{}, foreign: test.foreign * gib, ghost: test.ghost * gib, ghostEnd: now.Add(time.Second)}
			if test.late {
				d.ghostEnd = now.Add(-time.Second)
			}
			d.MemoryTotal, d.MemoryUsed = 80*gib, test.used*gib
			for _, e := range test.slots {
				d.slots[&slot{state: e.state, memory: e.memory * gib}] = struct{}{}
				d.reserved += e.memory * gib
			}
			d.weigh(now)
			got := [4]int64{d.foreign / gib, d.ghost / gib, d.room() / gib, d.soon() / gib}
			if want := [4]int64{test.wantForeign, test.wantGhost, test.room, test.soon}; got != want {
				t.Errorf("got foreign, ghost, room, soon %v, want %v", got, want)
			}
		})
	}
}

func TestAtLeast(t *testing.T) {
	for _, test := range []struct {
		have, want string
		ok         bool
	}{
		{"8.0", "", true},
		{"", "", true},
		{"8.0", "8.0", true},
		{"8.6", "8.0", true},
		{"9.0", "8.9", true},
		{"10.0", "9.0", true},
		{"7.5", "8.0", false},
		{"8.0", "8.6", false},
		{"", "8.0", false},
		{"new", "8.0", false},
	} {
		if got := atLeast(test.have, test.want); got != test.ok {
			t.Errorf("atLeast(%q, %q): got %t", test.have, test.want, got)
		}
	}
}

// TestTransitions: what is not in the table of states is a fault that somebody sees.
func TestTransitions(t *testing.T) {
	states := []state{wanted, starting, idle, busy, suspending, suspended, resuming, draining, gone}
	allowed := 0
	for _, from := range states {
		for _, to := range states {
			o := newOwner(Config{}.withDefaults())
			s := &slot{state: from, pool: &pool{o: o, model: actions.Model{Name: "m"}}}
			s.to(to)
			if len(o.faults) == 0 {
				allowed++
			}
			if (from == gone || from == to || to == wanted) && len(o.faults) == 0 {
				t.Errorf("from %s to %s", from, to)
			}
			if s.state != to {
				t.Errorf("from %s to %s: it is %s", from, to, s.state)
			}
			o.close()
		}
	}
	if want := 2 + 2 + 4 + 3 + 3 + 3 + 3 + 1; allowed != want {
		t.Errorf("%d transitions, want %d", allowed, want)
	}
}

// TestPolicies: who is given up first.
func TestPolicies(t *testing.T) {
	now := time.Now()
	small := Candidate{Memory: gib, Uses: 1, Reload: 10 * time.Second, LastUse: now.Add(-time.Hour)}
	large := Candidate{Memory: 10 * gib, Uses: 1, Reload: 10 * time.Second, LastUse: now}
	often := Candidate{Memory: 10 * gib, Uses: 100, Reload: 10 * time.Second, LastUse: now.Add(-time.Minute)}
	g := NewGDSF()
	if s, l, o := g.Value(small), g.Value(large), g.Value(often); !(l < s && s < o) {
		t.Errorf("GDSF: small %g, large %g, often %g", s, l, o)
	}
	before := g.Value(often)
	g.Evicted(before)
	g.Evicted(1)
	if fresh := g.Value(large); fresh <= before {
		t.Errorf("GDSF: one that is used after an eviction is worth %g, the evicted was worth %g", fresh, before)
	}
	if s, l, o := NewLRU().Value(small), NewLRU().Value(large), NewLRU().Value(often); !(s < o && o < l) {
		t.Errorf("LRU: small %g, large %g, often %g", s, l, o)
	}
}
