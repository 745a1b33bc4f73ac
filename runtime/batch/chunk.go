package batch

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/deepfn/deepfn/actions"
)

// newAttempt returns the name of an attempt, which nobody else has.
func newAttempt() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// do predicts a chunk and commits it. It returns the commit that counts, which may be another's.
// starts is called when work begins that would have to be done again.
func (t *task) do(ctx context.Context, n next, starts func(index int)) (*commit, error) {
	marked := make(chan error, 1)
	name := fmt.Sprintf("%s%06d-%s", begun, n.index, t.attempt)
	starts(n.index)
	go func() { // beside the calls; it ends with its request
		marked <- t.insist(ctx, theOutput, func() error { return t.folder.put(ctx, name, struct{}{}, false) })
	}()
	kept := &spill{dir: t.engine.cfg.TempDir}
	defer kept.close()
	outcomes, err := t.predict(ctx, n, kept)
	if marking := <-marked; err == nil {
		err = marking
	}
	if err != nil {
		return nil, err
	}
	var missing []string
	if n.index == 0 { // in every attempt the same
		if missing, err = unselected(t.rec.Batch.Output, n.part.Rows, outcomes, "of the first chunk"); err != nil {
			return nil, err
		}
	}
	c, err := t.write(ctx, n, outcomes)
	if err != nil {
		return nil, err
	}
	if c.Unselected = missing; c.Failed == c.Rows {
		c.First = firstError(outcomes)
	}
	return t.commit(ctx, c)
}

// errComplete is that another process has completed the batch meanwhile, and removes what says which
// attempts count.
var errComplete = errors.New("batch: another process has completed it")

// commit makes a chunk count that is staged, unless another attempt counts already. The error is
// errComplete when nobody needs it any more: no attempt counts then that began without the others.
func (t *task) commit(ctx context.Context, c *commit) (*commit, error) {
	name := chunkName(commits, c.Index)
	err := t.insist(ctx, theOutput, func() error {
		err := t.folder.put(ctx, name, c, true)
		if actions.CodeOf(err) != actions.Conflict {
			return err
		}
		// Another attempt, or this one, whose answer got lost.
		first := new(commit)
		found, err := t.folder.take(ctx, name, first)
		if err == nil && !found {
			return actions.Errorf(actions.Unavailable, "%s%s was there, and is gone", t.folder.url, name)
		}
		c = first
		return err
	})
	if err == nil {
		err = t.stillWanted(ctx)
	}
	return c, err
}

// stillWanted is errComplete when the batch is complete.
func (t *task) stillWanted(ctx context.Context) error {
	complete := false
	err := t.insist(ctx, theOutput, func() (err error) {
		complete, err = t.folder.complete(ctx)
		return err
	})
	if err == nil && complete {
		return errComplete
	}
	return err
}
