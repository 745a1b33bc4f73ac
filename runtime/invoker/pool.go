package invoker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A pool holds the instances of one model and the requests that wait for one.
type pool struct {
	cfg    Config
	o      *owner
	model  actions.Model
	demand Demand
	// life makes the context of a start, which belongs to the pool and not to a request;
	// stop ends them all when the pool closes.
	life func() (context.Context, context.CancelFunc)
	stop context.CancelFunc
	// wg counts the goroutines of the pool: starts, suspensions, watches and settlings.
	wg sync.WaitGroup

	// The owner's lock guards everything below.

	free     []*slot      // alive, with room for a call; the last one used comes last
	waiters  []*waiter    // oldest first
	warmers  []chan error // those who wait for an instance to be there
	slots    map[*slot]struct{}
	capacity int // calls that an instance takes at a time, as the last one said
	minimum  int // instances to keep, set by keep
	desired  int // instances to keep as long as nobody needs their memory, set by want
	closed   bool
	info     json.RawMessage
	// cannotSuspend says that an instance has answered Unsupported: others must not leave the
	// host's memory for the next.
	cannotSuspend bool
	peaks         map[string]int64 // by the name of a device, see Peaks; zero for not measured
	uses          frequency
	history       history

	starts, resumes, runs average     // how long they take
	failedStarts          int         // starts that failed, in a row
	earlyDeaths           int         // deaths before any answer, since the last first answer
	retryAt               time.Time   // no start before
	retry                 *time.Timer // starts what is wanted at retryAt
	lastErr               error       // why the last start failed; nil after one that did not

	warmed int64                  // requests that an instance took at once, or when another was done
	from   map[actions.Tier]int64 // all others, by where the model was
	counts actions.PoolStats      // its other counters only
}

// A waiter is a request in the queue. ready has room for the one grant, so that the
// pool never waits for a request that has left.
type waiter struct {
	ready chan grant
	since time.Time
}

type grant struct {
	slot *slot
	err  error
}

// newPoolLocked makes the pool of a model. The caller holds the owner's lock.
func newPoolLocked(o *owner, m actions.Model) *pool {
	ctx, stop := context.WithCancel(context.Background())
	cfg := o.cfg
	if cfg.Instances != nil {
		cfg.MaxInstances = cmp.Or(max(cfg.Instances(m), 0), cfg.MaxInstances)
	}
	cfg.MaxInstances = cmp.Or(m.Scale.Max, max(cfg.MaxInstances, m.Scale.Min))
	p := &pool{
		cfg: cfg, o: o, model: m, slots: map[*slot]struct{}{}, stop: stop, capacity: 1, peaks: map[string]int64{},
		minimum: min(m.Scale.Min, cfg.MaxInstances),
		life:    func() (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, cfg.StartTimeout) },
	}
	if cfg.Devices != nil {
		p.demand = cfg.Demand(m)
	}
	o.pools[p] = struct{}{}
	return p
}

// pinned says that instances are never given up for those of other models.
func (p *pool) pinned() bool { return p.model.Scale.Pin }

// invoke runs one request on an instance.
func (p *pool) invoke(ctx context.Context, req actions.Request) (actions.Response, error) {
	s, timing, err := p.acquire(ctx)
	if err != nil {
		return actions.Response{Timing: timing}, err
	}
	if req.Begin != nil {
		if err := req.Begin(ctx); err != nil {
			p.o.mu.Lock()
			defer p.o.mu.Unlock()
			now := time.Now()
			p.o.endLocked(now)
			p.putLocked(s, now)
			return actions.Response{Timing: timing}, err
		}
	}
	began := time.Now()
	resp, err := call(ctx, s.inst, req, began)
	now := time.Now()
	if timing.Run = resp.Timing.Run; timing.Run == 0 { // the instance does not say
		timing.Run = now.Sub(began)
	}
	if p.release(s, err, timing.Run, now) {
		// Whoever was woken shall call the instance before this request goes on, which is done
		// with it: else the instance has nothing to do while an answer is written and sent.
		runtime.Gosched()
	}
	resp.Timing = timing
	return resp, err
}

// deadlineText is the text of the platform that says when a call has to have ended.
const deadlineText = "__OW_DEADLINE"

