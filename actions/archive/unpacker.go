package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// An unpacker writes the entries of one archive below its root and counts them.
type unpacker struct {
	ctx    context.Context //nolint:containedctx // of the one call that the unpacker lives for
	root   *os.Root
	limits Limits
	files  int
	bytes  int64
	dirs   map[string]bool // those that exist
	links  []link          // made at the end
}

// A link is a symbolic link: its own name and what it points to.
type link struct{ name, target string }

// clean checks the name of an entry and returns it as a path below the root, "." for
// the root itself.
func clean(name string) (string, error) {
	switch {
	case len(name) > maxPath:
		return "", refuse(name, "is a name of more than %d bytes", maxPath)
	case strings.ContainsAny(name, "\\\x00"):
		return "", refuse(name, "has a backslash or a zero byte in its name; pack it with '/' between folders")
	case path.IsAbs(name):
		return "", refuse(name, "is an absolute path")
	case strings.Count(name, "/") > maxDepth:
		return "", refuse(name, "is more than %d folders deep", maxDepth)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", refuse(name, "leads out of the folder")
		}
	}
	return path.Clean(name), nil
}

// count counts one more file, link or folder.
func (u *unpacker) count() error {
	if err := u.ctx.Err(); err != nil {
		return err
	}
	if u.files++; u.files > u.limits.Files {
		return actions.Errorf(actions.TooLarge, "archive: more than %d files and folders, the most that are unpacked", u.limits.Files)
	}
	return nil
}

// mkdir makes a folder and those above it.
func (u *unpacker) mkdir(name string) error {
	if name == "." || u.dirs[name] {
		return nil
	}
	if err := u.mkdir(path.Dir(name)); err != nil {
		return err
	}
	if err := u.count(); err != nil {
		return err
	}
	if err := u.root.Mkdir(name, 0o755); err != nil {
		return err
	}
	u.dirs[name] = true
	return nil
}

// file writes a regular file with what r holds.
func (u *unpacker) file(name string, mode fs.FileMode, r io.Reader) error {
	if name == "." {
		return refuse(name, "is a file, not a folder")
	}
	if err := u.mkdir(path.Dir(name)); err != nil {
		return err
	}
	if err := u.count(); err != nil {
		return err
	}
	perm := fs.FileMode(0o644)
	if mode&0o111 != 0 {
		perm = 0o755
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	in := &input{ctx: u.ctx, r: io.LimitReader(r, u.limits.Bytes-u.bytes+1)}
	n, err := io.Copy(f, in)
	u.bytes += n
	if err == nil {
		err = f.Chmod(perm) // whatever the umask, and when it was there
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	switch {
	case in.err != nil:
		return fmt.Errorf("%.100q: %w", name, in.err)
	case err == nil && u.bytes > u.limits.Bytes:
		return actions.Errorf(actions.TooLarge, "archive: more than %d bytes, the most that are unpacked", u.limits.Bytes)
	}
	return err
}

// An input remembers the error of its reader, which io.Copy mixes with the writer's, and
// ends with the context.
type input struct {
	ctx context.Context //nolint:containedctx // of the one call that the input lives for
	r   io.Reader
	err error
}

func (in *input) Read(p []byte) (int, error) {
	if err := in.ctx.Err(); err != nil {
		in.err = err
		return 0, err
	}
	n, err := in.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		in.err = err
	}
	return n, err
}

// link notes a symbolic link.
func (u *unpacker) link(name, target string) error {
	switch {
	case name == ".":
		return refuse(name, "is a link, not a folder")
	case target == "" || len(target) > maxPath || strings.ContainsAny(target, "\\\x00"):
		return refuse(name, "is a link to nothing that can be: %.100q", target)
	case path.IsAbs(target) || !fs.ValidPath(path.Join(path.Dir(name), target)):
		return refuse(name, "is a link that leads out of the folder, to %.100q", target)
	}
	if err := u.count(); err != nil {
		return err
	}
	u.links = append(u.links, link{name, target})
	return nil
}

// makeLinks makes the symbolic links. All folders are made before, so that no link is
// made through another one; that each stays inside is seen by following it.
func (u *unpacker) makeLinks() error {
	for _, l := range u.links {
		if err := u.mkdir(path.Dir(l.name)); err != nil {
			return err
		}
	}
	for _, l := range u.links {
		if err := u.root.Symlink(l.target, l.name); err != nil {
			return err
		}
	}
	for _, l := range u.links {
		if _, err := u.root.Stat(l.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return refuse(l.name, "is a link that leads out of the folder or nowhere, to %.100q: %w", l.target, err)
		}
	}
	return nil
}
