package proxy

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// directSize is how many bytes at most are read or written at once without a word to the
// scheduler, which cannot take the processor away meanwhile: the header of a request, a small
// answer.
const directSize = 64 << 10

// A direct reads and writes a socket without telling the scheduler that there are system calls.
// That is made for calls that wait, which these never do: when the process was idle it wakes a
// thread that looks after them, which takes longer than such a call does. Deadlines and Close
// are those of the connection.
type direct struct {
	raw     syscall.RawConn
	receive func(fd uintptr) bool // reads into in, what it got are got and gotErr
	in      []byte
	got     int
	gotErr  error
	send    func(fd uintptr) bool // writes what is left of out
	out     []byte
	sentErr error
}

// newDirect is nil for a connection that is no socket of the system's.
func newDirect(c net.Conn) *direct {
	if watchedIO {
		return nil
	}
	return directOf(c)
}

func directOf(c net.Conn) *direct {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	d := &direct{raw: raw}
	d.receive, d.send = d.receiveOnce, d.sendOnce // made once, which every call needs
	return d
}

// read is net.Conn's Read of at most directSize bytes. One goroutine reads at a time.
func (d *direct) read(p []byte) (int, error) {
	d.in, d.got, d.gotErr = p, 0, nil
	err := d.raw.Read(d.receive)
	d.in = nil
	if err == nil {
		err = d.gotErr
	}
	return d.got, err
}

func (d *direct) receiveOnce(fd uintptr) bool {
	n, errno := transfer(syscall.SYS_RECVFROM, fd, d.in, 0)
	switch {
	case errno == syscall.EAGAIN:
		return false
	case errno != 0:
		d.gotErr = os.NewSyscallError("read", errno)
	case n == 0:
		d.gotErr = io.EOF
	}
	d.got = n
	return true
}

// write is net.Conn's Write of at most directSize bytes. One goroutine writes at a time.
func (d *direct) write(p []byte) (int, error) {
	d.out, d.sentErr = p, nil
	err := d.raw.Write(d.send)
	n := len(p) - len(d.out)
	d.out = nil
	if err == nil {
		err = d.sentErr
	}
	return n, err
}

func (d *direct) sendOnce(fd uintptr) bool {
	for len(d.out) > 0 {
		n, errno := transfer(syscall.SYS_SENDTO, fd, d.out, syscall.MSG_NOSIGNAL)
		switch {
		case errno == syscall.EAGAIN:
			return false
		case errno != 0:
			d.sentErr = os.NewSyscallError("write", errno)
			return true
		}
		d.out = d.out[n:]
	}
	return true
}

// transfer makes one of the two calls, which does not wait.
func transfer(call, fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), //nolint:gosec // for the length of the call
			flags|syscall.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
