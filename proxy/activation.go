package proxy

import (
	"io"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

// sentinel is the line that ends an activation's logs on each stream.
const sentinel = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"

const (
	// maxKept is how large a buffer may become and still be kept for the next activation.
	maxKept = 1 << 20
	// maxQueued is how many bytes may wait for a stream that nobody reads.
	maxQueued = 16 << 20
	// atOnce is how much a pipe takes when poll says that it takes something: PIPE_BUF.
	atOnce = 4096
	// logWait is how long an answer waits until its logs are written.
	logWait = time.Second
)

// An activationLog writes the logs of activations to the two streams that OpenWhisk
// collects, one activation after the other. A stream that nobody reads holds up the
// first activation for a while and the others not at all.
type activationLog struct {
	out, err io.Writer
	failed   func(reason string) // counts
	log      *slog.Logger
	entries  sync.Pool // of *entry

	mu      sync.Mutex // guards what follows
	queue   []*entry
	size    int  // bytes that are not written yet
	writing bool // somebody writes
	stuck   bool // waiting was in vain, and nothing has been written since
}

// An entry is what is written without another's lines between.
type entry struct {
	out, err []byte
	done     chan struct{} // has room for the one signal that it is written
}

// end writes the lines of one activation and the sentinels. When it returns they have
// left this process, unless a stream is stuck. Zero is no deadline.
func (l *activationLog) end(deadline time.Time, lines []actions.LogLine) {
	e := l.entry()
	e.out = appendLines(e.out, actions.Stdout, lines)
	e.err = appendLines(e.err, actions.Stderr, lines)
	limit := logWait
	if left := time.Until(deadline) / 2; left > 0 {
		limit = min(limit, left)
	}
	l.send(limit, e)
}

// say writes a line of no activation.
func (l *activationLog) say(line string) {
	e := l.entry()
	e.out = append(append(e.out, line...), '\n')
	l.send(logWait, e)
}

// flush waits until everything is written, within a limit.
func (l *activationLog) flush(limit time.Duration) {
	e := l.entry()
	l.mu.Lock()
	l.stuck = false // one last try
	l.mu.Unlock()
	l.send(limit, e)
}

func (l *activationLog) entry() *entry {
	if e, ok := l.entries.Get().(*entry); ok {
		e.out, e.err = e.out[:0], e.err[:0]
		return e
	}
	return &entry{done: make(chan struct{}, 1)}
}

func appendLines(buf []byte, stream actions.Stream, lines []actions.LogLine) []byte {
	for _, line := range lines {
		if line.Stream != stream {
			continue
		}
		// The platform counts sentinels, and believes any that a model prints.
		buf = append(buf, strings.ReplaceAll(line.Text, sentinel, "(sentinel)")...)
		buf = append(buf, '\n')
	}
	return append(buf, sentinel+"\n"...)
}

// send has an entry written and waits for that, until the limit.
func (l *activationLog) send(limit time.Duration, e *entry) {
	size := len(e.out) + len(e.err)
	l.mu.Lock()
	if l.size > 0 && l.size+size > maxQueued {
		l.mu.Unlock()
		l.failed("dropped")
		return
	}
	l.size += size
	free, stuck := !l.writing, l.stuck
	l.writing = true
	if !free {
		l.queue = append(l.queue, e)
	}
	l.mu.Unlock()
	if free {
		l.begin(size, e)
	}
	if stuck {
		l.failed("late")
		return
	}
	select {
	case <-e.done: // no timer for the usual case
		l.keep(e)
		return
	default:
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-e.done:
		l.keep(e)
	case <-timer.C:
		l.late()
	}
}

// begin writes an entry at once if the streams take it without blocking, which saves two
// switches of goroutines; else it leaves the entry to write.
func (l *activationLog) begin(size int, e *entry) {
	now := size <= atOnce && takes(l.out) && takes(l.err)
	if now {
		l.put(e)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !now {
		l.queue = append(l.queue, e)
	}
	if l.writing = len(l.queue) > 0; l.writing {
		go l.write()
	}
}

// keep keeps an entry for another activation.
func (l *activationLog) keep(e *entry) {
	if cap(e.out)+cap(e.err) <= maxKept {
		l.entries.Put(e)
	}
}

// takes says whether a stream certainly takes atOnce bytes without blocking.
func takes(w io.Writer) bool {
	if w == io.Discard {
		return true
	}
	file, ok := w.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return false
	}
	ready := false
	err = raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 0)
		ready = err == nil && n == 1
	})
	return err == nil && ready
}

// late notes that waiting was in vain.
func (l *activationLog) late() {
	l.failed("late")
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stuck {
		l.stuck = true
		// The log may go to the same stream. This ends when the log has taken the line.
		go l.log.Warn("nobody reads the logs of activations; answers do not wait for them any more")
	}
}

// write writes what is in the queue, and ends when that is empty. One runs at a time.
func (l *activationLog) write() {
	var batch []*entry
	for {
		l.mu.Lock()
		clear(batch)
		batch, l.queue = l.queue, batch[:0]
		if l.writing = len(batch) > 0; !l.writing {
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		for _, e := range batch {
			l.put(e)
		}
	}
}

// put writes an entry.
func (l *activationLog) put(e *entry) {
	l.putTo(l.out, e.out)
	l.putTo(l.err, e.err)
	l.mu.Lock()
	l.size -= len(e.out) + len(e.err)
	l.stuck = false
	l.mu.Unlock()
	e.done <- struct{}{}
}

// putTo writes to a stream. That it is broken is no reason to end anything.
func (l *activationLog) putTo(w io.Writer, buf []byte) {
	if len(buf) == 0 {
		return
	}
	_, err := w.Write(buf)
	if f, ok := w.(interface{ Flush() error }); ok && err == nil {
		err = f.Flush()
	}
	if err != nil {
		l.failed("broken")
	}
}
