package node

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// refusalPause is the least time between two lines on what was refused: who is refused may
// come again at once, and as often as it likes.
const refusalPause = time.Second

// refusals say which of what was refused the log hears of. The zero value is ready.
type refusals struct {
	mu   sync.Mutex // guards what follows
	last time.Time
	left int // since the last line
}

// admit reports whether a refusal is to be logged, and how many were not since the last
// that was.
func (r *refusals) admit() (left int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if !r.last.IsZero() && now.Sub(r.last) < refusalPause {
		r.left++
		return 0, false
	}
	left, r.last, r.left = r.left, now, 0
	return left, true
}

// rest is how many were not logged since the last that was.
func (r *refusals) rest() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left
}

// withCause is the text of an error for the log, with the cause that others are not told.
func withCause(err error) string {
	text := err.Error()
	if e, ok := errors.AsType[*actions.Error](err); ok && e.Err != nil && !strings.Contains(text, e.Err.Error()) {
		return text + ": " + e.Err.Error()
	}
	return text
}
