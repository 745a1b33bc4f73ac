// Package many predicts many rows with as few calls of a model as it takes. How a model takes
// many is said by actions.Batching; Predict hides the differences: one call with a list, one
// call of the verb predict-many, or a call for each row.
package many

import (
	"context"
	"encoding/json"

	"github.com/deepfn/deepfn/actions"
)

// A Row is what one prediction is made of.
type Row struct {
	// Args are the arguments that are no files, a JSON object; nil means {}.
	Args json.RawMessage
	// Files are the arguments that are bytes.
	Files []actions.File
}

// A Result is the answer to one row, or why there is none.
type Result struct {
	// Response is the answer to this row alone. Its Data may share memory with those of
	// other rows. Its Timing is that of the call that the row was in, whose Logs the first
	// row of the call has.
	Response actions.Response
	// Err is an *actions.Error, which rows of one call may share. The answer is nothing then.
	Err error
}

// A Call says what is asked of the model for all rows.
type Call struct {
	// Model is the model, as the catalog has it.
	Model actions.Model
	// Batching is how rows become calls. The zero value means Model.Batching.
	Batching actions.Batching
	// Invoke runs one request; proxy.Invoker's method is one.
	Invoke func(context.Context, actions.Request) (actions.Response, error)
	// ID, Trace and Accept are those of each request. Accept is for models that answer one
	// row in a call.
	ID     string
	Trace  actions.Trace
	Accept string
	// Concurrency is how many calls may be under way at the same time. The default is 1.
	Concurrency int
}

// Predict predicts each row and returns as many results, in the order of the rows. What a row
// gets does not depend on the rows beside it: when a call of many fails by what it was given,
// it is made again with fewer rows, until the one whose fault it is stands alone. That takes
// at most two calls a row. A call that takes longer than it may, while ctx has time, is one of
// these: its rows may do alone, and one of them may hang. An error that is nobody's fault, as Busy,
// is that of all rows of the call.
//
// Which rows a call has depends on the rows and c alone, never on time. A panic of c.Invoke is
// one of Predict. Many may call Predict at the same time.
func Predict(ctx context.Context, c Call, rows []Row) []Result {
	p := newPlan(c, rows)
	p.run(ctx)
	return p.results
}
