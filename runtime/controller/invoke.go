package controller

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// newID makes the id of an activation.
func newID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // it never fails
	return hex.EncodeToString(id[:])
}

// A flight is an activation under way.
type flight struct {
	id, caller  string
	transaction string
	within      *flight       // the sequence that it is a part of
	moved       chan struct{} // closed when its run begins, for who resumes it; or nil
	cause       string        // the id of what made it, if anything did
	inSequence  bool          // cause is a sequence
	depth       int           // how many sequences it is within
	found       resolution
	count       int             // of the actions that have run in the topmost sequence
	args        json.RawMessage // its own
	asked       time.Time
	holds       *importing // guarded by Controller.codeMu

	mu    sync.Mutex // guards what follows
	begun bool       // it is on disk that it was accepted
	ended bool       // its record is on disk, or there is none
	runs  time.Time  // when its run began, zero before
	cut   bool       // it has not begun because the server ends
}

// hasBegun says whether the run of an activation has begun, and for how long it has been
// going on at a time.
func (f *flight) hasBegun(now time.Time) (is bool, ran time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.runs.IsZero() {
		return false, 0
	}
	return true, now.Sub(f.runs)
}

// newFlight makes an activation of an action. args are the caller's and are copied.
func newFlight(caller string, found resolution, args json.RawMessage) *flight {
	f := &flight{id: newID(), caller: caller, found: found, args: bytes.Clone(bytes.TrimSpace(args)), asked: time.Now()}
	f.transaction = f.id
	return f
}

// checkArguments refuses what an invocation cannot have: no object, too much, and other
// values for final parameters.
func (c *Controller) checkArguments(a whisk.Action, args json.RawMessage) error {
	args = bytes.TrimSpace(args)
	if len(args) == 0 {
		return nil
	}
	if args[0] != '{' {
		return malformed("Object expected")
	}
	if size, limit := int64(len(args)), c.cfg.MaxPayload; limit > 0 && size > limit {
		e := actions.Errorf(actions.TooLarge, "Request larger than allowed: %d > %d bytes.", size, limit)
		if c.cfg.ByReference {
			e.Msg += argumentsByReference
		}
		return e
	}
	if string(a.Annotations.Lookup("final")) != "true" {
		return nil
	}
	var members map[string]json.RawMessage
	if err := decode(args, &members); err != nil {
		return err
	}
	for _, p := range a.Parameters {
		if _, given := members[p.Key]; given && string(p.Value) != "null" {
			return invalid(finalParameters)
		}
	}
	return nil
}

// Invoke runs an action. A blocking invocation waits for the end, as long as in.Wait and
// Config.MaxWait allow; then, and when ctx ends, the activation goes on and the outcome has
// its id alone, as that of one that is not blocking. What is answered is on disk.
//
// An error means that there was no activation: NotFound, Conflict (the name is another
// collection's), Forbidden, Invalid, TooLarge, Busy, Unavailable, or one of the store.
func (c *Controller) Invoke(ctx context.Context, caller string, n whisk.Name, in whisk.Invocation) (whisk.Outcome, error) {
	found, err := c.find(ctx, caller, n)
	if err != nil {
		return whisk.Outcome{}, err
	}
	if err := c.checkArguments(found.action.Action, in.Args); err != nil {
		return whisk.Outcome{}, err
	}
	f := newFlight(caller, found, in.Args)
	if in.Transaction != "" {
		f.transaction = in.Transaction
	}
	if !in.Blocking {
		return whisk.Outcome{Activation: whisk.Activation{ID: f.id}}, c.launch(ctx, f)
	}
	wait := c.cfg.MaxWait
	if in.Wait > 0 {
		wait = min(wait, in.Wait)
	}
	return c.await(ctx, f, wait)
}

// launch begins an activation that nobody waits for. When it returns nil, that is on disk.
func (c *Controller) launch(ctx context.Context, f *flight) error {
	own, err := c.enter(ctx, f.id, true)
	if err != nil {
		return err
	}
	if _, err := c.accept(own, f); err != nil {
		c.leave(f.id, true)
		return err
	}
	go func() { // ends with the activation; Close waits for it
		defer c.leave(f.id, true)
		if _, err := c.complete(own, f); err != nil && !errors.Is(err, errPostponed) {
			c.log.ErrorContext(own, "activation was not kept", "activation_id", f.id, "error", err.Error())
		}
	}()
	return nil
}

