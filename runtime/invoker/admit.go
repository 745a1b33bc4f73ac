package invoker

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A Demand is what an instance needs of the devices.
type Demand struct {
	// Devices is how many; zero is none, and then the rest means nothing.
	Devices int
	// Memory is how many bytes on each. Guess says that a measurement counts in its place;
	// else it does where it is more.
	Memory int64
	Guess  bool
	// ComputeCapability is the least that they must have, "8.0"; empty for any.
	ComputeCapability string
}

// lineLocked puts a slot at the end of the line for memory; with no need for any it is
// admitted at once.
func (o *owner) lineLocked(s *slot) {
	if s.state == wanted && !o.needsDevices(s.pool) {
		o.enterLocked(s)
		return
	}
	o.line = append(o.line, s)
	o.admitLocked()
	if len(o.line) > 0 {
		o.readUntilAdmittedLocked()
	}
}

func (o *owner) unlineLocked(s *slot) {
	s.asked = false
	o.line = slices.DeleteFunc(o.line, func(other *slot) bool { return other == s })
}

// needsDevices says whether instances of the model are placed on devices.
func (o *owner) needsDevices(p *pool) bool { return o.cfg.Devices != nil && p.demand.Devices > 0 }

// enterLocked starts or resumes a slot that has what it needs.
func (o *owner) enterLocked(s *slot) {
	o.unlineLocked(s)
	p := s.pool
	if inst, ok := s.inst.(Suspender); ok {
		s.to(resuming)
		p.wg.Go(func() { p.resume(s, inst) })
		return
	}
	s.to(starting)
	p.wg.Go(func() { p.start(s) })
}

// staleTime is how old a reading may be by which memory is reserved.
const staleTime = time.Second

// A pass is one look at the line: those further behind may have only what those before them
// do not wait for.
type pass struct {
	o       *owner
	now     time.Time
	claimed map[*device]int64
	first   map[*pool]*slot // of those in line
}

// further says that a slot would be one more of a model that has an instance, or gets one before
// it: nobody with calls leaves for it, and nobody waits behind it, else they would chase each
// other out.
func (ps *pass) further(s *slot) bool { return s.pool.servesLocked() || ps.first[s.pool] != s }

// admitLocked lets those enter that there is memory for, and makes room for the others as
// far as that can be done now.
func (o *owner) admitLocked() {
	ps := pass{o: o, now: time.Now(), claimed: map[*device]int64{}, first: map[*pool]*slot{}}
	if ps.now.Sub(o.ledger.read) > staleTime {
		return // a reading comes
	}
	defer func() {
		o.looked = time.Now()
		o.looking = o.looked.Sub(ps.now)
	}()
	for _, s := range slices.Clone(o.line) {
		if ps.first[s.pool] == nil {
			ps.first[s.pool] = s
		}
		switch {
		case !slices.Contains(o.line, s): // what was done for another has moved it
		case s.state == suspended:
			ps.readmit(s)
		case !s.ahead && !s.pool.askedLocked():
			o.dropLocked(s)
		default:
			ps.admit(s)
		}
	}
}

// admit finds devices for a new instance.
func (ps *pass) admit(s *slot) {
	o, p := ps.o, s.pool
	able, n := o.ableLocked(p), p.demand.Devices
	switch {
	case len(able) >= n:
	case o.mayDoWithout(p):
		o.enterLocked(s)
		return
	default:
		p.refusedLocked(s, o.neverFitsLocked(p))
		return
	}
	ps.sort(p, able)
	if now := ps.with(p, able, (*device).room); len(now) >= n {
		o.ledger.reserve(s, slices.Clone(now[:n]), p.needs(now[:n]))
		s.measureFrom()
		o.enterLocked(s)
		return
	}
	if !p.askedLocked() { // it is ahead of requests: nobody has to leave for it
		o.dropLocked(s)
		return
	}
	ps.wait(s, able)
}