// call calls an instance, for as long as the request's limit allows from now on.
func call(ctx context.Context, inst Instance, req actions.Request, now time.Time) (actions.Response, error) {
	if req.Limit <= 0 {
		return inst.Call(ctx, req)
	}
	end := now.Add(req.Limit)
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	isDeadline := func(t actions.Text) bool { return t.Origin == actions.FromContext && t.Name == deadlineText }
	if i := slices.IndexFunc(req.Texts, isDeadline); i >= 0 {
		req.Texts = slices.Clone(req.Texts) // the caller's
		req.Texts[i].Value = strconv.FormatInt(end.UnixMilli(), 10)
	}
	return inst.Call(ctx, req)
}

// acquire takes an instance for one request: the last one used that has room, else the next
// that has. The caller gives it back with release or putLocked, and the owner's count of calls
// with endLocked.
func (p *pool) acquire(ctx context.Context) (*slot, actions.Timing, error) {
	o, began := p.o, time.Now()
	o.mu.Lock()
	if err := p.refuseLocked(ctx, false); err != nil {
		o.mu.Unlock()
		return nil, actions.Timing{}, err
	}
	p.comesLocked(began)
	if len(p.waiters) == 0 {
		if s := p.takeLocked(); s != nil {
			timing := p.grantedLocked(s, false, 0, began)
			o.beginLocked()
			o.mu.Unlock()
			return s, timing, nil
		}
	}
	if len(p.waiters) >= p.cfg.QueueDepth {
		defer o.mu.Unlock()
		return nil, actions.Timing{}, p.queueFullLocked()
	}
	w := &waiter{ready: make(chan grant, 1), since: began}
	p.waiters = append(p.waiters, w)
	o.waiting++
	o.beginLocked()
	p.startWantedLocked()
	o.mu.Unlock()

	g := p.wait(ctx, w)
	wait := time.Since(began)
	o.mu.Lock()
	defer o.mu.Unlock()
	p.counts.WaitCount++
	p.counts.WaitDuration += wait
	if g.err != nil {
		o.endLocked(time.Now())
		return nil, actions.Timing{Queue: wait}, g.err
	}
	return g.slot, p.grantedLocked(g.slot, true, wait, began.Add(wait)), nil
}

// grantedLocked counts a request that has an instance, and says where its time went so far.
func (p *pool) grantedLocked(s *slot, waited bool, wait time.Duration, now time.Time) actions.Timing {
	timing := actions.Timing{Queue: wait, From: actions.TierWarm}
	if s.fresh && waited {
		timing.From = s.origin
		timing.Cold = s.origin != actions.TierHost
		timing.Start = min(wait, s.startTime)
		timing.Queue = wait - timing.Start
	}
	s.fresh, s.ahead = false, false
	if len(s.devices) > 0 {
		p.uses.add(now)
	}
	p.counts.Invocations++
	if timing.From == actions.TierWarm {
		p.warmed++
		return timing
	}
	if p.from == nil {
		p.from = map[actions.Tier]int64{}
	}
	p.from[timing.From]++
	return timing
}

// queueFullLocked is the error of a request for which there is no place in the queue.
func (p *pool) queueFullLocked() error {
	p.counts.QueueFull++
	e := actions.Errorf(actions.Busy,
		"%d requests for %s are waiting already and the queue takes no more; try again later", p.cfg.QueueDepth, p.model.Name)
	e.RetryAfter = p.estimateLocked()
	return e
}

// refuseLocked returns why a new request cannot even wait.
func (p *pool) refuseLocked(ctx context.Context, warming bool) error {
	if p.closed {
		return errClosed()
	}
	if err := ctx.Err(); err != nil {
		return contextError(err, p.model.Name)
	}
	// A short delay is waited for in the queue; a long one is the caller's to plan.
	delay := time.Until(p.retryAt)
	if p.lastErr == nil || delay < time.Second || len(p.slots) > 0 {
		return nil
	}
	e := startError(p.model.Name, p.lastErr, warming)
	e.Msg += "; the next attempt is in " + delay.Round(time.Second).String()
	e.RetryAfter = delay
	return e
}

