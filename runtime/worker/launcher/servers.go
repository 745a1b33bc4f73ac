package launcher

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
)

const (
	// hatchPatience is how long a fork server may take to import what it is to import.
	hatchPatience = 2 * time.Minute
	// maxFailures is how often a fork server may fail before it is not tried again.
	maxFailures = 3
	// maxLate is how late a timer may be on a machine that is only busy.
	maxLate = time.Second
)

// A key is a hash of all that two workers must have in common for something.
type key [sha256.Size]byte

func keyOf(words ...string) key { return sha256.Sum256([]byte(strings.Join(words, "\x00"))) }

// A server is the fork server of workers with the same interpreter, environment and
// imports, or the place for one. All fields are guarded by Launcher.mu.
type server struct {
	nest     *nest // nil when there is none that is ready
	hatching bool
	failures int  // how often it has failed since it was last of use
	off      bool // it is not tried again
}

// A nest is a process that forks workers, and how many of them live.
type nest struct {
	zygote  *worker.Zygote
	workers int
	useful  bool        // it has forked a worker that became ready
	idle    *time.Timer // ends it when it has no workers
	idleEnd time.Time   // when that should be
	retired bool        // it forks no more, and ends with its last worker
}

// startForked starts the worker from a fork server, if there is one. It returns nil and
// no error when there is not. The failure is why the worker could not be forked or did
// not become ready; a fresh interpreter may do better.
func (l *Launcher) startForked(ctx context.Context, run *Run, cfg worker.Config) (w *worker.Worker, failure error) {
	s, n := l.borrow(run, &cfg)
	if n == nil {
		return nil, nil
	}
	cfg.Zygote = n.zygote
	w, err := l.launch(ctx, cfg)
	if err == nil {
		l.noteWorker(s, n, w)
		return w, nil
	}
	l.giveBack(s, n)
	if ctx.Err() == nil {
		cfg.Log.Warn("worker not forked; a fresh interpreter is started", "error", err)
		if errors.Is(err, worker.ErrNotForked) {
			l.retire(s, n)
		}
	}
	return nil, err
}

// noteWorker notes that a fork was of use, and gives the fork server back when the worker
// has ended.
func (l *Launcher) noteWorker(s *server, n *nest, w *worker.Worker) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n.useful, s.failures = true, 0
	if l.closed {
		return
	}
	l.tasks.Go(func() {
		<-w.Done()
		l.giveBack(s, n)
	})
}

// borrow returns the fork server that a Run may use; both are nil when there is none.
// Who gets one gives it back.
func (l *Launcher) borrow(run *Run, cfg *worker.Config) (*server, *nest) {
	if !run.Fork {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.servers[l.learned[modelKey(cfg)]]
	if s == nil || s.off || s.nest == nil {
		return nil, nil
	}
	select {
	case <-s.nest.zygote.Done():
		return nil, nil
	default:
	}
	if s.nest.idle != nil {
		s.nest.idle.Stop()
	}
	s.nest.workers++
	return s, s.nest
}

// giveBack notes the end of a worker. Without any, the fork server is kept for some time.
func (l *Launcher) giveBack(s *server, n *nest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n.workers--
	l.restLocked(s, n)
}

// restLocked sees to a fork server that may have no workers.
func (l *Launcher) restLocked(s *server, n *nest) {
	n.idleEnd = time.Now().Add(l.cfg.IdleTime)
	switch {
	case n.workers > 0 || l.closed:
	case n.retired:
		l.tasks.Go(func() { _ = n.zygote.Close() })
	case n.idle == nil:
		n.idle = time.AfterFunc(l.cfg.IdleTime, func() { l.expire(s, n) })
	default:
		n.idle.Reset(l.cfg.IdleTime)
	}
}

// expire ends a fork server that was not used for long. Who comes much too late was frozen
// with it, perhaps for the request that needs it next.
func (l *Launcher) expire(s *server, n *nest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case n.workers > 0:
	case time.Since(n.idleEnd) > maxLate:
		l.restLocked(s, n)
	default:
		l.retireLocked(s, n)
	}
}

// retire has no more workers forked by a fork server, which ends with its last one.
func (l *Launcher) retire(s *server, n *nest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retireLocked(s, n)
}

func (l *Launcher) retireLocked(s *server, n *nest) {
	if n.retired {
		return
	}
	n.retired = true
	if s.nest == n {
		s.nest = nil
	}
	l.restLocked(s, n)
}

