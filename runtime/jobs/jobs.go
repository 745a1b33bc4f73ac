package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	defaultMaxQueued = 1000
	defaultKeep      = 100
	defaultMaxLog    = 16 << 20
	defaultMaxResult = 64 << 20
	// listedResult is the longest result that a list shows itself.
	listedResult = 1 << 20
	// flushTime is how often progress is written to disk, other servers' wishes are read, and
	// the jobs of servers that have ended are looked for.
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

// An Output takes what a job says while it runs. Many may call its functions, and they may be
// called too late.
type Output struct {
	// Line takes a line that the job prints. Its newline is not a part of it.
	Line func(actions.LogLine)
	// Progress takes how far the job has come, and wins over what lines say of that. A
	// fraction that is none becomes the nearest that is; a zero Time becomes now.
	Progress func(actions.Progress)
}

// Config says how Jobs work. Dir and Start are required.
type Config struct {
	// Dir is the folder of the records; it is made when it is absent.
	Dir string
	// Start starts a worker for one job, as it was before it began. The context bounds the
	// start alone. out takes what the worker says when it comes. Lines in the answer, or in
	// the error of the start, are taken only from a worker that never called out.Line.
	Start func(ctx context.Context, job actions.Job, out Output) (Instance, error)
	// Resume says that only its own end or Cancel ends a job: one whose server has ended is
	// queued again, in its old place, and is called with the same request. So a call has to
	// go on where another has left off. The default is that the job is interrupted.
	Resume bool
	// Knows says whether jobs of a model can be resumed here; the others are left to a server
	// that can. Nil means all.
	Knows func(model string) bool
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
	if cfg.Knows == nil {
		cfg.Knows = func(string) bool { return true }
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
	// settled are the jobs that have ended, as far as adopt has seen that; the goroutine keep
	// alone has it after Open.
	settled map[string]bool

	mu         sync.Mutex // guards everything below
	closed     bool
	live       map[string]*job // those whose record on disk is not the last word
	queue      []*job          // oldest first
	running    int
	submitting int
	last       time.Time // when the newest job was made
}

// Open returns the jobs of a folder. It removes what servers that were killed left half
// made, and those that ran are interrupted, or queued again, from now on.
func Open(cfg Config) (*Jobs, error) { return open(cfg, createFile) }

// open is Open with what makes files.
func open(cfg Config, create func(root *os.Root, name string) (*os.File, error)) (*Jobs, error) {
	cfg = cfg.withDefaults()
	if cfg.Dir == "" || cfg.Start == nil {
		return nil, errors.New("jobs: a Config needs a Dir and a Start")
	}
	store, err := openStore(cfg.Dir, cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	store.create, store.resume = create, cfg.Resume
	err = store.sweep()
	if err == nil {
		err = store.prune("", cfg.Keep)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("jobs: %w", err), store.root.Close())
	}
	s := &Jobs{cfg: cfg, store: store, stop: make(chan struct{}), live: map[string]*job{}, settled: map[string]bool{}}
	s.adopt()
	s.work.Go(s.keep)
	return s, nil
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

func errClosed() error {
	return actions.Errorf(actions.Unavailable, "the server is shutting down")
}
