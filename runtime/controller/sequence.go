package controller

import (
	"context"
	"encoding/json"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// maxSequence is how many actions a sequence may run, those of the sequences in it
// included, and how deep they may lie in each other.
const maxSequence = 50

// checkSequence refuses components that are not there, are too many, or contain the
// sequence itself.
func (c *Controller) checkSequence(ctx context.Context, tx *store.Tx, n whisk.Name, components []string) error {
	if len(components) == 0 {
		return invalid(sequenceEmpty)
	}
	_, err := c.countActions(ctx, tx, n, components, 0)
	return err
}

// countActions counts the actions that components run.
func (c *Controller) countActions(ctx context.Context, tx *store.Tx, self whisk.Name, components []string, depth int) (int, error) {
	if len(components) > maxSequence || depth > maxSequence {
		return 0, invalid(sequenceTooLong)
	}
	total := 0
	for _, component := range components {
		n, err := fullName(component, self.Namespace)
		if err != nil {
			return 0, err
		}
		if err := c.mayRead(self.Namespace, whisk.Actions, n); err != nil {
			return 0, err
		}
		r, err := c.resolve(ctx, tx, n)
		if r.name == self {
			return 0, invalid(sequenceCyclic)
		}
		if code := actions.CodeOf(err); code == actions.NotFound || code == actions.Conflict {
			return 0, invalid(componentMissing)
		}
		if err != nil {
			return 0, err
		}
		count := 1
		if r.action.Exec.Kind == whisk.Sequence {
			if count, err = c.countActions(ctx, tx, self, r.action.Exec.Components, depth+1); err != nil {
				return 0, err
			}
		}
		if total += count; total > maxSequence {
			return 0, invalid(sequenceTooLong)
		}
	}
	return total, nil
}

// A progress is what has happened in a sequence so far.
type progress struct {
	response whisk.Response
	logs     []string // the ids of the components' activations
	duration int64    // of all, in milliseconds
	memory   int      // the most of all, in MiB
	count    int      // of the actions that ran, within the topmost sequence
	stop     bool
}

// sequence runs the components of a sequence one after the other, each with the result of
// the one before it, until one fails.
func (c *Controller) sequence(ctx context.Context, f *flight) whisk.Activation {
	p := progress{count: f.count, logs: []string{}}
	args := f.args
	if len(args) == 0 {
		args = json.RawMessage("{}")
	}
	p.response.Result = args
	for _, component := range f.found.action.Exec.Components {
		c.step(ctx, f, component, &p)
		if p.stop {
			break
		}
	}
	f.count = p.count
	a := f.activation()
	limits := f.found.action.Limits
	if p.memory > 0 {
		limits.Memory = p.memory
	}
	a.Annotations = a.Annotations.With("limits", limits).With("topmost", !f.inSequence)
	a.Response, a.Logs, a.Duration, a.End = p.response, p.logs, p.duration, now()
	return a
}

// step runs a component. It stops the sequence when that fails.
func (c *Controller) step(ctx context.Context, f *flight, component string, p *progress) {
	fail := func(code int, text string) { p.response, p.stop = failure(code, text), true }
	if p.count >= maxSequence || f.depth >= maxSequence {
		fail(whisk.ApplicationError, sequenceTooLong)
		return
	}
	n, err := fullName(component, f.caller)
	if err != nil {
		fail(whisk.ApplicationError, componentMissing)
		return
	}
	found, err := c.find(ctx, f.caller, n)
	switch actions.CodeOf(err) {
	case "":
	case actions.NotFound, actions.Conflict, actions.Forbidden:
		fail(whisk.ApplicationError, componentMissing)
		return
	default:
		fail(whisk.WhiskError, err.Error())
		return
	}
	part := &flight{
		id: newID(), caller: f.caller, transaction: f.transaction, cause: f.id, within: f, inSequence: true, depth: f.depth + 1,
		found: found, args: p.response.Result, asked: time.Now(), count: p.count,
	}
	a, err := c.complete(ctx, part)
	switch actions.CodeOf(err) {
	case "":
	case actions.Busy:
		fail(whisk.WhiskError, overloaded)
		return
	default:
		fail(whisk.WhiskError, "The activation of a component could not be kept: "+err.Error())
		return
	}
	if found.action.Exec.Kind == whisk.Sequence {
		p.count = part.count
	} else {
		p.count++
	}
	p.logs = append(p.logs, a.ID)
	p.duration += a.Duration
	p.memory = max(p.memory, memoryOf(a))
	p.response = a.Response
	p.stop = a.Response.Code != whisk.Success
}

// memoryOf is the memory that an activation shows.
func memoryOf(a whisk.Activation) int {
	var limits whisk.Limits
	_ = json.Unmarshal(a.Annotations.Lookup("limits"), &limits) // it was written here
	return limits.Memory
}
