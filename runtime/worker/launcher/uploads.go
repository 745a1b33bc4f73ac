package launcher

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/deepfn/deepfn/runtime/worker"
)

const (
	// uploadsPrefix begins the names of the folders of uploads; deepfn_launcher/uploads.py
	// has it too.
	uploadsPrefix = "deepfn-uploads-"
	// sweepWait is how long to wait for a lock that is held, each time twice as long.
	sweepWait    = 10 * time.Millisecond
	maxSweepWait = 3 * time.Second
)

// launch starts a worker, and sees to it that no uploads stay when it has died.
func (l *Launcher) launch(ctx context.Context, cfg worker.Config) (*worker.Worker, error) {
	temp := temporary(cfg.Env)
	l.uploads.begin(temp)
	w, err := worker.Start(ctx, cfg)
	if err == nil {
		l.uploads.watch(w, temp)
	}
	return w, err
}

// temporary returns the folder for temporary files of a worker.
func temporary(env []string) string {
	for _, v := range slices.Backward(env) {
		if dir, ok := strings.CutPrefix(v, "TMPDIR="); ok && filepath.IsAbs(dir) {
			return dir
		}
	}
	return os.TempDir()
}

// uploads removes the uploads that workers leave. A worker stores those of a call in a
// folder, which it removes when it has answered and holds a lock of until then. One that
// nobody holds belonged to a worker that has died: of this process, or, when the first
// worker starts, of one that was killed with its workers.
type uploads struct {
	done  chan struct{}  // closed by close
	tasks sync.WaitGroup // Go under mu

	mu     sync.Mutex      // guards the next two
	seen   map[string]bool // the folders of temporary files that were swept at the start
	closed bool
}

func newUploads() *uploads {
	return &uploads{done: make(chan struct{}), seen: map[string]bool{}}
}

// begin sweeps a folder of temporary files if this process has not done so.
func (u *uploads) begin(temp string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || u.seen[temp] {
		return
	}
	u.seen[temp] = true
	u.tasks.Go(func() { u.sweep(temp) })
}

// watch sweeps when a worker has ended, at the latest at close.
func (u *uploads) watch(w *worker.Worker, temp string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return
	}
	u.tasks.Go(func() {
		select {
		case <-w.Done():
		case <-u.done:
		}
		u.sweep(temp)
	})
}

// close waits until everything is swept. Workers have ended before.
func (u *uploads) close() {
	u.mu.Lock()
	if !u.closed {
		u.closed = true
		close(u.done)
	}
	u.mu.Unlock()
	u.tasks.Wait()
}

// sweep sweeps a folder of temporary files, for some time: a worker whose server was
// killed, and what a worker has forked, may hold a lock until the kernel has ended them.
func (u *uploads) sweep(temp string) {
	for wait := sweepWait; sweep(temp) && wait <= maxSweepWait; wait *= 2 {
		select {
		case <-time.After(wait):
		case <-u.done:
			sweep(temp)
			return
		}
	}
}

// sweep removes the folders of uploads that nobody holds a lock of, and reports whether
// somebody holds one. Where the file system has no locks, and what cannot be removed,
// stays. Many may sweep at the same time.
func sweep(temp string) (held bool) {
	entries, _ := os.ReadDir(temp)
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), uploadsPrefix) {
			continue
		}
		path := filepath.Join(temp, e.Name())
		folder, err := openFolder(path)
		if err != nil {
			continue // of another user, or gone
		}
		switch err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
		case err == nil:
			remove(path)
		case errors.Is(err, syscall.EWOULDBLOCK):
			held = true
		}
		_ = folder.Close()
	}
	return held
}

// openFolder opens a folder, also one of this user's that a model has locked.
func openFolder(path string) (*os.File, error) {
	const flags = os.O_RDONLY | syscall.O_DIRECTORY | syscall.O_NOFOLLOW
	folder, err := os.OpenFile(path, flags, 0) //nolint:gosec // a folder that ReadDir has named
	if !errors.Is(err, fs.ErrPermission) {
		return folder, err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) != os.Geteuid() || !info.IsDir() {
		return nil, fs.ErrPermission
	}
	if err := os.Chmod(path, 0o700); err != nil { //nolint:gosec // it was made with this mode
		return nil, err
	}
	return os.OpenFile(path, flags, 0) //nolint:gosec // the same one
}

// remove removes a folder with all that is in it, also where a model has taken the right
// to do so away.
func remove(dir string) {
	if os.RemoveAll(dir) == nil {
		return
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700) //nolint:gosec // a folder needs the right to be entered
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}
