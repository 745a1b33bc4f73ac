package invoker

import (
	"slices"
	"time"
)

// Models that share a device share its time: Config.DeviceCalls instances at most have calls on
// it at one time, and when a place is free, it goes to the model that has had least of the
// device's time of those that wait for it. That is start-time fair queueing (Goyal, Vin and
// Cheng, SIGCOMM 1996): a call is tagged with the virtual time at which it begins, the end
// of the model's last call or the tag of the call served last, whichever is later; the least
// tag comes first. The quantum is one call, because a call cannot be interrupted.

// tag is the virtual time at which a call of the pool would begin on the device.
func (d *device) tag(p *pool) time.Duration { return max(d.clock, d.tags[p]) }

// mayHoldLocked says whether a call of the instance may begin as far as its devices go.
func (o *owner) mayHoldLocked(s *slot) bool {
	limit := o.cfg.DeviceCalls
	if limit < 0 {
		return true
	}
	for _, d := range s.devices {
		if s.heldSince.IsZero() && d.held >= limit {
			return false
		}
		// An instance that takes several calls at a time must not keep others away for ever.
		if !s.heldSince.IsZero() && d.rival(s) {
			return false
		}
	}
	return true
}

// rival says whether a model waits for the device that has had less of it than that of the
// instance which holds it.
func (d *device) rival(s *slot) bool {
	for other := range d.slots {
		p := other.pool
		if p != s.pool && len(p.waiters) > 0 && other.state == idle && d.tag(p) < d.tags[s.pool] {
			return true
		}
	}
	return false
}

// holdLocked has the instance take its devices, at the first of its calls.
func (o *owner) holdLocked(s *slot) {
	s.heldSince = time.Now()
	for _, d := range s.devices {
		s.heldTag = max(s.heldTag, d.tag(s.pool))
		d.held++
	}
	for _, d := range s.devices {
		d.clock = max(d.clock, d.tag(s.pool))
	}
}

// yieldLocked has it give them back, at the end of the last.
func (o *owner) yieldLocked(s *slot) {
	if s.heldSince.IsZero() {
		return
	}
	took := time.Since(s.heldSince)
	s.heldSince = time.Time{}
	for _, d := range s.devices {
		d.held--
		d.busy += took
		d.tags[s.pool] = s.heldTag + took
		s.deviceTime += took
		s.pool.counts.DeviceTime += took
	}
	s.heldTag = 0
	if len(s.devices) > 0 {
		o.dispatchLocked()
	}
}

// dispatchLocked gives the devices that are free to those that wait for them.
func (o *owner) dispatchLocked() {
	for again := true; again; {
		again = false
		for _, d := range o.ledger.devices {
			for p := d.firstWaiting(); p != nil && p.serveLocked(); p = d.firstWaiting() {
				again = true
			}
		}
	}
}

// firstWaiting returns the model that is to have the device next, of those that wait with an
// instance on it. It may be that it cannot: then the device waits for it, as it needs another
// one too, else it would never have both.
func (d *device) firstWaiting() *pool {
	var pools []*pool
	for s := range d.slots {
		if s.state == idle && len(s.pool.waiters) > 0 && !slices.Contains(pools, s.pool) {
			pools = append(pools, s.pool)
		}
	}
	if len(pools) == 0 {
		return nil
	}
	return slices.MinFunc(pools, func(a, b *pool) int {
		if ta, tb := d.tag(a), d.tag(b); ta != tb {
			return int(ta - tb)
		}
		return int(a.oldest() - b.oldest())
	})
}
