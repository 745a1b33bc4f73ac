package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// postDirect sends a call on the direct way, if that is free. It stays taken until the answer
// has come, and for good when the node has ended it.
func (l *link) postDirect(f *frame) bool {
	if l.direct == nil || !l.taken.CompareAndSwap(false, true) {
		return false
	}
	l.mu.Lock()
	l.lastID++
	f.id = l.lastID
	l.lanes[f.lane].id, l.lanes[f.lane].size = f.id, f.length
	l.mu.Unlock()
	return l.direct.post(f) == nil
}

// awaitDirect waits for the answer to a call on the direct way: who waits for it reads it, so
// that nobody else has to be woken.
func (l *link) awaitDirect(ctx context.Context, f *frame) (frame, error) {
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, l.direct.interrupt)()
	}
	for {
		answer, err := l.nextDirect(f)
		switch {
		case err == nil:
			return answer, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return frame{}, l.endDirect(ctx, f, err)
		}
		l.direct.resume() // it may have been meant for who waited before
		if ctx.Err() != nil {
			l.abandonDirect(f)
			return frame{}, leftError(ctx)
		}
	}
}

// nextDirect reads the answer to the call f, after which the direct way is free.
func (l *link) nextDirect(f *frame) (frame, error) {
	answer, err := l.direct.next()
	if err != nil {
		return frame{}, err
	}
	if answer.typ != frameResult && answer.typ != frameError || answer.id != f.id || answer.lane != f.lane {
		return frame{}, garbledError{fmt.Errorf("an answer to call %d on lane %d on the direct way, which is call %d's on lane %d",
			answer.id, answer.lane, f.id, f.lane)}
	}
	l.taken.Store(false)
	return answer, nil
}

// endDirect makes the error of a call whose answer will not come, for which the relay must
// know what the node has said at the end.
func (l *link) endDirect(ctx context.Context, f *frame, err error) error {
	if !gone(err) {
		return l.leaveNode(err)
	}
	timer := time.NewTimer(askTime)
	defer timer.Stop()
	select {
	case <-l.gone:
	case <-ctx.Done():
		return leftError(ctx)
	case <-timer.C:
		l.fail(errors.New("it has ended the direct way alone"))
		<-l.gone
	}
	return l.lost(f, true)
}

// abandonDirect gives up waiting for an answer, which another goroutine takes.
func (l *link) abandonDirect(f *frame) {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return
	}
	l.users++
	call := *f
	l.collecting.Go(func() { l.collect(&call) }) // ends with the answer, or with the connection
	l.mu.Unlock()
	_ = l.wire.post(&frame{typ: frameCancel, id: f.id, lane: f.lane})
}

// collect takes an answer that nobody waits for.
func (l *link) collect(f *frame) {
	defer l.leave()
	for {
		answer, err := l.nextDirect(f)
		switch {
		case err == nil:
			l.give(int(f.lane), answer.length)
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.direct.resume() // it was meant for who has left
		case gone(err):
			return
		default:
			l.fail(err)
			return
		}
	}
}
