package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
)

// A request is what goes to a node: a call, or a question.
type request struct {
	typ  frameType
	what question
	*actions.Request
	// begin is called once, before the call is sent.
	begin func(context.Context) error
}

// Invoke runs req on an instance that the node has of its model, as the Invoker of the node
// would here. Request.Begin is called before the request is sent, which waits for an
// instance on the node then.
//
// The error is an *actions.Error: what the node answered; or Unavailable, with the time
// after which to try again, when no node answers, or has gone with the request. What a
// node may have begun is never sent again.
func (r *Relay) Invoke(ctx context.Context, req actions.Request) (actions.Response, error) {
	q := request{typ: frameCall, Request: &req, begin: req.Begin}
	resp, info, err := r.send(ctx, &q)
	if info != nil {
		r.learn(req.Model, info)
	}
	return resp, err
}

// send sends a request, again if the node has not got it, and returns the answer. It also
// returns what the model reports of itself, if that is new.
func (r *Relay) send(ctx context.Context, q *request) (actions.Response, json.RawMessage, error) {
	began := time.Now()
	if ctx.Err() != nil {
		return actions.Response{}, nil, leftError(ctx)
	}
	for {
		l, err := r.attached(ctx, began)
		if err != nil {
			return actions.Response{}, nil, err
		}
		resp, info, err := r.on(ctx, l, q, began)
		if errors.Is(err, errUnsent) && time.Since(began) < r.cfg.Patience {
			r.step(l)
			continue
		}
		if errors.Is(err, errUnsent) {
			err = r.unavailable(err)
		}
		return resp, info, err
	}
}

// step waits until the relay knows that a connection has gone.
func (r *Relay) step(l *link) {
	select {
	case <-l.gone:
	case <-l.retired:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.link == l {
		r.link, r.why = nil, errUnsent
	}
}

// on sends a request on a connection that was entered.
func (r *Relay) on(ctx context.Context, l *link, q *request, began time.Time) (actions.Response, json.RawMessage, error) {
	defer l.leave()
	lanes := l.free
	if q.typ == frameAsk && q.what.quick() {
		lanes = l.asking
	}
	if err := r.queue(lanes.full()); err != nil {
		return actions.Response{}, nil, err
	}
	n, err := lanes.take(ctx, l.gone, l.retired)
	r.unqueue()
	if err != nil {
		return actions.Response{}, nil, err
	}
	waited := time.Since(began)
	resp, info, err := l.exchange(ctx, n, q)
	resp.Timing.Queue += waited
	return resp, info, err
}

// queue counts a request that may have to wait for a lane.
func (r *Relay) queue(full bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if full && r.waiting >= r.cfg.MaxWaiting {
		return &actions.Error{
			Code: actions.Busy, RetryAfter: time.Second,
			Msg: fmt.Sprintf("%d requests wait already for the node runtime", r.waiting),
		}
	}
	r.waiting++
	return nil
}

func (r *Relay) unqueue() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting--
}

// call asks a question on a connection, without the relay.
func (l *link) call(ctx context.Context, q *request) (actions.Response, error) {
	if !l.enter() {
		return actions.Response{}, errUnsent
	}
	defer l.leave()
	lanes := l.free
	if q.what.quick() {
		lanes = l.asking
	}
	n, err := lanes.take(ctx, l.gone, l.retired)
	if err != nil {
		return actions.Response{}, err
	}
	resp, _, err := l.exchange(ctx, n, q)
	return resp, err
}

// exchange sends a request on a lane and waits for its answer. It gives the lane back.
func (l *link) exchange(ctx context.Context, n int, q *request) (actions.Response, json.RawMessage, error) {
	memory := l.mem.Request(n)[:l.limit]
	size, parts, err := worker.PutRequest(memory, q.Request)
	if err == nil && q.begin != nil {
		err = q.begin(ctx)
		q.begin = nil
	}
	if err != nil {
		l.give(n, 0)
		return actions.Response{}, nil, err
	}
	f := frame{
		typ: q.typ, what: uint8(q.what), lane: uint32(n), parts: uint32(parts), length: uint64(size),
		times: [3]int64{deadline(ctx), int64(q.Limit)},
	}
	direct := q.typ == frameCall && l.postDirect(&f)
	if !direct {
		err = l.post(&f)
	}
	if err != nil {
		if !errors.Is(err, errUnsent) {
			l.fail(err)
			err = fmt.Errorf("%w: %w", errUnsent, err) // not a byte of it
		}
		return actions.Response{}, nil, err // the connection ends, and its lanes with it
	}
	worker.Hide(memory[:size])
	answer, err := l.await(ctx, &f, direct)
	if err != nil {
		return actions.Response{}, nil, err
	}
	resp, info, err := l.read(&answer, q.Buffer)
	if revoked := l.mem.Word(n).Load(); revoked == f.id || revoked == everyCall {
		resp, info, err = actions.Response{}, nil, l.lost(&f, direct) // what was read is not the answer
	} else if bad, ok := errors.AsType[garbledError](err); ok {
		err = l.leaveNode(bad)
	}
	l.give(n, answer.length)
	return resp, info, err
}

