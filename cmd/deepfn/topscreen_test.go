package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A terminal is a pseudo-terminal with what was written to it.
type terminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	screen syncBuffer
}

func newTerminal(t *testing.T, width, height uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, slave: slave}
	t.Cleanup(func() { _ = slave.Close(); _ = master.Close() })
	term.resize(width, height)
	go func() { // ends when the terminal is closed
		var b [4096]byte
		for {
			n, err := master.Read(b[:])
			if err != nil {
				return
			}
			_, _ = term.screen.Write(b[:n])
		}
	}()
	return term
}

func (term *terminal) resize(width, height uint16) {
	term.t.Helper()
	if err := unix.IoctlSetWinsize(int(term.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		term.t.Fatal(err)
	}
}

func (term *terminal) press(keys string) {
	term.t.Helper()
	if _, err := term.master.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

func (term *terminal) settings() unix.Termios {
	term.t.Helper()
	termios, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	return *termios
}

// start runs deepfn top on the terminal; done yields how it ended.
func (term *terminal) start(args ...string) (cmd *exec.Cmd, done <-chan error) {
	t := term.t
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), exe, append([]string{"top"}, args...)...)
	cmd.Env = append(os.Environ(), "DEEPFN_TEST_MAIN=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.slave, term.slave, term.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return cmd, ended
}

// seen waits until the last frame has a text.
func (term *terminal) seen(text string) {
	term.t.Helper()
	eventually(term.t, fmt.Sprintf("%q on the screen", text), func() bool {
		all := term.screen.String()
		return strings.Contains(all[max(strings.LastIndex(all, homeCursor), 0):], text)
	})
}

// On a terminal the frames go on, follow its size and the keys, outlive the server, and
// leave the terminal as it was.
func TestTopLive(t *testing.T) {
	var step atomic.Int64
	var broken atomic.Bool
	server := topServer(t, func(w http.ResponseWriter) {
		if broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		sayStats(t, w, topStats(step.Add(1)))
	})
	for _, end := range []string{"q", "\x03"} {
		term := newTerminal(t, 100, 30)
		before := term.settings()
		_, done := term.start("--server", server.URL, "--interval", "100ms")
		term.seen("requests/s")
		term.seen("ocr-line")
		if raw := term.settings(); raw.Lflag&(unix.ECHO|unix.ICANON) != 0 || raw.Lflag&unix.ISIG == 0 {
			t.Errorf("got local modes %x while it runs", raw.Lflag)
		}
		term.press("i")
		term.seen("pid 4711")
		term.resize(100, 5)
		term.seen("... ")
		term.resize(100, 30)
		broken.Store(true)
		term.seen("no answer since")
		broken.Store(false)
		term.seen("requests/s")
		term.press(end)
		if err := <-done; err != nil {
			t.Errorf("after %q: %v\n%s", end, err, term.screen.String())
		}
		if after := term.settings(); after != before {
			t.Errorf("after %q: got settings %+v, want %+v", end, after, before)
		}
		eventually(t, "the screen given back", func() bool { return strings.HasSuffix(term.screen.String(), leaveScreen) })
		if all := term.screen.String(); !strings.HasPrefix(all, enterScreen) {
			t.Errorf("the screen was not taken: %q", all[:min(len(all), 40)])
		}
	}
}
