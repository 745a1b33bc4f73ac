package invoker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A pool holds the instances of one model and the requests that wait for one.
type pool struct {
	cfg   Config
	model actions.Model
	// life makes the context of a start, which belongs to the pool and not to a request;
	// stop ends them all when the pool closes.
	life func() (context.Context, context.CancelFunc)
	stop context.CancelFunc
	// wg counts the goroutines of the pool: starts, watches and settlings.
	wg sync.WaitGroup

	mu       sync.Mutex // guards everything below
	free     []*slot    // alive, with room for a call; the last one used comes last
	waiters  []*waiter  // oldest first
	slots    map[*slot]struct{}
	starting int
	capacity int // calls that an instance takes at a time, as the last one said
	minimum  int // instances to keep, set by warm
	closed   bool
	info     json.RawMessage
	expiry   *time.Timer // fires when the idle instances are to be looked at
	// expiryDue is when it should fire.
	expiryDue time.Time

	failedStarts int         // starts that failed, in a row
	earlyDeaths  int         // deaths before any answer, since the last first answer
	retryAt      time.Time   // no start before
	retry        *time.Timer // starts what is wanted at retryAt
	lastErr      error       // why the last start failed; nil after one that did not

	counts actions.PoolStats // its counters only
}

// A slot is an instance in the pool.
type slot struct {
	inst      Instance
	startTime time.Duration
	since     time.Time // when it was ready
	fresh     bool      // has not been given to a request
	answered  bool      // has answered a request
	capacity  int       // calls that it takes at a time
	calls     int       // calls in progress, at most capacity
	settling  int       // those of them whose callers have left
	draining  bool
	// diedInCall says that a call found it dead, before its watch did.
	diedInCall bool
	idleSince  time.Time // when calls was 0 last
}

// A waiter is a request in the queue. ready has room for the one grant, so that the
// pool never waits for a request that has left.
type waiter struct {
	ready   chan grant
	warming bool // it wants to know that there is an instance, not to invoke it
}

type grant struct {
	slot *slot
	err  error
}

func newPool(cfg Config, m actions.Model) *pool {
	ctx, stop := context.WithCancel(context.Background())
	if cfg.Instances != nil {
		cfg.MaxInstances = cmp.Or(max(cfg.Instances(m), 0), cfg.MaxInstances)
	}
	return &pool{
		cfg: cfg, model: m, slots: map[*slot]struct{}{}, stop: stop, capacity: 1,
		life: func() (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, cfg.StartTimeout) },
	}
}

// invoke runs one request on an instance.
func (p *pool) invoke(ctx context.Context, req actions.Request) (actions.Response, error) {
	s, timing, err := p.acquire(ctx, false)
	if err != nil {
		return actions.Response{}, err
	}
	if req.Begin != nil {
		if err := req.Begin(ctx); err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.putLocked(s)
			return actions.Response{Timing: timing}, err
		}
	}
	began := time.Now()
	resp, err := call(ctx, s.inst, req, began)
	if timing.Run = resp.Timing.Run; timing.Run == 0 { // the instance does not say
		timing.Run = time.Since(began)
	}
	p.release(s, err)
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

