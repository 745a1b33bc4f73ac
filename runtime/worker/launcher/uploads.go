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

	"github.com/deepfn/deepfn/runtime/worker"
)

// uploadsPrefix begins the names of the folders of uploads; deepfn_launcher/uploads.py
// has it too.
const uploadsPrefix = "deepfn-uploads-"

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
	u.tasks.Go(func() { sweep(temp) })
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
		sweep(temp)
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

// sweep removes the folders of uploads that nobody holds a lock of. Where the file system
// has no locks, and what cannot be removed, stays. Many may sweep at the same time.
func sweep(temp string) {
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
		if syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			remove(path)
		}
		_ = folder.Close()
	}
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
