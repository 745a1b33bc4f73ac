package invoker

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Check compares what the owner knows twice: the ledger with the instances, the instances with
// their states, and the lists with both. It returns what does not agree.
func (v *Invoker) Check() error {
	o := v.owner
	o.mu.Lock()
	defer o.mu.Unlock()
	errs := slices.Clone(o.faults)
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	held := map[*device]int{}
	waiting := 0
	for p := range o.pools {
		waiting += len(p.waiters)
		if len(p.waiters) > p.cfg.QueueDepth {
			add("%s: %d wait, the queue takes %d", p.model.Name, len(p.waiters), p.cfg.QueueDepth)
		}
		if len(p.slots) > max(p.cfg.MaxInstances, p.minimum) {
			add("%s: %d instances of %d", p.model.Name, len(p.slots), p.cfg.MaxInstances)
		}
		for s := range p.slots {
			o.checkSlot(s, add)
			if !s.heldSince.IsZero() {
				for _, d := range s.devices {
					held[d]++
				}
			}
		}
		for _, s := range p.free {
			if s.state != idle && s.state != busy || s.calls >= s.capacity {
				add("%s: an instance in the list of free ones: %s, %d calls of %d", p.model.Name, s.state, s.calls, s.capacity)
			}
		}
	}
	if waiting != o.waiting {
		add("%d wait, %d are counted", waiting, o.waiting)
	}
	for _, d := range o.ledger.devices {
		var sum int64
		for s := range d.slots {
			sum += s.memory
			if !slices.Contains(s.devices, d) {
				add("%s has an instance that does not know it", d.UUID)
			}
		}
		if sum != d.reserved || d.reserved < 0 || d.foreign < 0 || d.ghost < 0 {
			add("%s: %d reserved, %d by the instances, %d foreign, %d ghost", d.UUID, d.reserved, sum, d.foreign, d.ghost)
		}
		if held[d] != d.held || o.cfg.DeviceCalls > 0 && !d.MPS && d.held > o.cfg.DeviceCalls {
			add("%s: held %d times, by %d instances, %d may", d.UUID, d.held, held[d], o.cfg.DeviceCalls)
		}
	}
	for _, s := range o.line {
		if s.state != wanted && (s.state != suspended || !s.asked) {
			add("in the line for memory: %s", s.state)
		}
	}
	return errors.Join(errs...)
}

// checkSlot checks one instance.
func (o *owner) checkSlot(s *slot, add func(string, ...any)) {
	name := fmt.Sprintf("%s %d, %s", s.pool.model.Name, s.id, s.state)
	switch s.state {
	case wanted:
		if len(s.devices) > 0 || !slices.Contains(o.line, s) && o.needsDevices(s.pool) {
			add("%s: on %d devices, or not in line", name, len(s.devices))
		}
	case starting, suspending, suspended, resuming:
		if s.calls != 0 {
			add("%s: %d calls", name, s.calls)
		}
	case idle:
		if s.calls != 0 || !s.heldSince.IsZero() || !slices.Contains(s.pool.free, s) && !s.dead() {
			add("%s: %d calls, held since %v, free %t", name, s.calls, s.heldSince, slices.Contains(s.pool.free, s))
		}
	case busy:
		if s.calls == 0 && !s.dead() || s.calls < 0 || s.calls > s.capacity {
			add("%s: %d calls of %d", name, s.calls, s.capacity)
		}
	case draining:
	case gone:
		add("%s: it is in its pool still", name)
	}
	if s.host != 0 && s.state != suspending && s.state != suspended && s.state != resuming && s.state != draining {
		add("%s: %d bytes of the host", name, s.host)
	}
	if s.settling > s.calls {
		add("%s: %d of %d calls without callers", name, s.settling, s.calls)
	}
}

// HostMemory is how many bytes of the host's memory the ledger gives to suspended instances
// that stay.
func (v *Invoker) HostMemory() int64 {
	o := v.owner
	o.mu.Lock()
	defer o.mu.Unlock()
	var sum int64
	for p := range o.pools {
		for s := range p.slots {
			if s.state != draining {
				sum += s.host
			}
		}
	}
	return sum
}

// Idle says since when the newest idle instance of a model is idle.
func (v *Invoker) Idle(model string) (since time.Time) {
	o := v.owner
	o.mu.Lock()
	defer o.mu.Unlock()
	for p := range o.pools {
		for s := range p.slots {
			if p.model.Name == model && s.state == idle && s.idleSince.After(since) {
				since = s.idleSince
			}
		}
	}
	return since
}
