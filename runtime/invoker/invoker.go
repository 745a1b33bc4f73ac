package invoker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A Catalog knows the models; *catalog.Catalog is one.
type Catalog interface {
	// Model returns the model of that name, or an actions.Error with NotFound.
	Model(ctx context.Context, name string) (actions.Model, error)
}

// An Instance is a loaded model; *worker.Worker is one.
type Instance interface {
	// Call answers one request. When ctx ends first it returns Deadline or Canceled,
	// and this call counts as one in progress until Settle has returned nil.
	Call(ctx context.Context, req actions.Request) (actions.Response, error)
	// Concurrency is how many calls it takes at a time, mostly 1.
	Concurrency() int
	// Settle waits until no call goes on whose caller has left. An error means that the
	// instance has died.
	Settle() error
	// Info is what the runtime reported of the loaded model, a JSON object.
	Info() json.RawMessage
	// Done is closed when the instance has ended; Err then says why.
	Done() <-chan struct{}
	Err() error
	// Close ends the instance and waits for it.
	Close() error
}

// Config says how an Invoker works. Catalog and Start are required.
type Config struct {
	Catalog Catalog
	// Start makes an instance of the model, loaded and warm, on the devices with these
	// UUIDs, none for a model that needs none. ctx bounds the start, not the instance's
	// life. What it returns may be a Suspender, may say its process (PID() int), and where
	// its files were when it was started (Origin() actions.Tier; else TierDisk).
	Start func(ctx context.Context, m actions.Model, devices []string) (Instance, error)
	// MaxInstances is the most instances of one model that does not say so itself. The
	// default is 1.
	MaxInstances int
	// Instances is the most instances of a model for which MaxInstances is not right, zero for
	// every other one. Nil makes no exceptions.
	Instances func(actions.Model) int
	// QueueDepth is how many requests of one model may wait. The default is 256.
	QueueDepth int
	// IdleTime is how long an instance may stay unused before it is stopped; on a device,
	// before it is the first to leave for others. The default is 10 minutes; a negative
	// value means for ever.
	IdleTime time.Duration
	// KeepAlive says whether that time is the same for all. The default is Fixed.
	KeepAlive KeepAlive
	// StartTimeout bounds one start, with the fetching of the model's files. The
	// default is 10 minutes.
	StartTimeout time.Duration
	// Timeout is the most time that one request may take, with its wait; or without it, for
	// a request with a Limit of its own. The default is no limit.
	Timeout time.Duration

	// Devices are the GPUs. Nil means that instances are not placed anywhere, and what
	// follows means nothing.
	Devices Devices
	// Demand says what an instance of a model needs of them. The default is what the model
	// says itself (actions.Resources).
	Demand func(actions.Model) Demand
	// Peaks has measurements of the models' memory. Nil means that they are forgotten.
	Peaks Peaks
	// Policy says who is given up for others. The default is GDSF.
	Policy Policy
	// Headroom is how many bytes of each device are never reserved. The default is a
	// twentieth of it, 512 MiB at most; a negative value is none.
	Headroom int64
	// HostMemory is how many bytes of the host's memory suspended instances may take
	// together. Zero means that none is suspended.
	HostMemory int64
	// Residency is how long an instance may stay on its devices at least before it is given
	// up for another, so that models do not chase each other out. The default is 2 seconds;
	// a negative value is none.
	Residency time.Duration
	// DrainAfter is how long an instance waits for memory before others that have calls all
	// the time get no more of them. The default is 5 seconds.
	DrainAfter time.Duration
	// MemoryWait is how long it waits altogether. The default is 30 seconds.
	MemoryWait time.Duration
	// ReleaseTime is how long there may be no call before all instances leave their devices,
	// because the platform is about to freeze the process. Zero is never.
	ReleaseTime time.Duration
	// DeviceCalls is how many instances may have calls on one device at one time. The default
	// is 1; a negative value means any number.
	DeviceCalls int

	// Log takes a line for each instance that starts or ends. The default discards.
	Log *slog.Logger
}

// KeepAlive says how long instances are kept without a call.
type KeepAlive string

