package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

const (
	// cancelTime is how long Cancel waits for the end of a job.
	cancelTime = 5 * time.Second
	// lookTime is how often Cancel looks whether another server has ended a job.
	lookTime = 100 * time.Millisecond
)

// Cancel ends a job and removes it with all its files. It returns the job, cancelled; one
// that had ended is returned as it was. It waits up to 5 seconds until the worker has
// ended; one that takes longer is still ended, and keeps its place among those that run.
//
// A job of another server is ended by that server. If it has not done so after 5 seconds
// the error is Unavailable. When ctx ends first the error is Deadline or Canceled, and the
// job is cancelled all the same.
func (s *Jobs) Cancel(ctx context.Context, model, id string) (actions.Job, error) {
	j, rec, err := s.find(model, id)
	switch {
	case err != nil:
		return actions.Job{}, err
	case j != nil:
		return s.cancelOwn(ctx, j)
	case rec.Job.State.Final():
		return s.removeEnded(rec)
	}
	return s.cancelOther(ctx, rec)
}

// cancelOwn ends a job of this server, or removes it when it has just ended.
func (s *Jobs) cancelOwn(ctx context.Context, j *job) (actions.Job, error) {
	s.halt(j, j.cancelled)
	rec := j.record()
	job, known := s.store.shown(rec, rec.size())
	patience := time.NewTimer(cancelTime)
	defer patience.Stop()
	select {
	case <-j.ended:
	case <-patience.C:
	case <-ctx.Done():
		return actions.Job{}, leftError(ctx)
	}
	err := j.remove()
	s.forget(j)
	switch {
	case err != nil:
		return actions.Job{}, storeError(err)
	case !known:
		return actions.Job{}, errNoJob(job.Model)
	}
	return job, nil
}

// cancelled is the end of a job that somebody has cancelled.
func (j *job) cancelled() { j.end(actions.JobCancelled, "", nil) }

// interrupted is the end of a job whose server is being stopped.
func (j *job) interrupted() {
	j.end(actions.JobInterrupted, "the server was stopped while the job "+doing(j.snapshot().State), nil)
}

// halt ends the work on a job of this server, after end has said what becomes of the job. It
// does not wait for its worker.
func (s *Jobs) halt(j *job, end func()) {
	s.mu.Lock()
	waits := slices.Index(s.queue, j)
	if waits >= 0 {
		s.queue = slices.Delete(s.queue, waits, waits+1)
	}
	s.mu.Unlock()
	end()
	j.cancel()
	if waits >= 0 {
		s.retire(j) // nobody else will
		return
	}
	_ = j.save() // it warns; should the server be killed now, this is how the job ended
}

func leftError(ctx context.Context) error {
	code := actions.Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = actions.Deadline
	}
	return actions.Errorf(code, "the job is being cancelled: %w", ctx.Err())
}

// removeEnded removes a job that has ended.
func (s *Jobs) removeEnded(rec record) (actions.Job, error) {
	job, known := s.store.shown(rec, rec.size())
	if !known {
		return actions.Job{}, errNoJob(job.Model)
	}
	if err := s.store.remove(job.ID); err != nil {
		return actions.Job{}, storeError(err)
	}
	return job, nil
}

// cancelOther asks the server of a job to end it, if there is one.
func (s *Jobs) cancelOther(ctx context.Context, rec record) (actions.Job, error) {
	id := rec.Job.ID
	if job, gone, err := s.cancelLost(id); gone || err != nil {
		return job, err
	}
	f, err := s.store.create(s.store.root, id+"/"+cancelName)
	switch {
	case err == nil:
		_ = f.Close()
	case errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist):
		// Somebody else has asked, or the job is gone already.
	default:
		return actions.Job{}, storeError(err)
	}
	look := time.NewTicker(lookTime)
	defer look.Stop()
	patience := time.NewTimer(cancelTime)
	defer patience.Stop()
	for {
		now, err := s.store.record(id)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			rec.Job.State, rec.Job.Finished = actions.JobCancelled, time.Now().UTC().Round(0)
			return rec.Job, nil
		case err != nil:
			return actions.Job{}, storeError(err)
		case now.Job.State.Final() && !s.store.held(id):
			return s.removeEnded(now)
		}
		select {
		case <-look.C:
		case <-patience.C:
			return actions.Job{}, actions.Errorf(actions.Unavailable,
				"the job runs on another server, which was asked to end it and has not done so yet")
		case <-ctx.Done():
			return actions.Job{}, leftError(ctx)
		}
	}
}

// held says whether a server has the lock of a job.
func (s *store) held(id string) bool {
	lock, err := s.lock(id+"/"+lockName, unix.LOCK_EX|unix.LOCK_NB)
	unlock(lock)
	return errors.Is(err, unix.EWOULDBLOCK)
}

// keep is the goroutine that writes progress to disk, tries again to write what could
// not be written, ends the jobs that other servers want to end, and goes on with those of
// servers that have ended. Close ends it.
func (s *Jobs) keep() {
	ticks := time.NewTicker(flushTime)
	defer ticks.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticks.C:
		}
		for _, j := range s.alive() {
			s.visit(j)
		}
		s.adopt()
	}
}

func (s *Jobs) visit(j *job) {
	job := j.snapshot()
	if !job.State.Final() && s.store.exists(job.ID+"/"+cancelName) {
		s.halt(j, j.cancelled)
		return
	}
	if j.save() != nil {
		return
	}
	select {
	case <-j.ended:
		if job.State.Final() {
			s.forget(j)
		}
	default:
	}
}

// Close refuses new jobs and ends those that wait or run, which are interrupted, or left to the
// next server. It returns when their workers have ended, or with an error when ctx ends first; they go on
// ending then. After it the other methods answer Unavailable.
func (s *Jobs) Close(ctx context.Context) error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if first {
		close(s.stop)
	}
	for _, j := range s.alive() {
		if s.cfg.Resume {
			s.halt(j, j.leave)
		} else {
			s.halt(j, j.interrupted)
		}
	}
	done := make(chan struct{})
	go func() { // ends with the last worker, which was told to end
		s.work.Wait()
		close(done)
	}()
	if err := s.awaitEnd(ctx, done); err != nil {
		return err
	}
	var errs []error
	for _, j := range s.alive() { // those whose record could not be written
		errs = append(errs, j.save())
		s.forget(j)
	}
	return errors.Join(append(errs, s.store.root.Close())...)
}

// awaitEnd waits until all is done, or ctx ends. A context that has ended already is no error
// where no job is left: what ends then takes moments.
func (s *Jobs) awaitEnd(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	left := len(s.alive())
	if left == 0 {
		moment := time.NewTimer(time.Second)
		defer moment.Stop()
		select {
		case <-done:
			return nil
		case <-moment.C:
		}
	}
	return fmt.Errorf("jobs: %d still end: %w", left, ctx.Err())
}
