package invoker

import (
	"context"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// watch waits until the instance has ended and takes it out of the pool.
func (p *pool) watch(s *slot) {
	<-s.inst.Done()
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	drained := s.state == draining
	p.o.dropLocked(s)
	if drained {
		p.cfg.Log.Info("instance stopped", "model", p.model.Name)
	} else {
		p.diedLocked(s)
	}
	p.startWantedLocked()
	p.o.movedLocked()
	p.o.setClockLocked()
}

// diedLocked counts a death. One soon after the start, without a call that could be its
// cause, delays the next start; after another one the model is started again at once, even
// if a further instance could not be started a moment ago: one caller's request that kills
// must not make the others wait.
func (p *pool) diedLocked(s *slot) {
	p.counts.Died++
	p.cfg.Log.Error("instance died", "model", p.model.Name, "error", s.inst.Err())
	if inCall := s.calls > 0 || s.diedInCall; !inCall && !s.answered && time.Since(s.since) < maxDelay {
		p.earlyDeaths++
		p.backOffLocked()
		return
	}
	p.retryAt = time.Time{}
	if p.retry != nil {
		p.retry.Stop()
		p.retry = nil
	}
}

// drainLocked has an instance end as soon as it has no calls, or is over with what it is in
// the middle of.
func (s *slot) drainLocked(reason actions.EvictReason) {
	switch s.state {
	case wanted:
		s.pool.o.dropLocked(s)
	case starting, suspending, resuming:
		if s.condemned = reason; reason == "" {
			s.condemned = actions.EvictIdle
		}
	case idle, busy, suspended:
		s.retireLocked(reason)
	case draining, gone:
	}
}

// retireLocked takes the instance out of use, and ends it when it has no calls.
func (s *slot) retireLocked(reason actions.EvictReason) {
	p := s.pool
	s.to(draining)
	p.unfreeLocked(s)
	p.o.unlineLocked(s)
	if len(p.waiters) > 0 {
		p.stepAsideLocked()
	}
	if reason != "" {
		p.evictedLocked(reason)
		p.cfg.Log.Info("instance evicted", "model", p.model.Name, "reason", string(reason))
	}
	if s.calls == 0 {
		s.endLocked()
	}
}

// endLocked ends an instance, once. Its watch removes it from the pool.
func (s *slot) endLocked() {
	if s.closing {
		return
	}
	s.closing = true
	s.pool.wg.Go(func() { _ = s.inst.Close() })
}

// close ends the pool: waiters are told, idle instances end, busy ones end when their
// request has, or when ctx ends.
func (p *pool) close(ctx context.Context) error {
	p.shut()
	ended := make(chan struct{})
	go func() { // ends when the last instance has
		p.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	p.o.mu.Lock()
	cut := 0
	for s := range p.slots {
		cut += s.calls - s.settling
		s.drainLocked("")
		if s.inst != nil {
			s.endLocked()
		}
	}
	p.o.mu.Unlock()
	<-ended
	if cut > 0 {
		return actions.Errorf(actions.Deadline, "requests for %s that were cut off: %d: %w", p.model.Name, cut, ctx.Err())
	}
	return nil
}

// shut closes the pool for new requests, and ends what is not under way.
func (p *pool) shut() {
	p.o.mu.Lock()
	p.closed = true
	if p.retry != nil {
		p.retry.Stop()
	}
	p.tellAllLocked(func(bool) error { return errClosed() })
	for s := range p.slots {
		if s.calls == 0 {
			s.drainLocked("")
		}
	}
	if len(p.slots) == 0 {
		p.o.forgetLocked(p)
	}
	p.stepAsideLocked()
	p.o.mu.Unlock()
	p.stop()
}

// settle waits until the instance can be used again.
func (p *pool) settle(s *slot) {
	if s.inst.Settle() != nil {
		return // its watch removes it
	}
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	s.settling--
	p.putLocked(s, time.Now())
}
