package relay

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// maxToken is how many bytes of a token file are read, minToken the least that a token has.
const (
	maxToken = 4 << 10
	minToken = 16
)

// ReadToken reads the token in a file, without white space around it. The error is an
// *actions.Error: Unavailable when the system is short of descriptors or memory, else
// Unauthorized.
func ReadToken(file string) ([]byte, error) {
	return readToken(file, func(fs.FileInfo) error { return nil })
}

// ReadOwnToken is ReadToken of a file that nobody has named. It has to belong to this user,
// to root or to one of the users in also, and no other may read or write it: whoever
// could write it could be the node of others, and whoever can read it their relay.
func ReadOwnToken(file string, also []int) ([]byte, error) {
	return readToken(file, func(info fs.FileInfo) error {
		stat, ok := info.Sys().(*syscall.Stat_t)
		uid := -1
		if ok {
			uid = int(stat.Uid)
		}
		if err := checkOwner(file, uid, also); err != nil {
			return err
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			return actions.Errorf(actions.Unauthorized,
				"the token of the node: others may use %s (mode %#o); 'chmod 600' it, or remove it if they may have read it, and the node makes another", file, mode)
		}
		return nil
	})
}

func checkOwner(file string, uid int, also []int) error {
	if uid == 0 || uid == os.Geteuid() || slices.Contains(also, uid) {
		return nil
	}
	return actions.Errorf(actions.Unauthorized,
		"the token of the node: %s belongs to the user %d; remove it, and the node makes another, or name it with --token-file", file, uid)
}

// readToken is ReadToken of a file of which check has no complaint.
func readToken(file string, check func(fs.FileInfo) error) ([]byte, error) {
	// A pipe would be waited for.
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // #nosec G304 -- the operator names it
	if err != nil {
		return nil, tokenError(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, tokenError(err)
	}
	if !info.Mode().IsRegular() {
		return nil, actions.Errorf(actions.Unauthorized, "the token of the node: %s is no file (%v)", file, info.Mode().Type())
	}
	if err := check(info); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return nil, tokenError(err)
	}
	token := bytes.TrimSpace(text)
	if len(token) < minToken || len(token) > maxToken {
		return nil, actions.Errorf(actions.Unauthorized,
			"the token of the node: %s has %d bytes, want %d to %d, as 'openssl rand -hex 32' prints them", file, len(token), minToken, maxToken)
	}
	return token, nil
}

// tokenError is the error of a token that cannot be read.
func tokenError(err error) *actions.Error {
	for _, short := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, short) { // the token may be the right one
			return &actions.Error{
				Code: actions.Unavailable, RetryAfter: time.Second, Err: err,
				Msg: "the token of the node cannot be read now: the system is short of descriptors or memory",
			}
		}
	}
	return actions.Errorf(actions.Unauthorized, "the token of the node: %w", err)
}
