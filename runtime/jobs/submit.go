package jobs

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

// Submit makes a job of the request and returns it when it is on disk. Its bytes are the
// caller's again then. shown are the arguments as Job.Args shows them, a JSON object; nil
// means {}. The context bounds the submission, not the job.
//
// The error is Busy when too many jobs wait, Invalid or TooLarge if the arguments are,
// Unavailable when there is no space on the disk, and what Jobs says.
func (s *Jobs) Submit(ctx context.Context, req actions.Request, shown json.RawMessage) (actions.Job, error) {
	if err := check(&req, &shown); err != nil {
		return actions.Job{}, err
	}
	if err := s.reserve(); err != nil {
		return actions.Job{}, err
	}
	defer s.work.Done()
	j, err := s.make(ctx, &req, shown)
	if err != nil {
		s.mu.Lock()
		s.submitting--
		s.mu.Unlock()
		return actions.Job{}, submitError(ctx, err)
	}
	return s.enqueue(ctx, j)
}

func check(req *actions.Request, shown *json.RawMessage) error {
	if req.Verb == "" {
		req.Verb = actions.Predict
	}
	if *shown == nil {
		*shown = json.RawMessage("{}")
	}
	switch {
	case req.Model == "":
		return actions.Errorf(actions.Invalid, "a job needs a model")
	case len(*shown) > maxShown:
		return actions.Errorf(actions.TooLarge, "the arguments that a job shows have %d bytes, the limit is %d", len(*shown), maxShown)
	case !isObject(*shown):
		return actions.Errorf(actions.Invalid, "the arguments that a job shows must be a JSON object")
	}
	return nil
}

// reserve takes a place in the queue for a job that will be made.
func (s *Jobs) reserve() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := len(s.queue) + s.submitting
	switch {
	case s.closed:
		return errClosed()
	case s.running >= s.cfg.MaxRunning && waiting >= s.cfg.MaxQueued:
		return actions.Errorf(actions.Busy, "%d jobs wait already, which is the limit", waiting)
	}
	s.submitting++
	s.work.Add(1)
	return nil
}

// make writes a job to disk.
func (s *Jobs) make(ctx context.Context, req *actions.Request, shown json.RawMessage) (*job, error) {
	id, err := newID()
	if err != nil {
		return nil, err
	}
	j := &job{store: s.store, ended: make(chan struct{})}
	var args bytes.Buffer
	if err := json.Compact(&args, shown); err != nil {
		return nil, err
	}
	j.out = s.newOutput(j, id)
	j.lock, err = s.store.add(id, func(folder string) error {
		if err := s.store.spool(ctx, folder, req); err != nil {
			return err
		}
		j.job = actions.Job{
			ID: id, Model: req.Model, Verb: req.Verb, Args: args.Bytes(),
			State: actions.JobQueued, Created: s.now(),
		}
		return s.store.writeRecord(folder, record{Job: j.job})
	})
	return j, err
}

// newID returns 32 hexadecimal digits that nobody can guess.
func newID() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return hex.EncodeToString(b[:]), nil
}

// now is the time, later than any that it returned before, so that jobs have an order.
func (s *Jobs) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UTC().Round(0)
	if !now.After(s.last) {
		now = s.last.Add(1)
	}
	s.last = now
	return now
}

// enqueue puts a job in line, and starts it if it is its turn.
func (s *Jobs) enqueue(ctx context.Context, j *job) (actions.Job, error) {
	s.arm(ctx, j)
	made := j.snapshot()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.submitting--
	if s.closed {
		j.cancel()
		if err := j.remove(); err != nil {
			s.cfg.Log.Warn("job not removed", "job", made.ID, "err", err)
		}
		return actions.Job{}, errClosed()
	}
	s.queueLocked(j)
	s.startNextLocked()
	return made, nil
}

// arm readies a job to be started. The caller's values go with it, but not his leaving.
func (s *Jobs) arm(ctx context.Context, j *job) {
	ctx, j.cancel = context.WithCancel(context.WithoutCancel(ctx))
	j.start = func() { s.run(ctx, j) }
}

// queueLocked puts a job in line, behind those that are older.
func (s *Jobs) queueLocked(j *job) {
	s.live[j.snapshot().ID] = j
	s.queue = append(s.queue, j)
	slices.SortFunc(s.queue, func(a, b *job) int { return older(a.snapshot(), b.snapshot()) })
}

// submitError says why a job could not be made.
func submitError(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*actions.Error](err); ok {
		return e
	}
	code := actions.Internal
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		code = actions.Deadline
	case ctx.Err() != nil:
		code = actions.Canceled
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		code = actions.Unavailable
	}
	return &actions.Error{Code: code, Msg: "the job cannot be recorded: " + reason(err), Err: err}
}
