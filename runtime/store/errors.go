package store

import (
	"errors"
	"fmt"
	"runtime/debug"
	"syscall"

	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/deepfn/deepfn/actions"
)

// guard runs what reads or writes pages. A page that cannot be, by which bbolt panics, and
// one that cannot be read from the disk are errors.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = pageError{cause}
		}
	}()
	return fn()
}

// A pageError says that a page of the file is not what it must be.
type pageError struct{ cause any }

func (e pageError) Error() string { return fmt.Sprintf("%v", e.cause) }

// noSpace reports whether there is no space on the disk, or not for us.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

func damaged(path string, err error) *actions.Error {
	return &actions.Error{
		Code: actions.Internal, Err: err,
		Msg: fmt.Sprintf("store %s: the file is damaged (%v): move it away to begin with an empty one", path, err),
	}
}

func unavailable(path string, err error) *actions.Error {
	return &actions.Error{Code: actions.Unavailable, Err: err, Msg: fmt.Sprintf("store %s: %v", path, err)}
}

// wrap makes an error of bbolt or of the system an *actions.Error.
func (s *Store) wrap(err error) error {
	if err == nil {
		return nil
	}
	ours, page := new(actions.Error), pageError{}
	switch path := s.cfg.Path; {
	case errors.As(err, &ours):
		return err
	case errors.As(err, &page):
		return damaged(path, err)
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return &actions.Error{Code: actions.Unavailable, Msg: fmt.Sprintf("store %s: it is closed", path), Err: err}
	case noSpace(err):
		return &actions.Error{Code: actions.Unavailable, Msg: fmt.Sprintf("store %s: no space on the disk: %v", path, err), Err: err}
	case errors.Is(err, bolterrors.ErrKeyTooLarge), errors.Is(err, bolterrors.ErrValueTooLarge):
		return &actions.Error{Code: actions.TooLarge, Msg: fmt.Sprintf("store %s: %v", path, err), Err: err}
	default:
		return &actions.Error{Code: actions.Internal, Msg: fmt.Sprintf("store %s: %v", path, err), Err: err}
	}
}
