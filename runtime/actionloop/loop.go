package actionloop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/runtime/command"
)

const (
	// drainGrace is how long the reply pipe of a dead program is read if a process that
	// left its group holds it open.
	drainGrace = 500 * time.Millisecond
	// endGrace is how long a program that closed one of its pipes, or was told to end, may
	// take to end.
	endGrace = 500 * time.Millisecond
	// An answer is read in chunks of firstChunk bytes, of twice that and so on, lastDouble
	// times.
	firstChunk = 16 << 10
	lastDouble = 6
	// maxAck is the limit of the line that says that the program is ready.
	maxAck = 64 << 10
	// maxDiscard says how many times the limit of an answer is thrown away until the
	// program is taken for one that never ends its line.
	maxDiscard = 8
	// pipeSize is how much the two pipes hold, the most that Linux allows everybody. What
	// fits is handed over at once; else both sides wake one another for each 64 KiB.
	pipeSize = 1 << 20
	// quoted is how much of a wrong line an error shows.
	quoted = 120
)

var (
	// errEnded says that the program has ended, and its State how.
	errEnded = errors.New("the program has ended")
	// errTooLong says that a line is over the limit. The program is still in step.
	errTooLong = errors.New("the answer is too long")
	// errDeaf says that a program lives on that nobody can ask anything any more.
	errDeaf = errors.New("it closed its standard input")
)

// A loop is a program that was started, and its two pipes. One goroutine uses it at a
// time.
type loop struct {
	cmd      *command.Command
	in, out  *os.File
	inFD     int
	outFD    int
	answered bool
}

// start starts the program with its pipes.
func startLoop(cfg command.Config) (*loop, error) {
	stdin, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, reply, err := os.Pipe()
	if err != nil {
		_, _ = stdin.Close(), in.Close()
		return nil, err
	}
	cfg.Stdin, cfg.Extra = stdin, []*os.File{reply}
	cmd, err := command.Start(cfg)
	_, _ = stdin.Close(), reply.Close()
	l := &loop{cmd: cmd, in: in, out: out}
	if err == nil {
		l.inFD, l.outFD, err = descriptors(in, out)
	}
	for _, fd := range []int{l.inFD, l.outFD} {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize) // else it stays as it is
	}
	if err != nil {
		_, _ = in.Close(), out.Close()
		return nil, err
	}
	go l.watch()
	return l, nil
}

// descriptors returns those of two files, which stay in the poller.
func descriptors(in, out *os.File) (int, int, error) {
	var fds [2]int
	for i, f := range []*os.File{in, out} {
		conn, err := f.SyscallConn()
		if err != nil {
			return 0, 0, err
		}
		if err := conn.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
			return 0, 0, err
		}
	}
	return fds[0], fds[1], nil
}

// watch ends the reading and writing of a program that has ended, in case another process
// holds its pipes. It ends with the program.
func (l *loop) watch() {
	<-l.cmd.Done()
	_ = l.in.SetWriteDeadline(time.Unix(1, 0))
	_ = l.out.SetReadDeadline(time.Now().Add(drainGrace))
}

// end kills the program and frees what the loop holds.
func (l *loop) end() {
	l.cmd.Kill()
	_, _ = l.in.Close(), l.out.Close()
}

// stop lets the program end by itself, which it should when there is nothing more to
// read, and else kills it.
func (l *loop) stop() {
	_ = l.in.Close()
	select {
	case <-l.cmd.Done():
	case <-time.After(endGrace):
		l.cmd.Terminate()
		select {
		case <-l.cmd.Done():
		case <-time.After(endGrace):
		}
	}
	l.end()
}

