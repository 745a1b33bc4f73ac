package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

const (
	// barTime is how often the bar is drawn on a terminal, lineTime how often there is a line
	// where there is none.
	barTime       = 100 * time.Millisecond
	lineTime      = 5 * time.Second
	progressWidth = 24
)

// A bar shows people how far a batch is: drawn again and again on a terminal, else a line from
// time to time. Many may use it.
type bar struct {
	w        io.Writer
	terminal bool
	now      func() time.Time
	// width is how many characters a line of the terminal has; 0: nobody knows.
	width func() int

	mu    sync.Mutex // guards what follows
	shown time.Time
	last  *actions.Progress
	drawn bool   // the line of the cursor has a bar
	said  string // the last progress where there is no terminal
}

func newBar(w io.Writer) *bar {
	return &bar{w: w, terminal: isTerminal(w), now: time.Now, width: func() int { return widthOf(w) }}
}

// widthOf is how many characters a line of a terminal has, 0 of what is none.
func widthOf(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// show takes the newest progress.
func (b *bar) show(p actions.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = &p
	every := lineTime
	if b.terminal {
		every = barTime
	}
	now := b.now()
	if b.shown.IsZero() && !b.terminal {
		b.shown = now // a line for a beginning says nothing
	}
	if now.Sub(b.shown) >= every {
		b.shown = now
		b.drawLocked()
	}
}

// line prints a line above the bar.
func (b *bar) line(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wipeLocked()
	_, _ = fmt.Fprintln(b.w, "deepfn:", text)
	if b.terminal && b.last != nil {
		b.drawLocked()
	}
}

// end shows the last progress and leaves it there.
func (b *bar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last != nil {
		b.drawLocked()
	}
	if b.drawn {
		_, _ = fmt.Fprintln(b.w)
		b.drawn = false
	}
}

func (b *bar) wipeLocked() {
	if b.drawn {
		_, _ = io.WriteString(b.w, "\r"+clearLine)
		b.drawn = false
	}
}

func (b *bar) drawLocked() {
	text := progressText(*b.last)
	if !b.terminal {
		if text != b.said {
			_, _ = fmt.Fprintln(b.w, "deepfn:", text)
		}
		b.said = text
		return
	}
	b.wipeLocked()
	full := int(b.last.Fraction * progressWidth)
	_, _ = io.WriteString(b.w, fitted("["+strings.Repeat("#", full)+strings.Repeat("-", progressWidth-full)+"] ", text, b.width()))
	b.drawn = true
}

// fitted is a bar and its text in a line of a terminal of that width: what goes on in the next line is
// not wiped. Where both have no room it is the text, as far as that has.
func fitted(drawn, text string, width int) string {
	switch {
	case width <= 0 || len(drawn)+len(text) < width:
		return drawn + text
	case len(text) < width:
		return text
	}
	return text[:width-1]
}

// progressText is a progress in a line: how much of all is done, how fast, how long it takes.
func progressText(p actions.Progress) string {
	// What is not done is never shown as 100%.
	text := fmt.Sprintf("%3.0f%%  ", math.Floor(p.Fraction*100))
	if p.Total > 0 {
		text += grouped(p.Rows) + " of " + counted(p.Total, "row")
	} else {
		text += counted(p.Rows, "row")
	}
	if p.Rate > 0 {
		text += fmt.Sprintf(", %s/s", rateText(p.Rate))
	}
	if p.Remaining > 0 {
		text += ", " + lasting(p.Remaining) + " left"
	}
	if p.Failed > 0 {
		text += fmt.Sprintf(", %s failed", grouped(p.Failed))
	}
	if p.Redone > 0 {
		text += ", " + counted(int64(p.Redone), "chunk") + " again"
	}
	return text
}

// grouped is a number with its digits in groups of three.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func rateText(rate float64) string {
	if rate < 10 {
		return strconv.FormatFloat(rate, 'f', 1, 64)
	}
	return grouped(int64(min(rate, math.MaxInt32)))
}

// lasting is a number of seconds as a time: 7 s, 1:02, 3:01:02.
func lasting(n float64) string {
	s := int64(math.Ceil(min(n, 1e9)))
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}
