package proxy

import (
	"context"
	"net"
	"sync"
	"time"
)

// lastWords is how long requests that were given up have for their answers, and how
// long closed connections have to end.
const lastWords = time.Second

// settleTime is how long a new connection has to send its request when all others are
// quiet; else a request on its way would meet a closed connection instead of a 503.
const settleTime = 100 * time.Millisecond

// A connState says what a connection is doing.
type connState uint8

const (
	fresh connState = iota // accepted, no request yet
	busy                   // with a request, until its answer has been sent
	idle                   // between requests
)

// A connection is what is known of a connection.
type connection struct {
	state  connState
	giveUp context.CancelFunc // ends the request; nil without one
}

// connections are the open connections of a listener.
type connections struct {
	mu     sync.Mutex // guards all and counts
	all    map[net.Conn]connection
	counts [idle + 1]int
	// changed has room for one signal that some count became less.
	changed chan struct{}
}

func newConnections() *connections {
	return &connections{all: make(map[net.Conn]connection), changed: make(chan struct{}, 1)}
}

// set notes what an open connection does.
func (cs *connections) set(c net.Conn, state connState) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.setLocked(c, connection{state: state})
}

// begin notes that a request has come, which giveUp ends.
func (cs *connections) begin(c net.Conn, giveUp context.CancelFunc) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.setLocked(c, connection{state: busy, giveUp: giveUp})
}

// awake notes that an idle connection has begun to receive a request. A fresh one is
// reported like this before anything has come.
func (cs *connections) awake(c net.Conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.all[c].state == idle {
		cs.setLocked(c, connection{state: busy})
	}
}

func (cs *connections) setLocked(c net.Conn, to connection) {
	cs.forgetLocked(c)
	cs.all[c] = to
	cs.counts[to.state]++
}

// requests returns the connections with a request, and how to give that up.
func (cs *connections) requests() map[net.Conn]context.CancelFunc {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	requests := make(map[net.Conn]context.CancelFunc)
	for c, conn := range cs.all {
		if conn.giveUp != nil {
			requests[c] = conn.giveUp
		}
	}
	return requests
}

// remove notes that a connection has ended.
func (cs *connections) remove(c net.Conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.forgetLocked(c)
}

func (cs *connections) forgetLocked(c net.Conn) {
	was, ok := cs.all[c]
	if !ok {
		return
	}
	delete(cs.all, c)
	cs.counts[was.state]--
	select {
	case cs.changed <- struct{}{}:
	default:
	}
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

// closeAll closes every connection.
func (cs *connections) closeAll() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for c := range cs.all {
		_ = c.Close()
	}
}

// drain ends the serving of a listener: new requests are refused with 503 while those
// in flight may finish within the grace; then giveUp ends them, and the listener closes.
func (s *Server) drain(ctx context.Context, cs *connections, ln net.Listener, giveUp func()) {
	s.draining.Store(true)
	s.log.InfoContext(ctx, "draining", "requests", cs.count(busy),
		"connections", cs.count(fresh, busy, idle), "grace_seconds", s.cfg.Grace.Seconds())
	if !cs.wait(s.cfg.Grace, busy) {
		giveUp()
		s.log.WarnContext(ctx, "grace is over, requests were given up", "requests", cs.count(busy))
		cs.wait(lastWords, busy)
	}
	cs.wait(settleTime, fresh, busy)
	_ = ln.Close()
}

// end closes the connections that are left after the listener has ended.
func (cs *connections) end() {
	cs.closeAll()
	cs.wait(lastWords, fresh, busy, idle)
}
