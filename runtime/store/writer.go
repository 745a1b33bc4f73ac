package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/deepfn/deepfn/actions"
)

const (
	// A transaction has so many changes, or so many bytes, at most.
	maxBatch      = 1024
	maxBatchBytes = 16 << 20

	// trimPerRecord is how many activations go when one comes while there are too many,
	// trimIdle how many go at once when none comes: little enough that nobody waits long.
	trimPerRecord = 4
	trimIdle      = 256

	// trimPause is between two parts of what is too many, trimInterval how often
	// activations that are too old are looked for while none comes.
	trimPause    = 10 * time.Millisecond
	trimInterval = time.Minute
)

// A write is a change that somebody waits for.
type write struct {
	apply func(*bbolt.Tx) error // may be called again, in another transaction
	size  int                   // bytes
	adds  int                   // activations
	done  chan error            // has room for the answer
}

// put has the writer make a change and waits until it is on disk.
func (s *Store) put(ctx context.Context, w *write) error {
	w.done = make(chan error, 1)
	select {
	case <-s.closing:
		return s.wrap(bolterrors.ErrDatabaseNotOpen)
	default:
	}
	select {
	case s.queue <- w:
	case <-s.closing:
		return s.wrap(bolterrors.ErrDatabaseNotOpen)
	case <-ctx.Done():
		return left(ctx)
	}
	select {
	case err := <-w.done:
		return s.wrap(err)
	case <-ctx.Done():
		return left(ctx)
	}
}

// left is the error of a caller who has not waited.
func left(ctx context.Context) error {
	code := actions.Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = actions.Deadline
	}
	return &actions.Error{Code: code, Msg: fmt.Sprintf("the activation was not written to the disk in time: %v", ctx.Err()), Err: ctx.Err()}
}

// writer is the one goroutine that writes activations. It ends when closing is closed and
// everything that was begun is written.
func (s *Store) writer() {
	defer close(s.written)
	trim := time.NewTimer(0)
	defer trim.Stop()
	for {
		select {
		case w := <-s.queue:
			if s.writeAll(s.gather(w)) {
				trim.Reset(trimPause)
			}
		case <-trim.C:
			trim.Reset(s.trimIdle())
		case <-s.closing:
			s.drain()
			return
		}
	}
}

// drain writes what waited when the store was closed.
func (s *Store) drain() {
	for {
		select {
		case w := <-s.queue:
			s.writeAll(s.gather(w))
		default:
			return
		}
	}
}

// gather returns everything that waits, first among it.
func (s *Store) gather(first *write) []*write {
	batch, size := []*write{first}, first.size
	for len(batch) < maxBatch && size < maxBatchBytes {
		select {
		case w := <-s.queue:
			batch = append(batch, w)
			size += w.size
		default:
			return batch
		}
	}
	return batch
}

// writeAll makes the changes, in one transaction if that succeeds, else each in its own,
// and answers. It reports whether there are too many activations still.
func (s *Store) writeAll(batch []*write) (more bool) {
	more, err := s.writeTogether(batch)
	for _, w := range batch {
		if err != nil && len(batch) > 1 {
			var again bool
			again, own := s.writeTogether([]*write{w})
			more = more || again
			w.done <- own
			continue
		}
		w.done <- err
	}
	return more
}

func (s *Store) writeTogether(batch []*write) (more bool, err error) {
	err = s.commit(func(tx *bbolt.Tx) error {
		adds := 0
		for _, w := range batch {
			if err := guard(func() error { return w.apply(tx) }); err != nil {
				return err
			}
			adds += w.adds
		}
		if adds == 0 {
			return nil
		}
		return guard(func() error {
			more, err = s.trim(tx, time.Now(), adds*trimPerRecord)
			return err
		})
	})
	return more, err
}

// trimIdle removes what is too much, while nothing is written, and returns when to look
// again.
func (s *Store) trimIdle() time.Duration {
	due, more := false, false
	err := guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			due = s.tooMuch(tx, time.Now())
			return nil
		})
	})
	if err == nil && due {
		err = s.commit(func(tx *bbolt.Tx) error {
			return guard(func() (err error) {
				more, err = s.trim(tx, time.Now(), trimIdle)
				return err
			})
		})
	}
	switch {
	case err != nil:
		s.log.Warn("old activations were not removed", "error", s.wrap(err))
	case more:
		return trimPause
	}
	return trimInterval
}

// commit makes changes in one transaction. With nil they are on disk. The error is that of
// fn as it is, or a commitError; with either nothing has changed.
func (s *Store) commit(fn func(*bbolt.Tx) error) error {
	if broken := s.broken.Load(); broken != nil {
		return broken
	}
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	defer func() { _ = guard(tx.Rollback) }() // it is over already when all went well
	if err := fn(tx); err != nil {
		return err
	}
	id := tx.ID()
	if err := guard(tx.Commit); err != nil {
		_ = guard(tx.Rollback)
		s.checkCommit(id)
		return commitError{err}
	}
	return nil
}

// checkCommit looks what a commit that failed has left. All but its last step, the one page
// that makes it count, is as if it had not been. If that is written, nobody knows whether
// the disk has it, and nothing more is written.
func (s *Store) checkCommit(id int) {
	seen := id
	err := guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			seen = tx.ID()
			return nil
		})
	})
	if err != nil || seen >= id {
		s.broken.Store(&actions.Error{
			Code: actions.Unavailable,
			Msg:  fmt.Sprintf("store %s: the disk has failed, so nothing more is written until the server is started again", s.cfg.Path),
		})
	}
}
