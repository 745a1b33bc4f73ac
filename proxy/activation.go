package proxy

import (
	"io"
	"strings"
	"sync"

	"github.com/deepfn/deepfn/actions"
)

// sentinel is the line that ends an activation's logs on each stream.
const sentinel = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"

// maxKept is how large a buffer may become and still be kept for the next activation.
const maxKept = 1 << 20

// An activationLog writes the logs of activations to the two streams that OpenWhisk
// collects, one activation after the other.
type activationLog struct {
	mu  sync.Mutex // guards the streams and buf
	out io.Writer
	err io.Writer
	buf []byte
}

// end writes the lines of one activation and the sentinels. When it returns, they have
// left this process.
func (l *activationLog) end(lines []actions.LogLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writeLocked(l.out, actions.Stdout, lines)
	l.writeLocked(l.err, actions.Stderr, lines)
}

// say writes a line of no activation.
func (l *activationLog) say(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sendLocked(l.out, append(append(l.buf[:0], line...), '\n'))
}

func (l *activationLog) writeLocked(w io.Writer, stream actions.Stream, lines []actions.LogLine) {
	buf := l.buf[:0]
	for _, line := range lines {
		if line.Stream != stream {
			continue
		}
		// The platform counts sentinels, and believes any that a model prints.
		buf = append(buf, strings.ReplaceAll(line.Text, sentinel, "(sentinel)")...)
		buf = append(buf, '\n')
	}
	l.sendLocked(w, append(buf, sentinel+"\n"...))
}

// sendLocked writes buf. There is nobody to tell that a stream is broken.
func (l *activationLog) sendLocked(w io.Writer, buf []byte) {
	_, _ = w.Write(buf)
	if f, ok := w.(interface{ Flush() error }); ok {
		_ = f.Flush()
	}
	if cap(buf) <= maxKept {
		l.buf = buf
	}
}
