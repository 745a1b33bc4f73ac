package controller

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/store"
)

// errPostponed is the end of the wait of an activation that the next server runs.
var errPostponed = actions.Errorf(actions.Canceled, "the server ends, and the next one runs this activation")

// An again is what it takes to run an activation that was accepted.
type again struct {
	Version     string          `json:"version"` // of the action
	Transaction string          `json:"transaction"`
	Cause       string          `json:"cause,omitempty"`
	Args        json.RawMessage `json:"args,omitempty"`
}

// pendLocked puts on disk that an activation was accepted: with what it takes to run it, if
// that has not begun. The caller has f.mu.
func (c *Controller) pendLocked(ctx context.Context, f *flight) error {
	p := store.Pending{Namespace: f.caller, ID: f.id, Name: f.found.name.Entity, Path: f.path(), Start: f.asked}
	var err error
	if p.Doc, err = encode(f.activation()); err != nil {
		return err
	}
	if f.runs.IsZero() {
		if p.Again, err = encode(again{f.found.action.Version, f.transaction, f.cause, f.args}); err != nil {
			return err
		}
	}
	return c.cfg.Store.Begin(ctx, p)
}

// top is the activation that an activation is a part of, itself if of none.
func (f *flight) top() *flight {
	for f.within != nil {
		f = f.within
	}
	return f
}

// begin notes that the run of an activation begins: on disk, if that has it, so that nobody
// runs it again. The error is Busy while the disk does not take it, or errPostponed.
func (c *Controller) begin(ctx context.Context, f *flight) error {
	for _, g := range []*flight{f.top(), f} {
		if err := c.beginOne(context.WithoutCancel(ctx), g); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) beginOne(ctx context.Context, f *flight) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.runs.IsZero():
		return nil
	case f.begun && c.open().Err() != nil:
		f.cut = true
		return errPostponed
	}
	f.runs = time.Now()
	if f.begun {
		if err := c.pendLocked(ctx, f); err != nil {
			f.runs = time.Time{}
			return actions.Errorf(actions.Busy, "the beginning of the run could not be written: %w", err)
		}
	}
	if f.moved != nil {
		close(f.moved)
	}
	return nil
}

// postpone leaves an activation to the next server, if it was accepted and has not begun.
func (f *flight) postpone() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = f.cut || f.begun && f.runs.IsZero() && !f.ended
	return f.cut
}

// postponed says whether an activation was left to the next server; the caller has the lock
// of part, which is it or a part of it.
func (f *flight) postponed(part *flight) bool {
	if f != part {
		f.mu.Lock()
		defer f.mu.Unlock()
	}
	return f.cut
}

// closing is closed when an activation that waits has to be left to the next server.
func (c *Controller) closing(f *flight) <-chan struct{} {
	top := f.top()
	top.mu.Lock()
	defer top.mu.Unlock()
	if top.begun && top.runs.IsZero() {
		return c.open().Done()
	}
	return nil
}

// Resume runs what was accepted by a server before this one and has not begun: the
// activations of an action in their order, each when the one before it has begun. It is
// called once, as soon as Config.Run can be, and does not wait.
func (c *Controller) Resume() {
	if len(c.waiting) > 0 {
		c.log.Info("activations that had not begun when the server ended are run", "activations", len(c.waiting))
	}
	lines := make(map[string][]store.Pending) // by action
	for _, p := range c.waiting {
		lines[p.Path] = append(lines[p.Path], p)
	}
	for _, waiting := range lines {
		c.resuming.Go(func() { // ends with the last, and with Close
			for _, p := range waiting {
				if !c.resume(p) {
					return
				}
			}
		})
	}
}

// resume runs an activation and returns when its run has begun, or ended. It is false when
// the server ends.
func (c *Controller) resume(p store.Pending) bool {
	f, err := c.again(p)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return false
	}
	ctx := c.enterLocked(context.Background(), p.ID)
	c.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends with the activation; Close waits for it
		defer close(done)
		defer c.leave(p.ID, true)
		if err == nil {
			_, err = c.complete(ctx, f)
		} else {
			err = c.endOne(p, err.Error())
		}
		if err != nil && !errors.Is(err, errPostponed) {
			c.log.ErrorContext(ctx, "activation was not kept", "activation_id", p.ID, "error", err.Error())
		}
	}()
	var begun chan struct{}
	if f != nil {
		begun = f.moved
	}
	select {
	case <-begun:
	case <-done:
	}
	return true
}

// again makes the flight of an activation that was accepted. The error says why it cannot
// be run.
func (c *Controller) again(p store.Pending) (*flight, error) {
	raw, err := c.cfg.Store.Again(p.Namespace, p.ID)
	if err != nil {
		return nil, err
	}
	var in again
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, broken("activation "+p.ID, err)
	}
	n, err := fullName(p.Path, p.Namespace)
	if err != nil {
		return nil, err
	}
	found, err := c.find(context.Background(), p.Namespace, n)
	switch {
	case err != nil:
		return nil, actions.Errorf(actions.NotFound, "Action could not be found or may have been deleted.")
	case found.action.Version != in.Version:
		return nil, actions.Errorf(actions.Conflict, "Action version is not compatible and cannot be invoked.")
	}
	return &flight{
		id: p.ID, caller: p.Namespace, transaction: in.Transaction, cause: in.Cause, found: found, args: in.Args,
		asked: p.Start, begun: true, moved: make(chan struct{}),
	}, nil
}

// sayLeft logs what is not done at the end.
func (c *Controller) sayLeft() {
	pending, err := c.cfg.Store.Pending()
	left := 0
	for _, p := range pending {
		if p.Waits {
			left++
		}
	}
	if ended := c.cutOff.Load(); err == nil && int64(left)+ended > 0 {
		c.log.Warn("the server ends before all activations are done", "ended", ended, "left_for_the_next_start", left)
	}
}
