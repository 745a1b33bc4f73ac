package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	defaultMaxPayload = 64 << 20
	defaultGrace      = 5 * time.Second
	// endGrace is how long a child that has closed its control pipe may take to end.
	endGrace = time.Second
	// drainGrace is how long the pipes of a dead child are read if others hold them
	// open.
	drainGrace = 500 * time.Millisecond
)

// Config says which program is a worker's child and what it may do.
type Config struct {
	// Argv is the program and its arguments. Required. A name without a slash is
	// looked up in PATH, another relative path in the working directory of this
	// process.
	Argv []string
	// Env is added to the environment of this process, each "KEY=value".
	Env []string
	// Dir is the working directory of the child; empty means that of this process.
	Dir string
	// Zygote, when it is set, forks the child, in place of a start of Argv. The child
	// ends at the latest when the Zygote does.
	Zygote *Zygote
	// Setup is handed to the child, which loads the model that it describes. It may be
	// nil.
	Setup json.RawMessage
	// MaxPayload is how many bytes one call may take in each direction, with the
	// names and paddings of its parts. The default is 64 MiB, the most about 1 TiB.
	// The memory is taken when it is used, not before.
	MaxPayload int64
	// Concurrency is how many calls the child works on at the same time, at most 64.
	// The default is 1. With more than one call at a time nobody can say which of
	// them printed a line, so all lines go to Log.
	Concurrency int
	// CancelGrace is how long a call may go on after its caller has left; then the
	// worker is killed. The default is 5 seconds.
	CancelGrace time.Duration
	// StopGrace is how long Close waits for the child to end by itself before it kills
	// it. The default is 5 seconds.
	StopGrace time.Duration
	// Log takes the lines that the child prints outside of a call. The default is to
	// discard them.
	Log *slog.Logger
	// Output, when it is set, gets every line as it comes, also during a call, in place of
	// Log and of the answers. A carriage return ends a line too. It is called by one
	// goroutine at a time, and has got the lines of a call when the call returns, and all
	// of them at Done, unless it takes longer than half a second then. While it does not
	// return, up to 10 MiB of lines wait; more are dropped, and a line says how many.
	Output func(actions.LogLine)
}

func (c *Config) setDefaults() error {
	if len(c.Argv) == 0 || c.MaxPayload < 0 || c.Concurrency < 0 {
		return errors.New("a Config needs an Argv, and no negative number")
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = defaultMaxPayload
	}
	if c.Concurrency == 0 {
		c.Concurrency = 1
	}
	if c.CancelGrace <= 0 {
		c.CancelGrace = defaultGrace
	}
	if c.StopGrace <= 0 {
		c.StopGrace = defaultGrace
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// A Worker is a model in a child process. Its methods may be called by many at the
// same time.
type Worker struct {
	cfg     Config
	proc    *process
	mem     *memory
	logs    *logs
	info    json.RawMessage
	signals bool   // the child takes SIGUSR1
	onLeave func() // interrupt, as a value that is made once

	send  sync.Mutex // guards the next three
	in    *os.File   // what the child reads; closed to stop it
	inFD  int
	inBuf [frameSize]byte

	reading chan struct{} // holds a token while somebody reads, who guards the next seven
	out     *os.File
	outConn syscall.RawConn // of out
	outBuf  [frameSize]byte
	outLen  int
	outOnce func(fd uintptr) bool // tryOut, as a value that is made once
	outRead int                   // what tryOut has got
	outErr  error

	calls sync.WaitGroup // those who use mem, logs and out; Add under mu
	dead  chan struct{}  // closed when the process was reaped and err is set
	gone  chan struct{}  // closed when all that the worker held was given back

	mu        sync.Mutex // guards everything below
	lanes     []*lane
	free      []*lane
	lastID    uint64
	abandoned int           // calls that go on without their callers
	settled   chan struct{} // closed when there are none; nil when nobody waits
	closing   bool
	ended     bool  // the process was reaped
	cause     error // why it was killed
	err       error
}

// Start starts a child and waits until it has loaded its model. The context bounds the
// start alone.
//
// The error is an *actions.Error: what the child itself said, Unavailable if it ended
// or broke the protocol, Deadline or Canceled if ctx did. Its Logs are the last lines
// that the child printed. ErrNotForked is in its chain if Config.Zygote made no child.
func Start(ctx context.Context, cfg Config) (*Worker, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, actions.Errorf(actions.Invalid, "worker: %w", err)
	}
	if ctx.Err() != nil {
		return nil, leftError(ctx, "the start of the worker", nil)
	}
	w := &Worker{
		cfg:     cfg,
		reading: make(chan struct{}, 1),
		dead:    make(chan struct{}),
		gone:    make(chan struct{}),
	}
	w.onLeave = w.interrupt
	for i := range cfg.Concurrency {
		l := &lane{index: i, answer: make(chan frame, 1)}
		w.lanes = append(w.lanes, l)
		w.free = append(w.free, l)
	}
	if err := w.launch(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, leftError(ctx, "the start of the worker", nil)
		}
		return nil, w.notStarted(reason(err), err, nil)
	}
	err := w.load(ctx)
	w.calls.Done()
	if err != nil {
		return nil, w.startError(ctx, err)
	}
	w.logs.loaded()
	return w, nil
}