// The kinds of KeepAlive.
const (
	// Fixed is Config.IdleTime for all.
	Fixed KeepAlive = "fixed"
	// Histogram learns it from the times between a model's requests, and starts an instance
	// ahead of the next where these are regular. As long as they say nothing it is Fixed.
	Histogram KeepAlive = "histogram"
)

func (cfg Config) withDefaults() Config {
	if cfg.MaxInstances <= 0 {
		cfg.MaxInstances = 1
	}
	if cfg.QueueDepth <= 0 {
		cfg.QueueDepth = 256
	}
	cfg.IdleTime = cmp.Or(cfg.IdleTime, 10*time.Minute)
	if cfg.StartTimeout <= 0 {
		cfg.StartTimeout = 10 * time.Minute
	}
	if cfg.Demand == nil {
		cfg.Demand = declared
	}
	if cfg.Policy == nil {
		cfg.Policy = NewGDSF()
	}
	cfg.Residency = cmp.Or(cfg.Residency, 2*time.Second)
	cfg.DrainAfter = cmp.Or(cfg.DrainAfter, 5*time.Second)
	cfg.MemoryWait = cmp.Or(cfg.MemoryWait, 30*time.Second)
	cfg.DeviceCalls = cmp.Or(cfg.DeviceCalls, 1)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// headroom is how much of a device of that size is never reserved, in bytes.
func (cfg Config) headroom(total int64) int64 {
	if cfg.Headroom != 0 {
		return max(cfg.Headroom, 0)
	}
	return min(total/20, 512<<20)
}

// declared is the Demand of a model that says what it needs.
func declared(m actions.Model) Demand {
	r := m.Resources
	if r.NoGPU || r.GPUs == 0 && r.GPUMemory == 0 {
		return Demand{}
	}
	return Demand{Devices: max(r.GPUs, 1), Memory: int64(r.GPUMemory), ComputeCapability: r.ComputeCapability}
}

// An Invoker runs requests on pools of instances. Many goroutines may use it.
type Invoker struct {
	cfg   Config
	owner *owner

	mu        sync.Mutex // guards everything below
	pools     map[string]*pool
	forgotten map[*pool]struct{} // those that are being closed
	closed    bool
}

// New returns an Invoker without instances.
func New(cfg Config) *Invoker {
	cfg = cfg.withDefaults()
	return &Invoker{cfg: cfg, owner: newOwner(cfg), pools: map[string]*pool{}, forgotten: map[*pool]struct{}{}}
}

// Invoke runs req on an instance of its model and returns the answer. It returns when
// ctx ends, whatever the instance does. The error is an *actions.Error: NotFound,
// Busy (the queue is full), Unavailable (no instance could be started, or it died
// with the request), Deadline, Canceled, what the request's Begin returned, or what the
// model answered. The Response has its Timing with an error too.
func (v *Invoker) Invoke(ctx context.Context, req actions.Request) (actions.Response, error) {
	if req.Verb == actions.Suspend || req.Verb == actions.Resume {
		return actions.Response{}, actions.Errorf(actions.Invalid, "%s: only the pool itself suspends and resumes models", req.Model)
	}
	p, err := v.pool(ctx, req.Model)
	if err != nil {
		return actions.Response{}, err
	}
	switch limit := v.cfg.Timeout; {
	case limit <= 0:
	case req.Limit > 0:
		req.Limit = min(req.Limit, limit)
	default:
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return p.invoke(ctx, req)
}

// Warm starts n instances of the model (at most MaxInstances) and keeps so many: they
// do not expire, and those that die are replaced. It returns when the first can
// answer, or with the error of its start, whose code is that of the cause; the pool goes
// on trying after an error, until Cool.
func (v *Invoker) Warm(ctx context.Context, model string, n int) error {
	p, err := v.pool(ctx, model)
	if err != nil {
		return err
	}
	p.keep(n)
	return p.warm(ctx)
}

// Keep is Warm without the waiting: when it has returned, Ready waits for the model.
func (v *Invoker) Keep(ctx context.Context, model string, n int) error {
	p, err := v.pool(ctx, model)
	if err != nil {
		return err
	}
	p.keep(n)
	return nil
}

// Want is Keep as long as nobody needs the memory: the instances do not expire, but they are
// given up for a request of another model, and then replaced when there is room. Ready does not
// look at them.
func (v *Invoker) Want(ctx context.Context, model string, n int) error {
	p, err := v.pool(ctx, model)
	if err != nil {
		return err
	}
	p.want(n)
	return nil
}

// Await returns when an instance of the model can answer, as Warm does, and starts one if there
// is none.
func (v *Invoker) Await(ctx context.Context, model string) error {
	p, err := v.pool(ctx, model)
	if err != nil {
		return err
	}
	return p.warm(ctx)
}

// Cool takes back what Warm, Keep and Want asked for: the instances of the model may expire and are
// not replaced, and Ready does not look at it.
func (v *Invoker) Cool(model string) {
	v.mu.Lock()
	p := v.pools[model]
	v.mu.Unlock()
	if p != nil {
		p.cool()
	}
}

// Forget takes the model for another one from now on: the next request asks the Catalog for
// it again. The instances that there are end when their calls have; requests that wait for
// one are told so.
func (v *Invoker) Forget(model string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := v.pools[model]
	if p == nil || v.closed {
		return
	}
	maps.DeleteFunc(v.pools, func(_ string, other *pool) bool { return other == p })
	v.forgotten[p] = struct{}{}
	go func() { // ends when the last instance has, or with Close
		_ = p.close(context.Background())
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.forgotten, p)
	}()
}

// Ready returns nil when each model that was to be warm has a living instance, else
// an error that names those which have none and says why.
func (v *Invoker) Ready() error {
	var errs []error
	for _, p := range v.sorted() {
		errs = append(errs, p.ready())
	}
	return errors.Join(errs...)
}

// Info returns what the runtime reported of the model when it was last loaded, a JSON
// object; nil if it never was.
func (v *Invoker) Info(model string) json.RawMessage {
	v.mu.Lock()
	p := v.pools[model]
	v.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.lastInfo()
}

// Stats describes the pools, sorted by model.
func (v *Invoker) Stats() []actions.PoolStats {
	pools := v.sorted()
	stats := make([]actions.PoolStats, len(pools))
	for i, p := range pools {
		stats[i] = p.stats()
	}
	return stats
}

// Close refuses new requests, lets those in progress finish until ctx ends, and stops
// all instances. It returns when the last instance has ended.
func (v *Invoker) Close(ctx context.Context) error {
	v.mu.Lock()
	v.closed = true
	pools := slices.Collect(maps.Keys(v.forgotten))
	v.mu.Unlock()
	pools = append(pools, v.sorted()...)
	var wg sync.WaitGroup
	errs := make([]error, len(pools))
	for i, p := range pools {
		wg.Go(func() { errs[i] = p.close(ctx) })
	}
	wg.Wait()
	v.owner.close()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("invoker: close: %w", err)
		}
	}
	return nil
}

