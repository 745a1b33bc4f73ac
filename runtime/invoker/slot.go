package invoker

import (
	"slices"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A state is what an instance does. next is the table of all transitions, and slot.to the only
// place that makes one.
type state uint8

const (
	wanted     state = iota // waits until there is memory for it on devices
	starting                // its process starts and loads the model
	idle                    // can take a call
	busy                    // has calls in progress
	suspending              // on its way to the host's memory
	suspended               // in the host's memory
	resuming                // on its way back
	draining                // takes no new call, and ends when it has none
	gone                    // has ended
)

// String is the state in the words of actions.InstanceStats.
func (st state) String() string {
	return [...]string{"wanted", "starting", "idle", "busy", "suspending", "suspended", "resuming", "draining", "gone"}[st]
}

// next returns the states that may follow a state. Each but gone may be followed by gone: a
// process can die at any time.
func (st state) next() []state {
	switch st {
	case wanted:
		return []state{starting, gone}
	case starting:
		return []state{idle, gone}
	case idle:
		return []state{busy, suspending, draining, gone}
	case busy:
		return []state{idle, draining, gone}
	case suspending:
		return []state{suspended, draining, gone}
	case suspended:
		return []state{resuming, draining, gone}
	case resuming:
		return []state{idle, draining, gone}
	case draining:
		return []state{gone}
	case gone:
	}
	return nil
}

// A slot is an instance in its pool, from the wish for one to its end.
type slot struct {
	id    int64
	pool  *pool
	state state
	inst  Instance // nil until it has started

	// devices are those that memory is reserved on, memory bytes on each. A suspended
	// instance keeps its devices, to which it goes back, and leaves residue bytes there.
	devices []*device
	memory  int64
	host    int64     // bytes of the host's memory while it is suspended
	since   time.Time // when it was wanted, then when it was ready
	// asked says that a suspended instance is wanted again, and waits for memory.
	asked bool
	// ahead says that no request has asked for it, but the times at which they come.
	ahead bool
	// condemned is why it is to end as soon as what it is in the middle of is over.
	condemned actions.EvictReason
	value     float64 // what the policy thinks of it, as of its last use
	baseline  baseline
	peak      int64 // the most that was measured of it on one device

	origin    actions.Tier  // where it came from: the first request that has it is told
	startTime time.Duration // how long that took
	fresh     bool          // no request was told yet
	answered  bool          // has answered a request
	capacity  int           // calls that it takes at a time
	calls     int           // calls in progress, at most capacity
	settling  int           // those of them whose callers have left
	closing   bool          // its end was asked for
	// diedInCall says that a call found it dead, before its watch did.
	diedInCall bool
	idleSince  time.Time     // when calls was 0 last
	heldSince  time.Time     // when it took its devices for calls; zero when it does not hold them
	deviceTime time.Duration // how long it has held devices, summed over them
}

// to makes a transition. One that the table does not have is a fault of the pool, which is
// kept for the tests and logged, because ending the server would not help anybody.
func (s *slot) to(st state) {
	if !slices.Contains(s.state.next(), st) {
		s.pool.o.fault("a transition that does not exist", "model", s.pool.model.Name, "instance", s.id, "from", s.state.String(), "to", st.String())
	}
	s.state = st
}

// dead says that the process has ended, which its watch may not have seen yet.
func (s *slot) dead() bool {
	select {
	case <-s.inst.Done():
		return true
	default:
		return false
	}
}

// live says that the instance has its model, here or in the host's memory.
func (s *slot) live() bool {
	switch s.state {
	case idle, busy, suspending, suspended, resuming:
		return true
	case wanted, starting, draining, gone:
	}
	return false
}

// coming says that the instance will take calls without being asked again.
func (s *slot) coming() bool {
	return s.state == wanted || s.state == starting || s.state == resuming || s.state == suspended && s.asked
}

// leaving says that the instance gives up the memory of its devices.
func (s *slot) leaving() bool { return s.state == draining || s.state == suspending }

// moving says that nobody knows how much of its reservation the instance uses just now.
func (s *slot) moving() bool {
	return s.state == starting || s.state == suspending || s.state == resuming || s.state == draining
}

// pid is the process of the instance, zero when it does not say.
func (s *slot) pid() int {
	if p, ok := s.inst.(interface{ PID() int }); ok {
		return p.PID()
	}
	return 0
}

// uuids are the devices of the instance.
func (s *slot) uuids() []string {
	uuids := make([]string, len(s.devices))
	for i, d := range s.devices {
		uuids[i] = d.UUID
	}
	return uuids
}
