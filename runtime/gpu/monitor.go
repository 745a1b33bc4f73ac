package gpu

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/deepfn/deepfn/actions"
)

const (
	// retryAfter is the default of Config.RetryAfter.
	retryAfter = 15 * time.Second
	// closeWait is how long Close waits for a driver that does not answer.
	closeWait = 3 * time.Second
)

// A Config says how the devices are found.
type Config struct {
	// Library is the path of libnvidia-ml.so.1. Empty is where the system finds it.
	Library string
	// MPSPipe is the folder with the pipes of NVIDIA's multi-process service, as
	// CUDA_MPS_PIPE_DIRECTORY says. Empty is NVIDIA's default, /tmp/nvidia-mps.
	MPSPipe string
	// TimeSliced says that all devices are shares; see the function TimeSliced.
	TimeSliced bool
	// RetryAfter is how long to wait, without a driver, before the next reading looks for it
	// again. The default is 15 seconds.
	RetryAfter time.Duration
	// Log says how the devices fare. Nil is nowhere.
	Log *slog.Logger
}

// A Monitor watches the devices. There should be one in a process. Many may use it.
type Monitor struct {
	cfg     Config
	open    func() (*driver, State, error)
	wake    chan struct{} // a reading is wanted
	changed chan struct{}
	stop    chan struct{} // closed by Close
	ended   chan struct{} // closed when the goroutines have ended
	close   sync.Once

	mu    sync.Mutex // guards what follows
	next  *reading   // what who asks now will get; nil when nobody asks
	state State
	err   error // of the state
	marks map[mark]string

	// The goroutine run alone uses these.
	driver   *driver
	watch    *watch
	watches  sync.WaitGroup // all that have not ended
	openedAt time.Time
	known    []unit
}

// A reading is one look at all devices, for everybody who asked before it began.
type reading struct {
	done    chan struct{} // closed when the rest is there
	devices []actions.Device
	err     error
}

// Open begins to watch the devices and returns at once. It needs neither a GPU nor a driver:
// State says how things are. Close ends it.
func Open(cfg Config) *Monitor {
	cfg.Library = cmp.Or(cfg.Library, systemNVML)
	return openWith(cfg, func() (*driver, State, error) { return load(cfg.Library) })
}

// openWith is Open with another way to get a driver.
func openWith(cfg Config, open func() (*driver, State, error)) *Monitor {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.RetryAfter = cmp.Or(cfg.RetryAfter, retryAfter)
	m := &Monitor{
		cfg: cfg, open: open, state: Opening, err: Opening.err(nil), marks: map[mark]string{},
		wake: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		stop: make(chan struct{}), ended: make(chan struct{}),
	}
	go m.run()
	return m
}

// State says how the monitor stands with the driver, and unless that is well, what is wrong and
// what to do: an *actions.Error Unavailable. In Ready there is an error when some of the GPUs
// cannot be read. The state is Opening until the driver was asked for the first time: who wants
// the answer calls Read before.
func (m *Monitor) State() (State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, m.err
}

// Changed returns a channel that has a value when the health of a device, or which devices there
// are, has changed since the last value was taken. It is never closed.
func (m *Monitor) Changed() <-chan struct{} { return m.changed }

// Read reads all devices as they are now: nothing of what it returns was read before it was
// called. Callers at the same time share one reading. Devices that were there and are not any
// more stay, as Lost. The slice is the caller's, but not what its pointers lead to.
//
// Without a driver that works the error is an *actions.Error Unavailable, as State has it;
// when ctx ends first, Deadline or Canceled.
func (m *Monitor) Read(ctx context.Context) ([]actions.Device, error) {
	m.mu.Lock()
	if m.next == nil {
		m.next = &reading{done: make(chan struct{})}
	}
	r := m.next
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default: // it is awake
	}
	select {
	case <-r.done:
		return slices.Clone(r.devices), r.err
	case <-m.stop:
		return nil, Closed.err(nil)
	case <-ctx.Done():
	}
	code := actions.Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = actions.Deadline
	}
	return nil, actions.Errorf(code, "gpu: NVIDIA's driver has not answered in time: %w", ctx.Err())
}

// Close ends the goroutines and gives the driver back. It waits a few seconds at most: a driver
// that hangs keeps its goroutine until it answers. Calls of Read return.
func (m *Monitor) Close() error {
	m.close.Do(func() {
		m.setState(Closed, Closed.err(nil))
		close(m.stop)
	})
	select {
	case <-m.ended:
		return nil
	case <-time.After(closeWait):
		return errors.New("gpu: close: NVIDIA's driver does not answer")
	}
}

// run is the goroutine that calls the driver to read it. It ends after Close.
func (m *Monitor) run() {
	defer close(m.ended)
	m.reopen()
	for {
		select {
		case <-m.stop:
			m.shut()
			return
		case <-m.wake:
		}
		m.mu.Lock()
		r := m.next
		m.next = nil
		m.mu.Unlock()
		if r != nil {
			r.devices, r.err = m.read()
			close(r.done)
		}
	}
}

// reopen gets the driver.
func (m *Monitor) reopen() {
	m.openedAt = time.Now()
	d, state, err := m.open()
	if err != nil {
		m.cfg.Log.Debug("no devices", "state", string(state), "error", err)
		m.setState(state, state.err(err))
		return
	}
	m.driver = d
	m.setState(Ready, nil)
	m.cfg.Log.Info("driver opened", "driver", d.version, "cuda", d.cuda)
}

// shut gives the driver back, and ends the watch for events before.
func (m *Monitor) shut() {
	m.endWatch()
	m.watches.Wait()
	if m.driver != nil {
		if ret := m.driver.lib.Shutdown(); ret != nvml.SUCCESS {
			m.cfg.Log.Debug("shut the driver down", "error", &callError{callShutdown, ret})
		}
		m.driver = nil
	}
}

func (m *Monitor) setState(state State, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state != Closed {
		m.state, m.err = state, err
	}
}

// tell says that something has changed.
func (m *Monitor) tell() {
	select {
	case m.changed <- struct{}{}:
	default: // it was said, and nobody has heard yet
	}
}