// wait returns what the pool grants to w, or an error when ctx ends first.
func (p *pool) wait(ctx context.Context, w *waiter) grant {
	select {
	case g := <-w.ready:
		return g
	case <-ctx.Done():
	}
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	if i := slices.Index(p.waiters, w); i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
		p.o.waiting--
		p.stepAsideLocked()
	} else if g := <-w.ready; g.slot != nil {
		p.putLocked(g.slot, time.Now()) // granted at the same moment: the next one has it
	}
	return grant{err: contextError(ctx.Err(), p.model.Name)}
}

// takeLocked takes a call of the instance that was used last, has room and may have its
// devices; or returns nil.
func (p *pool) takeLocked() *slot {
	for i, s := range slices.Backward(p.free) {
		if s.dead() { // unnoticed: its watch removes it
			p.free = slices.Delete(p.free, i, i+1)
			continue
		}
		if !p.o.mayHoldLocked(s) {
			continue
		}
		if s.calls++; s.calls == 1 {
			s.to(busy)
			p.o.holdLocked(s)
		}
		if s.calls == s.capacity {
			p.free = slices.Delete(p.free, i, i+1)
		}
		return s
	}
	return nil
}

// serveLocked gives the first waiter an instance, if there is one, and reports whether.
func (p *pool) serveLocked() bool {
	if len(p.waiters) == 0 || p.closed {
		return false
	}
	s := p.takeLocked()
	if s == nil {
		return false
	}
	w := p.waiters[0]
	p.waiters = slices.Delete(p.waiters, 0, 1)
	p.o.waiting--
	w.ready <- grant{slot: s}
	return true
}

// release gives an instance back after a call that ran for some time and ended with err, and
// says whether one that waited has it now.
func (p *pool) release(s *slot, err error, ran time.Duration, now time.Time) (granted bool) {
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	p.o.endLocked(now)
	code := actions.CodeOf(err)
	if code == actions.Deadline || code == actions.Canceled {
		if s.state == gone { // nobody waits for goroutines of the pool any more
			return false
		}
		// The caller has left and the instance may still be at it.
		s.settling++
		p.wg.Go(func() { p.settle(s) })
		return false
	}
	if code != actions.Unavailable && !s.answered {
		s.answered = true
		p.earlyDeaths = 0
	}
	p.runs.add(ran)
	before := len(p.waiters)
	p.putLocked(s, now)
	return len(p.waiters) < before
}

// putLocked takes a call back from an instance, which has room for another then, and serves
// those who wait.
func (p *pool) putLocked(s *slot, now time.Time) {
	s.calls--
	switch {
	case s.state == gone:
		return
	case s.dead():
		s.diedInCall = true
		return // its watch removes it
	case s.state == draining && s.calls == 0:
		p.o.yieldLocked(s)
		s.endLocked()
		return
	case s.state == draining:
		return
	case s.calls > 0:
		p.freeLocked(s)
	default:
		s.to(idle)
		s.idleSince = now
		p.touchLocked(s)
		p.freeLocked(s) // before others look for an instance
		p.o.yieldLocked(s)
	}
	if p.closed {
		if s.calls == 0 {
			s.drainLocked("")
		}
		return
	}
	for p.serveLocked() {
	}
	if s.state == idle {
		p.o.movedLocked() // others may have waited for that
		p.o.setClockLocked()
	}
}

// freeLocked says that the instance has room, as the one used last.
func (p *pool) freeLocked(s *slot) {
	p.unfreeLocked(s)
	if s.state == idle || s.state == busy {
		p.free = append(p.free, s)
	}
}

func (p *pool) unfreeLocked(s *slot) {
	p.free = slices.DeleteFunc(p.free, func(other *slot) bool { return other == s })
}

// touchLocked has the policy value an instance that was used.
func (p *pool) touchLocked(s *slot) {
	if len(s.devices) == 0 {
		return
	}
	reload := p.starts.value
	if p.resumes.value > 0 {
		reload = p.resumes.value
	}
	s.value = p.cfg.Policy.Value(Candidate{
		Model: p.model.Name, Memory: s.memory * int64(len(s.devices)), Uses: p.uses.n, Reload: reload,
		LoadedAt: s.since, LastUse: s.idleSince, KeepAlive: p.keepAliveLocked(),
	})
}

func contextError(err error, model string) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &actions.Error{Code: actions.Deadline, Msg: "the deadline passed before " + model + " had an instance free", Err: err}
	}
	return &actions.Error{Code: actions.Canceled, Msg: "the caller left before " + model + " had an instance free", Err: err}
}
