package many

import (
	"context"
	"encoding/json"
	"errors"
	"math"

	"github.com/deepfn/deepfn/actions"
)

// A worker makes one call after the other.
type worker struct {
	*plan
	args    []byte // of the call; used again by the next
	columns table
	absent  int // how many calls there were since the last that somebody answered
	// late is the error of the last call that took too long, lates how many calls of several rows
	// there were of them, by how often they were split.
	late  *actions.Error
	lates [2]int
}

// maxAbsent is after how many calls in a row that nobody answered no row is suspected of it
// any longer: the first of all, one of the smaller ones, and four of rows alone, one of which is at
// fault if any is. More rows than that which are killers, one after the other, are not found.
const maxAbsent = 6

// do predicts the rows of a group: with one call, or with several if that one fails.
func (w *worker) do(ctx context.Context, g group) {
	if g.way == many && (len(g.rows) == 1 || w.onlyAlone.Load()) {
		g.way = alone
	}
	if g.way == alone && len(g.rows) > 1 {
		for i := range g.rows {
			w.do(ctx, group{alone, g.rows[i : i+1], 1})
		}
		return
	}
	if w.wouldBeLate(g) {
		w.fail(g, w.late)
		w.parts(ctx, g)
		return
	}
	err := w.try(ctx, g)
	if err == nil {
		w.absent = 0
		return
	}
	failure := asError(err)
	if g.way == many && failure.Code == actions.Unsupported && failure.Status == 0 {
		w.onlyAlone.Store(true)
		w.do(ctx, g)
		return
	}
	w.fail(g, failure)
	switch {
	case failure.Code == actions.Deadline:
		w.absent++
		w.isLate(g, failure)
	case failure.Code == actions.Unavailable && !errors.Is(failure, actions.ErrDied):
		w.absent++
	default:
		w.absent = 0
	}
	if len(g.rows) > 1 && ctx.Err() == nil && mayPass(failure) {
		w.parts(ctx, g)
	}
}

// fail gives all rows of a group an error.
func (w *worker) fail(g group, failure *actions.Error) {
	for _, i := range g.rows {
		w.results[i] = Result{Err: failure}
	}
}

// maxLate is how many calls of a size may take too long before others of it are not tried any more. One may
// by a row that hangs.
const maxLate = 2

// isLate notes that a call took too long. One of a single row tells nothing of the others.
func (w *worker) isLate(g group, failure *actions.Error) {
	if len(g.rows) > 1 && g.splits < len(w.lates) {
		w.late = failure
		w.lates[g.splits]++
	}
}

// wouldBeLate says that a call would take too long, as others did, and its rows may do in smaller ones.
func (w *worker) wouldBeLate(g group) bool {
	return len(g.rows) > 1 && g.splits < len(w.lates) && w.lates[g.splits] >= maxLate && w.absent < maxAbsent
}

// parts predicts the rows of a call that failed with smaller ones. The row at fault is alone with the
// second split, so that a model that such a row ends has to start three times and not as often
// as with halves.
func (w *worker) parts(ctx context.Context, g group) {
	size := 1
	if g.splits == 0 {
		size = int(math.Sqrt(float64(len(g.rows))))
	}
	for start := 0; start < len(g.rows) && w.absent < maxAbsent; start += size {
		end := min(start+size, len(g.rows))
		w.do(ctx, group{g.way, g.rows[start:end], g.splits + 1})
	}
}

// mayPass says whether a call that failed so may do with fewer rows.
func mayPass(e *actions.Error) bool {
	switch e.Code {
	case actions.Busy, actions.Canceled, actions.Unauthorized, actions.Forbidden:
		return false
	case actions.NotFound, actions.Conflict:
		return e.Status != 0 // else it is not the model that says so
	case actions.Unavailable:
		return e.Status == 0 && !errors.Is(e, actions.ErrDiedLoading) // the process may have ended by a row
	case actions.Deadline: // that of the call: there is time yet
		return e.Status == 0
	case actions.Invalid, actions.Unsupported, actions.TooLarge, actions.Failed, actions.NoAnswer, actions.Exited, actions.Internal:
		return true
	}
	return true
}

// try makes the one call of a group, and puts the answers into the results.
func (w *worker) try(ctx context.Context, g group) error {
	if ctx.Err() != nil {
		return leftError(ctx)
	}
	c := &w.call
	req := actions.Request{Model: c.Model.Name, Verb: actions.Predict, ID: c.ID, Trace: c.Trace}
	switch g.way {
	case alone:
		row := &w.rows[g.rows[0]]
		req.Args, req.Files, req.Accept = row.Args, row.Files, c.Accept
	case many:
		req.Verb, req.Args, req.Accept = actions.PredictMany, w.list(g.rows, ""), c.Accept
	case list:
		req.Args = w.list(g.rows, w.by.Argument)
	case columns:
		req.Args = w.table(g.rows)
	}
	if (g.way == list || g.way == columns) && !c.Model.ParsesArguments() {
		var err error
		if req.Args, req.Files, err = bind(&c.Model, req.Args, nil); err != nil {
			return err
		}
	}
	resp, err := c.Invoke(ctx, req)
	if err != nil {
		return err
	}
	if g.way == alone {
		w.results[g.rows[0]] = Result{Response: resp}
		return nil
	}
	if err := w.spread(g, &resp); err != nil {
		err.Logs = resp.Logs
		return err
	}
	return nil
}

// spread gives each row of a call its part of the answer.
func (w *worker) spread(g group, resp *actions.Response) *actions.Error {
	if !actions.IsJSON(resp.ContentType) {
		return actions.Errorf(actions.Failed, "%s answered %.100q to a call of %d rows; a list of their answers in JSON is expected",
			w.call.Model.Name, resp.ContentType, len(g.rows))
	}
	var err *actions.Error
	if g.way == many {
		err = w.outcomes(g.rows, resp)
	} else {
		err = w.answers(g.rows, resp)
	}
	if err == nil {
		first := &w.results[g.rows[0]]
		first.Response.Logs = resp.Logs
		if e, ok := errors.AsType[*actions.Error](first.Err); ok {
			e.Logs = resp.Logs
		}
	}
	return err
}

// put gives a row its answer, which is JSON.
func (w *worker) put(row int, resp *actions.Response, data json.RawMessage) {
	w.results[row] = Result{Response: actions.Response{ContentType: jsonType, Data: data, Timing: resp.Timing}}
}

// asError finds the words for what Invoke returned.
func asError(err error) *actions.Error {
	e, ok := errors.AsType[*actions.Error](err)
	switch {
	case !ok:
		return &actions.Error{Code: actions.Internal, Msg: err.Error(), Err: err}
	case errors.Is(err, actions.ErrDied) && !errors.Is(e, actions.ErrDied):
		told := *e
		told.Err = err
		return &told
	default:
		return e
	}
}

// leftError is the error of rows that there was no time for.
func leftError(ctx context.Context) *actions.Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &actions.Error{Code: actions.Deadline, Msg: "there was no time left for the row", Err: context.Cause(ctx)}
	}
	return &actions.Error{Code: actions.Canceled, Msg: "the rows were canceled", Err: context.Cause(ctx)}
}
