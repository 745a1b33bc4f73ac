package tracetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// An Instance is a model on devices of a Fleet. A call's arguments say how long it takes, in
// nanoseconds.
type Instance struct {
	fleet   *Fleet
	spec    Spec
	devices []string
	done    chan struct{}

	mu        sync.Mutex // guards everything below
	held      int64      // bytes of each device
	calls     int        // in progress, also those whose callers have left
	orphans   int        // those whose callers have left
	settled   *sync.Cond // of mu: there are no orphans
	suspended bool
	moving    bool // is being suspended or resumed
	ended     bool
	err       error
}

// load takes memory as a start does: the context, then the rest.
func (i *Instance) load(ctx context.Context) error {
	if err := i.hold(i.spec.Context); err != nil {
		return err
	}
	if err := wait(ctx, i.spec.Fixed); err != nil {
		return err
	}
	if err := i.hold(i.spec.Memory); err != nil {
		return err
	}
	if err := wait(ctx, i.spec.Weights); err != nil {
		return err
	}
	if i.spec.FailStart {
		return &actions.Error{Code: actions.Failed, Msg: "the model did not load"}
	}
	return nil
}

// hold has the instance hold so many bytes of each of its devices.
func (i *Instance) hold(memory int64) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.fleet.claim(i.devices, memory-i.held); err != nil {
		return err
	}
	i.held = memory
	return nil
}

// give gives all memory back.
func (i *Instance) give() { _ = i.hold(0) } // which cannot lack

// Call takes as long as the arguments say and answers what it was asked.
func (i *Instance) Call(ctx context.Context, req actions.Request) (actions.Response, error) {
	if err := i.begin(req); err != nil {
		return actions.Response{}, err
	}
	run, err := strconv.ParseInt(string(req.Args), 10, 64)
	if err != nil {
		i.fleet.fault("a call of %s with the arguments %q", i.spec.Model, req.Args)
	}
	timer := time.NewTimer(time.Duration(run))
	select {
	case <-timer.C:
		i.end()
	case <-i.done:
		timer.Stop()
		i.end()
		return actions.Response{}, i.gone()
	case <-ctx.Done():
		i.finish(timer) // as a model does, which nobody can interrupt
		code := actions.Canceled
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			code = actions.Deadline
		}
		return actions.Response{}, &actions.Error{Code: code, Msg: "the caller has left", Err: ctx.Err()}
	}
	return actions.Response{Data: []byte(Answer(i.spec.Model, req.ID)), Timing: actions.Timing{Run: time.Duration(run)}}, nil
}

// begin counts a call, and sees that one may come.
func (i *Instance) begin(req actions.Request) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case req.Model != i.spec.Model:
		i.fleet.fault("a call of %s on an instance of %s", req.Model, i.spec.Model)
	case i.suspended || i.moving:
		i.fleet.fault("a call of %s while it is suspended", i.spec.Model)
	case i.calls >= max(i.spec.Calls, 1):
		i.fleet.fault("call %d of %s, which takes %d", i.calls+1, i.spec.Model, max(i.spec.Calls, 1))
	}
	if i.ended {
		return i.gone()
	}
	i.calls++
	return nil
}

func (i *Instance) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.calls--
}

// finish ends a call whose caller has left when its time is over, or with the instance.
func (i *Instance) finish(timer *time.Timer) {
	i.mu.Lock()
	i.orphans++
	i.mu.Unlock()
	go func() { // ends with the call or the instance
		select {
		case <-timer.C:
		case <-i.done:
			timer.Stop()
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		i.calls--
		if i.orphans--; i.orphans == 0 {
			i.settled.Broadcast()
		}
	}()
}

func (i *Instance) gone() error {
	return &actions.Error{Code: actions.Unavailable, Msg: "the instance has ended", Err: actions.ErrDied}
}

// Concurrency is how many calls it takes at a time.
func (i *Instance) Concurrency() int { return max(i.spec.Calls, 1) }

// Settle waits for the calls whose callers have left.
func (i *Instance) Settle() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for i.orphans > 0 {
		i.settled.Wait()
	}
	return i.err
}

// Info is a JSON object that names the model.
func (i *Instance) Info() json.RawMessage { return json.RawMessage(Answer(i.spec.Model, "info")) }

// Done is closed when the instance has ended.
func (i *Instance) Done() <-chan struct{} { return i.done }

// Err says why it has ended.
func (i *Instance) Err() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.err
}

// Die ends the instance as a crash does.
func (i *Instance) Die() { i.stop(errors.New("tracetest: the instance was killed")) }

// Close ends the instance. Its memory is free when that has taken its time.
func (i *Instance) Close() error {
	if i.spec.End > 0 {
		time.Sleep(i.spec.End)
	}
	i.stop(errors.New("tracetest: the instance was closed"))
	return nil
}

// stop ends the instance once.
func (i *Instance) stop(err error) {
	i.mu.Lock()
	if i.ended {
		i.mu.Unlock()
		return
	}
	i.ended, i.err = true, err
	i.mu.Unlock()
	i.give()
	i.fleet.mu.Lock()
	i.fleet.living--
	i.fleet.mu.Unlock()
	close(i.done)
}

// Suspend gives the devices' memory back but for the context, and keeps the weights in the
// host's. It returns how many bytes of the two are taken then.
func (i *Instance) Suspend(ctx context.Context) (host, device int64, err error) {
	if i.spec.Suspend.Takes == 0 || i.spec.Suspend.Refuses {
		return 0, 0, &actions.Error{Code: actions.Unsupported, Msg: "the model cannot be suspended"}
	}
	if err := i.move(ctx, false); err != nil {
		return 0, 0, err
	}
	if i.spec.Suspend.FailsOut {
		return 0, 0, errors.New("tracetest: suspend went wrong")
	}
	if err := i.settle(i.spec.Context, true); err != nil {
		return 0, 0, err
	}
	return i.spec.Memory - i.spec.Context, i.spec.Context, nil
}

// Resume takes the devices' memory again.
func (i *Instance) Resume(ctx context.Context) error {
	if err := i.move(ctx, true); err != nil {
		return err
	}
	if i.spec.Suspend.FailsIn {
		return errors.New("tracetest: resume went wrong")
	}
	return i.settle(i.spec.Memory, false)
}

// move takes the time of a way between the memories.
func (i *Instance) move(ctx context.Context, suspended bool) error {
	i.mu.Lock()
	switch {
	case i.calls > 0:
		i.fleet.fault("%s is moved with %d calls in progress", i.spec.Model, i.calls)
	case i.moving || i.suspended != suspended:
		i.fleet.fault("%s is moved while suspended is %t and moving %t", i.spec.Model, i.suspended, i.moving)
	}
	i.moving = true
	i.mu.Unlock()
	timer := time.NewTimer(i.spec.Suspend.Takes)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-i.done:
		return i.gone()
	case <-ctx.Done():
		return fmt.Errorf("tracetest: move %s: %w", i.spec.Model, ctx.Err())
	}
}

// settle ends a way between the memories with so many bytes of each device.
func (i *Instance) settle(memory int64, suspended bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		return i.gone()
	}
	if err := i.fleet.claim(i.devices, memory-i.held); err != nil {
		return err
	}
	i.held, i.moving, i.suspended = memory, false, suspended
	return nil
}
