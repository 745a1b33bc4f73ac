package invoker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	p.minimum = max(p.minimum, min(n, p.cfg.MaxInstances))
	p.startWantedLocked()
}

// want makes the pool keep n instances as long as nobody needs their memory.
func (p *pool) want(n int) {
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	p.desired = max(p.desired, min(n, p.cfg.MaxInstances))
	p.startWantedLocked()
	p.o.setClockLocked()
}

// missingLocked says that instances are wanted on devices as soon as there is room.
func (p *pool) missingLocked() bool {
	return p.desired > len(p.slots) && p.o.needsDevices(p) && !p.closed && !p.o.released
}

// warm waits for an instance.
func (p *pool) warm(ctx context.Context) error {
	p.o.mu.Lock()
	err := p.refuseLocked(ctx, true)
	if err != nil || p.aliveLocked() {
		p.o.mu.Unlock()
		return err
	}
	ready := make(chan error, 1)
	p.warmers = append(p.warmers, ready)
	p.startWantedLocked()
	p.o.mu.Unlock()
	select {
	case err := <-ready:
		return err
	case <-ctx.Done():
	}
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	p.warmers = slices.DeleteFunc(p.warmers, func(other chan error) bool { return other == ready })
	return contextError(ctx.Err(), p.model.Name)
}

// cool takes back what warm asked for: instances may expire and are not replaced.
func (p *pool) cool() {
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	p.minimum, p.desired = min(p.model.Scale.Min, p.cfg.MaxInstances), 0
	p.o.movedLocked()
	p.o.setClockLocked()
}

// aliveLocked says whether an instance has the model.
func (p *pool) aliveLocked() bool {
	for s := range p.slots {
		if s.live() && !s.dead() {
			return true
		}
	}
	return false
}

// servesLocked says whether an instance takes calls, or is about to.
func (p *pool) servesLocked() bool {
	for s := range p.slots {
		switch s.state {
		case idle, busy, starting, resuming:
			return true
		case wanted, suspending, suspended, draining, gone:
		}
	}
	return false
}

// ready returns nil if the pool keeps no instance or has one, else why it has none.
func (p *pool) ready() error {
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	switch {
	case p.minimum == 0 || p.o.released || p.aliveLocked():
		return nil
	case p.lastErr != nil:
		return startError(p.model.Name, p.lastErr, true)
	default:
		return fmt.Errorf("%s is being loaded", p.model.Name)
	}
}

// stayingLocked is how many instances there are, or will be, without those that leave.
func (p *pool) stayingLocked() int {
	n := 0
	for s := range p.slots {
		if s.state != draining && s.condemned == "" {
			n++
		}
	}
	return n
}

// startWantedLocked resumes and starts as many instances as the waiters and the minimum ask
// for, now or when the delay after a failure is over.
func (p *pool) startWantedLocked() {
	if p.closed {
		return
	}
	coming, have := 0, len(p.slots)
	for s := range p.slots {
		if s.coming() {
			coming++
		}
	}
	want := (len(p.waiters)+p.capacity-1)/p.capacity - coming // in instances
	if len(p.warmers) > 0 && coming == 0 && !p.aliveLocked() {
		want = max(want, 1)
	}
	want -= p.resumeLocked(want)
	want = min(want, p.cfg.MaxInstances-have)
	ahead := false
	if !p.o.released {
		want = max(want, p.minimum-have)
		if ahead = want <= 0 && p.desired > have; ahead {
			want = p.desired - have
		}
	}
	if want <= 0 {
		return
	}
	if delay := time.Until(p.retryAt); delay > 0 {
		p.retryLocked(delay)
		return
	}
	if p.failedStarts+p.earlyDeaths > 0 {
		want = 1 // one attempt shows whether the cause has gone
		if coming > 0 {
			return
		}
	}
	for range want {
		s := p.o.newSlotLocked(p)
		s.ahead = ahead
		p.o.lineLocked(s)
	}
}

// resumeLocked asks for up to n suspended instances and returns how many there were.
func (p *pool) resumeLocked(n int) int {
	asked := 0
	for _, s := range p.oldestFirst() {
		if s.state == suspended && !s.asked && asked < n {
			asked++
			s.asked, s.since = true, time.Now()
			p.o.lineLocked(s)
		}
	}
	return asked
}

