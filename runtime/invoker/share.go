package invoker

import "time"

// Models that share a device share its time: Config.DeviceCalls instances at most have calls on
// it at one time, and when a place is free, it goes to the model that has had least of the
// device's time of those that wait for it. That is start-time fair queueing (Goyal, Vin and
// Cheng, SIGCOMM 1996): a call is tagged with the virtual time at which it begins, the end
// of the model's last call or the tag of the call served last, whichever is later; the least
// tag comes first. The quantum is one call, because a call cannot be interrupted.
//
// An instance on several devices needs all of them at once. By how much its tag is ahead of a
// device's clock is compared, at its worst device: that is one order for all instances, in
// which the first is kept from its devices only by calls in progress.

// tag is the virtual time at which a call of the pool would begin on the device.
func (d *device) tag(p *pool) time.Duration { return max(d.clock, d.tags[p]) }

// ahead is by how much the instance has had more of its devices than the one served last,
// with the calls that it has on them now.
func (s *slot) aheadOfOthers() time.Duration {
	var most time.Duration
	for _, d := range s.devices {
		if s.heldSince.IsZero() {
			most = max(most, d.tag(s.pool)-d.clock)
			continue
		}
		most = max(most, d.begun[s]+time.Since(s.heldSince)-d.clock)
	}
	return most
}

// before says whether a waiting instance comes before another.
func (s *slot) before(other *slot) bool {
	mine, others := s.aheadOfOthers(), other.aheadOfOthers()
	if mine != others || len(other.pool.waiters) == 0 {
		return mine <= others
	}
	return s.pool.waiters[0].since.Before(other.pool.waiters[0].since)
}

// mayHoldLocked says whether a call of the instance may begin as far as its devices go.
func (o *owner) mayHoldLocked(s *slot) bool {
	if o.cfg.DeviceCalls < 0 {
		return true
	}
	for _, d := range s.devices {
		// NVIDIA's multi-process service lets the calls of several processes run side by side.
		full := d.held >= o.cfg.DeviceCalls && !d.MPS
		// An instance that takes several calls at a time must not keep others away for ever.
		if s.heldSince.IsZero() && full || d.rival(s) {
			return false
		}
	}
	return true
}

// rival says whether another model waits for the device that comes before the instance.
func (d *device) rival(s *slot) bool {
	if s.pool.o.waiting == 0 {
		return false
	}
	for other := range d.slots {
		if other.pool != s.pool && other.state == idle && len(other.pool.waiters) > 0 && other.before(s) {
			return true
		}
	}
	return false
}

// holdLocked has the instance take its devices, at the first of its calls.
func (o *owner) holdLocked(s *slot) {
	if len(s.devices) == 0 {
		return
	}
	s.heldSince = time.Now()
	for _, d := range s.devices {
		d.begun[s] = d.tag(s.pool)
		d.clock = d.begun[s]
		d.held++
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
		d.tags[s.pool] = d.begun[s] + took
		delete(d.begun, s)
		s.deviceTime += took
		s.pool.counts.DeviceTime += took
	}
	o.dispatchLocked()
}

// dispatchLocked gives the devices that are free to those that wait for them.
func (o *owner) dispatchLocked() {
	for again := true; again && o.waiting > 0; {
		again = false
		for _, d := range o.ledger.devices {
			again = d.serveLocked() || again
		}
	}
}

// serveLocked serves the first of those that wait for the device, and those that hold it and
// have room for another call, as far as the former has not to come first.
func (d *device) serveLocked() (served bool) {
	if s := d.firstWaiting(); s != nil {
		served = s.pool.serveLocked()
	}
	for s := range d.slots {
		if s.state == busy && s.calls < s.capacity && s.pool.serveLocked() {
			served = true
		}
	}
	return served
}

// stepAsideLocked has others go on that waited because the pool's requests came first: these
// have left, or their instance has.
func (p *pool) stepAsideLocked() {
	if p.o.needsDevices(p) && p.o.cfg.DeviceCalls > 0 {
		p.o.dispatchLocked()
	}
}

// firstWaiting returns the instance that is to have the device next, of those whose models
// wait. It may be that it cannot: then the device waits for it, as it needs another one too,
// else it would never have both.
func (d *device) firstWaiting() *slot {
	var first *slot
	for s := range d.slots {
		if s.state == idle && len(s.pool.waiters) > 0 && (first == nil || s.before(first)) {
			first = s
		}
	}
	return first
}
