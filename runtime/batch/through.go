package batch

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// defaultInFlight is how many chunks are handed out at the same time.
const defaultInFlight = 16

// A handed chunk is done by a replica, or waits for one.
type handed struct {
	chunk actions.Chunk
	since time.Time   // when it was accepted; zero before
	done  atomic.Bool // it is committed: nobody has to accept it any more
}

// An acceptance is how handing out a chunk has ended.
type acceptance struct {
	*handed
	err error
}

// An office hands chunks out and knows those that are not done yet.
type office struct {
	*run
	out      map[int]*handed
	accepted chan acceptance
	handing  sync.WaitGroup
}

// through hands the chunks out and waits until the store has them all committed. Replicas are not
// known, nor asked: one that dies costs Config.Resend, or what the broker takes to notice it.
func (r *run) through(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.watch = r.watch.inTurn()
	ahead := make(chan next)
	o := &office{run: r, out: map[int]*handed{}, accepted: make(chan acceptance)}
	done := maps.Clone(r.commits)                                // which changes below
	o.handing.Go(func() { r.readAhead(ctx, ahead, done, true) }) // ends with ctx, or with the input
	defer o.handing.Wait()
	defer cancel()
	look := time.NewTicker(r.engine.cfg.Look)
	defer look.Stop()
	for more := true; more || len(o.out) > 0; {
		take := ahead
		if !more || len(o.out) >= r.inFlight() {
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
			o.hand(ctx, n)
		case a := <-o.accepted:
			if a.err != nil && !a.done.Load() {
				return a.err
			}
			a.since = time.Now()
		case <-look.C:
			if err := o.look(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return leftError(ctx)
		}
	}
	return r.passed(true)
}

// inTurn is a Watcher whose functions may be called by many, and are called one at a time.
func (w Watcher) inTurn() Watcher {
	var mu sync.Mutex
	return Watcher{
		Progress: func(p actions.Progress) {
			mu.Lock()
			defer mu.Unlock()
			if w.Progress != nil {
				w.Progress(p)
			}
		},
		Line: func(text string) {
			mu.Lock()
			defer mu.Unlock()
			w.line(text)
		},
	}
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
func (o *office) hand(ctx context.Context, n next) {
	h := &handed{chunk: actions.Chunk{Job: o.rec.ID, Index: n.index, Row: n.row, At: n.at, Input: o.rec.Input, Batch: o.rec.Batch}}
	o.out[n.index] = h
	o.dispatch(ctx, h)
}

// dispatch begins to hand a chunk out. Others are handed out meanwhile: a broker whose channel is in
// memory accepts an event when the replica has done it.
func (o *office) dispatch(ctx context.Context, h *handed) {
	h.since = time.Time{}
	o.handing.Go(func() { // ends with ctx, or when it is accepted
		err := o.insist(ctx, o.rec.Batch.Through, func() error {
			if h.done.Load() {
				return nil
			}
			return o.engine.cfg.Dispatch(ctx, o.rec.Batch.Through, h.chunk)
		})
		select {
		case o.accepted <- acceptance{h, err}:
		case <-ctx.Done():
		}
	})
}

// look finds out what was committed, and hands out again what takes too long.
func (o *office) look(ctx context.Context) error {
	r := o.run
	if len(o.out) == 0 {
		return nil
	}
	var names, failed, tries map[string]int64
	err := r.insist(ctx, theOutput, func() (err error) {
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
	for index, h := range o.out {
		_, done := names[chunkName("", index)]
		_, wrong := failed[chunkName("", index)]
		switch {
		case done:
			err = r.take(ctx, index)
			h.done.Store(true)
			delete(o.out, index)
		case wrong:
			err = r.failure(ctx, index)
		case !h.since.IsZero() && time.Since(h.since) > r.engine.cfg.Resend:
			r.watch.line(fmt.Sprintf("chunk %d was not done in %s: handing it out again", index, r.engine.cfg.Resend))
			o.dispatch(ctx, h)
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
	err := r.insist(ctx, theOutput, func() (err error) {
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
	if err := r.insist(ctx, theOutput, func() error {
		_, err := r.folder.take(ctx, chunkName(failures, index), f)
		return err
	}); err != nil {
		return err
	}
	return actions.Errorf(f.Code, "chunk %d: %s", index, f.Error)
}