// oldestFirst returns the slots in the order in which they were made.
func (p *pool) oldestFirst() []*slot {
	return slices.SortedFunc(maps.Keys(p.slots), func(a, b *slot) int { return cmp.Compare(a.id, b.id) })
}

// retryLocked looks again at what is wanted after a delay.
func (p *pool) retryLocked(delay time.Duration) {
	if p.retry != nil {
		return
	}
	p.retry = time.AfterFunc(delay, func() {
		p.o.mu.Lock()
		defer p.o.mu.Unlock()
		p.retry = nil
		p.startWantedLocked()
	})
}

// askedLocked says whether requests, or the minimum, ask for an instance that waits for memory.
func (p *pool) askedLocked() bool {
	return len(p.waiters)+len(p.warmers) > 0 || len(p.slots) <= p.minimum && !p.o.released
}

// start starts one instance, which then takes calls.
func (p *pool) start(s *slot) {
	ctx, cancel := p.life()
	defer cancel()
	p.o.mu.Lock()
	devices := s.uuids()
	p.o.mu.Unlock()
	began := time.Now()
	inst, err := p.cfg.Start(ctx, p.model, devices)
	took := time.Since(began)

	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	if err != nil {
		if !p.closed { // then it was to end
			p.counts.StartFailures++
			p.logFailureLocked(err, took)
		}
		p.o.dropLocked(s)
		p.failedLocked(err)
		p.o.movedLocked()
		return
	}
	p.cfg.Log.Info("instance ready", "model", p.model.Name, "start_seconds", took.Seconds())
	p.counts.ColdStarts++
	p.counts.StartDuration += took
	p.starts.add(took)
	p.info = inst.Info()
	p.failedStarts, p.lastErr = 0, nil
	p.capacity = max(inst.Concurrency(), 1)
	s.inst, s.capacity, s.startTime, s.fresh, s.origin = inst, p.capacity, took, true, actions.TierDisk
	if from, ok := inst.(interface{ Origin() actions.Tier }); ok {
		s.origin = from.Origin()
	}
	p.wg.Go(func() { p.watch(s) })
	p.readyLocked(s)
	p.startWantedLocked()
}

// readyLocked has an instance that was started or resumed take calls.
func (p *pool) readyLocked(s *slot) {
	now := time.Now()
	s.to(idle)
	s.since, s.idleSince = now, now
	for _, d := range s.devices {
		if !d.Usable() && s.condemned == "" {
			s.condemned = actions.EvictHealth
		}
	}
	if len(s.devices) > 0 {
		p.o.readUntilAdmittedLocked() // measures it
	}
	if p.closed || s.condemned != "" {
		s.retireLocked(s.condemned)
		return
	}
	for _, ready := range p.warmers {
		ready <- nil
	}
	p.warmers = nil
	p.touchLocked(s)
	p.freeLocked(s)
	for p.serveLocked() {
	}
	p.o.movedLocked()
	p.o.setClockLocked()
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
	p.tellLocked(err)
	p.startWantedLocked()
}

// tellLocked tells those who wait why they wait in vain, if there is no other instance.
func (p *pool) tellLocked(err error) {
	if p.stayingLocked() > 0 {
		return
	}
	p.tellAllLocked(func(warming bool) error { return startError(p.model.Name, err, warming) })
}

// tellAllLocked makes an error for each of those who wait, for a call or for an instance.
func (p *pool) tellAllLocked(why func(warming bool) error) {
	for _, w := range p.waiters {
		w.ready <- grant{err: why(false)}
	}
	for _, ready := range p.warmers {
		ready <- why(true)
	}
	p.o.waiting -= len(p.waiters)
	p.waiters, p.warmers = nil, nil
}

// refusedLocked gives up the wish for an instance for which there is no memory.
func (p *pool) refusedLocked(s *slot, err error) {
	p.cfg.Log.Warn("no memory for an instance", "model", p.model.Name, "error", err)
	p.o.dropLocked(s)
	p.lastErr = err
	p.tellLocked(err)
	if len(p.waiters)+p.minimum+p.desired > 0 { // they ask again, but not at once
		p.failedStarts++
		p.backOffLocked()
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
