package worker

import (
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNow reads and writes pipes that would have others wait.
func TestNow(t *testing.T) {
	for name, flags := range map[string]int{"it waits": 0, "it does not wait": unix.O_NONBLOCK} {
		t.Run(name, func(t *testing.T) {
			var fds [2]int
			if err := unix.Pipe2(fds[:], flags|unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			in, out := os.NewFile(uintptr(fds[0]), "in"), os.NewFile(uintptr(fds[1]), "out")
			t.Cleanup(func() { _, _ = in.Close(), out.Close() })
			b := make([]byte, pipeSize)
			if n, err := ReadNow(fds[0], b); n != 0 || !errors.Is(err, unix.EAGAIN) {
				t.Errorf("an empty pipe: got %d, %v; want %v", n, err, unix.EAGAIN)
			}
			if n, err := WriteNow(fds[1], b); n != len(b) || err != nil {
				t.Errorf("write: got %d, %v; want %d", n, err, len(b))
			}
			if n, err := WriteNow(fds[1], b); n != 0 || !errors.Is(err, unix.EAGAIN) {
				t.Errorf("a full pipe: got %d, %v; want %v", n, err, unix.EAGAIN)
			}
			if n, err := ReadNow(fds[0], b); n != len(b) || err != nil {
				t.Errorf("read: got %d, %v; want %d", n, err, len(b))
			}
			_ = out.Close()
			if n, err := ReadNow(fds[0], b); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("the end: got %d, %v; want %v", n, err, io.EOF)
			}
		})
	}
}

// TestNowIsBroken writes to a pipe that nobody reads.
func TestNowIsBroken(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	_ = in.Close()
	fd, err := rawFD(out)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := WriteNow(fd, []byte("x")); n != 0 || !errors.Is(err, unix.EPIPE) {
		t.Errorf("got %d, %v; want %v", n, err, unix.EPIPE)
	}
}
