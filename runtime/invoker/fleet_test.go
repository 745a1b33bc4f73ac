package invoker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A fleet is a fake runtime and catalog whose instances obey knobs.
type fleet struct {
	mu        sync.Mutex // guards everything below
	started   []*fake
	startErrs []error // the next starts fail with these; nil starts well
	startTime time.Duration
	room      int // calls that an instance takes at a time; 0 means 1
}

func (f *fleet) Model(_ context.Context, name string) (actions.Model, error) {
	if name == "unknown" {
		return actions.Model{}, actions.Errorf(actions.NotFound, "there is no model %q", name)
	}
	return actions.Model{Name: strings.TrimPrefix(name, "./")}, nil
}

func (f *fleet) start(ctx context.Context, m actions.Model, _ []string) (Instance, error) {
	inst, err := f.startFake(ctx, m)
	if err != nil {
		return nil, err
	}
	return inst, nil
}

func (f *fleet) startFake(ctx context.Context, _ actions.Model) (*fake, error) {
	select {
	case <-time.After(f.startTime):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.startErrs) > 0 {
		err := f.startErrs[0]
		f.startErrs = f.startErrs[1:]
		if err != nil {
			return nil, err
		}
	}
	room := max(f.room, 1)
	inst := &fake{number: len(f.started), done: make(chan struct{}), settled: make(chan struct{}, room), calls: make(chan struct{}, room)}
	f.started = append(f.started, inst)
	return inst, nil
}

// A fake instance answers {"instance": number} after as long as the arguments ask.
type fake struct {
	number  int
	done    chan struct{}
	once    sync.Once
	settled chan struct{}
	slow    time.Duration // that Close takes
	calls   chan struct{} // holds a token for each call: one too many is a fault of the pool
}

func (f *fake) Call(ctx context.Context, req actions.Request) (actions.Response, error) {
	select {
	case f.calls <- struct{}{}:
	default:
		panic("more calls on one instance than it takes")
	}
	var args struct {
		Sleep time.Duration
		Die   bool
		Fail  bool
	}
	if err := json.Unmarshal(req.Args, &args); err != nil && req.Args != nil {
		panic(err)
	}
	if args.Die {
		f.kill()
		<-f.calls
		return actions.Response{}, actions.Errorf(actions.Unavailable, "the worker died")
	}
	timer := time.NewTimer(args.Sleep)
	select {
	case <-timer.C:
	case <-f.done:
		<-f.calls
		return actions.Response{}, actions.Errorf(actions.Unavailable, "the worker died")
	case <-ctx.Done():
		go func() { // the late answer
			<-timer.C
			<-f.calls
			f.settled <- struct{}{}
		}()
		return actions.Response{}, actions.Errorf(actions.Deadline, "late: %w", ctx.Err())
	}
	<-f.calls
	if args.Fail {
		return actions.Response{}, actions.Errorf(actions.Failed, "the model failed")
	}
	return actions.Response{Data: fmt.Appendf(nil, `{"instance":%d,"id":%q}`, f.number, req.ID)}, nil
}

func (f *fake) Concurrency() int { return cap(f.calls) }

func (f *fake) Settle() error {
	select {
	case <-f.settled:
		return nil
	case <-f.done:
		return errors.New("died")
	}
}

func (f *fake) kill()                 { f.once.Do(func() { close(f.done) }) }
func (f *fake) Info() json.RawMessage { return fmt.Appendf(nil, `{"number":%d}`, f.number) }
func (f *fake) Done() <-chan struct{} { return f.done }
func (f *fake) Err() error            { return errors.New("signal: killed") }
func (f *fake) Close() error {
	time.Sleep(f.slow)
	f.kill()
	return nil
}

func newFleet(cfg Config) (*Invoker, *fleet) {
	f := &fleet{startTime: 100 * time.Millisecond}
	cfg.Catalog, cfg.Start = f, f.start
	return New(cfg), f
}

func invoke(t *testing.T, v *Invoker, args string) (actions.Response, error) {
	t.Helper()
	return v.Invoke(t.Context(), actions.Request{Model: "m", Args: json.RawMessage(args)})
}

func mustInvoke(t *testing.T, v *Invoker, args string) actions.Response {
	t.Helper()
	resp, err := invoke(t, v, args)
	if err != nil {
		t.Fatalf("Invoke(%s): %v", args, err)
	}
	return resp
}

func closeNow(t *testing.T, v *Invoker) {
	t.Helper()
	if err := v.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}
}
