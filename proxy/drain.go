package proxy

import (
	"context"
	"net"
	"time"
)

// lastWords is how long requests that were given up have for their answers, and how
// long closed connections have to end.
const lastWords = time.Second

// settleTime is how long a new connection has to send its request when all others are
// quiet; else a request on its way would meet a closed connection instead of a 503.
const settleTime = 100 * time.Millisecond

// drain ends the serving of a listener: new requests are refused with 503 while those
// in flight may finish within the grace; then giveUp ends them, and the listener closes.
func (s *Server) drain(ctx context.Context, ln net.Listener, giveUp func()) {
	cs := s.conns
	s.draining.Store(true)
	s.log.InfoContext(ctx, "draining", "requests", cs.count(busy),
		"connections", cs.count(fresh, busy, idle), "grace_seconds", s.cfg.Grace.Seconds())
	began := time.Now()
	if !cs.wait(s.cfg.Grace, busy) {
		giveUp()
		s.log.WarnContext(ctx, "grace is over, requests were given up", "requests", cs.count(busy))
		cs.wait(lastWords, busy)
	}
	if !s.background.wait(s.cfg.Grace - time.Since(began)) {
		s.log.WarnContext(ctx, "grace is over, events were given up", "events", s.background.giveUp())
		s.background.wait(2 * lastWords)
	}
	cs.wait(settleTime, fresh, busy)
	_ = ln.Close()
}
