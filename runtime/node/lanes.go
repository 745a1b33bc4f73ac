package node

import (
	"context"
	"slices"
	"sync"
)

// lanes are the free lanes of a link. The one that was used last is taken first: its memory
// is in the caches of both processes, and no more lanes have memory than were ever needed.
type lanes struct {
	mu      sync.Mutex // guards what follows
	idle    []int      // the last was used last
	waiting []chan int // each has room for one lane; the first came first
}

// newLanes has the lanes below n.
func newLanes(n int) *lanes {
	l := &lanes{idle: make([]int, n)}
	for i := range l.idle {
		l.idle[i] = n - 1 - i
	}
	return l
}

// full says whether who comes now has to wait.
func (l *lanes) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.idle) == 0
}

// take waits for a lane until ctx ends or one of the channels is closed, when the error is
// errUnsent.
func (l *lanes) take(ctx context.Context, gone, retired <-chan struct{}) (int, error) {
	l.mu.Lock()
	if last := len(l.idle) - 1; last >= 0 {
		n := l.idle[last]
		l.idle = l.idle[:last]
		l.mu.Unlock()
		return n, nil
	}
	mine := make(chan int, 1)
	l.waiting = append(l.waiting, mine)
	l.mu.Unlock()
	var err error
	select {
	case n := <-mine:
		return n, nil
	case <-gone:
		err = errUnsent
	case <-retired:
		err = errUnsent
	case <-ctx.Done():
		err = leftError(ctx)
	}
	l.leave(mine)
	return 0, err
}

// leave takes out who waits no longer. A lane that was given meanwhile goes to the next.
func (l *lanes) leave(mine chan int) {
	l.mu.Lock()
	if at := slices.Index(l.waiting, mine); at >= 0 {
		l.waiting = slices.Delete(l.waiting, at, at+1)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.give(<-mine)
}

// give gives a lane back.
func (l *lanes) give(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) > 0 {
		l.waiting[0] <- n
		l.waiting = slices.Delete(l.waiting, 0, 1)
		return
	}
	l.idle = append(l.idle, n)
}
