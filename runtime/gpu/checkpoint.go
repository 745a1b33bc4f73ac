package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	// systemCUDA is the library that the system's loader looks for.
	systemCUDA = "libcuda.so.1"
	// lockTime is the default of CheckpointConfig.LockTime.
	lockTime = 5 * time.Second
)

// A CheckpointConfig says how checkpoints of processes are made.
type CheckpointConfig struct {
	// Library is the path of libcuda.so.1. Empty is where the system finds it.
	Library string
	// LockTime is how long the driver may wait for work that is under way on the device to
	// come to its end. The default is 5 seconds. A context that ends earlier makes it shorter.
	LockTime time.Duration
}

// A Checkpoint has NVIDIA's driver take a process off its devices and put it back: everything
// that the process has there goes to the host's memory, and its calls of CUDA wait meanwhile.
// Drivers can do so from version 570 on; not with unified memory that is shared over processes
// (CUDA IPC), and not on a MIG instance or under the multi-process service.
//
// Many may use it: what is asked of one process is done one after the other.
type Checkpoint struct {
	cfg  CheckpointConfig
	once sync.Once // loads the library
	cuda cuda
	err  error // why it cannot be used

	mu   sync.Mutex // guards busy
	busy map[int]chan struct{}
}

// OpenCheckpoint returns at once and loads nothing: a process that makes no checkpoints never
// opens CUDA.
func OpenCheckpoint(cfg CheckpointConfig) *Checkpoint {
	cfg.Library = cmp.Or(cfg.Library, systemCUDA)
	cfg.LockTime = cmp.Or(cfg.LockTime, lockTime)
	return &Checkpoint{cfg: cfg, busy: map[int]chan struct{}{}}
}

// Supported says why no checkpoints can be made: an *actions.Error Unsupported. It is nil when
// library and driver have what is needed, which says nothing of a certain process. The first
// call loads the library and takes as long as the driver needs.
func (c *Checkpoint) Supported() error {
	c.once.Do(func() {
		// The driver is told once that it is used, by cuInit. No function that follows needs a
		// context, so none is made.
		if c.cuda, c.err = loadCUDA(c.cfg.Library); c.err != nil {
			c.err = actions.Errorf(actions.Unsupported, "gpu: checkpoints need NVIDIA's driver 570 or newer: %w", c.err)
		}
	})
	return c.err
}

// Suspend takes a process off its devices. Without an error its memory on them is free when it
// returns. With one the process runs as before, though perhaps only later: when ctx ends, what
// the driver has begun comes to its end first and is taken back then. Codes: Unsupported,
// Deadline, Canceled, and Unavailable with the driver's reason.
func (c *Checkpoint) Suspend(ctx context.Context, pid int) error {
	undo := func() error { return c.resume(pid) }
	return c.do(ctx, pid, "suspend", func() error { return c.suspend(ctx, pid) }, undo)
}

// Resume puts a process back on its devices, and is nothing for one that is on them. With an
// error the process waits in its next call of CUDA for ever, so that it should be ended; only
// when ctx has ended the driver still goes on, and a second Resume waits for that.
func (c *Checkpoint) Resume(ctx context.Context, pid int) error {
	return c.do(ctx, pid, "resume", func() error { return c.resume(pid) }, nil)
}

// do runs an operation on a thread of its own, because the driver may take forever, and waits as
// long as ctx allows. When that is over first, what the operation has done is undone, if there is
// a way. The goroutine ends when the driver has answered.
func (c *Checkpoint) do(ctx context.Context, pid int, what string, operation, undo func() error) error {
	if pid <= 0 || pid > math.MaxInt32 {
		return actions.Errorf(actions.Invalid, "gpu: %s process %d: it is no process", what, pid)
	}
	done, err := c.claim(ctx, pid)
	if err != nil {
		return ctxError(what, pid, err)
	}
	var settled atomic.Bool // by who was first: the driver with its answer, or the end of ctx
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.Supported()
		if err == nil {
			err = operation()
		}
		waiting := settled.CompareAndSwap(false, true)
		if !waiting && err == nil && undo != nil {
			_ = undo() // the caller has its error already
		}
		c.release(pid, done)
		result <- err
	}()
	select {
	case err = <-result:
	case <-ctx.Done():
		if settled.CompareAndSwap(false, true) {
			return ctxError(what, pid, ctx.Err())
		}
		err = <-result
	}
	if err == nil || actions.CodeOf(err) == actions.Unsupported {
		return err
	}
	return actions.Errorf(actions.Unavailable, "gpu: %s process %d: %w", what, pid, err)
}

func (c *Checkpoint) release(pid int, done chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, pid)
	close(done)
}

// claim waits until nothing else is done with the process. The channel is to be closed when what
// follows has ended.
func (c *Checkpoint) claim(ctx context.Context, pid int) (chan struct{}, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.mu.Lock()
		before, busy := c.busy[pid]
		if !busy {
			done := make(chan struct{})
			c.busy[pid] = done
			c.mu.Unlock()
			return done, nil
		}
		c.mu.Unlock()
		select {
		case <-before:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func ctxError(what string, pid int, err error) error {
	code := actions.Canceled
	if errors.Is(err, context.DeadlineExceeded) {
		code = actions.Deadline
	}
	return actions.Errorf(code, "gpu: %s process %d: NVIDIA's driver has not answered in time: %w", what, pid, err)
}

// suspend locks and takes off. What it began it takes back when it cannot go on.
func (c *Checkpoint) suspend(ctx context.Context, pid int) error {
	if code := c.cuda.lock(pid, c.lockMillis(ctx)); code != 0 {
		return c.cuda.error("lock", code)
	}
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), c.unlock(pid))
	}
	if code := c.cuda.checkpoint(pid); code != 0 {
		return errors.Join(c.cuda.error("checkpoint", code), c.unlock(pid))
	}
	return nil
}

// lockMillis is the time for the lock; the driver takes zero for no limit.
func (c *Checkpoint) lockMillis(ctx context.Context) uint {
	wait := c.cfg.LockTime
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline))
	}
	return uint(max(1, min(wait.Milliseconds(), math.MaxInt32)))
}

// resume brings a process to the state in which it runs, from whichever it is in.
func (c *Checkpoint) resume(pid int) error {
	state, code := c.cuda.state(pid)
	if code != 0 {
		return c.cuda.error("state", code)
	}
	switch state {
	case stateRunning:
		return nil
	case stateCheckpointed:
		if code := c.cuda.restore(pid); code != 0 {
			return c.cuda.error("restore", code)
		}
		return c.unlock(pid)
	case stateLocked:
		return c.unlock(pid)
	}
	return fmt.Errorf("it is in the driver's state %d, from which it cannot be brought back", state)
}

func (c *Checkpoint) unlock(pid int) error {
	if code := c.cuda.unlock(pid); code != 0 {
		return c.cuda.error("unlock", code)
	}
	return nil
}
