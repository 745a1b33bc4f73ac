package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A job is a job of this server that waits or runs, or whose end is not on disk yet.
type job struct {
	store  *store
	out    *output
	start  func() // runs it, in a goroutine of its own
	cancel context.CancelFunc
	ended  chan struct{} // closed when nothing of it goes on any more

	disk    sync.Mutex // guards the next two, and the folder
	lock    *os.File   // nil when it was given back
	removed bool       // there is no folder any more

	mu     sync.Mutex // guards everything below; taken after disk
	job    actions.Job
	result *resultFile
	left   bool // its server ends, and another one is to go on with it
	dirty  bool // the record on disk is older
	warned bool
}

func (j *job) snapshot() actions.Job { return j.record().Job }

func (j *job) record() record {
	j.mu.Lock()
	defer j.mu.Unlock()
	rec := record{Job: j.job, Result: j.result}
	if p := j.job.Progress; p != nil {
		progress := *p
		rec.Job.Progress = &progress
	}
	return rec
}

// report takes the progress of a job that runs.
func (j *job) report(p actions.Progress) {
	p = sound(p)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.job.State == actions.JobRunning {
		j.job.Progress, j.dirty = &p, true
	}
}

// begin makes a job that waited one that runs; false if it has ended in the meantime.
func (j *job) begin() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.job.State.Final() || j.left {
		return false
	}
	j.job.State, j.dirty = actions.JobRunning, true
	j.job.Attempts++
	if j.job.Started.IsZero() {
		j.job.Started = time.Now().UTC().Round(0)
	}
	return true
}

// end gives a job its last state, the first who comes does. How the call of one ends that was
// left to another server is of interest only if it was done all the same.
func (j *job) end(state actions.JobState, msg string, result *resultFile) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.job.State.Final() || j.left && state != actions.JobDone && state != actions.JobCancelled {
		return
	}
	j.job.State, j.job.Finished, j.dirty = state, time.Now().UTC().Round(0), true
	j.job.Error = cut(strings.ToValidUTF8(msg, "\uFFFD"), maxMessage)
	j.result = result
}

// leave leaves a job that has not ended to the next server.
func (j *job) leave() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.left = true
}

// wasLeft says whether another server is to go on with the job.
func (j *job) wasLeft() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.left && !j.job.State.Final()
}

// save brings the record on disk up to date.
func (j *job) save() error {
	j.disk.Lock()
	defer j.disk.Unlock()
	if j.removed {
		return nil
	}
	j.mu.Lock()
	dirty := j.dirty
	j.dirty = false
	j.mu.Unlock()
	if !dirty {
		return nil
	}
	rec := j.record()
	err := j.store.writeRecord(rec.Job.ID, rec)
	if errors.Is(err, fs.ErrNotExist) && !j.store.exists(rec.Job.ID) {
		j.removed = true // by others, and so the job is to be forgotten
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		j.warned = false
		return nil
	}
	j.dirty = true
	if !j.warned {
		j.store.log.Warn("job record not written", "job", rec.Job.ID, "err", err)
	}
	j.warned = true
	return err
}

// unlock gives the job's lock back.
func (j *job) unlock() {
	j.disk.Lock()
	defer j.disk.Unlock()
	unlock(j.lock)
	j.lock = nil
}

// remove removes the job's folder, and nothing is written there any more.
func (j *job) remove() error {
	j.disk.Lock()
	defer j.disk.Unlock()
	j.removed = true
	// The lock goes last: nobody may take the job for one whose server has ended.
	err := j.store.remove(j.snapshot().ID)
	unlock(j.lock)
	j.lock = nil
	return err
}

// startNextLocked starts those who wait, as many as may run.
func (s *Jobs) startNextLocked() {
	for s.running < s.cfg.MaxRunning && len(s.queue) > 0 && !s.closed {
		j := s.queue[0]
		s.queue = s.queue[1:]
		s.running++
		s.work.Go(j.start)
	}
}

