package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

// A Program is what a child does: it loads a model and runs it.
type Program interface {
	// Start loads and warms the model that setup describes. What it returns is
	// marshalled to JSON for Worker.Info.
	Start(ctx context.Context, setup json.RawMessage) (info any, err error)
	// Call runs one request. The bytes of req are shared with the parent and valid
	// until Call returns; the response's bytes may be among them. The context ends when
	// the caller's does.
	Call(ctx context.Context, req actions.Request) (actions.Response, error)
}

// Serve is the child's side of a Worker. It returns nil when the parent hangs up, and
// an error when the process was not started by a Worker or ctx has ended; in both cases
// the process is to end. With a Concurrency of 1, Start and all calls of p run on one
// goroutine: a Start that needs its calls on one thread locks it. Serve does not, because
// a locked goroutine takes several times longer to come back from waiting for a call.
func Serve(ctx context.Context, p Program) error {
	if os.Getenv(cookie) == "" {
		return errors.New("this program is the child of a deepfn worker and is not meant to be run by hand: " +
			"it talks with its parent through inherited descriptors")
	}
	// Neither the cookie nor the descriptors are for the programs that this one starts.
	if err := os.Unsetenv(cookie); err != nil {
		return err
	}
	for fd := fdControlIn; fd <= fdResponses; fd++ {
		unix.CloseOnExec(fd)
	}
	c := &child{
		program: p,
		in:      fdControlIn,
		out:     fdControlOut,
		req:     os.NewFile(fdRequests, "request memory"),
		resp:    os.NewFile(fdResponses, "response memory"),
	}
	done := make(chan error, 1)
	// This goroutine ends with the parent, or with the process: nothing interrupts its
	// reading.
	go func() { done <- c.serve(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A child is the state of Serve.
type child struct {
	program   Program
	in, out   int
	req, resp *os.File
	mem       *memory
	running   sync.WaitGroup // calls on goroutines of their own

	mu      sync.Mutex // guards current
	current []running  // by lane
}

// A running is a call that the program works on.
type running struct {
	id     uint64 // zero for none
	cancel context.CancelFunc
}

// serve speaks with the parent until it hangs up.
func (c *child) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGUSR1)
	defer signal.Stop(signals)
	if err := c.post(&frame{typ: frameHello, flags: wantsSignal, pid: uint32(os.Getpid())}); err != nil {
		return err
	}
	if err := c.start(ctx); err != nil || c.mem == nil {
		return err
	}
	defer c.mem.close()
	go c.watch(ctx, signals)
	defer c.running.Wait()
	for {
		f, err := c.next()
		if err != nil {
			return hungUp(err)
		}
		if f.typ != frameCall {
			return fmt.Errorf("worker: the parent sent a frame of type %d where a call must be", f.typ)
		}
		if err := c.accept(ctx, &f); err != nil {
			return hungUp(err)
		}
	}
}

// hungUp turns the ways in which the parent goes into nil.
func hungUp(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) {
		return nil
	}
	return fmt.Errorf("worker: the parent broke the protocol: %w", err)
}

// next reads a frame. It blocks a thread: a child has nothing else to do, and going
// through the poller is slower.
func (c *child) next() (frame, error) {
	var b [frameSize]byte
	for n := 0; n < frameSize; {
		got, err := unix.Read(c.in, b[n:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return frame{}, os.NewSyscallError("read", err)
		case got == 0:
			return frame{}, io.EOF
		default:
			n += got
		}
	}
	return parseFrame(&b)
}

// post sends a frame.
func (c *child) post(f *frame) error {
	var b [frameSize]byte
	f.put(&b)
	for {
		_, err := unix.Write(c.out, b[:])
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("write", err)
		}
	}
}

// start lets the program load its model. When the parent has hung up, or the program
// has failed, it returns nil and leaves c.mem nil.
func (c *child) start(ctx context.Context) error {
	f, err := c.next()
	if err != nil {
		return hungUp(err)
	}
	if f.typ != frameStart {
		return fmt.Errorf("worker: the parent began with a frame of type %d", f.typ)
	}
	mem, err := openMemory(c.req, c.resp, &f)
	if err != nil {
		return fmt.Errorf("worker: shared memory: %w", err)
	}
	if f.length > uint64(mem.laneSize) {
		mem.close()
		return fmt.Errorf("worker: the setup has %d bytes in a lane of %d", f.length, mem.laneSize)
	}
	setup, err := parseOne(mem.request(0)[:f.length], f.parts)
	if err != nil {
		mem.close()
		return fmt.Errorf("worker: the setup: %w", err)
	}
	if f.deadline != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, time.Unix(0, f.deadline))
		defer cancel()
	}
	info, err := c.load(ctx, append(json.RawMessage(nil), setup.data...))
	if err != nil {
		defer mem.close()
		failed := frame{typ: frameFailed}
		return c.postError(&failed, mem.response(0), err)
	}
	n, err := putParts(mem.response(0), 0, "the info", []part{{contentType: jsonType, data: info}})
	if err != nil {
		defer mem.close()
		failed := frame{typ: frameFailed}
		return c.postError(&failed, mem.response(0), err)
	}
	c.mem, c.current = mem, make([]running, mem.lanes)
	return c.post(&frame{typ: frameReady, parts: 1, length: uint64(n)})
}

