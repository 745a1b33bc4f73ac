package launcher_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// about answers what a worker can say of itself.
const about = `
import os, subprocess, sys, random, time
import numpy

def main(args):
    print("printed by", os.getpid())
    print("and an error", file=sys.stderr)
    if "leave" in args:
        subprocess.Popen(["sleep", "1000"])
    if "end" in args:
        os._exit(args["end"])
    if "wait" in args:
        open(args["wait"], "w").close()
        time.sleep(1000)
    return {
        "pid": os.getpid(),
        "group": os.getpgrp(),
        "cwd": os.getcwd(),
        "env": {k: os.environ.get(k) for k in args.get("env", [])},
        "child_env": subprocess.check_output("echo $A", shell=True, text=True).strip(),
        "random": random.random(),
        "numpy": float(numpy.random.rand()),
        "path": sys.path,
        "argv": sys.argv,
        "fds": {fd: os.readlink("/proc/self/fd/" + fd).partition(":")[0]
                for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)},
        "forked": "deepfn_launcher.zygote" in sys.modules,
    }
`

// Fresh and forked workers are the same to the model.
func TestStart(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, about)
	run.Spec.Env = map[string]string{"A": "of the action", "EMPTY": ""}
	run.Env = []string{"A=first", "A=of the run"}
	const args = `{"env": ["A", "EMPTY", "DEEPFN_WORKER", "CUDA_MODULE_LOADING"]}`
	fresh, _ := ask(t, b.start(t, run), args)
	for _, forked := range []bool{false, true} {
		w := b.start(t, run)
		if forked {
			w = b.forked(t, run)
		}
		got, logs := ask(t, w, args)
		if got["forked"] != forked || number(got["pid"]) != w.PID() || number(got["group"]) != w.PID() {
			t.Errorf("forked %v: got %v", forked, got)
		}
		slices.SortFunc(logs, func(a, b actions.LogLine) int { return int(a.Stream) - int(b.Stream) })
		want := []actions.LogLine{
			{Stream: actions.Stdout, Text: "printed by " + itoa(w.PID())},
			{Stream: actions.Stderr, Text: "and an error"},
		}
		if diff := cmp.Diff(want, logs); diff != "" {
			t.Errorf("forked %v: the lines: %s", forked, diff)
		}
		for _, differs := range []string{"pid", "group", "random", "numpy", "forked"} {
			delete(got, differs)
			delete(fresh, differs)
		}
		if diff := cmp.Diff(fresh, got); diff != "" {
			t.Errorf("forked %v: %s", forked, diff)
		}
	}
	if fresh["cwd"] != run.Model.Dir || fresh["child_env"] != "of the run" {
		t.Errorf("got %v", fresh)
	}
	if diff := cmp.Diff(map[string]any{
		"A": "of the run", "EMPTY": "", "DEEPFN_WORKER": nil, "CUDA_MODULE_LOADING": "LAZY",
	}, fresh["env"]); diff != "" {
		t.Error(diff)
	}
	for _, place := range fresh["path"].([]any) {
		if place == "" || strings.Contains(place.(string), "launcher-") {
			t.Errorf("%q is in the path of modules", place)
		}
	}
}

func TestWorkersDoNotShareRandomState(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, about)
	seen := map[any]bool{}
	w := b.forked(t, run)
	run.Fork = true
	for _, w := range []*worker.Worker{w, b.start(t, run), b.start(t, run)} {
		got, _ := ask(t, w, `{}`)
		for _, state := range []string{"random", "numpy"} {
			if seen[got[state]] {
				t.Errorf("two workers have the same %s", state)
			}
			seen[got[state]] = true
		}
	}
}

// A seed that the model sets holds.
func TestASeedHolds(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, "import numpy, random\nnumpy.random.seed(3)\nrandom.seed(3)\n\ndef main(args):\n    return [numpy.random.rand(), random.random()]\n")
	forked := b.forked(t, run)
	run.Fork = false
	fresh := b.start(t, run)
	one, err := forked.Call(t.Context(), actions.Request{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := fresh.Call(t.Context(), actions.Request{})
	if err != nil || string(one.Data) != string(other.Data) {
		t.Errorf("got %s and %s, %v", one.Data, other.Data, err)
	}
}

// How a forked worker ends is known as well as of any other.
func TestForkedWorkerEnds(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, about)
	b.forked(t, run)
	run.Fork = true
	tests := []struct {
		name, want string
		end        func(w *worker.Worker)
	}{
		{"killed", "signal: killed", func(w *worker.Worker) { _ = unix.Kill(w.PID(), unix.SIGKILL) }},
		{"crashed", "signal: segmentation fault", func(w *worker.Worker) { _ = unix.Kill(w.PID(), unix.SIGSEGV) }},
		{"by itself", "exit status 7", func(w *worker.Worker) {
			_, _ = w.Call(t.Context(), actions.Request{Args: []byte(`{"end": 7}`)})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := b.start(t, run)
			got, _ := ask(t, w, `{"leave": true}`)
			if got["forked"] != true {
				t.Fatal("the worker was not forked")
			}
			left := children(t, w.PID())
			if len(left) == 0 {
				t.Fatal("it has left no process")
			}
			tt.end(w)
			wantDone(t, w)
			if err := w.Err(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			for _, pid := range left {
				eventually(t, "what it has left ends", func() bool { return !alive(pid) })
			}
			if status(w.PID()) != nil {
				t.Error("it was not reaped")
			}
		})
	}
}

// The end of the fork server ends its workers. The next worker is a fresh one, and then
// there is another fork server.
func TestForkServerIsKilled(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, about)
	w := b.forked(t, run)
	run.Fork = true
	left := w
	if got, _ := ask(t, left, `{"leave": true}`); got["forked"] != true {
		t.Fatal("the worker was not forked")
	}
	orphans := children(t, w.PID())
	server := parent(t, w.PID())
	if err := unix.Kill(server, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantDone(t, w)
	for _, pid := range append(orphans, w.PID(), server) {
		eventually(t, "all end", func() bool { return !alive(pid) })
	}
	eventually(t, "the end is noticed", func() bool { return strings.Contains(b.log.String(), "fork server died") })
	if got, _ := ask(t, b.start(t, run), `{}`); got["forked"] != false {
		t.Error("the next worker is not a fresh one")
	}
	eventually(t, "another one is ready", func() bool { return strings.Count(b.log.String(), "fork server ready") == 2 })
	if got, _ := ask(t, b.start(t, run), `{}`); got["forked"] != true {
		t.Error("the worker after that was not forked")
	}
}

func TestManyForksAtOnce(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, about)
	b.forked(t, run)
	run.Fork = true
	before := descriptors(t)
	workers := make([]*worker.Worker, 20)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			run := run
			run.Dir = filepath.Join(run.Model.Dir, itoa(i))
			if err := os.Mkdir(run.Dir, 0o700); err != nil {
				t.Error(err)
			}
			w, err := b.Start(t.Context(), run)
			if err != nil {
				t.Errorf("Start: %v", err)
				return
			}
			workers[i] = w
			if parent(t, w.PID()) == os.Getpid() {
				t.Error("a worker was not forked")
			}
			if got, _ := ask(t, w, `{}`); got["cwd"] != run.Dir {
				t.Errorf("worker %d works in %v", i, got["cwd"])
			}
		})
	}
	wg.Wait()
	for _, w := range workers {
		if w != nil {
			wg.Go(func() { _ = w.Close() })
		}
	}
	wg.Wait()
	eventually(t, "all descriptors are closed", func() bool { return descriptors(t) <= before })
}

