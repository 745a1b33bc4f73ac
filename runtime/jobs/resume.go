package jobs

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

// adopt queues the jobs of servers that have ended.
func (s *Jobs) adopt() {
	if !s.cfg.Resume {
		return
	}
	ids, err := s.store.ids()
	if err != nil {
		s.cfg.Log.Warn("jobs not looked at", "err", err)
		return
	}
	var lost []*job
	settled := map[string]bool{}
	for _, id := range ids {
		switch {
		case s.settled[id]:
			settled[id] = true
		case !s.isLive(id):
			var j *job
			if j, settled[id] = s.adoptOne(id); j != nil {
				lost = append(lost, j)
			}
		}
	}
	s.settled = settled
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range lost {
		if s.closed {
			j.cancel()
			j.unlock()
			continue
		}
		s.queueLocked(j)
	}
	s.startNextLocked()
}

func (s *Jobs) isLive(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[id] != nil
}

// adoptOne returns a job whose server has ended, nil if that is not so, and whether it has
// ended itself. One that somebody wanted to end is removed.
func (s *Jobs) adoptOne(id string) (lost *job, settled bool) {
	rec, held, err := s.store.take(id)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !s.store.exists(id):
		return nil, false // it was removed in the meantime
	case err != nil:
		s.store.warn(id, err)
		return nil, false
	case held == nil:
		return nil, rec.Job.State.Final()
	}
	if s.store.exists(id + "/" + cancelName) {
		defer unlock(held)
		if err := s.store.remove(id); err != nil {
			s.cfg.Log.Warn("job not removed", "job", id, "err", err)
		}
		return nil, false
	}
	if !s.cfg.Knows(rec.Job.Model) {
		unlock(held)
		return nil, false
	}
	j := &job{store: s.store, lock: held, job: rec.Job, ended: make(chan struct{}), dirty: true}
	j.job.State = actions.JobQueued
	j.out = s.newOutput(j, id)
	if err := j.out.resume(); err != nil {
		s.cfg.Log.Warn("log of a job not resumed", "job", id, "err", err)
	}
	s.arm(context.Background(), j)
	_ = j.save() // it warns, and tries again later
	s.cfg.Log.Info("job resumed", "job", id, "model", rec.Job.Model, "verb", rec.Job.Verb, "attempts", rec.Job.Attempts)
	return j, false
}

// cancelLost removes a job that waits for another server because its own has ended; false if
// it does not.
func (s *Jobs) cancelLost(id string) (job actions.Job, gone bool, err error) {
	if !s.cfg.Resume {
		return actions.Job{}, false, nil
	}
	rec, held, err := s.store.take(id)
	if err != nil || held == nil {
		return actions.Job{}, false, nil // who asked looks for himself
	}
	defer unlock(held)
	if err := s.store.remove(id); err != nil {
		return actions.Job{}, false, storeError(err)
	}
	rec.Job.State, rec.Job.Finished = actions.JobCancelled, time.Now().UTC().Round(0)
	return rec.Job, true, nil
}

// resume has the output go on behind what an earlier server has written, without the line that
// it did not finish.
func (o *output) resume() error {
	segments := o.store.segments(o.id)
	if len(segments) == 0 {
		return nil
	}
	last := segments[len(segments)-1]
	f, err := o.store.root.OpenFile(last.path, os.O_RDWR|os.O_APPEND|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	size, err := wholeLines(f, max(o.max, defaultMaxLog))
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.file, o.start, o.size, o.tails = f, last.start, size, segments[1:]
	return nil
}

// wholeLines is how many bytes of a file of limit bytes at most are lines with an end.
func wholeLines(f *os.File, limit int64) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return 0, errors.New("it is no log of ours")
	}
	data := make([]byte, info.Size())
	if n, err := f.ReadAt(data, 0); n < len(data) {
		return 0, err
	}
	return int64(bytes.LastIndexByte(data, '\n') + 1), nil
}
