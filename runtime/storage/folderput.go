package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	// temporary is how the names of files begin that are being written. They are in the folder
	// of the file that they become, and in no list.
	temporary = ".deepfn-put-"
	// oldAge is the age at which a temporary file that nobody holds is removed.
	oldAge = 10 * time.Minute
	// maxSwept is how many folders are remembered as swept.
	maxSwept = 4096
)

func isTemporary(name string) bool { return strings.HasPrefix(name, temporary) }

// put writes a file under a temporary name and gives it its own at the end. It is on the
// disk by then, so neither the end of this process nor that of the machine leaves a part.
func (f *folders) put(ctx context.Context, l location, body io.Reader, _ int64, opts actions.PutOptions) error {
	return f.within(l, func(root *os.Root, name string) error {
		return f.whole(root, name, opts.Once, func(to *os.File) error {
			_, err := io.Copy(to, untilEnded(ctx, body))
			return err
		})
	})
}

// untilEnded is a reader that ends with a context.
func untilEnded(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// copy writes a file anew from another, since a link would be one file with two names.
func (f *folders) copy(ctx context.Context, from, to location) error {
	source, _, err := f.regular(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	return f.put(ctx, to, source, 0, actions.PutOptions{})
}

// whole has write write a file that is seen when it is complete.
func (f *folders) whole(root *os.Root, name string, once bool, write func(*os.File) error) error {
	dir := path.Dir(name)
	if name == "." {
		return errNoFile
	}
	if err := root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f.sweep.folder(root, dir)
	temp := path.Join(dir, temporary+rand.Text())
	file, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // ends the lock, when the name is gone
	hold(file)
	err = write(file)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = publish(root, temp, name, once)
	}
	if err != nil || once {
		_ = root.Remove(temp)
	}
	if err == nil {
		err = syncFolder(root, dir)
	}
	return err
}

// publish gives a file its name. A link is made by the file system only where no name is,
// however many try it at the same time.
func publish(root *os.Root, temp, name string, once bool) error {
	if !once {
		return root.Rename(temp, name)
	}
	err := root.Link(temp, name)
	switch {
	case errors.Is(err, fs.ErrExist):
		return &actions.Error{Code: actions.Conflict, Msg: fileURL(path.Join(root.Name(), name)) + ": there is an object already", Err: err}
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.ENOSYS):
		return &actions.Error{
			Code: actions.Unsupported, Err: err,
			Msg: fileURL(path.Join(root.Name(), name)) + ": the file system has no hard links, by which one of several that write the same is chosen",
		}
	}
	return err
}

// syncFolder has the names in a folder on the disk. File systems that cannot do it have no
// need of it.
func syncFolder(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}

// hold locks a file for the life of its descriptor, and says whether nobody else has. A file
// system without locks has only the age of a file to go by.
func hold(file *os.File) bool {
	raw, err := file.SyscallConn()
	if err != nil {
		return false
	}
	held := false
	err = raw.Control(func(fd uintptr) {
		held = !errors.Is(syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK)
	})
	return held && err == nil
}

// A sweeper removes what processes have left that were killed while they wrote. It looks
// into each folder once, when something is put there.
type sweeper struct {
	mu    sync.Mutex // guards swept
	swept map[string]bool
}

func (s *sweeper) folder(root *os.Root, dir string) {
	if !s.first(path.Join(root.Name(), dir)) {
		return
	}
	d, err := root.Open(dir)
	if err != nil {
		return // as Put will say
	}
	defer func() { _ = d.Close() }()
	for {
		names, err := d.Readdirnames(1024)
		for _, name := range names {
			if isTemporary(name) {
				removeOld(root, path.Join(dir, name), oldAge)
			}
		}
		if err != nil || len(names) == 0 {
			return
		}
	}
}

// first says whether a folder has not been swept by this process.
func (s *sweeper) first(dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.swept[dir] {
		return false
	}
	if s.swept == nil || len(s.swept) >= maxSwept {
		s.swept = map[string]bool{}
	}
	s.swept[dir] = true
	return true
}

// removeOld removes a temporary file of that age that nobody writes.
func removeOld(root *os.Root, name string, age time.Duration) {
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || time.Since(info.ModTime()) < age {
		return
	}
	file, err := root.Open(name)
	if err != nil {
		return
	}
	defer func() { _ = file.Close() }()
	if hold(file) {
		_ = root.Remove(name)
	}
}
