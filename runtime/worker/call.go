package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

var (
	errLeft   = errors.New("the caller has left")
	errHungUp = errors.New("the child has hung up")
)

// A lane is the memory of a call and the call that uses it. All fields but the channel
// are guarded by Worker.mu.
type lane struct {
	index    int
	id       uint64 // the call's; zero for a free lane
	answered bool
	// answer takes the frame that ends the call if somebody else read it. It has
	// room for the one frame that a call may get.
	answer chan frame
}

// Call runs one request in the child. Its bytes are the caller's again when Call has
// returned, even if the child still works on the request.
//
// The error is an *actions.Error with the lines that the child printed: what the child
// said; TooLarge if the request or the response is larger than MaxPayload; Deadline or
// Canceled when ctx ends; Unavailable if the worker is busy, closed or dead, or dies. When
// the child has ended by itself, actions.ErrDied is in the chain.
// After Deadline and Canceled the worker stays busy until Settle returns.
func (w *Worker) Call(ctx context.Context, req actions.Request) (actions.Response, error) {
	if ctx.Err() != nil {
		return actions.Response{}, leftError(ctx, "the call", nil)
	}
	ln, err := w.take()
	if err != nil {
		return actions.Response{}, err
	}
	began := time.Now()
	size, parts, err := putRequest(w.mem.request(ln.index)[:w.mem.limit], &req)
	if err != nil {
		w.release(ln)
		return actions.Response{}, err
	}
	if len(w.lanes) == 1 && !ofPool(req.Verb) {
		w.logs.begin()
	}
	call := frame{
		typ: frameCall, id: ln.id, lane: uint32(ln.index), parts: uint32(parts),
		length: uint64(size), deadline: deadline(ctx),
	}
	var answer frame
	if err = w.post(&call); err == nil {
		hide(w.mem.request(ln.index)[:size])
		answer, err = w.await(ctx, ln)
	}
	switch {
	case errors.Is(err, errLeft):
		logs := w.endLogs()
		w.abandon(ln, call.length)
		return actions.Response{}, leftError(ctx, "the call", logs)
	case err != nil:
		defer w.release(ln)
		return actions.Response{}, w.lost(ctx, err)
	}
	logs := w.endLogs()
	resp, failure := w.read(&answer, req.Buffer)
	w.mem.trim(ln.index, call.length, answer.length)
	w.release(ln)
	if failure != nil {
		failure.Logs = logs
		return actions.Response{}, failure
	}
	resp.Logs, resp.Timing.Run = logs, answer.took(began)
	return resp, nil
}

// take takes a free lane for a new call. Who has one has to release it.
func (w *Worker) take() (*lane, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closing:
		return nil, actions.Errorf(actions.Unavailable, "worker: it is closed")
	case w.err != nil:
		return nil, &actions.Error{Code: actions.Unavailable, Msg: w.err.Error(), Err: w.err}
	case w.ended || w.cause != nil:
		return nil, actions.Errorf(actions.Unavailable, "worker: its process has ended")
	case len(w.free) == 0:
		return nil, actions.Errorf(actions.Unavailable, "worker: busy with %d calls, which is all it takes", len(w.lanes))
	}
	ln := w.free[len(w.free)-1]
	w.free = w.free[:len(w.free)-1]
	w.lastID++
	ln.id, ln.answered = w.lastID, false
	w.calls.Add(1)
	return ln, nil
}

// release ends a call.
func (w *Worker) release(ln *lane) {
	w.mu.Lock()
	ln.id = 0
	w.free = append(w.free, ln)
	w.mu.Unlock()
	w.calls.Done()
}

// post sends a frame. It never waits: a child for which there are more frames in the
// pipe than it can have calls does not read them.
func (w *Worker) post(f *frame) error {
	w.send.Lock()
	defer w.send.Unlock()
	if w.inFD < 0 {
		return errHungUp
	}
	f.put(&w.inBuf)
	_, err := WriteNow(w.inFD, w.inBuf[:])
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EAGAIN):
		return errors.New("it does not read its control pipe")
	default:
		return errHungUp
	}
}

// await waits for the frame that ends the call on ln. Whoever waits first reads for all
// (there is no reading goroutine, because waking it up and then the caller costs more
// than the call itself); the others wait for their frame or their turn to read.
func (w *Worker) await(ctx context.Context, ln *lane) (frame, error) {
	select {
	case w.reading <- struct{}{}:
	default:
		select {
		case f := <-ln.answer:
			return f, nil
		case <-ctx.Done():
			return frame{}, errLeft
		case w.reading <- struct{}{}:
		}
	}
	defer func() { <-w.reading }()
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, w.onLeave)
		defer stop()
	}
	for {
		select {
		case f := <-ln.answer:
			return f, nil
		default:
		}
		f, err := w.next(ctx)
		if err != nil {
			return frame{}, err
		}
		to, err := w.addressee(&f)
		if err != nil || to == ln {
			return f, err
		}
		to.answer <- f
	}
}

// next reads a frame. The caller holds the reading token, and has arranged that the end
// of ctx interrupts it.
func (w *Worker) next(ctx context.Context) (frame, error) {
	for w.outLen < frameSize {
		n, err := w.readOut()
		w.outLen += n
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			if w.resume() {
				return frame{}, errHungUp
			}
			if ctx.Err() != nil {
				return frame{}, errLeft
			}
		case errors.Is(err, io.EOF):
			return frame{}, errHungUp
		default:
			return frame{}, err
		}
	}
	w.outLen = 0
	return parseFrame(&w.outBuf)
}

