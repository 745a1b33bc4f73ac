package worker

import (
	"errors"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReadNow reads from a pipe what is in it, and never waits: it returns EAGAIN, whatever the
// flags of the descriptor are, which another process may share. The end is io.EOF.
//
// It does not tell the scheduler that there is a system call. That is made for calls that
// wait, and when the process was idle it wakes a thread that looks after them, which takes
// longer than a call of a worker does.
func ReadNow(fd int, b []byte) (int, error) {
	n, err := now(unix.SYS_PREADV2, fd, b)
	for refused(err) || errors.Is(err, unix.EINTR) {
		n, err = unix.Read(fd, b)
	}
	if err == nil && n == 0 && len(b) > 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

// WriteNow writes to a pipe as ReadNow reads from it.
func WriteNow(fd int, b []byte) (int, error) {
	n, err := now(unix.SYS_PWRITEV2, fd, b)
	for refused(err) || errors.Is(err, unix.EINTR) {
		n, err = unix.Write(fd, b)
	}
	return max(n, 0), err
}

// now makes one of the two calls that take RWF_NOWAIT.
func now(call uintptr, fd int, b []byte) (int, error) {
	const here = ^uintptr(0) // as read(2) and write(2) do
	if len(b) == 0 {
		return 0, nil
	}
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	for {
		n, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&v)), 1, here, 0, unix.RWF_NOWAIT) //nolint:gosec // for the length of the call
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// refused says that the system does not know the call for pipes (Linux before 6.4), or does
// not allow it.
func refused(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM)
}

// pollNow says which descriptors are ready.
func pollNow(fds []unix.PollFd) (int, error) {
	none := unix.Timespec{}
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(fds))), uintptr(len(fds)), //nolint:gosec // for the length of the call
		uintptr(unsafe.Pointer(&none)), 0, 0, 0) //nolint:gosec // the same
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
