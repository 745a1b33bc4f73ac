package invoker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	firstDelay = 100 * time.Millisecond
	maxDelay   = 30 * time.Second

	maxOutputLines = 20
	maxOutput      = 4 << 10 // bytes
)

// keep makes the pool keep n instances.
func (p *pool) keep(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.minimum = max(p.minimum, min(n, p.cfg.MaxInstances))
	p.startWantedLocked()
}

// warm waits for an instance.
func (p *pool) warm(ctx context.Context) error {
	s, _, err := p.acquire(ctx, true)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.putLocked(s)
	return nil
}

// cool takes back what warm asked for: instances may expire and are not replaced.
func (p *pool) cool() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.minimum = 0
	p.scheduleExpiryLocked()
}

// ready returns nil if the pool keeps no instance or has one, else why it has none.
func (p *pool) ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.minimum == 0 || len(p.slots) > 0:
		return nil
	case p.lastErr != nil:
		return startError(p.model.Name, p.lastErr, true)
	default:
		return fmt.Errorf("%s is being loaded", p.model.Name)
	}
}

// startWantedLocked starts as many instances as the waiters and the minimum ask for,
// now or when the delay after a failure is over.
func (p *pool) startWantedLocked() {
	have := len(p.slots) + p.starting
	waiters := (len(p.waiters) + p.capacity - 1) / p.capacity // in instances
	want := min(waiters-p.starting, p.cfg.MaxInstances-have)
	want = max(want, p.minimum-have)
	if want <= 0 || p.closed {
		return
	}
	if delay := time.Until(p.retryAt); delay > 0 {
		if p.retry == nil {
			p.retry = time.AfterFunc(delay, func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.retry = nil
				p.startWantedLocked()
			})
		}
		return
	}
	if p.failedStarts+p.earlyDeaths > 0 {
		want = 1 // one attempt shows whether the cause has gone
		if p.starting > 0 {
			return
		}
	}
	for range want {
		p.starting++
		p.wg.Go(p.start)
	}
}

// start starts one instance and gives it to the first waiter.
func (p *pool) start() {
	ctx, cancel := p.life()
	defer cancel()
	began := time.Now()
	inst, err := p.cfg.Start(ctx, p.model)
	took := time.Since(began)

	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting--
	if err != nil {
		p.counts.StartFailures++
		p.logFailureLocked(err, took)
		p.failedLocked(err)
		return
	}
	p.cfg.Log.Info("instance ready", "model", p.model.Name, "start_seconds", took.Seconds())
	p.counts.ColdStarts++
	p.counts.StartDuration += took
	p.info = inst.Info()
	p.failedStarts, p.lastErr = 0, nil
	p.capacity = max(inst.Concurrency(), 1)
	s := &slot{inst: inst, startTime: took, since: time.Now(), fresh: true, capacity: p.capacity, calls: p.capacity}
	p.slots[s] = struct{}{}
	p.wg.Go(func() { p.watch(s) })
	for range s.capacity {
		p.putLocked(s)
	}
	p.startWantedLocked()
}

// logFailureLocked logs a start that failed: with what the instance printed, in which the
// cause mostly stands, unless the start before failed in the same way.
func (p *pool) logFailureLocked(err error, took time.Duration) {
	attrs := []any{"model", p.model.Name, "error", err, "start_seconds", took.Seconds()}
	if p.lastErr != nil && p.lastErr.Error() == err.Error() {
		p.cfg.Log.Warn("instance did not start again", attrs...)
		return
	}
	if e, ok := errors.AsType[*actions.Error](err); ok && len(e.Logs) > 0 {
		attrs = append(attrs, "output", lastOutput(e.Logs))
	}
	p.cfg.Log.Error("instance did not start", attrs...)
}

