package proxy

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A connState says what a connection is doing.
type connState uint8

const (
	fresh connState = iota // accepted, nothing has come
	busy                   // from a request's first byte until its answer has been sent
	idle                   // between requests
	gone                   // closed, or about to be
)

// A connection is a client's, and what is known of it.
type connection struct {
	net.Conn
	direct *direct // for small reads and writes; nil when it cannot be
	of     *connections
	quiet  atomic.Bool // the next byte wakes it
	// answer is the buffer of the answer that is being sent; nil without one. Only the
	// goroutine that serves the connection looks at it.
	answer *[]byte
	large  bool // the answer took memory that is worth being collected at once

	// Guarded by of.mu:
	state      connState
	prev, next *connection        // in the ring of its state
	giveUp     context.CancelFunc // ends the request; nil without one
	finEnds    bool               // a client that has shut down its side has left
}

// Read notes the first byte of a request. From then on a drain waits for the rest.
func (c *connection) Read(p []byte) (n int, err error) {
	if c.large && c.quiet.Load() { // nothing has the answer any more, and the next request has not come
		c.large = false
		c.of.collect()
	}
	if c.direct != nil && 0 < len(p) && len(p) <= directSize {
		n, err = c.direct.read(p)
	} else {
		n, err = c.Conn.Read(p)
	}
	if n > 0 && c.quiet.Load() {
		c.of.set(c, busy)
	}
	return n, err
}

// Write writes an answer, or a part of it.
func (c *connection) Write(p []byte) (int, error) {
	if c.direct != nil && len(p) <= directSize {
		return c.direct.write(p)
	}
	return c.Conn.Write(p)
}

// connections are the open connections of a listener, by what they do, and for each
// state since when: the oldest first.
type connections struct {
	mu     sync.Mutex // guards the rings, the counts and the guarded part of each connection
	rings  [gone]connection
	counts [gone]int
	// changed has room for one signal that some count became less.
	changed chan struct{}
	collect func() // gives the memory of a large answer back, after it was sent
}

func newConnections(collect func()) *connections {
	cs := &connections{changed: make(chan struct{}, 1), collect: collect}
	for i := range cs.rings {
		root := &cs.rings[i]
		root.prev, root.next = root, root
	}
	return cs
}

// add takes a new connection.
func (cs *connections) add(c net.Conn) *connection {
	conn := &connection{Conn: c, direct: newDirect(c), of: cs, state: gone}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.moveLocked(conn, fresh)
	return conn
}

// set notes what an open connection does.
func (cs *connections) set(c *connection, state connState) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c.state != gone {
		c.giveUp = nil
		cs.moveLocked(c, state)
	}
}

// begin notes that a request has come, which giveUp ends.
func (cs *connections) begin(c *connection, giveUp context.CancelFunc, finEnds bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c.state == gone { // shed just when the request came
		giveUp()
		return
	}
	cs.moveLocked(c, busy)
	c.giveUp, c.finEnds = giveUp, finEnds
}

// awake notes that an idle connection has begun to receive a request, which may have
// come together with the one before. A fresh one is reported like this before anything
// has come.
func (cs *connections) awake(c *connection) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c.state == idle {
		cs.moveLocked(c, busy)
	}
}

// remove notes that a connection has ended.
func (cs *connections) remove(c *connection) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.moveLocked(c, gone)
	c.giveUp = nil
}

// moveLocked moves a connection to the end of the ring of a state.
func (cs *connections) moveLocked(c *connection, to connState) {
	if c.state != gone {
		c.prev.next, c.next.prev = c.next, c.prev
		c.prev, c.next = nil, nil
		cs.counts[c.state]--
		select {
		case cs.changed <- struct{}{}:
		default:
		}
	}
	c.state = to
	c.quiet.Store(to == fresh || to == idle)
	if to == gone {
		return
	}
	root := &cs.rings[to]
	c.prev, c.next = root.prev, root
	c.prev.next, root.prev = c, c
	cs.counts[to]++
}

// shed closes up to n connections without a request, so that their files are free: first
// those that have been idle for longest, then the oldest that have sent nothing. It
// returns how many it closed.
func (cs *connections) shed(n int) int {
	var closing []*connection
	cs.mu.Lock()
	for _, state := range []connState{idle, fresh} {
		for root := &cs.rings[state]; root.next != root && len(closing) < n; {
			closing = append(closing, root.next)
			cs.moveLocked(root.next, gone)
		}
	}
	cs.mu.Unlock()
	for _, c := range closing {
		_ = c.Close()
	}
	return len(closing)
}

// count returns how many connections are in one of the states.
func (cs *connections) count(states ...connState) int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	n := 0
	for _, state := range states {
		n += cs.counts[state]
	}
	return n
}

// wait waits until no connection is in one of the states. It returns false when the
// time is over.
func (cs *connections) wait(limit time.Duration, states ...connState) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for cs.count(states...) > 0 {
		select {
		case <-cs.changed:
		case <-timer.C:
			return cs.count(states...) == 0
		}
	}
	return true
}

// end closes the connections that are left after the listener has ended.
func (cs *connections) end() {
	cs.mu.Lock()
	for i := range cs.rings {
		root := &cs.rings[i]
		for c := root.next; c != root; c = c.next {
			_ = c.Close()
		}
	}
	cs.mu.Unlock()
	cs.wait(lastWords, fresh, busy, idle)
}

// sent takes the buffer of an answer back, which is sent, or never will be.
func (s *Server) sent(c *connection) {
	s.answers.keep(c.answer)
	c.answer = nil
}
