package proxy

import (
	"runtime"
	"testing"
	"time"
)

func TestBusyPoll(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	const late = soon + 1
	b := busyPoll{missing: 1}
	step := func(name string, busy bool, after, want time.Duration) {
		t.Helper()
		got := b.limit(busy)
		if got != want {
			t.Errorf("%s: polls for %v, want %v", name, got, want)
		}
		b.came(after, got)
	}
	step("the first request", false, time.Hour, 0)
	step("after a late one", false, soon, 0)
	step("after a soon one", false, soon, pollTime)
	step("while others are served", true, soon, 0)
	step("alone again", false, late, pollTime)
	for range afterLate {
		step("after one that was late", false, soon, 0)
	}
	step("after many soon ones", false, 0, pollTime)

	runtime.GOMAXPROCS(1)
	step("on one processor", false, soon, 0)
}