// ableLocked returns the devices on which an instance of the pool may be at some time.
func (o *owner) ableLocked(p *pool) []*device {
	var able []*device
	for _, d := range o.ledger.devices {
		if d.fits(p.demand) && p.needOn(d) <= d.most(p) {
			able = append(able, d)
		}
	}
	return able
}

// mayDoWithout says that the model was only guessed to need a device, and there is none, or none
// that is well: it may run on the processor.
func (o *owner) mayDoWithout(p *pool) bool {
	usable := func(d *device) bool { return d.Usable() }
	return p.demand.Guess && !slices.ContainsFunc(o.ledger.devices, usable)
}

// sort puts the devices in the order in which they are preferred: those without an instance of the
// model, where a further one does not have to take turns with it, if there is room; then those
// with the most room, so that models share a device when they must.
func (ps *pass) sort(p *pool, able []*device) {
	room := func(d *device) int64 { return d.room() - ps.claimed[d] - p.needOn(d) }
	free := func(d *device) int {
		if room(d) >= 0 && !d.has(p) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(able, func(a, b *device) int {
		return cmp.Or(cmp.Compare(free(b), free(a)), cmp.Compare(room(b), room(a)))
	})
}

// with returns the devices whose room is enough for an instance of the pool.
func (ps *pass) with(p *pool, able []*device, room func(*device) int64) []*device {
	return slices.DeleteFunc(slices.Clone(able), func(d *device) bool { return room(d)-ps.claimed[d] < p.needOn(d) })
}

// wait makes room for a slot on the devices where that costs least, and keeps the place.
func (ps *pass) wait(s *slot, able []*device) {
	p := s.pool
	plans := make([]plan, 0, len(able))
	for _, d := range able {
		plans = append(plans, ps.plan(s, d, p.needOn(d)))
	}
	slices.SortStableFunc(plans, func(a, b plan) int { return cmp.Compare(a.cost, b.cost) })
	plans = plans[:p.demand.Devices]
	possible := !math.IsInf(plans[len(plans)-1].cost, 1)
	for _, pl := range plans {
		if possible || !ps.further(s) {
			ps.claimed[pl.device] += p.needOn(pl.device)
		}
		if possible {
			ps.evict(pl, s)
		}
	}
	if ps.now.Sub(s.since) > ps.o.cfg.MemoryWait {
		p.refusedLocked(s, ps.o.noRoomLocked(p))
	}
}

// readmit gives a suspended instance its memory back, on the devices where it was.
func (ps *pass) readmit(s *slot) {
	p := s.pool
	more := p.needs(s.devices) - s.memory
	fits := !slices.ContainsFunc(s.devices, func(d *device) bool { return d.room()-ps.claimed[d] < more })
	if fits {
		ps.o.ledger.resize(s, s.memory+more, false, ps.now)
		ps.o.enterLocked(s)
		return
	}
	possible, now := true, true
	plans := make([]plan, len(s.devices))
	for i, d := range s.devices {
		plans[i] = ps.plan(s, d, more)
		now = now && !math.IsInf(plans[i].cost, 1)
		possible = possible && d.Usable() && p.needOn(d) <= d.most(p)
	}
	for _, pl := range plans {
		if now || !ps.further(s) {
			ps.claimed[pl.device] += more
		}
		if now {
			ps.evict(pl, s)
		}
	}
	if possible && ps.now.Sub(s.since) <= ps.o.cfg.MemoryWait {
		return
	}
	ps.o.unlineLocked(s)
	s.drainLocked(actions.EvictFailed)
	elsewhere := ps.with(p, ps.o.ableLocked(p), (*device).room)
	if possible && len(elsewhere) < p.demand.Devices { // else a new one finds another device
		p.tellLocked(ps.o.noRoomLocked(p))
	}
}

// A plan is how room for a slot can be made on a device: without whom, and what they are
// worth together. The cost is infinite if there is no way now.
type plan struct {
	device  *device
	victims []*slot
	cost    float64
}

// plan finds the instances that are worth least and give up enough memory. After DrainAfter
// those that have calls are taken too: they get no new ones.
func (ps *pass) plan(s *slot, d *device, need int64) plan {
	lack := need - (d.soon() - ps.claimed[d])
	if lack <= 0 {
		return plan{device: d}
	}
	var candidates []candidate
	for other := range d.slots {
		if other.pool != s.pool && ps.evictableLocked(other, s) {
			candidates = append(candidates, candidate{other, other.worthLocked(ps.now)})
		}
	}
	victims, cost := ps.o.cheapest(candidates, lack)
	return plan{d, victims, cost}
}

// evict has those of a plan leave that still may: what was done for another device may have
// changed that.
func (ps *pass) evict(pl plan, s *slot) {
	for _, victim := range pl.victims {
		if ps.evictableLocked(victim, s) {
			ps.o.evictAllLocked([]*slot{victim}, actions.EvictMemory)
		}
	}
}

// evictableLocked says whether an instance may be given up for a slot that waits.
func (ps *pass) evictableLocked(s, waiting *slot) bool {
	p := s.pool
	if p.pinned() || s.memory <= 0 || s.asked || p.minimum > 0 && p.stayingLocked() <= p.minimum {
		return false
	}
	rested := ps.now.Sub(s.since) >= ps.o.cfg.Residency
	alsoBusy := ps.now.Sub(waiting.since) >= ps.o.cfg.DrainAfter && !ps.further(waiting)
	switch s.state {
	case suspended:
		return true
	case idle: // with callers it waits for its turn on the device
		return rested && (alsoBusy || len(p.waiters) == 0)
	case busy:
		return rested && alsoBusy
	default:
		return false
	}
}

// A candidate is an instance that may be given up, with what it is worth now.
type candidate struct {
	*slot
	worth float64
}

// worthLocked is nothing for those that nobody has used for long, else what the policy says.
func (s *slot) worthLocked(now time.Time) float64 {
	if s.state == suspended || s.expiredLocked(now) {
		return 0
	}
	return s.value
}

// cheapest chooses from candidates those that give up at least lack bytes on each of their
// devices, in the order of their values and without those that the others make needless. It
// costs what the most valuable of them is worth: values have a common part, the policy's clock, so
// that a sum of them would count heads, and the one large model that is used all the time would
// go in the place of a few small ones that nobody uses.
func (o *owner) cheapest(candidates []candidate, lack int64) ([]*slot, float64) {
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.worth, b.worth), cmp.Compare(b.memory, a.memory), cmp.Compare(a.id, b.id))
	})
	var chosen []candidate
	var sum int64
	candidates = aboveMinimum(candidates)
	for _, c := range candidates {
		if sum >= lack {
			break
		}
		chosen = append(chosen, c)
		sum += c.memory
	}
	if sum < lack {
		return nil, math.Inf(1)
	}
	for i, c := range slices.Backward(chosen) { // the most valuable first
		if sum-c.memory >= lack {
			sum -= c.memory
			chosen = slices.Delete(chosen, i, i+1)
		}
	}
	cost := 0.0
	victims := make([]*slot, len(chosen))
	for i, c := range chosen {
		cost = max(cost, c.worth)
		victims[i] = c.slot
	}
	return victims, cost
}

// aboveMinimum leaves out those of candidates that their models' minimums keep when the others
// before them have gone.
func aboveMinimum(candidates []candidate) []candidate {
	left := map[*pool]int{}
	return slices.DeleteFunc(candidates, func(c candidate) bool {
		p := c.pool
		if p.minimum == 0 {
			return false
		}
		if _, seen := left[p]; !seen {
			left[p] = p.stayingLocked() - p.minimum
		}
		left[p]--
		return left[p] < 0
	})
}

// evictAllLocked has instances leave their devices: into the host's memory if they can, else
// they end.
func (o *owner) evictAllLocked(victims []*slot, reason actions.EvictReason) {
	for _, s := range victims {
		if reason == actions.EvictMemory { // else it was not weighed against another
			o.cfg.Policy.Evicted(s.value)
		}
		if s.state != idle || !s.suspendLocked(reason) {
			s.drainLocked(reason)
		}
	}
}
