package batch

import (
	"context"
	"crypto/rand"
	"encoding/hex"
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
		marked <- t.insist(ctx, "the output", func() error { return t.folder.put(ctx, name, struct{}{}, false) })
	}()
	outcomes, err := t.predict(ctx, n)
	if marking := <-marked; err == nil {
		err = marking
	}
	if err != nil {
		return nil, err
	}
	c, err := t.write(ctx, n, outcomes)
	if err != nil {
		return nil, err
	}
	return t.commit(ctx, c)
}

// commit makes a chunk count that is staged, unless another attempt counts already.
func (t *task) commit(ctx context.Context, c *commit) (*commit, error) {
	name := chunkName(commits, c.Index)
	err := t.insist(ctx, "the output", func() error {
		err := t.folder.put(ctx, name, c, true)
		if actions.CodeOf(err) != actions.Conflict {
			return err
		}
		// Another attempt, or this one, whose answer got lost.
		first := new(commit)
		if found, err := t.folder.take(ctx, name, first); err != nil || !found {
			return err
		}
		c = first
		return nil
	})
	return c, err
}
