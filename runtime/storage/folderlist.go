package storage

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path"
	"slices"
	"syscall"

	"github.com/deepfn/deepfn/actions"
)

func (f *folders) list(ctx context.Context, l location, yield func(actions.Object) bool) error {
	return f.within(l, func(root *os.Root, name string) error {
		w := walk{root: root, yield: yield}
		return w.folder(ctx, name, path.Clean(l.url.Path))
	})
}

// A walk lists a folder, in the order of the bytes of the whole paths.
type walk struct {
	root  *os.Root
	yield func(actions.Object) bool
	done  bool // yield has returned false
}

// folder lists the files below a folder, whose whole path is shown.
func (w *walk) folder(ctx context.Context, name, shown string) error {
	entries, err := w.entries(name)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		below := path.Join(name, entry.Name())
		if entry.IsDir() {
			err = w.folder(ctx, below, path.Join(shown, entry.Name()))
		} else if !isTemporary(entry.Name()) {
			err = w.file(below, path.Join(shown, entry.Name()))
		}
		if err != nil || w.done {
			return err
		}
	}
	return nil
}

// entries are those of a folder, a folder's name taken with its slash. One that is gone has none.
func (w *walk) entries(name string) ([]fs.DirEntry, error) {
	dir, err := w.root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, gone(err)
	}
	defer func() { _ = dir.Close() }()
	entries, err := dir.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(sortName(a), sortName(b)) })
	return entries, gone(err)
}

func sortName(entry fs.DirEntry) string {
	if entry.IsDir() {
		return entry.Name() + "/"
	}
	return entry.Name()
}

// file lists one file, or nothing when it is none: a link to a folder would be walked for
// ever, and a device or pipe has no content.
func (w *walk) file(name, shown string) error {
	info, err := w.root.Stat(name)
	switch {
	case isEscape(err), errors.Is(err, syscall.ELOOP): // a link that leads out
		return nil
	case err != nil:
		return gone(err)
	case info.Mode().IsRegular():
		w.done = !w.yield(fileObject(shown, info))
	}
	return nil
}

// gone is an error, or nil when it says that something is not there any more.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func fileURL(name string) string { return (&url.URL{Scheme: fileScheme, Path: name}).String() }
