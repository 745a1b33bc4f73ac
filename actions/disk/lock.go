package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockPoll is how often somebody who waits looks whether it is his turn.
const lockPoll = 100 * time.Millisecond

// Lock waits until it has the lock file for itself, which it makes if it is absent. The
// lock ends when the file is closed, or with the process. Waiting, unless nil, is called
// once when somebody else has it. The error is that of ctx, or of the file.
func Lock(ctx context.Context, name string, waiting func()) (*os.File, error) {
	return lock(ctx, name, syscall.LOCK_EX, waiting)
}

// LockShared is Lock, but others may share it at the same time.
func LockShared(ctx context.Context, name string, waiting func()) (*os.File, error) {
	return lock(ctx, name, syscall.LOCK_SH, waiting)
}

// TryLock is Lock that does not wait: it returns nil when somebody else has the lock.
func TryLock(name string) (*os.File, error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	switch held, err := try(f, syscall.LOCK_EX); {
	case err != nil:
		return nil, errors.Join(err, f.Close())
	case !held:
		return nil, f.Close()
	}
	return f, nil
}

func open(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644) // #nosec G302 G304 -- a name that the caller has made
}

// try reports whether it has got the lock.
func try(f *os.File, how int) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
}

func lock(ctx context.Context, name string, how int, waiting func()) (*os.File, error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		held, err := try(f, how)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if held {
			return f, nil
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-ticker.C:
		}
	}
}
