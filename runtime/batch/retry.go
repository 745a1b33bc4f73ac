package batch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	firstPause = 200 * time.Millisecond
	maxPause   = 15 * time.Second
)

// backOff is how long to wait after a try, from 0 on: twice as long each time, and half of it by
// chance, so that many who wait do not come together.
func backOff(try int) time.Duration {
	d := min(firstPause<<min(try, 10), maxPause)
	return d/2 + rand.N(d/2+1) //nolint:gosec // no secret
}

// pause waits, or returns the error of a context that ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return leftError(ctx)
	}
}

func leftError(ctx context.Context) error {
	code := actions.Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = actions.Deadline
	}
	return actions.Errorf(code, "the batch was stopped: %w", context.Cause(ctx))
}

// What insist is about, where that is the store. Its errors say whether they may go away: with a
// RetryAfter. Without one somebody has to do something, as give it keys.
const theInput, theOutput = "the input", "the output"

// insist calls do until it returns no error that may go away, for as long as the engine is
// patient. what is for people.
func (e *Engine) insist(ctx context.Context, w Watcher, what string, do func() error) error {
	began := time.Now()
	for try := 0; ; try++ {
		err := do()
		if err == nil || ctx.Err() != nil {
			if err != nil {
				return leftError(ctx)
			}
			return nil
		}
		var asked time.Duration
		switch code := actions.CodeOf(err); code {
		case actions.Unavailable, actions.Busy, actions.Deadline:
			asked = min(asError(err).RetryAfter, time.Minute)
			if code == actions.Unavailable && asked == 0 && (what == theInput || what == theOutput) {
				return err
			}
		case actions.Internal:
			if _, ok := errors.AsType[*actions.Error](err); !ok {
				return &actions.Error{Code: actions.Internal, Msg: what + ": " + err.Error(), Err: err}
			}
			return err
		case actions.Invalid, actions.NotFound, actions.Unsupported, actions.TooLarge, actions.Conflict, actions.Canceled,
			actions.Unauthorized, actions.Forbidden, actions.Failed, actions.NoAnswer, actions.Exited:
			return err
		}
		if time.Since(began) > e.cfg.Patience {
			return &actions.Error{
				Code: actions.Unavailable, Err: err,
				Msg: fmt.Sprintf("%s was away for %s: %s; start the batch again to go on", what, time.Since(began).Round(time.Second), err),
			}
		}
		if try == 0 {
			w.line(fmt.Sprintf("%s: %s; trying again", what, err))
		}
		if err := pause(ctx, max(asked, backOff(try))); err != nil {
			return err
		}
	}
}

func (t *task) insist(ctx context.Context, what string, do func() error) error {
	return t.engine.insist(ctx, t.watch, what, do)
}