// blame notes that a worker failed that was forked, and a fresh one did not. What the
// model itself raised it would raise again; what else it was may have been an accident.
func (l *Launcher) blame(cfg *worker.Config, failure error) {
	if errors.Is(failure, worker.ErrNotForked) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.servers[l.learned[modelKey(cfg)]]
	if s == nil || s.off || s.nest == nil {
		return // the fork server has died, which may have been the reason
	}
	s.failures++
	if actions.CodeOf(failure) != actions.Failed && s.failures < maxFailures {
		return
	}
	s.off = true
	l.retireLocked(s, s.nest)
	cfg.Log.Warn("no more workers are forked: what fails in one succeeds in a fresh interpreter", "error", failure)
}

// prepare starts a fork server after a fresh worker has become ready, if there is none.
func (l *Launcher) prepare(home string, run *Run, cfg worker.Config, info json.RawMessage) {
	preload, ok := preloads(run, info)
	if !ok {
		return
	}
	if dir := filepath.Dir(run.Setup.Path); run.Setup.Path != "" {
		// The packages of a virtual environment beside the file.
		if _, err := os.Stat(filepath.Join(dir, "virtualenv")); err == nil {
			preload = append([]string{dir}, preload...)
		}
	}
	k := keyOf(slices.Concat(anyDevice(cfg.Env), []string{"", run.Python, home}, preload)...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.learned[modelKey(&cfg)] = k
	s := l.servers[k]
	if s == nil {
		s = &server{}
		l.servers[k] = s
	}
	if l.closed || s.off || s.hatching || s.nest != nil {
		return
	}
	s.hatching = true
	zygote := worker.ZygoteConfig{
		Argv: argv(run.Python, home, "zygote", preload...), Env: cfg.Env, Dir: run.Dir, Log: cfg.Log,
		ForkPatience: l.cfg.ForkPatience,
	}
	ctx, cancel := context.WithTimeout(context.Background(), hatchPatience)
	l.cancels[s] = cancel
	l.tasks.Go(func() {
		defer cancel()
		l.hatch(ctx, s, zygote)
	})
}

// preloads returns what a fork server for a Run imports, and whether there is to be one.
func preloads(run *Run, info json.RawMessage) ([]string, bool) {
	if given := run.Spec.Preload; given != nil {
		return *given, len(*given) > 0
	}
	var d actions.Description
	err := json.Unmarshal(info, &d)
	return d.Imports, err == nil
}

// hatch starts a fork server and watches it. It ends when that has ended, at the latest
// after Close.
func (l *Launcher) hatch(ctx context.Context, s *server, cfg worker.ZygoteConfig) {
	began := time.Now()
	z, err := worker.StartZygote(ctx, cfg)
	l.mu.Lock()
	s.hatching = false
	delete(l.cancels, s)
	if err != nil {
		s.failures++
		s.off = errors.Is(err, worker.ErrUnsafe) || s.failures >= maxFailures
		if !l.closed {
			cfg.Log.Info("no fork server; workers start in fresh interpreters", "error", err, "final", s.off)
		}
		l.mu.Unlock()
		return
	}
	n := &nest{zygote: z}
	if l.closed {
		l.mu.Unlock()
		_ = z.Close()
		return
	}
	s.nest = n
	l.nests[n] = true
	l.restLocked(s, n)
	l.mu.Unlock()
	cfg.Log.Info("fork server ready", "server_pid", z.PID(), "start_seconds", time.Since(began).Seconds(), "not_imported", z.Note())

	<-z.Done()
	_ = z.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.nests, n)
	if n.idle != nil {
		n.idle.Stop()
	}
	if n.retired || l.closed {
		return
	}
	n.retired = true
	s.nest = nil
	if !n.useful {
		s.failures++
		s.off = s.failures >= maxFailures
	}
	cfg.Log.Warn("fork server died", "server_pid", z.PID())
}

// modelKey is what workers have in common that import the same.
func modelKey(cfg *worker.Config) key {
	return keyOf(slices.Concat(anyDevice(cfg.Env), []string{"", string(cfg.Setup)}, cfg.Argv)...)
}

// Close ends the fork servers, and with them the workers that they have forked. Workers
// are closed before; what is left of their uploads is removed. It returns nil.
func (l *Launcher) Close() error {
	l.mu.Lock()
	l.closed = true
	for _, cancel := range l.cancels {
		cancel()
	}
	nests := slices.Collect(maps.Keys(l.nests))
	l.mu.Unlock()
	for _, n := range nests {
		_ = n.zygote.Close()
	}
	l.tasks.Wait()
	l.uploads.close()
	return nil
}
