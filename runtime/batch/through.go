package batch

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// defaultInFlight is how many chunks are handed out at the same time.
const defaultInFlight = 16

// A handed chunk is done by a replica, or waits for one.
type handed struct {
	chunk actions.Chunk
	since time.Time
}

// through hands the chunks out and waits until the store has them all committed. Replicas are not
// known, nor asked: one that dies costs Config.Resend.
func (r *run) through(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ahead := make(chan next)
	var wg sync.WaitGroup
	done := maps.Clone(r.commits)                         // which changes below
	wg.Go(func() { r.readAhead(ctx, ahead, done, true) }) // ends with ctx, or with the input
	defer wg.Wait()
	defer cancel()
	out := map[int]*handed{}
	look := time.NewTicker(r.engine.cfg.Look)
	defer look.Stop()
	for more := true; more || len(out) > 0; {
		take := ahead
		if !more || len(out) >= r.inFlight() {
			take = nil
		}
		select {
		case n, ok := <-take:
			if more = ok; !ok {
				continue
			}
			if n.err != nil {
				return n.err
			}
			if err := r.hand(ctx, out, n); err != nil {
				return err
			}
		case <-look.C:
			if err := r.look(ctx, out); err != nil {
				return err
			}
		case <-ctx.Done():
			return leftError(ctx)
		}
	}
	return r.passed(true)
}

// inFlight is how many chunks may be handed out now: one until the columns of the output are
// known, which the first chunk tells.
func (r *run) inFlight() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.schema == nil && hasColumns(r.rec.Batch.Output) {
		return 1
	}
	if r.rec.Batch.Concurrency > 0 {
		return r.rec.Batch.Concurrency
	}
	return defaultInFlight
}

// hand hands a chunk out.
func (r *run) hand(ctx context.Context, out map[int]*handed, n next) error {
	h := &handed{chunk: actions.Chunk{Job: r.rec.ID, Index: n.index, Row: n.row, At: n.at, Input: r.rec.Input, Batch: r.rec.Batch}}
	out[n.index] = h
	return r.dispatch(ctx, h)
}

func (r *run) dispatch(ctx context.Context, h *handed) error {
	h.since = time.Now()
	return r.insist(ctx, r.rec.Batch.Through, func() error {
		return r.engine.cfg.Dispatch(ctx, r.rec.Batch.Through, h.chunk)
	})
}

// look finds out what was committed, and hands out again what takes too long.
func (r *run) look(ctx context.Context, out map[int]*handed) error {
	if len(out) == 0 {
		return nil
	}
	var names, failed, tries map[string]int64
	err := r.insist(ctx, "the output", func() (err error) {
		if names, err = r.folder.names(ctx, commits); err != nil {
			return err
		}
		if tries, err = r.folder.names(ctx, begun); err != nil {
			return err
		}
		if failed, err = r.folder.names(ctx, failures); err != nil {
			return err
		}
		return r.learn(ctx)
	})
	if err != nil {
		return err
	}
	r.progress.begunAs(tries)
	if err := r.stillWanted(ctx); err != nil {
		return err
	}
	for index, h := range out {
		_, done := names[chunkName("", index)]
		_, wrong := failed[chunkName("", index)]
		switch {
		case done:
			err = r.take(ctx, index)
			delete(out, index)
		case wrong:
			err = r.failure(ctx, index)
		case time.Since(h.since) > r.engine.cfg.Resend:
			r.watch.line(fmt.Sprintf("chunk %d was not done in %s: handing it out again", index, r.engine.cfg.Resend))
			err = r.dispatch(ctx, h)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take takes note of a chunk that somebody has committed.
func (r *run) take(ctx context.Context, index int) error {
	c := new(commit)
	found := false
	err := r.insist(ctx, "the output", func() (err error) {
		found, err = r.folder.take(ctx, chunkName(commits, index), c)
		return err
	})
	if err != nil {
		return err
	}
	if !found {
		return actions.Errorf(actions.NotFound, "%s%s is gone", r.folder.url, chunkName(commits, index))
	}
	return r.committed(c)
}

// failure is why a replica could not do a chunk.
func (r *run) failure(ctx context.Context, index int) error {
	f := new(failure)
	if err := r.insist(ctx, "the output", func() error {
		_, err := r.folder.take(ctx, chunkName(failures, index), f)
		return err
	}); err != nil {
		return err
	}
	return actions.Errorf(f.Code, "chunk %d: %s", index, f.Error)
}
