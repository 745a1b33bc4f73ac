package worker

import (
	"context"
	"sync"
	"time"
)

// In a grace there are so many looks at the clock. One that is late by more than the time
// between two, and by minLate, says that this process was frozen, and with it the child.
const (
	looksPerGrace = 8
	minLate       = 250 * time.Millisecond
)

// A grace is time in which this process runs, given to a child: a platform that freezes
// both, as OpenWhisk does between activations, does not use it up.
type grace struct {
	mu    sync.Mutex // guards everything below
	left  int        // looks
	due   time.Time  // when the next is
	timer *time.Timer
	end   context.CancelFunc
}

// withGrace returns a context that ends after d of running time.
func withGrace(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancel(context.Background())
	g := &grace{left: looksPerGrace, end: end}
	step := max(d/looksPerGrace, 1)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.due = time.Now().Add(step)
	g.timer = time.AfterFunc(step, func() { g.look(step) })
	return ctx, g.cancel
}

func (g *grace) cancel() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = 0 // for a look that has begun
	g.timer.Stop()
	g.end()
}

func (g *grace) look(step time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left == 0 {
		return
	}
	if time.Since(g.due) <= max(step, minLate) {
		g.left--
	}
	if g.left == 0 {
		g.end()
		return
	}
	g.due = time.Now().Add(step)
	g.timer.Reset(step)
}
