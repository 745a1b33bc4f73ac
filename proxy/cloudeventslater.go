package proxy

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// maxLater is how many requests may be answered before they are done, at one time.
	maxLater = 1000
	// laterTries is how often an event is tried that nobody will send again, and laterWait how
	// long it is until the second time; then it is twice as long each time.
	laterTries = 6
	laterWait  = time.Second
	// maxLaterWait is the most of that time, also when a sink asks for more.
	maxLaterWait = time.Minute
)

// Background is the work for requests that have been answered.
type background struct {
	mu      sync.Mutex // guards what follows
	running map[*request]context.CancelFunc
	idle    chan struct{} // closed when nothing runs; nil when nobody waits for that
}

// begin notes that work begins, unless there is too much already.
func (b *background) begin(r *request, cancel context.CancelFunc) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.running) >= maxLater {
		return false
	}
	if b.running == nil {
		b.running = make(map[*request]context.CancelFunc)
	}
	b.running[r] = cancel
	return true
}

func (b *background) end(r *request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running[r]()
	delete(b.running, r)
	if len(b.running) == 0 && b.idle != nil {
		close(b.idle)
		b.idle = nil
	}
}

// wait waits until nothing runs, within a limit, and says whether that is so.
func (b *background) wait(limit time.Duration) bool {
	b.mu.Lock()
	if len(b.running) == 0 {
		b.mu.Unlock()
		return true
	}
	if b.idle == nil {
		b.idle = make(chan struct{})
	}
	idle := b.idle
	b.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-idle:
		return true
	case <-timer.C:
		return false
	}
}

// giveUp ends all that runs, and returns how many that are.
func (b *background) giveUp() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, cancel := range b.running {
		cancel()
	}
	return len(b.running)
}

// keepBody makes the body the request's own, so that it outlives its answer.
func (r *request) keepBody() error {
	if err := r.take(int64(len(r.body))); err != nil {
		return err
	}
	r.body, r.forget = bytes.Clone(r.body), nil
	if r.bodies != nil {
		r.kept = int64(len(r.body))
	}
	return nil
}

// later answers a request that has kept its body at once and does the work for it then, in a
// goroutine that ends when that is done, or with the server.
func (s *Server) later(ctx context.Context, r *request, work func(ctx context.Context, r *request)) response {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	own := &request{id: r.id, trace: r.trace, remote: r.remote, body: r.body, bodies: r.bodies}
	if !s.background.begin(own, cancel) {
		cancel()
		return eventFailure(busyError())
	}
	own.taken = r.kept
	r.taken -= r.kept
	go func() {
		defer func() {
			if v := recover(); v != nil {
				s.metrics.panics.Inc()
				s.log.ErrorContext(ctx, "event panicked", "request_id", own.id, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			}
			s.bodies.give(own.taken)
			s.background.end(own)
		}()
		work(ctx, own)
	}()
	return response{status: http.StatusAccepted}
}

// settleLater settles events whose sender has been told that it need not care any more. What
// may go away is tried again; what is left then is sent as a failure.
func (s *Server) settleLater(ctx context.Context, r *request, ds []delivery) {
	left := ds
	for try := range laterTries {
		s.settleAll(ctx, r, left)
		var again []delivery
		wait := laterWait << try
		for i := range left {
			if d := &left[i]; d.outcome.passes() {
				wait = min(max(wait, d.outcome.err.RetryAfter), maxLaterWait)
				if try < laterTries-1 && ctx.Err() == nil {
					d.outcome = eventOutcome{}
				}
				again = append(again, *d)
			}
		}
		if left = again; len(left) == 0 || try == laterTries-1 || !pause(ctx, wait) {
			break
		}
	}
	for i := range left {
		s.giveUpEvent(ctx, r, &left[i])
	}
}

// giveUpEvent tells the sink of an event that was accepted and has no answer.
func (s *Server) giveUpEvent(ctx context.Context, r *request, d *delivery) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if d.outcome.err == nil { // it was to be tried again
		d.outcome = eventOutcome{err: drainingError(), at: time.Now()}
	}
	code := string(d.outcome.err.Code)
	s.deliver(ctx, d)
	s.log.WarnContext(ctx, "event given up", "request_id", r.id, "event_id", short(d.event.ID), "code", code, "told", d.outcome.sent)
}

// pause waits, and says whether ctx has let it.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
