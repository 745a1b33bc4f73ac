package worker

import (
	"fmt"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// An outlet hands the lines of a child to Config.Output, one after the other. It stands
// between the two so that a slow Output does not hold up the child: up to maxLogs wait
// for it, more is dropped and counted.
type outlet struct {
	give  func(actions.LogLine)
	wake  chan struct{} // holds a token when run has something to look at
	ended chan struct{} // closed when run has ended

	mu      sync.Mutex // guards everything below
	lines   []actions.LogLine
	size    int // of lines
	dropped int
	closed  bool
	empty   chan struct{} // closed when all is given; nil when nobody waits
	giving  bool          // run has lines that are in lines no more
}

func newOutlet(give func(actions.LogLine)) *outlet {
	o := &outlet{give: give, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go o.run()
	return o
}

// put takes a line. It never waits.
func (o *outlet) put(line actions.LogLine) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.size+len(line.Text)+lineCost > maxLogs {
		o.dropped++
		return
	}
	o.size += len(line.Text) + lineCost
	o.lines = append(o.lines, line)
	o.rouse()
}

func (o *outlet) rouse() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run is the one goroutine that calls give. It ends after close, when all is given.
func (o *outlet) run() {
	defer close(o.ended)
	for range o.wake {
		for lines := o.take(); len(lines) > 0; lines = o.take() {
			for _, line := range lines {
				o.give(line)
			}
		}
		o.mu.Lock()
		closed := o.closed && len(o.lines) == 0
		o.mu.Unlock()
		if closed {
			return
		}
	}
}

// take returns the lines that wait, and notes when there are none.
func (o *outlet) take() []actions.LogLine {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := o.lines
	if o.dropped > 0 {
		lines = append(lines, actions.LogLine{
			Stream: actions.Stderr,
			Text:   fmt.Sprintf("deepfn: %d lines were dropped here: up to %d bytes wait to be taken", o.dropped, maxLogs),
		})
	}
	o.lines, o.size, o.dropped = nil, 0, 0
	o.giving = len(lines) > 0
	if !o.giving && o.empty != nil {
		close(o.empty)
		o.empty = nil
	}
	return lines
}

// flush waits until all lines so far are given, but not longer than patience.
func (o *outlet) flush(patience time.Duration) {
	o.mu.Lock()
	if len(o.lines) == 0 && !o.giving {
		o.mu.Unlock()
		return
	}
	if o.empty == nil {
		o.empty = make(chan struct{})
	}
	empty := o.empty
	o.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-empty:
	case <-timer.C:
	}
}

// close ends run when it has given what there is. It does not wait longer than patience
// for a give that does not return.
func (o *outlet) close(patience time.Duration) {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.rouse()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-o.ended:
	case <-timer.C:
	}
}
