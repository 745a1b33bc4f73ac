package proxy

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// An account says what became of the invocation that a request asked for, for what its
// answer and its span say beside the result.
type account struct {
	timing     actions.Timing
	model      string // "" when no model was asked, or none that there is
	activation string // OpenWhisk's id of it
	code       string // of its error, "ok" without one, "" without an invocation
	returned   time.Time
}

// outermost is the request that came over HTTP, and this one was made of.
func (r *request) outermost() *request {
	for r.outer != nil {
		r = r.outer
	}
	return r
}

// note keeps what became of a call in the request that it was made for.
func (r *request) note(c *call, e *actions.Error) {
	a := &r.outermost().account
	a.timing, a.code, a.returned = plus(a.timing, c.response.Timing), "ok", c.returned
	if e == nil {
		e = c.answered
	}
	if e != nil {
		a.code = string(e.Code)
	}
	if c.known {
		a.model = c.request.Model
	}
	if c.protocol == openwhisk {
		a.activation = c.request.ID
	}
}

// spend adds the time of a call that was made to learn of the model.
func (r *request) spend(t actions.Timing) {
	a := &r.outermost().account
	a.timing = plus(a.timing, t)
}

// noteInit keeps what making a model ready for a request has taken, from began till now.
func (r *request) noteInit(model string, from actions.Tier, began time.Time, err error) {
	a := &r.outermost().account
	a.returned, a.code = time.Now(), "ok"
	a.timing = plus(a.timing, actions.Timing{Start: a.returned.Sub(began), Cold: coldness(from) > coldness(actions.TierHost), From: from})
	if a.model = model; err != nil {
		a.code = string(asError(err, r.id).Code)
	}
}

// An errand is what a request has Config.Controller do: activations, which may go on when
// the request has been answered.
type errand struct {
	trace actions.Trace

	mu     sync.Mutex // guards timing
	timing actions.Timing
}

// errandKey is the key of a context's *errand.
type errandKey struct{}

// send makes the context of a request's errand. The function it returns notes in the request
// what the activations that have ended took.
func (r *request) send(ctx context.Context) (context.Context, func()) {
	e := &errand{trace: r.trace}
	return context.WithValue(ctx, errandKey{}, e), func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		r.account.timing = e.timing
	}
}

// add adds the time of an activation.
func (e *errand) add(t actions.Timing) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.timing = plus(e.timing, t)
}

// plus is the time of two calls, one after the other. It was as cold as the colder one.
func plus(a, b actions.Timing) actions.Timing {
	sum := actions.Timing{
		Queue: a.Queue + b.Queue, Start: a.Start + b.Start, Run: a.Run + b.Run,
		Cold: a.Cold || b.Cold, From: a.From,
	}
	if coldness(b.From) > coldness(a.From) {
		sum.From = b.From
	}
	return sum
}

// coldness orders the tiers, the warmest first.
func coldness(t actions.Tier) int {
	switch t {
	case actions.TierWarm:
		return 1
	case actions.TierHost:
		return 2
	case actions.TierCache:
		return 3
	case actions.TierDisk:
		return 4
	}
	return 0
}

// appendServerTiming writes where the time went as the value of the header Server-Timing
// (https://www.w3.org/TR/server-timing/), whose durations are milliseconds. What took no
// time is left out.
func appendServerTiming(b []byte, t *actions.Timing) []byte {
	add := func(name string, d time.Duration) bool {
		if d <= 0 {
			return false
		}
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = append(append(b, name...), ";dur="...)
		b = appendMillis(b, d)
		return true
	}
	add("queue", t.Queue)
	if add("start", t.Start) && t.From != "" {
		b = append(append(append(b, `;desc="`...), t.From...), '"')
	}
	add("run", t.Run)
	return b
}

// appendMillis writes a duration in milliseconds, to the microsecond.
func appendMillis(b []byte, d time.Duration) []byte {
	micros := d.Microseconds()
	b = strconv.AppendInt(b, micros/1000, 10)
	if rest := micros % 1000; rest != 0 {
		b = append(b, '.', byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
	}
	return b
}