// acquire takes an instance for one request, or only to see that there is one (warming):
// the last one used that has room, else the next that has. The caller gives it back with
// release or putLocked.
func (p *pool) acquire(ctx context.Context, warming bool) (*slot, actions.Timing, error) {
	var timing actions.Timing
	began := time.Now()
	p.mu.Lock()
	if err := p.refuseLocked(ctx, warming); err != nil {
		p.mu.Unlock()
		return nil, timing, err
	}
	if s := p.popLocked(); s != nil {
		if !warming {
			p.counts.Invocations++
			s.fresh = false
		}
		p.mu.Unlock()
		return s, timing, nil
	}
	if len(p.waiters) >= p.cfg.QueueDepth {
		p.counts.QueueFull++
		p.mu.Unlock()
		return nil, timing, actions.Errorf(actions.Busy,
			"%d requests for %s are waiting already and the queue takes no more; try again later", p.cfg.QueueDepth, p.model.Name)
	}
	w := &waiter{ready: make(chan grant, 1), warming: warming}
	p.waiters = append(p.waiters, w)
	p.startWantedLocked()
	p.mu.Unlock()

	g := p.wait(ctx, w)
	wait := time.Since(began)
	p.mu.Lock()
	defer p.mu.Unlock()
	if warming {
		return g.slot, timing, g.err
	}
	p.counts.WaitCount++
	p.counts.WaitDuration += wait
	if g.err != nil {
		return nil, timing, g.err
	}
	p.counts.Invocations++
	if g.slot.fresh {
		g.slot.fresh = false
		timing.Cold, timing.Start = true, min(wait, g.slot.startTime)
	}
	timing.Queue = wait - timing.Start
	return g.slot, timing, nil
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
	if p.lastErr == nil || delay < time.Second || len(p.slots)+p.starting > 0 {
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
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiters, w); i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
	} else if g := <-w.ready; g.slot != nil {
		p.putLocked(g.slot) // granted at the same moment: the next one has it
	}
	return grant{err: contextError(ctx.Err(), p.model.Name)}
}

// popLocked takes a call of the instance that was used last and has room, or returns nil.
func (p *pool) popLocked() *slot {
	for len(p.free) > 0 {
		s := p.free[len(p.free)-1]
		select {
		case <-s.inst.Done(): // died unnoticed; its watch removes it
			p.free = p.free[:len(p.free)-1]
			continue
		default:
		}
		if s.calls++; s.calls == s.capacity {
			p.free = p.free[:len(p.free)-1]
		}
		return s
	}
	return nil
}

// release gives an instance back after a call that ended with err.
func (p *pool) release(s *slot, err error) {
	code := actions.CodeOf(err)
	if code == actions.Deadline || code == actions.Canceled {
		// The caller has left and the instance may still be at it.
		p.mu.Lock()
		s.settling++
		p.mu.Unlock()
		p.wg.Go(func() { p.settle(s) })
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if code != actions.Unavailable && !s.answered {
		s.answered = true
		p.earlyDeaths = 0
	}
	p.putLocked(s)
}

// settle waits until the instance can be used again.
func (p *pool) settle(s *slot) {
	if s.inst.Settle() != nil {
		return // its watch removes it
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.settling--
	p.putLocked(s)
}

// putLocked hands a call of an instance that has ended to the first waiter, or gives the
// instance room for another.
func (p *pool) putLocked(s *slot) {
	select {
	case <-s.inst.Done():
		s.calls--
		s.diedInCall = true
		return // its watch removes it
	default:
	}
	if len(p.waiters) > 0 && !p.closed && !s.draining {
		w := p.waiters[0]
		p.waiters = slices.Delete(p.waiters, 0, 1)
		w.ready <- grant{slot: s}
		return
	}
	s.calls--
	switch {
	case p.closed || s.draining:
		if s.calls == 0 {
			p.endLocked(s)
		}
		return
	case s.calls == 0:
		s.idleSince = time.Now()
	}
	p.free = append(slices.DeleteFunc(p.free, func(other *slot) bool { return other == s }), s)
	p.scheduleExpiryLocked()
}

// endLocked ends an instance, once. Its watch removes it from the pool.
func (p *pool) endLocked(s *slot) {
	if s.draining {
		return
	}
	s.draining = true
	p.wg.Go(func() { _ = s.inst.Close() })
}

func contextError(err error, model string) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &actions.Error{Code: actions.Deadline, Msg: "the deadline passed before " + model + " had an instance free", Err: err}
	}
	return &actions.Error{Code: actions.Canceled, Msg: "the caller left before " + model + " had an instance free", Err: err}
}
