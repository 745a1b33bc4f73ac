package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
)

// call runs a call or a question, and answers it on the way that it came.
func (l *lease) call(ctx context.Context, f *frame, way *wire) {
	req, err := worker.ParseRequest(l.mem.Request(int(f.lane))[:f.length], f.parts)
	if err != nil {
		l.end("it broke the protocol: "+err.Error(), true)
		return
	}
	resp, err := l.run1(ctx, f, req)
	out := frame{id: f.id, lane: f.lane}
	out.times = [3]int64{int64(resp.Timing.Queue), int64(resp.Timing.Start), int64(resp.Timing.Run)}
	out.what = tierNumber(resp.Timing.From)
	if resp.Timing.Cold {
		out.flags |= wasCold
	}
	if err := l.put(&out, req.Model, &resp, err); err != nil { // our own fault
		l.log.Error("an answer cannot be written", "model", req.Model, "error", err.Error())
		l.end("its answer could not be written", true)
		return
	}
	answers, last := l.leave(&out)
	if answers {
		if err := way.post(&out); err != nil && !errors.Is(err, errUnsent) {
			l.end("it broke the protocol: "+err.Error(), true)
		}
	}
	if last {
		l.end("the node ends", false)
	}
}

// run1 runs one call or question. A panic of the pool ends the call, not the node.
func (l *lease) run1(ctx context.Context, f *frame, req actions.Request) (resp actions.Response, err error) {
	defer func() {
		if r := recover(); r != nil {
			l.log.Error("call panicked", "model", req.Model, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = actions.Errorf(actions.Internal, "panic in the node: %v", r)
		}
	}()
	if l.isDraining() {
		return resp, drainingError()
	}
	if f.typ == frameAsk {
		return l.answer(ctx, question(f.what), req)
	}
	if err := l.knows(req.Model); err != nil {
		return resp, err
	}
	// The model's answer goes to where the relay reads it.
	room := l.mem.Response(int(f.lane))[worker.ResponseOffset:l.node.cfg.MaxPayload]
	req.Buffer = room[:0:len(room)]
	req.Limit = time.Duration(max(f.times[1], 0))
	return l.node.cfg.Pool.Invoke(ctx, req)
}

func (l *lease) isDraining() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.draining
}

// knows refuses code that other relays have imported.
func (l *lease) knows(model string) error {
	if !l.node.codes.made(model) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.held[model]; ok {
		return nil
	}
	return noModel(model)
}

func noModel(name string) error {
	return actions.Errorf(actions.NotFound, "there is no model %.200q", name)
}

// put writes an answer into its lane, and what the frame says of it.
func (l *lease) put(out *frame, model string, resp *actions.Response, failed error) error {
	b := l.mem.Response(int(out.lane))
	lines, end := resp.Logs, 0
	if failed == nil {
		var err error
		end, err = worker.PutResponse(b[:l.node.cfg.MaxPayload], resp)
		out.typ = frameResult
		failed = err // it is too large
	}
	if failed != nil {
		e := asError(failed)
		out.typ, out.flags = frameError, out.flags|deathFlags(failed)
		if len(e.Logs) > 0 {
			lines = e.Logs
		}
		var err error
		if end, err = worker.PutFailure(b, e); err != nil {
			return err
		}
	}
	more := l.extras(model, lines)
	n, err := worker.PutParts(b, end, "the answer", more...)
	out.parts, out.length = uint32(1+len(more)), uint64(n)
	return err
}

// extras are the parts of an answer behind its first.
func (l *lease) extras(model string, lines []actions.LogLine) []worker.Part {
	var parts []worker.Part
	if len(lines) > 0 {
		parts = append(parts, worker.Part{Kind: kindLogs, Data: putLogs(lines, maxLogs)})
	}
	if info, changed := l.news(model); changed && len(info) <= maxInfo {
		parts = append(parts, worker.Part{Kind: kindInfo, Data: info})
	}
	return parts
}

// news returns what a model reports of itself if the relay has not been told.
func (l *lease) news(model string) (json.RawMessage, bool) {
	if model == "" {
		return nil, false
	}
	info := l.node.cfg.Pool.Info(model)
	l.mu.Lock()
	defer l.mu.Unlock()
	told, used := l.told[model]
	if same(told, info) {
		if !used {
			l.told[model] = nil // it counts for stats
		}
		return nil, false
	}
	l.told[model] = info
	return info, true
}

// same compares two documents, which mostly are the same memory.
func same(a, b json.RawMessage) bool {
	if len(a) != len(b) {
		return false
	}
	return len(a) == 0 || &a[0] == &b[0] || bytes.Equal(a, b)
}

// asError finds the words for an error of the pool.
func asError(err error) *actions.Error {
	if e, ok := errors.AsType[*actions.Error](err); ok {
		return e
	}
	code := actions.Internal
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		code = actions.Deadline
	case errors.Is(err, context.Canceled):
		code = actions.Canceled
	}
	return &actions.Error{Code: code, Msg: err.Error()}
}

// deathFlags are what of the chain of an error crosses.
func deathFlags(err error) (flags uint8) {
	if errors.Is(err, actions.ErrDied) {
		flags |= hasDied
	}
	if errors.Is(err, actions.ErrDiedLoading) {
		flags |= diedLoading
	}
	return flags
}
