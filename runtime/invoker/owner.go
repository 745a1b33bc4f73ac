package invoker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// An owner owns the state of all instances of all models: there is one lock, and what is
// decided by a state is done under it, in the same place. Nothing under the lock waits, for a
// process, a driver or a caller.
type owner struct {
	cfg Config
	// life is the context of what belongs to no request: starts, suspensions, readings. end
	// ends it.
	life func(timeout time.Duration) (context.Context, context.CancelFunc)
	end  context.CancelFunc
	// wg counts the goroutines that read devices.
	wg sync.WaitGroup

	mu     sync.Mutex // guards everything below, and all that pools and slots say it does
	pools  map[*pool]struct{}
	ledger ledger
	lastID int64
	// line are the slots that wait for memory, in order.
	line    []*slot
	looked  time.Time     // when admitLocked was over last
	looking time.Duration // how long it took
	reading bool          // somebody reads the devices until the line is empty
	again   bool          // and was asked to read them once more
	ended   bool
	// unread is why the devices could not be read, if they could not be when that was last tried.
	unread string

	clock    *time.Timer // fires when something may be due
	clockDue time.Time   // when it should
	calls    int         // in progress or waiting, of all models
	waiting  int         // those of them that wait, the sum over all pools
	quiet    time.Time   // when calls was 0 last
	released bool        // the devices were given up, because a freeze is near

	faults []error // transitions that do not exist, and the like
}

func newOwner(cfg Config) *owner {
	ctx, end := context.WithCancel(context.Background())
	o := &owner{
		cfg: cfg, end: end, pools: map[*pool]struct{}{}, quiet: time.Now(),
		life: func(timeout time.Duration) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, timeout)
		},
		ledger: ledger{headroom: cfg.headroom},
	}
	if cfg.Devices != nil {
		o.wg.Go(func() { o.watchHealth(ctx) })
	}
	return o
}

// fault notes a fault of the pool itself.
func (o *owner) fault(msg string, attrs ...any) {
	o.faults = append(o.faults[max(0, len(o.faults)-100):], fmt.Errorf("%s: %v", msg, attrs))
	o.cfg.Log.Error("the pool is at fault", append([]any{"fault", msg}, attrs...)...)
}

// beginLocked notes that a call has come.
func (o *owner) beginLocked() {
	o.calls++
	if o.released {
		o.released = false
		for p := range o.pools {
			p.startWantedLocked()
		}
	}
}

// endLocked notes that a call is over.
func (o *owner) endLocked(now time.Time) {
	if o.calls--; o.calls == 0 {
		o.quiet = now
		o.setClockLocked()
	}
}

// close ends what the owner has started, after the last pool has closed.
func (o *owner) close() {
	o.mu.Lock()
	o.ended = true
	if o.clock != nil {
		o.clock.Stop()
	}
	o.mu.Unlock()
	o.end()
	o.wg.Wait()
}

// newSlotLocked makes the wish for an instance.
func (o *owner) newSlotLocked(p *pool) *slot {
	o.lastID++
	s := &slot{id: o.lastID, pool: p, state: wanted, since: time.Now()}
	p.slots[s] = struct{}{}
	return s
}

// dropLocked takes a slot that has ended out of all lists.
func (o *owner) dropLocked(s *slot) {
	s.to(gone)
	o.unlineLocked(s)
	o.yieldLocked(s)
	o.ledger.release(s, time.Now())
	p := s.pool
	delete(p.slots, s)
	p.unfreeLocked(s)
	if p.closed && len(p.slots) == 0 {
		o.forgetLocked(p)
	}
}

// forgetLocked forgets a pool that has closed and has no instance any more.
func (o *owner) forgetLocked(p *pool) {
	delete(o.pools, p)
	for _, d := range o.ledger.devices {
		delete(d.tags, p)
	}
}

// movedLocked has those try again who wait for memory: at once, unless the line is so long that
// it would keep the lock for more than a tenth of the time. Then the next reading does it.
func (o *owner) movedLocked() {
	if len(o.line) > 0 && time.Since(o.looked) >= 9*o.looking {
		o.admitLocked()
	}
}

// evictions of a pool are counted by their reason.
func (p *pool) evictedLocked(reason actions.EvictReason) {
	if p.counts.Evictions == nil {
		p.counts.Evictions = map[actions.EvictReason]int64{}
	}
	p.counts.Evictions[reason]++
}

func (p *pool) suspendedLocked(reason actions.EvictReason) {
	if p.counts.Suspensions == nil {
		p.counts.Suspensions = map[actions.EvictReason]int64{}
	}
	p.counts.Suspensions[reason]++
}
