package benchmarks

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// patience is how long a client waits for an answer before it gives up.
const patience = 20 * time.Second

// A rawConn is a connection whose calls wait in the kernel, as those of a client in C do, and
// without a word to Go's scheduler. By package net a client of one connection is woken three
// times for each answer: by the answer, and by what the scheduler does meanwhile. On two
// processors that is time of the server's, as much as a tenth of an event.
//
// It keeps a processor of Go's for itself while it waits, so that there have to be more of
// them than clients.
type rawConn int

// dialBlocking dials a server; the connection is closed with the benchmark.
func dialBlocking(b *testing.B, address string) rawConn {
	b.Helper()
	var d net.Dialer
	conn, err := d.DialContext(b.Context(), "tcp", address) // sets TCP_NODELAY
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.(*net.TCPConn).SyscallConn() //nolint:forcetypeassert // it is dialed as that
	if err != nil {
		b.Fatal(err)
	}
	fd := -1
	var dupErr error
	err = raw.Control(func(whole uintptr) { fd, dupErr = unix.Dup(int(whole)) })
	if err := errors.Join(err, dupErr); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = unix.Close(fd) })
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	err = errors.Join(
		unix.SetNonblock(fd, false),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
	)
	if err != nil {
		b.Fatal(err)
	}
	return rawConn(fd)
}

func (c rawConn) Read(p []byte) (int, error) {
	n, err := c.call(unix.SYS_READ, p)
	if err == nil && n == 0 && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

func (c rawConn) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		wrote, err := c.call(unix.SYS_WRITE, p[n:])
		if err != nil {
			return n, err
		}
		n += wrote
	}
	return len(p), nil
}

// call makes one of the two system calls. Go's scheduler interrupts one that waits for long, and
// the kernel counts its time from the beginning then.
func (c rawConn) call(number uintptr, p []byte) (int, error) {
	began := time.Now()
	for {
		n, _, errno := unix.RawSyscall(number, uintptr(c), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch {
		case errno == 0:
			return int(n), nil
		case errno == unix.EAGAIN, errno == unix.EINTR && time.Since(began) > patience:
			return 0, fmt.Errorf("no answer in %v", patience)
		case errno != unix.EINTR:
			return 0, errno
		}
	}
}