// readOut reads what there is of a frame, when there is something.
func (w *Worker) readOut() (int, error) {
	if err := w.outConn.Read(w.outOnce); err != nil {
		return 0, err
	}
	return w.outRead, w.outErr
}

// tryOut is one attempt of readOut.
func (w *Worker) tryOut(fd uintptr) bool {
	w.outRead, w.outErr = ReadNow(int(fd), w.outBuf[w.outLen:])
	return !errors.Is(w.outErr, unix.EAGAIN)
}

// interrupt makes next look at its context.
func (w *Worker) interrupt() { _ = w.out.SetReadDeadline(time.Unix(1, 0)) }

// resume takes an interruption back and reports whether the process has ended. An
// interruption that was meant for the one who read before does no harm.
func (w *Worker) resume() (ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		_ = w.out.SetReadDeadline(time.Time{})
	}
	return w.ended
}

// addressee returns the lane whose call f ends.
func (w *Worker) addressee(f *frame) (*lane, error) {
	if f.typ != frameResult && f.typ != frameError {
		return nil, fmt.Errorf("a frame of type %d where an answer must be", f.typ)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if uint64(f.lane) >= uint64(len(w.lanes)) {
		return nil, fmt.Errorf("an answer on lane %d of %d", f.lane, len(w.lanes))
	}
	ln := w.lanes[f.lane]
	if f.id == 0 || ln.id != f.id || ln.answered {
		return nil, fmt.Errorf("an answer to call %d, which nobody waits for", f.id)
	}
	ln.answered = true
	return ln, nil
}

// read makes a response, with its data in buf if they fit, or an error, of the payload
// that f announces.
func (w *Worker) read(f *frame, buf []byte) (actions.Response, *actions.Error) {
	b := w.mem.response(int(f.lane))
	if f.length > uint64(len(b)) || f.typ == frameResult && f.length > uint64(w.mem.limit) {
		return w.garbled(fmt.Errorf("an answer of %d bytes, the limit is %d", f.length, w.mem.limit))
	}
	b = b[:f.length]
	if f.typ == frameError {
		failure, err := parseFailure(b, f.parts)
		if err != nil {
			return w.garbled(err)
		}
		return actions.Response{}, failure
	}
	p, err := parseOne(b, f.parts)
	if err != nil {
		return w.garbled(err)
	}
	return actions.Response{
		ContentType: p.contentType,
		Whole:       p.kind == kindWhole,
		Filename:    p.filename,
		Data:        copyOut(buf[:0], p.data),
	}, nil
}

// garbled kills a child that broke the protocol.
func (w *Worker) garbled(err error) (actions.Response, *actions.Error) {
	err = fmt.Errorf("it broke the protocol: %w", err)
	w.fail(err)
	return actions.Response{}, &actions.Error{
		Code: actions.Unavailable, Msg: fmt.Sprintf("worker: the process was killed: %v", err), Err: err,
	}
}

// lost makes the error of a call whose answer will not come.
func (w *Worker) lost(ctx context.Context, err error) error {
	if !errors.Is(err, errHungUp) {
		_, failure := w.garbled(err)
		failure.Logs = w.endLogs()
		return failure
	}
	grace := time.NewTimer(endGrace)
	defer grace.Stop()
	select {
	case <-w.dead:
	case <-ctx.Done():
		w.fail(errors.New("it closed its control pipe"))
		return leftError(ctx, "the call", w.endLogs())
	case <-grace.C:
		w.fail(errors.New("it closed its control pipe"))
		<-w.dead
	}
	failure := &actions.Error{Code: actions.Unavailable, Msg: "worker: it was closed", Logs: w.endLogs()}
	if err := w.Err(); err != nil {
		failure.Msg, failure.Err = err.Error(), err
	}
	if w.endedItself() {
		failure.Err = fmt.Errorf("%w: %w", failure.Err, actions.ErrDied)
	}
	return failure
}

// endedItself says that the process, which is dead, has exited: it was ended neither by
// this one nor by a signal, as the kernel sends for want of memory.
func (w *Worker) endedItself() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause == nil && w.err != nil && strings.HasPrefix(w.proc.state, exitStatus)
}

// endLogs returns the lines of the call.
func (w *Worker) endLogs() []actions.LogLine {
	if len(w.lanes) > 1 {
		return nil
	}
	return w.logs.end()
}

// took returns how long the child says it ran, if that can be.
func (f *frame) took(began time.Time) time.Duration {
	elapsed := time.Since(began)
	if run := time.Duration(f.run); run > 0 && run < elapsed {
		return run
	}
	return elapsed
}

// leftError is the error of something whose context has ended.
func leftError(ctx context.Context, what string, logs []actions.LogLine) *actions.Error {
	err := context.Cause(ctx)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &actions.Error{Code: actions.Deadline, Msg: what + " took longer than it was allowed to", Logs: logs, Err: err}
	}
	return &actions.Error{Code: actions.Canceled, Msg: what + " was canceled", Logs: logs, Err: err}
}

// deadline returns when ctx ends, in nanoseconds since 1970; zero means never.
func deadline(ctx context.Context) int64 {
	t, ok := ctx.Deadline()
	if !ok || t.Sub(time.Unix(0, 0)) == math.MaxInt64 {
		return 0 // none, or after the year 2262, which 64 bits of nanoseconds do not reach
	}
	return t.UnixNano()
}
