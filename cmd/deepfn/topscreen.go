package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The control sequences of ECMA-48 and xterm that every terminal of today knows.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the alternate screen, without a cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	homeCursor  = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
	reverse     = "\x1b[7m"
	plain       = "\x1b[m"
)

// A screen is a terminal that frames are drawn on. Close gives it back as it was.
type screen struct {
	out     *os.File
	resized chan os.Signal
	keys    chan byte // what the user presses; nothing comes when stdin is no terminal
	stop    context.CancelFunc
	reading sync.WaitGroup
	before  *unix.Termios // of stdin; nil when that is no terminal
}

// openScreen takes the terminal that w is.
func openScreen(ctx context.Context, w io.Writer) (*screen, error) {
	out, ok := w.(*os.File)
	if !ok {
		return nil, errors.New("top: the output is no terminal")
	}
	s := &screen{out: out, resized: make(chan os.Signal, 1), keys: make(chan byte)}
	if _, err := io.WriteString(out, enterScreen); err != nil {
		return nil, fmt.Errorf("top: terminal: %w", err)
	}
	signal.Notify(s.resized, syscall.SIGWINCH)
	ctx, s.stop = context.WithCancel(ctx)
	s.takeKeys(ctx)
	return s, nil
}

// takeKeys has each key come at once and without an echo. Signals are as before, but that
// there is no stopping: a shell would get the terminal as it is then.
func (s *screen) takeKeys(ctx context.Context) {
	fd := int(os.Stdin.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return
	}
	raw := *before
	raw.Lflag &^= unix.ICANON | unix.ECHO
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME], raw.Cc[unix.VSUSP] = 0, 1, 0 // a read returns after 0.1 s
	if unix.IoctlSetTermios(fd, unix.TCSETS, &raw) != nil {
		return
	}
	s.before = before
	s.reading.Go(func() { // ends with ctx
		var key [1]byte
		for ctx.Err() == nil {
			n, err := unix.Read(fd, key[:])
			if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
				return
			}
			if n == 1 {
				select {
				case s.keys <- key[0]:
				case <-ctx.Done():
				}
			}
		}
	})
}

// size is that of the terminal in characters.
func (s *screen) size() (width, height int) {
	ws, err := unix.IoctlGetWinsize(int(s.out.Fd()), unix.TIOCGWINSZ)
	if err != nil || ws.Col == 0 || ws.Row == 0 {
		return 80, 24
	}
	return int(ws.Col), int(ws.Row)
}

// draw draws a frame over the last one: the first line is its head, and what there is no
// room for is left out.
func (s *screen) draw(lines []string, height int) error {
	if len(lines) > height {
		left := len(lines) - height + 1
		lines = append(lines[:max(height-1, 0):max(height-1, 0)], fmt.Sprintf("... %d more lines", left))
	}
	var b strings.Builder
	b.WriteString(homeCursor)
	for i, line := range lines {
		if i == 0 {
			line = reverse + line + plain
		} else {
			b.WriteString("\r\n")
		}
		b.WriteString(line + clearLine)
	}
	b.WriteString(clearBelow)
	if _, err := io.WriteString(s.out, b.String()); err != nil {
		return fmt.Errorf("top: terminal: %w", err)
	}
	return nil
}

// close gives the terminal back.
func (s *screen) close() {
	signal.Stop(s.resized)
	s.stop()
	s.reading.Wait()
	if s.before != nil {
		_ = unix.IoctlSetTermios(int(os.Stdin.Fd()), unix.TCSETS, s.before)
	}
	_, _ = io.WriteString(s.out, leaveScreen)
}