// lastOutput joins the last lines of what was printed: at most maxOutputLines of them and
// maxOutput bytes, of which the first may be the end of a line.
func lastOutput(lines []actions.LogLine) string {
	var out string
	for _, line := range slices.Backward(lines[max(0, len(lines)-maxOutputLines):]) {
		out = line.Text + "\n" + out
		if len(out) > maxOutput+1 {
			break
		}
	}
	out = strings.TrimSuffix(out, "\n")
	return strings.ToValidUTF8(out[max(0, len(out)-maxOutput):], "")
}

// failedLocked sets the delay after a start that failed and, when no other instance
// can serve them, tells the waiters.
func (p *pool) failedLocked(err error) {
	p.lastErr = err
	p.failedStarts++
	p.backOffLocked()
	if len(p.slots)+p.starting == 0 {
		for _, w := range p.waiters {
			w.ready <- grant{err: startError(p.model.Name, err, w.warming)}
		}
		p.waiters = nil
	}
	p.startWantedLocked()
}

// backOffLocked sets when the next start may be: at once after the first early death,
// firstDelay after the second or after the first failed start, and so on with a delay
// that doubles up to maxDelay.
func (p *pool) backOffLocked() {
	if n := p.failedStarts + max(p.earlyDeaths-1, 0); n > 0 {
		p.retryAt = time.Now().Add(min(maxDelay, firstDelay<<min(n-1, 16)))
	}
}

// startError is what those get who waited for a start that failed. To an operator who
// warms a model the code of the cause says whose fault it is; to a caller who invokes it
// it is always the server's.
func startError(model string, err error, warming bool) *actions.Error {
	if errors.Is(err, context.Canceled) {
		return errClosed()
	}
	e := &actions.Error{Code: actions.Unavailable, Msg: fmt.Sprintf("%s could not be started: %v", model, err), Err: err}
	cause, ok := errors.AsType[*actions.Error](err)
	if !ok {
		return e
	}
	e.Logs, e.RetryAfter = cause.Logs, cause.RetryAfter
	if warming {
		e.Code = cause.Code
	}
	return e
}

// watch waits until the instance has ended and takes it out of the pool.
func (p *pool) watch(s *slot) {
	<-s.inst.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.slots, s)
	p.free = slices.DeleteFunc(p.free, func(other *slot) bool { return other == s })
	if s.draining {
		p.cfg.Log.Info("instance stopped", "model", p.model.Name)
	} else {
		p.diedLocked(s)
	}
	p.startWantedLocked()
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

func (p *pool) drainingLocked() int {
	n := 0
	for s := range p.slots {
		if s.draining {
			n++
		}
	}
	return n
}

// close ends the pool: waiters are told, idle instances end, busy ones end when their
// request has, or when ctx ends.
func (p *pool) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	for _, t := range []*time.Timer{p.expiry, p.retry} {
		if t != nil {
			t.Stop()
		}
	}
	for _, w := range p.waiters {
		w.ready <- grant{err: errClosed()}
	}
	p.waiters = nil
	for _, s := range p.free {
		if s.calls == 0 {
			p.endLocked(s)
		}
	}
	p.free = nil
	p.mu.Unlock()
	p.stop()

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
	p.mu.Lock()
	busy := 0
	for s := range p.slots {
		busy += s.calls - s.settling
		p.endLocked(s)
	}
	p.mu.Unlock()
	<-ended
	if busy > 0 {
		return actions.Errorf(actions.Deadline, "requests for %s that were cut off: %d: %w", p.model.Name, busy, ctx.Err())
	}
	return nil
}

func (p *pool) lastInfo() json.RawMessage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.info
}

// stats describes the pool.
func (p *pool) stats() actions.PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.counts
	st.Model = p.model.Name
	st.MaxInstances, st.QueueDepth = p.cfg.MaxInstances, p.cfg.QueueDepth
	st.Starting, st.Waiting = p.starting, len(p.waiters)
	for s := range p.slots {
		switch {
		case s.draining:
			st.Draining++
		case s.calls > 0:
			st.InUse++
		default:
			st.Idle++
		}
	}
	return st
}
