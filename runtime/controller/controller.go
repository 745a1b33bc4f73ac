package controller

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// A Catalog knows the models. Many may call it at the same time.
type Catalog interface {
	// Models returns all models.
	Models(ctx context.Context) ([]actions.Model, error)
	// Model returns one model, or an actions.Error NotFound that says which there are.
	Model(ctx context.Context, name string) (actions.Model, error)
	// Import makes a model of code, which Model knows from then on by the source's name.
	Import(ctx context.Context, source actions.Source) (actions.Model, error)
}

// A Range is what a limit of an action may be. The zero value means the Controller's own.
type Range struct{ Min, Max, Default int }

// Config says what a Controller controls. Store, Catalog and Run are required.
type Config struct {
	// Store has the entities and activations. Its owner closes it after the Controller.
	Store *store.Store
	// Catalog has the models and makes them of code.
	Catalog Catalog
	// Run runs one activation; proxy.Server.Activate is one. It returns when its context
	// ends, keeps to the activation's Limit and calls its Begin, and its errors are
	// *actions.Error with the logs. Many call it at a time.
	Run func(context.Context, actions.Activation) (actions.Response, error)
	// Batches says that Run begins a batch prediction for a value whose only member is
	// batchRequested; then there is an action for that of each model, in whisk.system's package batch.
	Batches bool
	// Warm loads a model that was made of code before it runs for the first time, in a time
	// limit of its own, as /init has one. Its errors are *actions.Error with the logs. Nil
	// means that the first run loads it.
	Warm func(ctx context.Context, model string) error
	// Forget ends what is loaded of a model that was made of code, and takes it out of the
	// catalog: no activation uses it. It does not wait, and calls no Controller. Nil does
	// nothing.
	Forget func(model string)
	// MaxLoaded is how many models made of code there may be at a time, without those in
	// use: what was not used for longest is forgotten first. The default is 32.
	MaxLoaded int

	// Auth is the key of the namespace guest, UUID:KEY. The default is whisk.GuestAuth.
	Auth string
	// APIHost is the address of the API, http://127.0.0.1:8080, which actions are told.
	APIHost string
	// MaxPayload is how many bytes the arguments and the result of an activation, and the
	// parameters and the annotations of an entity may have. Zero means no limit.
	MaxPayload int64
	// ByReference says that what is over MaxPayload can be given by reference, which the
	// errors then name.
	ByReference bool
	// MaxWait is how long a blocking invocation is waited for at most. The default is 60 s,
	// that of the API.
	MaxWait time.Duration
	// MaxBackground is how many activations that nobody waits for may be under way. The
	// default is 1,000.
	MaxBackground int
	// Timeout bounds the time limit of an action in milliseconds; the default is 100 to
	// 3,600,000, and 60,000 for one that asks for none.
	Timeout Range
	// Memory bounds the memory limit in MiB, which is kept and shown, not enforced; the
	// default is 128 to 1,048,576, and 256.
	Memory Range
	// Logs bounds how many MiB of logs are kept of an activation; the default is 0 to 10,
	// and 10.
	Logs Range
	// Concurrency bounds how many activations a container may have at one time, which is
	// kept and shown: the pool decides it for itself. The default is 1 to 1,000, and 1.
	Concurrency Range
	// Log takes what nobody else is told. Nil discards.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Auth == "" {
		c.Auth = whisk.GuestAuth
	}
	if c.MaxWait <= 0 {
		c.MaxWait = time.Minute
	}
	if c.MaxBackground <= 0 {
		c.MaxBackground = 1000
	}
	if c.MaxLoaded <= 0 {
		c.MaxLoaded = 32
	}
	for _, limit := range []struct {
		of  *Range
		own Range
	}{
		{&c.Timeout, Range{100, 3_600_000, 60_000}},
		{&c.Memory, Range{128, 1 << 20, 256}},
		{&c.Logs, Range{0, 10, 10}},
		{&c.Concurrency, Range{1, 1000, 1}},
	} {
		if *limit.of == (Range{}) {
			*limit.of = limit.own
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// A Controller keeps entities and runs activations. Many may call it at the same time. The
// errors of its methods are *actions.Error with the codes Invalid, NotFound, Conflict,
// Forbidden, TooLarge, Busy, Unavailable and Internal.
type Controller struct {
	cfg     Config
	log     *slog.Logger
	auth    [sha256.Size]byte // of the key
	started time.Time

	codeMu   sync.Mutex // guards imported, and what it says in importing
	imported map[string]*importing

	open     func() context.Context // until Close
	close    context.CancelFunc
	waiting  []store.Pending // what was accepted before and has not begun, for Resume
	resuming sync.WaitGroup
	cutOff   atomic.Int64 // the activations that Close has ended

	mu         sync.Mutex // guards what follows
	closed     bool
	running    map[string]context.CancelCauseFunc // by activation
	background int                                // how many of them nobody waits for
	drained    chan struct{}                      // closed when closed and nothing runs
}

// New makes a Controller and ends what was under way when a server died: it becomes an
// activation with an internal error. What had not begun waits for Resume. The error is Invalid for a key that is none, or that
// of the store.
func New(cfg Config) (*Controller, error) {
	cfg = cfg.withDefaults()
	if user, key, ok := strings.Cut(cfg.Auth, ":"); !ok || user == "" || key == "" {
		return nil, actions.Errorf(actions.Invalid, "controller: a key is UUID:KEY")
	}
	c := &Controller{
		cfg: cfg, log: cfg.Log, auth: sha256.Sum256([]byte(cfg.Auth)), started: time.Now(),
		imported: make(map[string]*importing), running: make(map[string]context.CancelCauseFunc),
		drained: make(chan struct{}),
	}
	open, end := context.WithCancel(context.Background())
	c.open, c.close = func() context.Context { return open }, end
	return c, c.endPending()
}

// Authenticate returns the namespace of a key, or Unauthorized.
func (c *Controller) Authenticate(user, password string) (namespace string, err error) {
	given := sha256.Sum256([]byte(user + ":" + password))
	if subtle.ConstantTimeCompare(given[:], c.auth[:]) != 1 {
		return "", actions.Errorf(actions.Unauthorized, "The supplied authentication is invalid.")
	}
	return whisk.Guest, nil
}

// errEnded is why activations are ended by Close.
var errEnded = errors.New("the server has ended")

// Close refuses new activations and waits for those under way. When ctx ends first, it ends
// them, which is what their records say, and returns that error after they are on disk. What
// was accepted and has not begun stays on disk for the next Controller.
func (c *Controller) Close(ctx context.Context) error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		c.drainedLocked()
	}
	c.mu.Unlock()
	c.close()
	defer c.resuming.Wait()
	defer c.sayLeft()
	select {
	case <-c.drained:
	case <-ctx.Done():
		c.mu.Lock()
		for _, cancel := range c.running {
			cancel(errEnded)
		}
		c.mu.Unlock()
		<-c.drained
		return ctx.Err()
	}
	return nil
}

// drainedLocked says that nothing runs any more, if that is so.
func (c *Controller) drainedLocked() {
	if c.closed && len(c.running) == 0 {
		close(c.drained)
	}
}

// enter counts an activation as under way, background if nobody will wait for it. The
// context that it returns ends with leave, or with Close. The error is Busy or Unavailable.
func (c *Controller) enter(ctx context.Context, id string, background bool) (context.Context, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, &actions.Error{Code: actions.Unavailable, Msg: "The server is shutting down.", RetryAfter: time.Second}
	case background && c.background >= c.cfg.MaxBackground:
		e := actions.Errorf(actions.Busy, "Too many concurrent requests in flight (count: %d, allowed: %d).",
			c.background, c.cfg.MaxBackground)
		e.RetryAfter = time.Second
		return nil, e
	}
	if background {
		c.background++
	}
	return c.enterLocked(ctx, id), nil
}

func (c *Controller) enterLocked(ctx context.Context, id string) context.Context {
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	c.running[id] = cancel
	return own
}

// leave is the end of what enter has begun.
func (c *Controller) leave(id string, background bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running[id](nil)
	delete(c.running, id)
	if background {
		c.background--
	}
	c.drainedLocked()
}