// load calls the program's Start.
func (c *child) load(ctx context.Context, setup json.RawMessage) (info json.RawMessage, err error) {
	defer recovered("loading the model", &err)
	v, err := c.program.Start(ctx, setup)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// recovered turns a panic of the program into an error, with the trace on stderr.
func recovered(what string, err *error) {
	if r := recover(); r != nil {
		_, _ = fmt.Fprintf(os.Stderr, "panic in %s: %v\n\n%s", what, r, debug.Stack())
		*err = actions.Errorf(actions.Failed, "panic in %s: %v", what, r)
	}
}

// accept checks a call and runs it: here, or next to others if there may be others.
func (c *child) accept(ctx context.Context, f *frame) error {
	if uint64(f.lane) >= uint64(c.mem.lanes) || f.id == 0 || f.length > uint64(c.mem.limit) {
		return fmt.Errorf("call %d of %d bytes on lane %d", f.id, f.length, f.lane)
	}
	req, err := parseRequest(c.mem.request(int(f.lane))[:f.length], f.parts)
	if err != nil {
		return err
	}
	ctx, cancel := callContext(ctx, f.deadline)
	if !c.enter(f, cancel) {
		cancel()
		return fmt.Errorf("call %d on lane %d, which is in use", f.id, f.lane)
	}
	if c.mem.lanes == 1 {
		defer cancel()
		return c.call(ctx, f, req)
	}
	lane := *f
	c.running.Go(func() {
		defer cancel()
		_ = c.call(ctx, &lane, req) // the reader notices as well that the parent has gone
	})
	return nil
}

func callContext(ctx context.Context, deadline int64) (context.Context, context.CancelFunc) {
	if deadline == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, time.Unix(0, deadline))
}

// enter notes that a call runs, and reports whether its lane was free.
func (c *child) enter(f *frame, cancel context.CancelFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current[f.lane].id != 0 {
		return false
	}
	c.current[f.lane] = running{f.id, cancel}
	// The caller may have left before the call got here.
	if c.mem.canceled(int(f.lane)).Load() == f.id {
		cancel()
	}
	return true
}

func (c *child) leave(f *frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current[f.lane] = running{}
}

// watch cancels the calls whose callers have left, whenever the parent signals that
// there are some. It ends when the parent has hung up.
func (c *child) watch(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		c.mu.Lock()
		for lane, r := range c.current {
			if r.id != 0 && c.mem.canceled(lane).Load() == r.id {
				r.cancel()
			}
		}
		c.mu.Unlock()
	}
}

// call runs the program and sends its answer.
func (c *child) call(ctx context.Context, f *frame, req actions.Request) error {
	began := time.Now()
	resp, err := c.invoke(ctx, req)
	answer := frame{id: f.id, lane: f.lane, run: int64(time.Since(began))}
	b := c.mem.response(int(f.lane))
	if err == nil {
		answer.typ, answer.parts = frameResult, 1
		var n int
		n, err = putParts(b[:c.mem.limit], 0, "the response",
			[]part{{contentType: resp.ContentType, filename: resp.Filename, kind: wholeKind(resp.Whole), data: resp.Data}})
		answer.length = uint64(n)
	}
	c.leave(f) // before the answer, which allows the parent to use the lane again
	if err != nil {
		return c.postError(&answer, b, err)
	}
	return c.post(&answer)
}

func (c *child) invoke(ctx context.Context, req actions.Request) (resp actions.Response, err error) {
	defer recovered("the model", &err)
	return c.program.Call(ctx, req)
}

// postError sends an error, in a frame that may be of an answer or of the start.
func (c *child) postError(f *frame, b []byte, err error) error {
	if f.typ != frameFailed {
		f.typ = frameError
	}
	n, err := putFailure(b, failureOf(err))
	if err != nil {
		return err
	}
	f.parts, f.length = 1, uint64(n)
	return c.post(f)
}

// failureOf finds the words for an error of a program.
func failureOf(err error) *actions.Error {
	if e, ok := errors.AsType[*actions.Error](err); ok {
		return e
	}
	code := actions.Failed
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		code = actions.Deadline
	case errors.Is(err, context.Canceled):
		code = actions.Canceled
	}
	return &actions.Error{Code: code, Msg: err.Error()}
}