// await runs an activation and waits for its end, but not for longer than wait.
func (c *Controller) await(ctx context.Context, f *flight, wait time.Duration) (whisk.Outcome, error) {
	own, err := c.enter(ctx, f.id, false)
	if err != nil {
		return whisk.Outcome{}, err
	}
	type end struct {
		activation whisk.Activation
		err        error
	}
	done := make(chan end, 1)
	go func() { // ends with the activation; Close waits for it
		defer c.leave(f.id, false)
		a, err := c.complete(own, f)
		done <- end{a, err}
	}()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case e := <-done:
		return whisk.Outcome{Activation: e.activation, Done: e.err == nil}, e.err
	case <-timer.C:
	case <-ctx.Done():
	}
	ended, err := c.accept(context.WithoutCancel(ctx), f)
	if ended {
		e := <-done
		return whisk.Outcome{Activation: e.activation, Done: e.err == nil}, e.err
	}
	return whisk.Outcome{Activation: whisk.Activation{ID: f.id}}, err
}

// accept puts on disk that an activation is under way, unless it has ended.
func (c *Controller) accept(ctx context.Context, f *flight) (ended bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return true, nil
	}
	err = c.pendLocked(ctx, f)
	f.begun = err == nil
	return false, err
}

// complete runs an activation and puts its record on disk. The error of one that nobody was
// told of may be Busy; there is no record then.
func (c *Controller) complete(ctx context.Context, f *flight) (whisk.Activation, error) {
	a, logs, err := c.perform(ctx, f)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	if f.top().postponed(f) {
		return a, errPostponed
	}
	if errors.Is(context.Cause(ctx), errEnded) {
		c.cutOff.Add(1)
	}
	if err != nil {
		if !f.begun {
			return a, err
		}
		a = f.activation()
		a.Response = failure(whisk.WhiskError, overloaded)
		a.End = now()
		a.Duration = a.End - a.Start
	}
	if err := c.keep(ctx, f, a, logs); err != nil {
		return a, err
	}
	return a, nil
}

// perform runs an activation. The error is Busy.
func (c *Controller) perform(ctx context.Context, f *flight) (whisk.Activation, []string, error) {
	if f.found.action.Exec.Kind == whisk.Sequence {
		a := c.sequence(ctx, f)
		return a, a.Logs, nil
	}
	o, err := c.run(ctx, f)
	if err != nil {
		return whisk.Activation{}, nil, err
	}
	return f.record(o), formatLogs(o.logs, o.ended, f.found.action.Limits.Logs), nil
}

// keepAgain is how long a record that is owed is tried to be kept.
const keepAgain = time.Minute

// keep puts the record of an activation on disk: at once or not at all, but when it was
// accepted as soon as the disk takes it again.
func (c *Controller) keep(ctx context.Context, f *flight, a whisk.Activation, logs []string) error {
	record, err := recordOf(a, logs, f.path())
	if err != nil {
		return err
	}
	for wait := 100 * time.Millisecond; ; wait *= 2 {
		err := c.cfg.Store.End(context.WithoutCancel(ctx), record)
		if err == nil || !f.begun || wait > keepAgain {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}

// path is the full name by which a record is found.
func (f *flight) path() string {
	if f.found.binding != "" {
		return f.found.binding + "/" + f.found.name.Entity
	}
	return f.found.name.Path() + "/" + f.found.name.Entity
}

// activation is what is known of an activation from its beginning.
func (f *flight) activation() whisk.Activation {
	a := f.found.action
	annotations := whisk.KeyValues{}.
		With("path", f.found.name.Path()+"/"+f.found.name.Entity).
		With("waitTime", 0).
		With("kind", a.Exec.Kind).
		With("timeout", false).
		With("limits", a.Limits)
	if f.inSequence {
		annotations = annotations.With("causedBy", whisk.Sequence)
	}
	if f.found.binding != "" {
		annotations = annotations.With("binding", f.found.binding)
	}
	return whisk.Activation{
		ID: f.id, Namespace: f.caller, Name: f.found.name.Entity, Version: a.Version, Subject: f.caller,
		Cause: f.cause, Start: f.asked.UnixMilli(), Logs: []string{}, Annotations: annotations,
	}
}
