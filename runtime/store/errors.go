package store

import (
	"errors"
	"fmt"
	"runtime/debug"

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

// A commitError says that a transaction did not get onto the disk.
type commitError struct{ error }

func (e commitError) Unwrap() error { return e.error }

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
	ours, page, commit := new(actions.Error), pageError{}, commitError{}
	switch path := s.cfg.Path; {
	case errors.As(err, &ours):
		return err
	case errors.As(err, &page):
		return damaged(path, err)
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return &actions.Error{Code: actions.Unavailable, Msg: fmt.Sprintf("store %s: it is closed", path), Err: err}
	case errors.As(err, &commit):
		return &actions.Error{Code: actions.Unavailable, Msg: fmt.Sprintf("store %s: it could not be written: %v", path, err), Err: err}
	case errors.Is(err, bolterrors.ErrKeyTooLarge), errors.Is(err, bolterrors.ErrValueTooLarge):
		return &actions.Error{Code: actions.TooLarge, Msg: fmt.Sprintf("store %s: %v", path, err), Err: err}
	default:
		return &actions.Error{Code: actions.Internal, Msg: fmt.Sprintf("store %s: %v", path, err), Err: err}
	}
}
