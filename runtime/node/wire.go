package node

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/runtime/worker"
)

// errUnsent is in the chain of an error of a frame that the other side has not got, and
// never will.
var errUnsent = errors.New("the other side has gone")

// A wire is a pair of pipes that carry frames, one in each direction. They take a third of
// the time of a Unix socket (BenchmarkPingPong).
type wire struct {
	in, out       *os.File
	rawIn, rawOut syscall.RawConn
	// heard is when something came last, in nanoseconds of the monotonic clock of epoch.
	heard atomic.Int64
	epoch time.Time

	// buf has what was read and not taken, from at to have. The last attempt to read, which
	// once is, ended in readErr. They are of who reads.
	buf      [16 * frameSize]byte
	at, have int
	readErr  error
	once     func(fd uintptr) bool

	mu      sync.Mutex // guards what follows, and the order of frames
	sent    [frameSize]byte
	n       int
	sendErr error
	// write is one attempt of a write, which never waits.
	write func(fd uintptr) bool
}

// newWire makes a wire, which closes the two files. They must be such that do not wait.
func newWire(in, out *os.File) (*wire, error) {
	rawIn, err := in.SyscallConn()
	if err != nil {
		return nil, err
	}
	rawOut, err := out.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := in.SetReadDeadline(time.Time{}); err != nil {
		return nil, err // a pipe that cannot be waited for
	}
	w := &wire{in: in, out: out, rawIn: rawIn, rawOut: rawOut, epoch: time.Now()}
	w.write = func(fd uintptr) bool {
		w.n, w.sendErr = worker.WriteNow(int(fd), w.sent[:])
		return true
	}
	w.once = func(fd uintptr) bool {
		n, err := worker.ReadNow(int(fd), w.buf[w.have:])
		w.have, w.readErr = w.have+n, err
		return !errors.Is(err, unix.EAGAIN)
	}
	return w, nil
}

// close ends the wire, for the other side too.
func (w *wire) close() {
	_ = w.in.Close()
	_ = w.out.Close()
}

// post sends a frame. It never waits: in a pipe there is room for several times the frames
// that two sides who keep to the protocol can have under way.
func (w *wire) post(f *frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.postLocked(f)
}

func (w *wire) postLocked(f *frame) error {
	f.put(&w.sent)
	err := w.rawOut.Write(w.write)
	switch {
	case err != nil: // it was closed on this side
		return errUnsent
	case errors.Is(w.sendErr, unix.EAGAIN):
		return errors.New("it does not read what it is sent")
	case w.sendErr != nil:
		return errUnsent
	case w.n != frameSize:
		return errors.New("half a frame was sent")
	}
	return nil
}

// read hands each frame that comes to take, until the connection ends or take returns an
// error.
func (w *wire) read(take func(f *frame) error) error {
	for {
		f, err := w.next()
		if err != nil {
			return err
		}
		if err := take(&f); err != nil {
			return err
		}
	}
}

// next waits for a frame. One reads at a time.
func (w *wire) next() (frame, error) {
	for w.have-w.at < frameSize {
		w.have, w.at = copy(w.buf[:], w.buf[w.at:w.have]), 0
		if err := w.rawIn.Read(w.once); errors.Is(err, os.ErrDeadlineExceeded) {
			return frame{}, err
		} else if err != nil {
			return frame{}, os.ErrClosed // which package os says in other words here
		}
		if w.readErr != nil {
			return frame{}, w.readErr
		}
		w.hear()
	}
	w.at += frameSize
	return parseFrame((*[frameSize]byte)(w.buf[w.at-frameSize:]))
}

// interrupt makes next, now or when it is called the next time, return
// os.ErrDeadlineExceeded, until resume.
func (w *wire) interrupt() { _ = w.in.SetReadDeadline(time.Unix(1, 0)) }

func (w *wire) resume() { _ = w.in.SetReadDeadline(time.Time{}) }

func (w *wire) hear() { w.heard.Store(int64(time.Since(w.epoch))) }

// silence is how long nothing has come.
func (w *wire) silence() time.Duration {
	return time.Since(w.epoch) - time.Duration(w.heard.Load())
}

// watch calls each at times, four times in ttl, until done is closed, or the other side
// has been silent for ttl, and says which: true is silence. Time in which this process did
// not run is no silence of the other.
func (w *wire) watch(ttl time.Duration, done <-chan struct{}, each func()) (silent bool) {
	tick := time.NewTicker(ttl / beats)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-done:
			return false
		case <-tick.C:
		}
		now := time.Now()
		if now.Sub(last) > 2*ttl/beats {
			w.hear() // it was frozen
		}
		last = now
		if w.silence() > ttl {
			return true
		}
		each()
	}
}

// beats is how often in the time to live of a lease the relay says that it is alive.
const beats = 4

// gone says whether an error of a connection means that the other side has ended, or this
// one has closed it.
func gone(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) || errors.Is(err, io.EOF)
}
