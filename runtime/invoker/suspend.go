package invoker

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// moveTimeout bounds one suspension, or one resumption.
const moveTimeout = time.Minute

// Suspended is what an instance has of the machine while it is suspended.
type Suspended struct {
	// Host is how many bytes of the host's memory its weights take; zero if nobody knows.
	Host int64
	// Device is how many bytes it keeps of each of its devices, such as a CUDA context.
	Device int64
}

// A Suspender is an Instance that can leave its devices' memory for the host's, and come back.
// Neither is asked of it while it has calls.
type Suspender interface {
	// Suspend leaves the devices' memory. With an error the instance is ended; Unsupported
	// says that it cannot be suspended, which is nobody's fault.
	Suspend(ctx context.Context) (Suspended, error)
	// Resume takes that back. With an error the instance is ended.
	Resume(ctx context.Context) error
}

// suspendable is 1 if it is known that the instance can be suspended, because it says so
// (Suspendable() bool) or its model was before, and 0 if nobody knows.
func (s *slot) suspendable() int {
	says, ok := s.inst.(interface{ Suspendable() bool })
	if ok && says.Suspendable() || s.pool.resumes.value > 0 {
		return 1
	}
	return 0
}

// suspendLocked begins to suspend an idle instance, if it can be and there is memory for it
// on the host.
func (s *slot) suspendLocked(reason actions.EvictReason) bool {
	inst, ok := s.inst.(Suspender)
	p := s.pool
	if !ok || p.cannotSuspend || !p.o.makeHostRoomLocked(s) {
		return false
	}
	p.unfreeLocked(s)
	s.to(suspending)
	if len(p.waiters) > 0 {
		p.stepAsideLocked()
	}
	s.host = s.memory * int64(len(s.devices))
	p.wg.Go(func() { p.suspend(s, inst, reason) })
	return true
}

// makeHostRoomLocked ends suspended instances that are worth less, until there is memory on
// the host for another.
func (o *owner) makeHostRoomLocked(s *slot) bool {
	left := o.cfg.HostMemory - s.memory*int64(len(s.devices))
	var others []*slot
	for p := range o.pools {
		for other := range p.slots {
			if other.state == draining {
				continue
			}
			left -= other.host
			if other.state == suspended && !other.asked && other.value <= s.value && !other.pool.pinned() {
				others = append(others, other)
			}
		}
	}
	slices.SortFunc(others, func(a, b *slot) int { return cmp.Or(cmp.Compare(a.value, b.value), cmp.Compare(a.id, b.id)) })
	n := 0
	for ; left < 0 && n < len(others); n++ {
		left += others[n].host
	}
	if left < 0 {
		return false
	}
	for _, other := range others[:n] {
		other.drainLocked(actions.EvictHost)
	}
	return true
}

// suspend moves an instance into the host's memory.
func (p *pool) suspend(s *slot, inst Suspender, reason actions.EvictReason) {
	ctx, cancel := p.o.life(moveTimeout)
	defer cancel()
	rest, err := inst.Suspend(ctx)

	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	switch {
	case s.state != suspending || s.dead(): // its watch removes it
		return
	case err != nil:
		s.host = 0
		if p.cannotSuspend = actions.CodeOf(err) == actions.Unsupported; !p.cannotSuspend {
			p.cfg.Log.Error("instance could not be suspended", "model", p.model.Name, "error", err)
			reason = actions.EvictFailed
		}
		s.retireLocked(reason)
	default:
		s.to(suspended)
		if rest.Host > 0 { // else nobody knows, and it counts as what it had of the devices
			s.host = rest.Host
		}
		p.suspendedLocked(reason)
		p.o.ledger.resize(s, rest.Device, true, time.Now())
		p.cfg.Log.Info("instance suspended", "model", p.model.Name, "reason", string(reason), "host_bytes", rest.Host)
		if s.condemned != "" || p.closed {
			s.retireLocked(s.condemned)
		}
	}
	p.startWantedLocked()
	p.o.movedLocked()
}

// resume moves it back.
func (p *pool) resume(s *slot, inst Suspender) {
	ctx, cancel := p.o.life(moveTimeout)
	defer cancel()
	began := time.Now()
	err := inst.Resume(ctx)
	took := time.Since(began)

	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	if s.state != resuming || s.dead() {
		return // its watch removes it
	}
	s.host = 0
	if err != nil {
		p.cfg.Log.Error("instance could not be resumed", "model", p.model.Name, "error", err)
		s.retireLocked(actions.EvictFailed)
		p.startWantedLocked()
		return
	}
	p.counts.Resumes++
	p.counts.ResumeDuration += took
	p.resumes.add(took)
	s.origin, s.startTime, s.fresh = actions.TierHost, took, true
	p.readyLocked(s)
}
