package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

const (
	pipeSize = 64 << 10  // what a pipe holds
	maxLine  = 64 << 10  // a longer line is split
	maxLogs  = 10 << 20  // what a call may print, each line counted with lineCost
	lineCost = 32        // what a line costs besides its text
	tailSize = 1000      // the lines of a start that are kept for its error and the first call
	maxTail  = 256 << 10 // and their bytes, each line counted with lineCost
)

// A logs reads what a child prints. The lines of a call go to the call, all others to
// the log; with an outlet all go there.
type logs struct {
	log     *slog.Logger
	out     *outlet // may be nil
	streams [2]stream
	readers sync.WaitGroup // the goroutines of start

	mu      sync.Mutex // guards everything below and the reading of the pipes
	buf     []byte
	record  bool // there is a call that the lines belong to
	lines   []actions.LogLine
	size    int // of lines
	dropped int // lines of the call over maxLogs
	stray   []actions.LogLine
	tail    []actions.LogLine // the last lines while the model is loaded, until the first call
	tailing bool
	// tailBytes are those of tail.
	tailBytes int
}

// A stream is one of the two pipes.
type stream struct {
	name actions.Stream
	file *os.File
	fd   int
	// partial is a line without its end, and returned says that the one before ended with
	// a carriage return. Both are guarded by logs.mu.
	partial  []byte
	returned bool
}

// newLogs reads the two pipes of a child, for output unless that is nil.
func newLogs(log *slog.Logger, output func(actions.LogLine), stdout, stderr *os.File) (l *logs, err error) {
	l = &logs{log: log, buf: make([]byte, pipeSize), tailing: true}
	if output != nil {
		l.out = newOutlet(output)
		defer func() {
			if err != nil {
				l.out.close(0)
			}
		}()
	}
	l.streams[0] = stream{name: actions.Stdout, file: stdout}
	l.streams[1] = stream{name: actions.Stderr, file: stderr}
	for i := range l.streams {
		s := &l.streams[i]
		conn, err := s.file.SyscallConn()
		if err != nil {
			return nil, err
		}
		// The descriptor itself is read by end, which cannot wait until pump lets the
		// file go. The files are closed after the last call.
		if err := conn.Control(func(fd uintptr) { s.fd = int(fd) }); err != nil {
			return nil, err
		}
		l.readers.Go(func() { l.pump(s, conn) })
	}
	return l, nil
}

// pump reads a stream whenever there is something. It ends when all processes that
// could print there have, or at the latest some time after drain was called.
func (l *logs) pump(s *stream, conn syscall.RawConn) {
	var stray []actions.LogLine
	var err error
	// Once at a time, so that the deadline of drain is seen even if there is no end of
	// things to read.
	once := func(uintptr) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		_, err = l.readLocked(s)
		stray = l.takeStrayLocked()
		return !errors.Is(err, unix.EAGAIN)
	}
	for {
		waited := conn.Read(once)
		l.print(stray)
		if waited != nil || err != nil {
			return
		}
	}
}

// readLocked reads once, without waiting.
func (l *logs) readLocked(s *stream) (int, error) {
	n, err := ReadNow(s.fd, l.buf)
	if err != nil {
		return 0, err
	}
	l.splitLocked(s, l.buf[:n])
	return n, nil
}

// splitLocked makes lines of what was read.
func (l *logs) splitLocked(s *stream, b []byte) {
	for len(b) > 0 {
		if b = l.skipLocked(s, b); len(b) == 0 {
			return
		}
		line, rest, ended := l.cutLocked(s, b)
		if room := maxLine - len(s.partial); len(line) > room {
			line, rest, ended = b[:room], b[room:], true
		}
		b = rest
		if !ended {
			s.partial = append(s.partial, line...)
			return
		}
		if len(s.partial) > 0 {
			line = append(s.partial, line...)
			s.partial = s.partial[:0]
		}
		l.addLocked(s.name, line)
	}
}

// cutLocked returns what is before the first end of a line in b, and what is behind it.
// For an outlet a carriage return is an end too, for there are programs that show their
// progress so.
func (l *logs) cutLocked(s *stream, b []byte) (line, rest []byte, ended bool) {
	if l.out == nil {
		return bytes.Cut(b, []byte{'\n'})
	}
	i := bytes.IndexAny(b, "\r\n")
	if i < 0 {
		return b, nil, false
	}
	s.returned = b[i] == '\r'
	return b[:i], b[i+1:], true
}

// skipLocked returns b without the carriage returns that it begins with, which would end
// an empty line, and without the newline that belongs to the one before it.
func (l *logs) skipLocked(s *stream, b []byte) []byte {
	if l.out == nil || len(s.partial) > 0 {
		return b
	}
	for len(b) > 0 && (b[0] == '\r' || b[0] == '\n' && s.returned) {
		s.returned = b[0] == '\r'
		b = b[1:]
	}
	return b
}

