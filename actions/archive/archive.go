// Package archive unpacks zip and tar.gz archives that nobody vouches for: nothing is
// written outside the folder, no link leads out of it, and what an archive may become
// is bounded.
package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/deepfn/deepfn/actions"
)

// A Form is a kind of archive.
type Form string

// The forms that Unpack knows.
const (
	Zip   Form = "zip"
	TarGz Form = "tar.gz"
)

// Sniff says which archive begins with these bytes, "" when none does. Four bytes are
// enough.
func Sniff(head []byte) Form {
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return Zip
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return TarGz
	}
	return ""
}

// Limits bound what an archive may become.
type Limits struct {
	// Bytes of all files together. The default is 2 GiB.
	Bytes int64
	// Files, links and folders together. The default is 50,000.
	Files int
}

const (
	defaultBytes = 2 << 30
	defaultFiles = 50_000
	maxPath      = 1024 // bytes of a name, or of what a link points to
	maxDepth     = 64   // folders in each other
)

// Unpack makes the folder dir, which must not exist, and unpacks size bytes of r into
// it. Files get the permissions 0644, or 0755 when anybody may execute them; of two
// files with one name the later one stays.
//
// Links are made when all files are there, so that nothing is written through one, and
// a link that leads out of dir is refused, as are absolute names, "..", devices and
// pipes. The error is Invalid for what is no whole, harmless archive, TooLarge over a
// limit, Unavailable when it cannot be written, Canceled or Deadline when ctx ended.
// Then dir is gone again.
func Unpack(ctx context.Context, r io.ReaderAt, size int64, dir string, limits Limits) error {
	if limits.Bytes <= 0 {
		limits.Bytes = defaultBytes
	}
	if limits.Files <= 0 {
		limits.Files = defaultFiles
	}
	if err := os.Mkdir(dir, 0o755); err != nil { // #nosec G301 -- workers of other users read it
		return actions.Errorf(actions.Unavailable, "archive: %w", err)
	}
	err := unpackInto(ctx, r, size, dir, limits)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	return nil
}

func unpackInto(ctx context.Context, r io.ReaderAt, size int64, dir string, limits Limits) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return actions.Errorf(actions.Unavailable, "archive: %w", err)
	}
	defer func() { _ = root.Close() }() // it holds no data
	u := &unpacker{ctx: ctx, root: root, limits: limits, dirs: make(map[string]bool)}
	var head [4]byte
	_, _ = r.ReadAt(head[:], 0) // too short is no archive either
	switch Sniff(head[:]) {
	case Zip:
		err = u.zip(r, size)
	case TarGz:
		err = u.tarGz(io.NewSectionReader(r, 0, size))
	default:
		return actions.Errorf(actions.Invalid, "archive: this is neither a zip nor a tar.gz")
	}
	if err == nil {
		err = u.makeLinks()
	}
	return u.coded(err)
}

// coded gives an error its code, unless it has one.
func (u *unpacker) coded(err error) error {
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	switch known, coded := errors.AsType[*actions.Error](err); {
	case err == nil:
		return nil
	case errors.Is(u.ctx.Err(), context.DeadlineExceeded):
		return actions.Errorf(actions.Deadline, "archive: %w", u.ctx.Err())
	case u.ctx.Err() != nil:
		return actions.Errorf(actions.Canceled, "archive: %w", u.ctx.Err())
	case coded:
		return known
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, fs.ErrExist):
		return actions.Errorf(actions.Invalid, "archive: two entries are in each other's way: %w", err)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return actions.Errorf(actions.Invalid, "archive: a name is too long: %w", err)
	case errors.As(err, &pathErr), errors.As(err, &linkErr):
		return actions.Errorf(actions.Unavailable, "archive: it cannot be unpacked here: %w", err)
	}
	return actions.Errorf(actions.Invalid, "archive: it is damaged or cut short: %w", err)
}

// refuse is the error for an entry that is not unpacked.
func refuse(name, format string, args ...any) error {
	return actions.Errorf(actions.Invalid, "archive: %.100q "+format, append([]any{name}, args...)...)
}

// Top returns the path of the only folder in dir when there is nothing else in it, as in
// the archives that code hosts make, else dir itself.
func Top(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("archive: %w", err)
	}
	if len(entries) == 1 && entries[0].IsDir() {
		return dir + string(os.PathSeparator) + entries[0].Name(), nil
	}
	return dir, nil
}
