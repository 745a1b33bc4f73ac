package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

// maxPath is how long the path of a Unix socket may be on Linux: 108 bytes with the zero
// behind it.
const maxPath = 107

// checkPath refuses what cannot be the path of a socket.
func checkPath(path string) error {
	switch {
	case path == "":
		return actions.Errorf(actions.Invalid, "node: no path of a socket is given")
	case len(path) > maxPath:
		return actions.Errorf(actions.Invalid,
			"node: the path of the socket has %d bytes, the system takes %d; choose a shorter one: %s", len(path), maxPath, path)
	}
	return nil
}

// A Listener is the socket of a node.
type Listener struct {
	*net.UnixListener
	path string
	lock *os.File
	once sync.Once
	err  error
}

// Listen makes the socket, readable and writable as mode says, and its folder if there is
// none. It takes the place of the socket of a node that has ended, never that of one
// that lives, nor of a file that is none. The error is an *actions.Error: Invalid, or
// Conflict, or Unavailable when another node has the socket.
func Listen(ctx context.Context, path string, mode fs.FileMode) (*Listener, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	// Relays of other users go through it.
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { // #nosec G301 G703 -- see above; the operator names it
		return nil, actions.Errorf(actions.Invalid, "node: the folder of the socket: %w", err)
	}
	lock, err := takeLock(path)
	if err != nil {
		return nil, err
	}
	l := &Listener{path: path, lock: lock}
	if err = clearPath(ctx, path); err == nil {
		err = l.listen(ctx, mode)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return l, nil
}

// takeLock takes the lock that a node holds on its socket: after a crash the system gives
// it back, while the file of the socket stays.
func takeLock(path string) (*os.File, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600) // #nosec G304 G703 -- the operator names it
	if err != nil {
		return nil, actions.Errorf(actions.Invalid, "node: the lock of the socket: %w", err)
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return lock, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = actions.Errorf(actions.Unavailable, "node: another node serves %s already; stop it, or choose another socket with --socket", path)
	} else {
		err = actions.Errorf(actions.Unavailable, "node: the lock of the socket %s: %w", path, err)
	}
	return nil, errors.Join(err, lock.Close())
}

// clearPath removes the socket of a node that has ended.
func clearPath(ctx context.Context, path string) error {
	info, err := os.Lstat(path) // #nosec G703 -- the operator names it
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return actions.Errorf(actions.Invalid, "node: the socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return actions.Errorf(actions.Conflict, "node: %s is no socket, and is left as it is; choose another path with --socket", path)
	}
	dialer := net.Dialer{Timeout: time.Second}
	if conn, err := dialer.DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close()
		return actions.Errorf(actions.Unavailable, "node: another program serves %s already; choose another socket with --socket", path)
	}
	return os.Remove(path) // #nosec G703 -- a socket that nobody answers at
}

func (l *Listener) listen(ctx context.Context, mode fs.FileMode) error {
	var cfg net.ListenConfig
	ln, err := cfg.Listen(ctx, "unix", l.path)
	if err != nil {
		return actions.Errorf(actions.Unavailable, "node: the socket %s: %w", l.path, err)
	}
	unixListener, ok := ln.(*net.UnixListener)
	if !ok {
		return errors.Join(fmt.Errorf("node: the socket is a %T", ln), ln.Close())
	}
	l.UnixListener = unixListener
	if err := os.Chmod(l.path, mode); err != nil {
		return errors.Join(actions.Errorf(actions.Unavailable, "node: the socket: %w", err), ln.Close())
	}
	return nil
}

// Close ends the listening and removes the socket, so that another node can have it.
func (l *Listener) Close() error {
	l.once.Do(func() { l.err = errors.Join(l.UnixListener.Close(), l.lock.Close()) })
	return l.err
}