// flushLocked makes a line of what has no end yet.
func (l *logs) flushLocked() {
	for i := range l.streams {
		if s := &l.streams[i]; len(s.partial) > 0 {
			l.addLocked(s.name, s.partial)
			s.partial = s.partial[:0]
		}
	}
}

func (l *logs) addLocked(name actions.Stream, text []byte) {
	if l.record && l.size+len(text)+lineCost > maxLogs {
		l.dropped++
		return
	}
	line := actions.LogLine{Stream: name, Text: string(text)}
	switch {
	case l.record:
		l.size += len(text) + lineCost
		l.lines = append(l.lines, line)
		return
	case l.out != nil:
		l.out.put(line)
	default:
		l.stray = append(l.stray, line)
	}
	if l.tailing {
		l.tailBytes += len(text) + lineCost
		l.tail = append(l.tail, line)
		for len(l.tail) > tailSize || l.tailBytes > maxTail {
			l.tailBytes -= len(l.tail[0].Text) + lineCost
			l.tail[0].Text, l.tail = "", l.tail[1:]
		}
	}
}

func (l *logs) takeStrayLocked() []actions.LogLine {
	stray := l.stray
	l.stray = nil
	return stray
}

// print logs lines of no call. It is called without the mutex, so that a slow log
// delays no call.
func (l *logs) print(lines []actions.LogLine) {
	for _, line := range lines {
		name := "stdout"
		if line.Stream == actions.Stderr {
			name = "stderr"
		}
		l.log.LogAttrs(context.Background(), slog.LevelInfo, "worker output",
			slog.String("stream", name), slog.String("line", line.Text))
	}
}

// begin makes the lines from now on those of a call. What a thread of the model has printed
// after the answer to the one before is nobody's.
func (l *logs) begin() {
	l.mu.Lock()
	l.drainLocked()
	l.flushLocked()
	l.record = l.out == nil
	stray := l.takeStrayLocked()
	l.mu.Unlock()
	l.print(stray)
}

// end returns the lines of the call that begin was called for, with everything that
// was printed until now. Without such a call the lines go to the log.
func (l *logs) end() []actions.LogLine {
	l.mu.Lock()
	l.drainLocked()
	l.flushLocked()
	lines := l.lines
	if l.record && len(l.tail) > 0 { // the first call
		lines, l.tail = append(l.tail, lines...), nil
	}
	if l.dropped > 0 {
		lines = append(lines, actions.LogLine{
			Stream: actions.Stderr,
			Text: fmt.Sprintf("deepfn: %d more lines were dropped: what a request prints is kept up to %d bytes",
				l.dropped, maxLogs),
		})
	}
	l.record, l.lines, l.size, l.dropped = false, nil, 0, 0
	stray := l.takeStrayLocked()
	l.mu.Unlock()
	l.print(stray)
	if l.out != nil {
		l.out.flush(drainGrace)
	}
	return lines
}

// drainLocked reads what is in the pipes. More than a pipe holds was printed after the
// answer, and is left.
func (l *logs) drainLocked() {
	fds := [2]unix.PollFd{
		{Fd: int32(l.streams[0].fd), Events: unix.POLLIN},
		{Fd: int32(l.streams[1].fd), Events: unix.POLLIN},
	}
	if n, err := pollNow(fds[:]); n <= 0 || err != nil {
		return
	}
	for i := range fds {
		for left := pipeSize; fds[i].Revents&unix.POLLIN != 0 && left > 0; {
			n, err := l.readLocked(&l.streams[i])
			if err != nil {
				break
			}
			left -= n
		}
	}
}

// loaded ends the time for whose lines Start is interested. The last of them belong to
// the first call too: to who wrote the model, and sees the logs of calls alone, they show
// what it printed while it was imported.
func (l *logs) loaded() {
	l.end()
	l.mu.Lock()
	l.tailing = false
	l.mu.Unlock()
}

// tailLines returns the last lines that were printed while the model was loaded.
func (l *logs) tailLines() []actions.LogLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]actions.LogLine(nil), l.tail...)
}

// drain waits until everything that a dead child printed has been read, but not longer
// than patience: a process that it left behind may hold the pipes open for ever.
func (l *logs) drain(patience time.Duration) {
	for i := range l.streams {
		_ = l.streams[i].file.SetReadDeadline(time.Now().Add(patience))
	}
	l.readers.Wait()
	l.mu.Lock()
	l.flushLocked()
	stray := l.takeStrayLocked()
	l.mu.Unlock()
	l.print(stray)
	if l.out != nil {
		l.out.flush(patience)
	}
}

// close closes the pipes. There is no call any more, and drain has returned.
func (l *logs) close() {
	for i := range l.streams {
		_ = l.streams[i].file.Close()
	}
	if l.out != nil {
		l.out.close(drainGrace)
	}
}