// run is the goroutine of a job. It ends when its worker has.
func (s *Jobs) run(ctx context.Context, j *job) {
	defer func() {
		s.retire(j)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running--
		s.startNextLocked()
	}()
	defer j.cancel()
	job := j.snapshot()
	log := s.cfg.Log.With("job", job.ID, "model", job.Model, "verb", job.Verb)
	instance, err := s.cfg.Start(ctx, job, Output{Line: j.out.add, Progress: j.out.report})
	if err != nil {
		j.out.addAll(logsOf(err))
		j.end(actions.JobFailed, "the worker did not start: "+message(err), nil)
		log.Info("job ended", "state", j.snapshot().State, "err", err)
		return
	}
	// Who cancels the job ends its worker too, whatever that does about its call.
	var failed error
	closed := make(chan struct{})
	shut := func() { failed = instance.Close(); close(closed) }
	stop := context.AfterFunc(ctx, shut)
	defer func() {
		if stop() {
			shut()
		}
		<-closed
		if failed != nil {
			log.Warn("worker not closed", "err", failed)
		}
	}()
	if !j.begin() {
		return
	}
	_ = j.save() // it warns, and tries again later
	began := time.Now()
	log.Info("job started", "queue_seconds", began.Sub(job.Created).Seconds(), "attempt", j.snapshot().Attempts)
	s.call(ctx, j, instance)
	if j.wasLeft() {
		log.Info("job left to the next server", "run_seconds", time.Since(began).Seconds())
	} else {
		log.Info("job ended", "state", j.snapshot().State, "run_seconds", time.Since(began).Seconds())
	}
	_ = j.save() // the end counts, also if closing takes its time
}

// call makes the call that the job is for, and ends the job with its outcome.
func (s *Jobs) call(ctx context.Context, j *job, instance Instance) {
	job := j.snapshot()
	req, release, err := s.store.unspool(job.ID, job.Model)
	if err != nil {
		j.end(actions.JobFailed, "the request cannot be read: "+reason(err), nil)
		return
	}
	resp, err := instance.Call(ctx, req)
	if err != nil {
		release()
		j.out.addAll(logsOf(err))
		j.end(actions.JobFailed, outcome(err), nil)
		return
	}
	j.out.addAll(resp.Logs)
	result := describeResponse(&resp)
	err = s.keepResult(job.ID, &resp)
	release() // after the last use of the answer, which may be a part of the request
	if err != nil {
		j.end(actions.JobFailed, "the result cannot be kept: "+reason(err), nil)
		return
	}
	j.end(actions.JobDone, "", result)
}

func (s *Jobs) keepResult(id string, resp *actions.Response) error {
	if size := int64(len(resp.Data)); size > s.cfg.MaxResult {
		return fmt.Errorf("it has %d bytes, the limit is %d", size, s.cfg.MaxResult)
	}
	return s.store.replace(id, resultName, resp.Data)
}

// retire ends what is left of a job when its worker has ended, or it never had one.
func (s *Jobs) retire(j *job) {
	defer close(j.ended)
	j.out.close()
	job := j.snapshot()
	if job.State == actions.JobCancelled {
		if err := j.remove(); err != nil {
			s.cfg.Log.Warn("job not removed", "job", job.ID, "err", err)
		}
		s.forget(j)
		return
	}
	if j.wasLeft() {
		_ = j.save() // it warns; the next server knows enough of an older record
		s.forget(j)
		return
	}
	if err := s.store.root.RemoveAll(job.ID + "/" + requestName); err != nil {
		s.cfg.Log.Warn("request of a job not removed", "job", job.ID, "err", err)
	}
	if j.save() != nil {
		return // it stays alive, and keep tries again
	}
	s.forget(j)
	if err := s.store.prune(job.Model, s.cfg.Keep); err != nil {
		s.cfg.Log.Warn("old jobs not removed", "model", job.Model, "err", err)
	}
}

// forget leaves a job to its record.
func (s *Jobs) forget(j *job) {
	j.unlock()
	s.mu.Lock()
	delete(s.live, j.snapshot().ID)
	s.mu.Unlock()
}

// outcome says why a call failed: what the model said, or that its worker has ended.
func outcome(err error) string {
	if actions.CodeOf(err) != actions.Unavailable {
		return message(err)
	}
	msg := "the worker ended before it had answered: " + message(err)
	if strings.Contains(msg, "signal: killed") {
		msg += " (perhaps for want of memory)"
	}
	return msg
}

// message is what err says, with what is wrong with which argument.
func message(err error) string {
	e, ok := errors.AsType[*actions.Error](err)
	if !ok {
		return err.Error()
	}
	if saysAll(e) {
		return e.Error()
	}
	fields, err := json.Marshal(e.Fields)
	if err != nil {
		return e.Error()
	}
	return strings.TrimPrefix(e.Error()+": "+string(fields), ": ")
}

// saysAll says whether a message has all that the fields say.
func saysAll(e *actions.Error) bool {
	for _, texts := range e.Fields {
		for _, text := range texts {
			if !strings.Contains(e.Msg, text) {
				return false
			}
		}
	}
	return true
}

func logsOf(err error) []actions.LogLine {
	if e, ok := errors.AsType[*actions.Error](err); ok {
		return e.Logs
	}
	return nil
}
