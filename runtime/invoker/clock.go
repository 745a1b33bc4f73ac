package invoker

import (
	"cmp"
	"slices"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// Idle time is time in which this process runs. A platform that freezes the process
// between two requests (SIGSTOP, the freezer of cgroups) takes the clock away from it only,
// not from the machine: when it goes on, every timer that fell due meanwhile fires at
// once, beside the request for which it was thawed. So the owner looks at its idle
// instances often, and a look that comes much too late says that the process was frozen.
const (
	// There are at least looksPerIdleTime looks in the shortest time that is waited for,
	// and one each maxLook.
	looksPerIdleTime = 8
	maxLook          = 2 * time.Second

	// minLate is the least that a look must be late to mean a freeze and not a busy machine.
	minLate = 250 * time.Millisecond

	// thawTime is for how long nothing expires after a freeze, or half of IdleTime if
	// that is less.
	thawTime = time.Second
)

// look is the time between two looks at idle instances.
func (o *owner) look() time.Duration {
	look := maxLook
	for _, d := range []time.Duration{o.cfg.IdleTime, o.cfg.ReleaseTime} {
		if d > 0 {
			look = min(look, d/looksPerIdleTime)
		}
	}
	return look
}

// setClockLocked sets the timer for the next look, if there may be something to see. What
// begins to wait later is due later than the look.
func (o *owner) setClockLocked() {
	if o.clock != nil || o.ended {
		return
	}
	now := time.Now()
	due, any := o.dueLocked(now)
	if !any {
		return
	}
	wait := min(due.Sub(now), o.look())
	o.clockDue = now.Add(wait)
	o.clock = time.AfterFunc(wait, o.tick)
}

// dueLocked returns when something is due next.
func (o *owner) dueLocked(now time.Time) (due time.Time, any bool) {
	sooner := func(t time.Time) {
		if !any || t.Before(due) {
			due, any = t, true
		}
	}
	for p := range o.pools {
		for s := range p.slots {
			switch {
			case len(s.devices) > 0 && !p.closed:
				sooner(now.Add(refreshTime)) // the device is read now and then
				if s.state == idle && o.cfg.ReleaseTime > 0 && o.calls == 0 {
					sooner(o.quiet.Add(o.cfg.ReleaseTime))
				}
			case s.state == idle && p.stayingLocked() > max(p.minimum, p.desired):
				if at, ok := s.expiryLocked(); ok {
					sooner(at)
				}
			}
		}
		if at, ok := p.aheadLocked(); ok {
			sooner(at)
		}
		if p.missingLocked() {
			sooner(now.Add(refreshTime))
		}
	}
	return due, any
}

// tick is one look.
func (o *owner) tick() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clock = nil
	if o.ended {
		return
	}
	if late := time.Since(o.clockDue); late > max(o.look(), minLate) {
		o.thawLocked(late)
	}
	now := time.Now()
	missing := false
	for p := range o.pools {
		p.expireLocked(now)
		p.startAheadLocked(now)
		missing = missing || p.missingLocked()
	}
	o.releaseLocked(now)
	if now.Sub(o.ledger.read) >= refreshTime && (missing || o.onDevicesLocked()) {
		o.readUntilAdmittedLocked()
	}
	o.setClockLocked()
}

// onDevicesLocked says whether there is an instance on a device.
func (o *owner) onDevicesLocked() bool {
	for _, d := range o.ledger.devices {
		if len(d.slots) > 0 {
			return true
		}
	}
	return false
}

// expireLocked ends the instances that have been idle for too long, the oldest first, down
// to the minimum. Those on devices stay: that their time is over only makes them the first to
// go when somebody needs their memory.
func (p *pool) expireLocked(now time.Time) {
	for !p.closed && p.stayingLocked() > max(p.minimum, p.desired) {
		var oldest *slot
		for s := range p.slots {
			if s.state == idle && len(s.devices) == 0 && (oldest == nil || s.idleSince.Before(oldest.idleSince)) {
				oldest = s
			}
		}
		if oldest == nil || !oldest.expiredLocked(now) {
			return
		}
		p.counts.MaxIdleTimeClosed++
		oldest.drainLocked(actions.EvictIdle)
	}
}

// expiredLocked says whether an instance was idle for as long as it may be.
func (s *slot) expiredLocked(now time.Time) bool {
	at, ok := s.expiryLocked()
	return ok && s.state == idle && !now.Before(at)
}

// releaseLocked has all instances leave their devices when there was no call for ReleaseTime:
// the platform is about to freeze this process, and what is frozen gives nothing back.
func (o *owner) releaseLocked(now time.Time) {
	if o.cfg.ReleaseTime <= 0 || o.calls > 0 || now.Sub(o.quiet) < o.cfg.ReleaseTime {
		return
	}
	var leaving []*slot
	for _, d := range o.ledger.devices {
		for s := range d.slots {
			if s.state == idle && !slices.Contains(leaving, s) {
				leaving = append(leaving, s)
			}
		}
	}
	o.released = o.released || len(leaving) > 0
	// The host's memory is for those that can make use of it, and of these for the most valuable.
	slices.SortFunc(leaving, func(a, b *slot) int {
		return cmp.Or(cmp.Compare(b.suspendable(), a.suspendable()), cmp.Compare(b.value, a.value), cmp.Compare(a.id, b.id))
	})
	o.evictAllLocked(leaving, actions.EvictPause)
}

// thawLocked takes the time for which the process was frozen, but for what was left until
// the next look, from all that waits for a time, and leaves each idle instance thawTime for
// the requests that have come meanwhile.
func (o *owner) thawLocked(frozen time.Duration) {
	now := time.Now()
	o.quiet = earlier(o.quiet.Add(frozen), now)
	for p := range o.pools {
		p.history.last = earlier(p.history.last.Add(frozen), now)
		latest := now.Add(min(thawTime, p.keepAliveLocked()/2) - p.keepAliveLocked())
		for s := range p.slots {
			s.since = earlier(s.since.Add(frozen), now)
			s.idleSince = s.idleSince.Add(frozen)
			if s.idleSince.Before(latest) {
				s.idleSince = latest
			}
			s.idleSince = earlier(s.idleSince, now) // it may have become idle since
		}
	}
	o.cfg.Log.Info("the process was frozen", "frozen_seconds", frozen.Seconds())
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