// idle returns nil when the program waits for a request, else why it is of no use.
func (l *loop) idle() error {
	fds := []unix.PollFd{{Fd: int32(l.outFD), Events: unix.POLLIN}}
	_, err := unix.Poll(fds, 0)
	switch {
	case err != nil && !errors.Is(err, unix.EINTR):
		return fmt.Errorf("its reply pipe: %w", err)
	case fds[0].Revents&unix.POLLIN != 0:
		return errors.New("it wrote a line that nobody had asked for")
	case l.cmd.Ended():
		return fmt.Errorf("it had ended: %s", l.cmd.State())
	case fds[0].Revents != 0:
		return errors.New("it had closed descriptor 3")
	}
	return l.hears()
}

// hears returns errDeaf when nobody has the other end of the program's standard input.
func (l *loop) hears() error {
	fds := []unix.PollFd{{Fd: int32(l.inFD)}}
	if n, err := unix.Poll(fds, 0); err == nil && n > 0 && fds[0].Revents&unix.POLLERR != 0 {
		return errDeaf
	}
	return nil
}

// write writes a line. It returns how much the program may have read of it: nothing if it
// has read nothing for certain. The error is errEnded or errDeaf.
func (l *loop) write(pieces line) (read int, err error) {
	written := 0
	for _, piece := range pieces {
		n, err := l.in.Write(piece)
		written += n
		if err != nil {
			return written - l.unread(), l.hungUp(errDeaf)
		}
	}
	return written, nil
}

// unread returns how many bytes the program has left in its standard input.
func (l *loop) unread() int {
	n, err := unix.IoctlGetInt(l.inFD, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}

// read reads a line of at most limit bytes, which is the caller's. The error is errEnded,
// errTooLong when the rest of a longer line has been thrown away, or says what is wrong.
func (l *loop) read(limit int) ([]byte, error) {
	var a answer
	for {
		room := a.room()
		n, err := l.out.Read(room)
		if i := bytes.IndexByte(room[:n], '\n'); i >= 0 {
			a.take(i)
			if i+1 < n {
				return nil, errors.New("it wrote more than one line for one request")
			}
			return a.line(limit)
		}
		a.take(n)
		if a.size > limit {
			a.chunks = nil // what is longer is only counted
		}
		switch {
		case a.size/maxDiscard > limit:
			return nil, fmt.Errorf("it wrote a line of more than %d bytes", a.size)
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			err := l.hungUp(errors.New("it closed descriptor 3"))
			if a.size > 0 && errors.Is(err, errEnded) {
				err = fmt.Errorf("%w in the middle of its answer, after %d bytes", err, a.size)
			}
			return nil, err
		default:
			return nil, err
		}
	}
}

// An answer is a line that is being read. Its chunks are joined once, because a buffer
// that grows by doubling takes several times its size.
type answer struct {
	chunks [][]byte
	size   int
}

// room returns where to read to.
func (a *answer) room() []byte {
	last := len(a.chunks) - 1
	if last < 0 || len(a.chunks[last]) == cap(a.chunks[last]) {
		last++
		a.chunks = append(a.chunks, make([]byte, 0, firstChunk<<min(last, lastDouble)))
	}
	chunk := a.chunks[last]
	return chunk[len(chunk):cap(chunk)]
}

// take says that n bytes were read to where room said.
func (a *answer) take(n int) {
	last := len(a.chunks) - 1
	a.chunks[last] = a.chunks[last][:len(a.chunks[last])+n]
	a.size += n
}

// line returns the whole.
func (a *answer) line(limit int) ([]byte, error) {
	switch {
	case a.size > limit:
		return nil, errTooLong
	case len(a.chunks) == 1:
		return a.chunks[0], nil
	}
	return slices.Concat(a.chunks...), nil
}

// hungUp waits for the end of a program that has closed a pipe, as one that ends does. The
// error is errEnded, or closed if the program lives on: that may be for ever.
func (l *loop) hungUp(closed error) error {
	select {
	case <-l.cmd.Done():
		return errEnded
	case <-time.After(endGrace):
		return closed
	}
}

// excerpt shows the beginning of a line.
func excerpt(b []byte) string {
	if len(b) > quoted {
		return fmt.Sprintf("%q…", b[:quoted])
	}
	return fmt.Sprintf("%q", b)
}