// await waits for the answer to a call.
func (l *link) await(ctx context.Context, f *frame, direct bool) (frame, error) {
	if direct {
		return l.awaitDirect(ctx, f)
	}
	answers := l.lanes[f.lane].answer
	select {
	case answer := <-answers:
		return answer, nil
	case <-ctx.Done():
		if l.abandon(f) {
			return frame{}, leftError(ctx)
		}
		return <-answers, nil
	case <-l.gone:
	}
	select {
	case answer := <-answers: // it came before the end
		return answer, nil
	default:
		return frame{}, l.lost(f, false)
	}
}

// read makes a response, with its data in buf if they fit, or an error, of the payload that
// f announces.
func (l *link) read(f *frame, buf []byte) (actions.Response, json.RawMessage, error) {
	b := l.mem.Response(int(f.lane))
	if f.length > uint64(len(b)) {
		return garbled(fmt.Errorf("an answer of %d bytes, the limit is %d", f.length, len(b)))
	}
	b = b[:f.length]
	timing := actions.Timing{
		Queue: time.Duration(f.times[0]), Start: time.Duration(f.times[1]), Run: time.Duration(f.times[2]),
		Cold: f.flags&wasCold != 0, From: tierOf(f.what),
	}
	if f.typ == frameError {
		e, parts, err := worker.ParseFailure(b, f.parts)
		if err != nil {
			return garbled(err)
		}
		logs, info, err := parseExtras(parts)
		if err != nil {
			return garbled(err)
		}
		e.Logs, e.Err = logs, causeOf(f.flags)
		return actions.Response{Timing: timing, Logs: logs}, info, e
	}
	resp, parts, err := worker.ParseResponse(b, f.parts)
	if err != nil {
		return garbled(err)
	}
	logs, info, err := parseExtras(parts)
	if err != nil {
		return garbled(err)
	}
	resp.Data = worker.CopyOut(buf[:0], resp.Data)
	resp.Logs, resp.Timing = logs, timing
	return resp, info, nil
}

// parseExtras reads the parts of an answer behind its first.
func parseExtras(parts []worker.Part) (logs []actions.LogLine, info json.RawMessage, err error) {
	for _, p := range parts {
		switch p.Kind {
		case kindLogs:
			if logs, err = parseLogs(p.Data); err != nil {
				return nil, nil, err
			}
		case kindInfo:
			info = append(json.RawMessage{}, p.Data...)
			if len(info) > 0 && !json.Valid(info) {
				return nil, nil, errors.New("information on a model that is no JSON")
			}
		default:
			return nil, nil, fmt.Errorf("a part of kind %d in an answer", p.Kind)
		}
	}
	return logs, info, nil
}

// causeOf makes what of the chain of an error has crossed.
func causeOf(flags uint8) error {
	switch {
	case flags&hasDied != 0:
		return actions.ErrDied
	case flags&diedLoading != 0:
		return actions.ErrDiedLoading
	}
	return nil
}

// A garbledError is an answer that breaks the protocol.
type garbledError struct{ error }

func garbled(err error) (actions.Response, json.RawMessage, error) {
	return actions.Response{}, nil, garbledError{err}
}

// leaveNode leaves a node that broke the protocol.
func (l *link) leaveNode(err error) error {
	err = fmt.Errorf("it broke the protocol: %w", err)
	l.fail(err)
	return &actions.Error{
		Code: actions.Unavailable, Msg: "the node runtime answered what cannot be read, and was left", Err: err, RetryAfter: time.Second,
	}
}

// leftError is the error of a request whose context has ended.
func leftError(ctx context.Context) *actions.Error {
	err := context.Cause(ctx)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &actions.Error{Code: actions.Deadline, Msg: "the call took longer than it was allowed to", Err: err}
	}
	return &actions.Error{Code: actions.Canceled, Msg: "the call was canceled", Err: err}
}

// answerTime is by how much the node's deadline is before the caller's, though never by more
// than a tenth of what is left: so that what the model printed comes back in time.
const answerTime = 5 * time.Millisecond

// deadline returns when the node has to answer, in nanoseconds since 1970; zero is never.
func deadline(ctx context.Context) int64 {
	t, ok := ctx.Deadline()
	if !ok || t.Year() > 2200 {
		return 0
	}
	return t.Add(-min(answerTime, max(time.Until(t), 0)/10)).UnixNano()
}
