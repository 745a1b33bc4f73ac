package invoker

import (
	"slices"
	"time"
)

// Idle time is time in which this process runs. A platform that freezes the process
// between two requests (SIGSTOP, the freezer of cgroups) takes the clock away from it only,
// not from the machine: when it goes on, every timer that fell due meanwhile fires at
// once, beside the request for which it was thawed. So the pool looks at its idle
// instances often, and a look that comes much too late says that the process was frozen.
const (
	// There are at least looksPerIdleTime looks in IdleTime, and one each maxLook.
	looksPerIdleTime = 8
	maxLook          = 2 * time.Second

	// minLate is the least that a look must be late to mean a freeze and not a busy machine.
	minLate = 250 * time.Millisecond

	// thawTime is for how long nothing expires after a freeze, or half of IdleTime if
	// that is less.
	thawTime = time.Second
)

// look is the time between two looks at idle instances.
func (p *pool) look() time.Duration { return min(p.cfg.IdleTime/looksPerIdleTime, maxLook) }

// oldestIdleLocked returns the instance that has been without calls for longest, or nil.
func (p *pool) oldestIdleLocked() *slot {
	var oldest *slot
	for _, s := range p.free {
		if s.calls == 0 && (oldest == nil || s.idleSince.Before(oldest.idleSince)) {
			oldest = s
		}
	}
	return oldest
}

// scheduleExpiryLocked sets the timer for the next look at the idle instances.
func (p *pool) scheduleExpiryLocked() {
	if p.cfg.IdleTime < 0 || p.expiry != nil || p.closed {
		return
	}
	s := p.oldestIdleLocked()
	if s == nil {
		return
	}
	wait := min(time.Until(s.idleSince.Add(p.cfg.IdleTime)), p.look())
	p.expiryDue = time.Now().Add(wait)
	p.expiry = time.AfterFunc(wait, p.expire)
}

// expire ends the instances that have been idle for too long, the oldest first, down
// to the minimum.
func (p *pool) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expiry = nil
	if late := time.Since(p.expiryDue); late > max(p.look(), minLate) {
		p.thawLocked(late)
	}
	deadline := time.Now().Add(-p.cfg.IdleTime)
	for len(p.slots)-p.drainingLocked() > p.minimum {
		s := p.oldestIdleLocked()
		if s == nil || s.idleSince.After(deadline) {
			p.scheduleExpiryLocked()
			return
		}
		p.free = slices.DeleteFunc(p.free, func(other *slot) bool { return other == s })
		p.counts.MaxIdleTimeClosed++
		p.endLocked(s)
	}
}

// thawLocked takes the time for which the process was frozen, but for what was left until
// the next look, from the idle time of its instances, and leaves each of them thawTime for the requests that have come meanwhile.
func (p *pool) thawLocked(frozen time.Duration) {
	now := time.Now()
	latest := now.Add(min(thawTime, p.cfg.IdleTime/2) - p.cfg.IdleTime)
	for s := range p.slots {
		s.idleSince = s.idleSince.Add(frozen)
		if s.idleSince.Before(latest) {
			s.idleSince = latest
		}
		if s.idleSince.After(now) { // it has become idle since
			s.idleSince = now
		}
	}
	p.cfg.Log.Info("the process was frozen", "model", p.model.Name, "frozen_seconds", frozen.Seconds())
}