// Neither side keeps descriptors of workers that have ended.
func TestForksLeakNoDescriptors(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, about)
	w := b.forked(t, run)
	run.Fork = true
	server := parent(t, w.PID())
	ours, theirs := descriptors(t), entries(t, server)
	for range 10 {
		w := b.start(t, run)
		if parent(t, w.PID()) != server {
			t.Fatal("the worker was not forked")
		}
		_ = w.Close()
	}
	eventually(t, "ours are closed", func() bool { return descriptors(t) <= ours })
	eventually(t, "theirs are closed", func() bool { return entries(t, server) <= theirs })
	if kids := children(t, server); !slices.Equal(kids, []int{w.PID()}) {
		t.Errorf("the fork server has the children %v, want only %d", kids, w.PID())
	}
}

// A fork server that hangs delays a start, but not the one after it; its workers go on.
func TestForkServerIsStopped(t *testing.T) {
	b := open(t, launcher.Config{ForkPatience: 300 * time.Millisecond})
	run := action(t, about)
	w := b.forked(t, run)
	run.Fork = true
	server := parent(t, w.PID())
	if err := unix.Kill(server, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, _ := ask(t, b.start(t, run), `{}`); got["forked"] != false {
			t.Error("a worker was forked by a stopped process")
		}
	}
	ask(t, w, `{}`)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	// It is ended with its last worker, stopped or not.
	eventually(t, "it ends", func() bool { return !alive(server) })
}

// A fork server without workers is ended after some time.
func TestForkServerIsIdle(t *testing.T) {
	b := open(t, launcher.Config{IdleTime: 10 * time.Millisecond})
	run := action(t, about)
	run.Fork = true
	_ = b.start(t, run).Close()
	eventually(t, "a fork server is ready", func() bool { return strings.Contains(b.log.String(), "fork server ready") })
	eventually(t, "it ends", func() bool { return len(zygotes(t)) == 0 })
	if got, _ := ask(t, b.start(t, run), `{}`); got["forked"] != false {
		t.Error("there was a fork server still")
	}
	if strings.Contains(b.log.String(), "died") {
		t.Errorf("the log: %s", b.log.String())
	}
}

func TestClose(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, about)
	w := b.forked(t, run)
	server := parent(t, w.PID())
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	wantDone(t, w)
	if alive(server) {
		t.Error("the fork server lives")
	}
}

// A caller who leaves a start does not start another.
func TestLeaveAForkedStart(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, "import os, time\nif os.path.exists('slow'):\n    open('begun', 'w').close()\n    time.sleep(1000)\n\ndef main(args):\n    return {}\n")
	b.forked(t, run)
	run.Fork = true
	if err := os.WriteFile(filepath.Join(run.Model.Dir, "slow"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := b.Start(ctx, run)
		failed <- err
	}()
	eventually(t, "the start begins", func() bool {
		_, err := os.Stat(filepath.Join(run.Model.Dir, "begun"))
		return err == nil
	})
	cancel()
	if err := <-failed; actions.CodeOf(err) != actions.Canceled {
		t.Errorf("got %v", err)
	}
}

// What fails in a forked process only is done in a fresh one from then on.
func TestModelThatDoesNotFork(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, `
import sys
if "deepfn_launcher.zygote" in sys.modules:
    raise RuntimeError("no forks please")

def main(args):
    return {}
`)
	run.Fork = true
	_ = b.start(t, run).Close()
	eventually(t, "a fork server is ready", func() bool { return strings.Contains(b.log.String(), "fork server ready") })
	for range 2 {
		ask(t, b.start(t, run), `{}`)
	}
	eventually(t, "it ends", func() bool { return len(zygotes(t)) == 0 })
	if n := strings.Count(b.log.String(), "no more workers are forked"); n != 1 {
		t.Errorf("it is logged %d times: %s", n, b.log.String())
	}
}
