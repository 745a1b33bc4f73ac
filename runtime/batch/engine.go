package batch

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

// A Store has the objects of inputs and outputs; *storage.Storage is one. Its errors are
// *actions.Error: Unavailable, Busy and Deadline for what may go away.
type Store interface {
	rows.Store
	// Put writes an object, which is seen when it is whole. The body is read from where it is,
	// and again when the store has to be asked again.
	Put(ctx context.Context, url string, body io.ReadSeeker, size int64, opts actions.PutOptions) error
	// Copy copies an object to another URL of its store, in the place of what is there.
	Copy(ctx context.Context, from, to string) error
	// Remove removes an object. One that is not there is fine.
	Remove(ctx context.Context, url string) error
	// Tidy removes what is below a prefix and no object: what killed processes left.
	Tidy(ctx context.Context, prefix string) error
}

// Config says what an Engine works with. Store, Model, Describe and Invoke are required.
type Config struct {
	Store Store
	// Model finds a model of the catalog.
	Model func(ctx context.Context, name string) (actions.Model, error)
	// Describe returns what the program of a model that parses its own arguments says of it, for
	// which it may have to be started; nil for others.
	Describe func(ctx context.Context, m actions.Model) (*actions.Description, error)
	// Invoke runs one request.
	Invoke func(ctx context.Context, req actions.Request) (actions.Response, error)
	// Instances is how many instances the model may have: the calls of a batch that runs at the
	// same time by default. The default is 1.
	Instances func(m actions.Model) int
	// Dispatch hands a chunk to whoever is at through, and returns when it is accepted. Nil
	// means that every batch is done here.
	Dispatch func(ctx context.Context, through string, c actions.Chunk) error
	// Patience is how long a store or a model that is away is asked again. The default is 10
	// minutes.
	Patience time.Duration
	// Resend is after what time a chunk that was handed out is handed out again. The default is 5
	// minutes. Look is how often the store is asked which ones are committed. The default is a
	// second.
	Resend, Look time.Duration
	// TempDir has answers of a chunk that are over 8 MiB until they are stored. The default is
	// the system's.
	TempDir string
	// Log takes a line for each batch that begins or ends. Nil discards.
	Log *slog.Logger
}

// An Engine runs batches. Many may use it at the same time. Its errors are *actions.Error.
type Engine struct {
	cfg Config

	mu      sync.Mutex             // guards what follows
	outputs map[string]bool        // those that a Run of this process works on
	idle    map[string][]*idleRead // open inputs that no chunk uses, by the input
	hashes  map[string]knownHash   // of models, by their folder
}

// New makes an Engine.
func New(cfg Config) (*Engine, error) {
	if cfg.Store == nil || cfg.Model == nil || cfg.Describe == nil || cfg.Invoke == nil {
		return nil, errors.New("batch: a Config needs Store, Model, Describe and Invoke")
	}
	if cfg.Instances == nil {
		cfg.Instances = func(actions.Model) int { return 1 }
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 10 * time.Minute
	}
	if cfg.Resend <= 0 {
		cfg.Resend = 5 * time.Minute
	}
	if cfg.Look <= 0 {
		cfg.Look = time.Second
	}
	if cfg.TempDir == "" {
		cfg.TempDir = os.TempDir()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Engine{cfg: cfg, outputs: map[string]bool{}, idle: map[string][]*idleRead{}, hashes: map[string]knownHash{}}, nil
}

// A Watcher is told how a Run goes on. Its functions are called one at a time; nil ones are
// not.
type Watcher struct {
	// Progress takes how far it is: when it begins, after each chunk, and at the end.
	Progress func(actions.Progress)
	// Line takes a line for people.
	Line func(text string)
}

func (w Watcher) line(text string) {
	if w.Line != nil {
		w.Line(text)
	}
}

// Run runs a batch to its end and returns its manifest. What an earlier Run of the same batch
// has done is not done again, whoever did it and however it ended. It returns soon when ctx
// ends; the batch can be gone on with then, and after every error.
//
// The error is Invalid, Forbidden, NotFound or Unsupported for a batch that cannot work,
// Conflict if the output is used by something else, Failed if more rows failed than MaxErrors
// allows, Unavailable if the store or the model is away for too long, Deadline or Canceled
// when ctx ends.
func (e *Engine) Run(ctx context.Context, id string, b actions.Batch, w Watcher) (json.RawMessage, error) {
	if err := e.mayRun(b); err != nil {
		return nil, err
	}
	at := newFolder(e.cfg.Store, b.Output.URL).url
	if err := e.claim(at); err != nil {
		return nil, err
	}
	defer e.release(at)
	r, done, err := e.begin(ctx, id, b, w)
	if err != nil || done != nil {
		return done, err
	}
	defer r.close()
	e.cfg.Log.InfoContext(ctx, "batch begins", "job", id, "model", r.model.Name, "input", b.Input.URL, "output", b.Output.URL,
		"chunks_done", len(r.commits))
	if b.Through == "" {
		err = r.local(ctx)
	} else {
		err = r.through(ctx)
	}
	switch {
	case err == nil:
		done, err = r.finish(ctx)
	case actions.CodeOf(err) == actions.Failed:
		r.leave(ctx)
	}
	if err != nil && ctx.Err() == nil {
		done, err = r.completed(ctx, err)
	}
	r.withdraw(ctx, err)
	r.progress.tell(r.commits)
	e.cfg.Log.InfoContext(ctx, "batch ends", "job", id, "model", r.model.Name, "code", string(actions.CodeOf(err)),
		"rows", r.progress.rows, "failed", r.progress.failed)
	return done, err
}

// claim makes sure that one Run works on an output.
func (e *Engine) claim(output string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.outputs[output] {
		return actions.Errorf(actions.Conflict, "a batch of this server is writing to %s; wait for it, cancel it, or choose another output", output)
	}
	e.outputs[output] = true
	return nil
}

func (e *Engine) release(output string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.outputs, output)
}

// Abandon tells the replicas that have chunks of the batch that nobody waits for them. What is
// committed stays, and a new Run goes on with it.
func (e *Engine) Abandon(ctx context.Context, b actions.Batch) error {
	f := newFolder(e.cfg.Store, b.Output.URL)
	rec, err := f.record(ctx)
	if err != nil || rec == nil {
		return err
	}
	rec.Cancelled = true
	return f.put(ctx, recordName, rec, false)
}

// JobOf returns the batch that an output is of, and the id under which it was begun; done says that
// it is complete, and that the batch is not known any more. Without any of that id is "" and done false.
func JobOf(ctx context.Context, store Store, output string) (id string, b actions.Batch, done bool, err error) {
	f := newFolder(store, output)
	rec, err := f.record(ctx)
	if err != nil {
		return "", b, false, err
	}
	if rec != nil {
		id, b = rec.ID, rec.Batch
	}
	m, err := f.manifest(ctx)
	return id, b, m != nil, err
}