// pool returns the pool of the model, which it makes when there is none.
func (v *Invoker) pool(ctx context.Context, name string) (*pool, error) {
	v.mu.Lock()
	p := v.pools[name]
	v.mu.Unlock()
	if p != nil {
		return p, nil
	}
	m, err := v.cfg.Catalog.Model(ctx, name)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, errClosed()
	}
	// Another request may have made it meanwhile, and two names may mean one model.
	p = v.pools[m.Name]
	if p == nil {
		v.owner.mu.Lock()
		p = newPoolLocked(v.owner, m)
		p.startWantedLocked() // what the model says itself
		v.owner.mu.Unlock()
	}
	v.pools[m.Name] = p
	v.pools[name] = p
	return p, nil
}

// sorted returns each pool once, by the name of its model.
func (v *Invoker) sorted() []*pool {
	v.mu.Lock()
	defer v.mu.Unlock()
	pools := make([]*pool, 0, len(v.pools))
	for _, p := range v.pools {
		pools = append(pools, p)
	}
	slices.SortFunc(pools, func(a, b *pool) int { return strings.Compare(a.model.Name, b.model.Name) })
	return slices.Compact(pools)
}

func errClosed() *actions.Error {
	return &actions.Error{Code: actions.Unavailable, Msg: "the server is shutting down; send the request to another one", RetryAfter: time.Second}
}
