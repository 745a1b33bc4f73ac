package jobs

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

const (
	defaultMaxQueued = 1000
	defaultKeep      = 100
	defaultMaxLog    = 16 << 20
	defaultMaxResult = 64 << 20
	// listedResult is the longest result that a list shows itself.
	listedResult = 1 << 20
	// flushTime is how often progress is written to disk, and other servers' wishes are read.
	flushTime = 2 * time.Second
)

// An Instance is a worker that one job has to itself; *worker.Worker is one.
type Instance interface {
	// Call answers the request. When ctx ends first it returns an error soon.
	Call(ctx context.Context, req actions.Request) (actions.Response, error)
	// Close ends the worker, with all its processes, and waits for that. It may be called
	// while a call goes on.
	Close() error
}

// Config says how Jobs work. Dir and Start are required.
type Config struct {
	// Dir is the folder of the records; it is made when it is absent.
	Dir string
	// Start starts a worker for one job of the model. The context bounds the start alone.
	// output takes each line that the worker prints when it comes; many may call it, and
	// it may be called too late. Lines in the answer, or in the error of the start, are
	// taken only from a worker that never called output.
	Start func(ctx context.Context, model string, output func(actions.LogLine)) (Instance, error)
	// MaxRunning is how many jobs run at the same time. The default is 1.
	MaxRunning int
	// MaxQueued is how many more may wait. The default is 1000.
	MaxQueued int
	// Keep is how many jobs that have ended are kept for each model; the oldest are
	// removed. The default is 100; a negative number means all.
	Keep int
	// MaxLog is how many bytes of a job's log are kept, half of them its beginning and the
	// rest its end. The default is 16 MiB; less than 4 KiB means 4 KiB.
	MaxLog int64
	// MaxResult is how many bytes a result may have; with more the job fails. The default
	// is 64 MiB.
	MaxResult int64
	// Log takes a line for each job that starts or ends. The default discards.
	Log *slog.Logger
}

func (cfg Config) withDefaults() Config {
	if cfg.MaxRunning <= 0 {
		cfg.MaxRunning = 1
	}
	if cfg.MaxQueued <= 0 {
		cfg.MaxQueued = defaultMaxQueued
	}
	if cfg.Keep == 0 {
		cfg.Keep = defaultKeep
	}
	if cfg.MaxLog <= 0 {
		cfg.MaxLog = defaultMaxLog
	}
	cfg.MaxLog = max(cfg.MaxLog, minLog)
	if cfg.MaxResult <= 0 {
		cfg.MaxResult = defaultMaxResult
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// Jobs runs invocations that outlive their requests. Many goroutines may use it. Its
// errors are *actions.Error: NotFound for a job that is not there or is another model's,
// Unavailable after Close, Internal if the folder of the records is at fault.
type Jobs struct {
	cfg   Config
	store *store
	work  sync.WaitGroup // the goroutines, and the calls of Submit
	stop  chan struct{}  // closed by Close

	mu         sync.Mutex // guards everything below
	closed     bool
	live       map[string]*job // those whose record on disk is not the last word
	queue      []*job          // oldest first
	running    int
	submitting int
	last       time.Time // when the newest job was made
}

// Open returns the jobs of a folder. It removes what servers that were killed left half
// made, and those that ran are interrupted from now on.
func Open(cfg Config) (*Jobs, error) {
	cfg = cfg.withDefaults()
	if cfg.Dir == "" || cfg.Start == nil {
		return nil, errors.New("jobs: a Config needs a Dir and a Start")
	}
	store, err := openStore(cfg.Dir, cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	err = store.sweep()
	if err == nil {
		err = store.prune("", cfg.Keep)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("jobs: %w", err), store.root.Close())
	}
	s := &Jobs{cfg: cfg, store: store, stop: make(chan struct{}), live: map[string]*job{}}
	s.work.Go(s.keep)
	return s, nil
}

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
	j.out = &output{store: s.store, id: id, max: s.cfg.MaxLog, progress: j.report}
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
	// The caller's values go with the job, but not his leaving.
	ctx, j.cancel = context.WithCancel(context.WithoutCancel(ctx))
	j.start = func() { s.run(ctx, j) }
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
	s.live[made.ID] = j
	s.queue = append(s.queue, j)
	slices.SortFunc(s.queue, func(a, b *job) int { return older(a.snapshot(), b.snapshot()) })
	s.startNextLocked()
	return made, nil
}

func errClosed() error {
	return actions.Errorf(actions.Unavailable, "the server is shutting down")
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

// List returns the jobs of a model, oldest first. A result of more than 1 MiB is described
// like one that is not JSON; Job shows it itself.
func (s *Jobs) List(ctx context.Context, model string) ([]actions.Job, error) {
	if model == "" {
		return []actions.Job{}, nil
	}
	// Who leaves the live ones between the two looks is found on disk.
	jobs := map[string]actions.Job{}
	for _, j := range s.alive() {
		if rec := j.record(); rec.Job.Model == model {
			s.store.list(jobs, rec)
		}
	}
	records, err := s.store.records(model)
	if err != nil {
		return nil, storeError(err)
	}
	for _, rec := range records {
		if err := ctx.Err(); err != nil {
			return nil, actions.Errorf(actions.Canceled, "the list of jobs: %w", err)
		}
		if _, ok := jobs[rec.Job.ID]; !ok {
			s.store.list(jobs, rec)
		}
	}
	list := make([]actions.Job, 0, len(jobs))
	for _, job := range jobs {
		list = append(list, job)
	}
	slices.SortFunc(list, older)
	return list, nil
}

// list puts the job of a record into a list.
func (s *store) list(jobs map[string]actions.Job, rec record) {
	if job, ok := s.shown(rec, listedResult); ok {
		jobs[job.ID] = job
	}
}

func (s *Jobs) alive() []*job {
	s.mu.Lock()
	defer s.mu.Unlock()
	jobs := make([]*job, 0, len(s.live))
	for _, j := range s.live {
		jobs = append(jobs, j)
	}
	return jobs
}

// Job returns a job of a model.
func (s *Jobs) Job(_ context.Context, model, id string) (actions.Job, error) {
	_, rec, err := s.find(model, id)
	if err != nil {
		return actions.Job{}, err
	}
	job, ok := s.store.shown(rec, rec.size())
	if !ok {
		return actions.Job{}, errNoJob(model)
	}
	return job, nil
}

// find returns what is known of a job, and the job itself if it is this server's.
func (s *Jobs) find(model, id string) (*job, record, error) {
	if !isID(id) {
		return nil, record{}, errNoJob(model)
	}
	s.mu.Lock()
	j := s.live[id]
	s.mu.Unlock()
	if j != nil {
		rec := j.record()
		if rec.Job.Model != model {
			return nil, record{}, errNoJob(model)
		}
		return j, rec, nil
	}
	rec, err := s.store.record(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, record{}, errNoJob(model)
	case errors.Is(err, os.ErrClosed):
		return nil, record{}, errClosed()
	case err != nil:
		s.store.warn(id, err)
		return nil, record{}, errNoJob(model)
	case rec.Job.Model != model:
		return nil, record{}, errNoJob(model)
	}
	return nil, rec, nil
}

func errNoJob(model string) error {
	return actions.Errorf(actions.NotFound, "model %.80q has no such job", model)
}

func storeError(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return errClosed()
	}
	return &actions.Error{Code: actions.Internal, Msg: "the records of the jobs: " + reason(err), Err: err}
}
