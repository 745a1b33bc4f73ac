package batch

import (
	"context"
	"errors"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/many"
	"github.com/deepfn/deepfn/runtime/rows"
)

// An outcome is the answer to a row, or why there is none.
type outcome struct {
	response actions.Response
	err      *actions.Error
}

// predict predicts the rows of a chunk, as many at a time as their answers allow. The error is about
// all of them. The answers are good until kept is closed.
func (t *task) predict(ctx context.Context, n next, kept *spill) ([]outcome, error) {
	all := n.part.Rows
	outcomes := make([]outcome, len(all))
	for done := 0; done < len(all); {
		end := done + kept.next(len(all)-done, t)
		err := t.insist(ctx, "the model "+t.model.Name, func() error {
			if err := t.predictSome(ctx, all[done:end], outcomes[done:end]); err != nil {
				return err
			}
			return allAway(outcomes[:end])
		})
		if err != nil {
			return nil, err
		}
		done = end
		if err := kept.keep(outcomes[:done]); err != nil {
			return nil, err
		}
	}
	return outcomes, nil
}

// predictSome predicts rows, those whose error may go away again and again.
func (t *task) predictSome(ctx context.Context, all []rows.Row, outcomes []outcome) error {
	asked := make([]many.Row, 0, len(all))
	of := make([]int, 0, len(all)) // asked → outcomes
	for i := range all {
		args, files, err := t.arguments.Arguments(&all[i])
		if err != nil {
			outcomes[i].err = asError(err)
			continue
		}
		asked, of = append(asked, many.Row{Args: args, Files: files}), append(of, i)
	}
	for try := 0; len(asked) > 0; try++ {
		results := many.Predict(ctx, t.call(), asked)
		if ctx.Err() != nil {
			return leftError(ctx)
		}
		var wait time.Duration
		again := 0
		for i, result := range results {
			outcomes[of[i]] = outcome{result.Response, asError(result.Err)}
			if e := outcomes[of[i]].err; e != nil && mayGoAway(e) && try < t.retries(e) {
				asked[again], of[again] = asked[i], of[i]
				again, wait = again+1, max(wait, e.RetryAfter)
			}
		}
		if again == 0 {
			break
		}
		asked, of = asked[:again], of[:again]
		if err := pause(ctx, max(wait, backOff(try))); err != nil {
			return err
		}
	}
	return nil
}

// call is what is asked of the model for all rows.
func (t *task) call() many.Call {
	concurrency := t.rec.Batch.Concurrency
	if concurrency == 0 {
		concurrency = max(1, t.engine.cfg.Instances(t.model))
	}
	return many.Call{
		Model: t.model, Batching: t.rec.Batch.Batching, Invoke: t.engine.cfg.Invoke, ID: t.rec.ID, Concurrency: concurrency,
	}
}

// retries is how often a row with such an error is tried again. One that may have ended the
// process of the model itself gets one more chance.
func (t *task) retries(e *actions.Error) int {
	most := t.rec.Batch.Retries
	if most == 0 {
		most = defaultRetries
	}
	if errors.Is(e, actions.ErrDied) {
		return min(most, 1)
	}
	return most
}

// mayGoAway says whether an error may not be there later.
func mayGoAway(e *actions.Error) bool {
	switch e.Code {
	case actions.Busy, actions.Unavailable, actions.Canceled:
		return true
	case actions.Invalid, actions.NotFound, actions.Unsupported, actions.TooLarge, actions.Conflict, actions.Deadline,
		actions.Unauthorized, actions.Forbidden, actions.Failed, actions.NoAnswer, actions.Exited, actions.Internal:
		return false
	}
	return false
}

// allAway is the error of a chunk of which no row could be asked so far: that is no fault of the
// rows, and the batch shall not end with a million errors because a model does not start. A
// model that says itself that it cannot answer a row is there.
func allAway(outcomes []outcome) error {
	var last *actions.Error
	for _, o := range outcomes {
		if o.err == nil || o.err.Status != 0 || !mayGoAway(o.err) || errors.Is(o.err, actions.ErrDied) {
			return nil
		}
		last = o.err
	}
	if last == nil {
		return nil
	}
	return &actions.Error{Code: actions.Unavailable, Msg: "it answers no row: " + last.Error(), Err: last, RetryAfter: last.RetryAfter}
}

// asError makes an *actions.Error of an error, nil of nil.
func asError(err error) *actions.Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*actions.Error](err); ok {
		return e
	}
	return &actions.Error{Code: actions.Internal, Msg: "internal error", Err: err}
}