// launch starts the process with its pipes and its memory.
func (w *Worker) launch(ctx context.Context) (err error) {
	var files []*os.File // the child's ends, and ours until all is well
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
		if err != nil && w.mem != nil {
			w.mem.close()
		}
	}()
	if w.mem, err = newMemory(w.cfg.Concurrency, w.cfg.MaxPayload); err != nil {
		return err
	}
	for range 4 {
		r, wr, err := os.Pipe()
		if err != nil {
			return err
		}
		files = append(files, r, wr)
	}
	in, out, stdout, stderr := files[0:2], files[2:4], files[4:6], files[6:8]
	extra := []*os.File{in[0], out[1], w.mem.reqFile, w.mem.respFile}
	if w.cfg.Zygote != nil {
		w.proc, err = w.cfg.Zygote.fork(ctx, &w.cfg, append([]*os.File{stdout[1], stderr[1]}, extra...))
	} else {
		w.proc, err = spawn(&w.cfg, stdout[1], stderr[1], extra)
	}
	if err != nil {
		return err
	}
	if err = w.setPipes(in[1], out[0]); err == nil {
		w.logs, err = newLogs(w.cfg.Log, w.cfg.Output, stdout[0], stderr[0])
	}
	if err != nil {
		w.proc.kill()
		return err
	}
	files = []*os.File{in[0], out[1], stdout[1], stderr[1]}
	w.calls.Add(1) // load reads the memory too, also that of a child that is dead already
	go w.live()
	return nil
}

// setPipes takes the pipes that carry frames.
func (w *Worker) setPipes(in, out *os.File) (err error) {
	w.in, w.out, w.outOnce = in, out, w.tryOut
	if w.outConn, err = out.SyscallConn(); err == nil {
		w.inFD, err = rawFD(in)
	}
	return err
}

// rawFD returns the descriptor of f, which stays in the poller.
func rawFD(f *os.File) (int, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	n := -1
	err = conn.Control(func(fd uintptr) { n = int(fd) })
	return n, err
}

// live is the one goroutine that notices the end of the process and clears up after
// it. It ends when the process has and the last call has returned.
func (w *Worker) live() {
	<-w.proc.exited
	w.mu.Lock()
	w.ended = true
	// From now on reads see the end of the pipe, unless another process holds it open.
	_ = w.out.SetReadDeadline(time.Now().Add(drainGrace))
	w.mu.Unlock()
	w.logs.drain(drainGrace)

	w.mu.Lock()
	switch {
	case w.cause != nil:
		w.err = w.cause
	case !w.closing:
		w.err = fmt.Errorf("worker: the process ended: %s", w.proc.state)
	}
	w.mu.Unlock()
	close(w.dead)

	w.calls.Wait()
	w.hangUp()
	_ = w.out.Close()
	w.logs.close()
	w.mem.close()
	close(w.gone)
}

// load speaks with the child until it has loaded the model.
func (w *Worker) load(ctx context.Context) error {
	w.reading <- struct{}{}
	defer func() { <-w.reading }()
	stop := context.AfterFunc(ctx, w.onLeave)
	defer stop()

	hello, err := w.next(ctx)
	if err != nil {
		return err
	}
	if hello.typ != frameHello {
		return fmt.Errorf("the child began with a frame of type %d", hello.typ)
	}
	w.signals = hello.flags&wantsSignal != 0
	n, err := putParts(w.mem.request(0), 0, "the setup", []part{{contentType: jsonType, data: w.cfg.Setup}})
	if err != nil {
		return err
	}
	start := frame{
		typ: frameStart, parts: 1, length: uint64(n), deadline: deadline(ctx),
		limit: uint64(w.mem.limit), lanes: uint32(w.mem.lanes),
	}
	if err := w.post(&start); err != nil {
		return err
	}
	f, err := w.next(ctx)
	if err != nil {
		return err
	}
	b := w.mem.response(0)
	if f.length > uint64(len(b)) {
		return fmt.Errorf("an answer of %d bytes in a lane of %d", f.length, len(b))
	}
	switch f.typ {
	case frameReady:
		p, err := parseOne(b[:f.length], f.parts)
		w.info = append(json.RawMessage(nil), p.data...)
		return err
	case frameFailed:
		failure, err := parseFailure(b[:f.length], f.parts)
		if err != nil {
			return err
		}
		return failure
	default:
		return fmt.Errorf("the child answered the start with a frame of type %d", f.typ)
	}
}

// Info returns what the child said about itself when it was ready, as JSON.
func (w *Worker) Info() json.RawMessage { return w.info }

// PID returns the id of the process.
func (w *Worker) PID() int { return w.proc.pid }

// Done returns a channel that is closed when the process has ended and was reaped.
func (w *Worker) Done() <-chan struct{} { return w.dead }

// Err returns why the process ended: nil while it runs and after Close has ended it.
func (w *Worker) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Close ends the child and waits until it is gone, with all processes of its group. A
// call that it works on may be finished within StopGrace. Close may be called more than
// once. It returns nil.
func (w *Worker) Close() error {
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	w.hangUp()
	grace := time.NewTimer(w.cfg.StopGrace)
	defer grace.Stop()
	select {
	case <-w.dead:
	case <-grace.C:
		w.proc.kill()
	}
	<-w.gone
	return nil
}

// hangUp closes the pipe that the child reads, which tells it to end.
func (w *Worker) hangUp() {
	w.send.Lock()
	defer w.send.Unlock()
	_ = w.in.Close()
	w.inFD = -1
}

// fail kills the child. The first cause is the one that counts.
func (w *Worker) fail(cause error) {
	w.mu.Lock()
	if w.cause == nil && !w.ended {
		w.cause = fmt.Errorf("worker: the process was killed: %w", cause)
	}
	w.mu.Unlock()
	w.proc.kill()
}
