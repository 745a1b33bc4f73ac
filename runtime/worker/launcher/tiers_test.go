package launcher_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// hooks is a function with what a model that can be suspended has.
const hooks = `
import os
from deepfn_tiers import trace_context

where = "device"

def suspend():
    global where
    where = "host"
    print("on its way to the host")
    return 4096

def resume():
    global where
    where = "device"

def main(args):
    return {"where": where, "trace": trace_context(), "devices": os.environ.get("CUDA_VISIBLE_DEVICES")}
`

// way returns how a worker says that it could be suspended.
func way(tb testing.TB, w *worker.Worker) string {
	tb.Helper()
	var d actions.Description
	if err := json.Unmarshal(w.Info(), &d); err != nil {
		tb.Fatal(err)
	}
	return d.Suspend
}

func TestSuspendAndResume(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, hooks)
	for name, w := range map[string]*worker.Worker{"fresh": b.start(t, run), "forked": b.forked(t, run)} {
		t.Run(name, func(t *testing.T) {
			if got := way(t, w); got != "hooks" {
				t.Errorf("it says that it is suspended by %q, want hooks", got)
			}
			for range 2 {
				if host, err := w.Suspend(t.Context()); host != 4096 || err != nil {
					t.Fatalf("Suspend: got %d, %v", host, err)
				}
			}
			if err := w.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Suspend(t.Context()); err != nil {
				t.Fatal(err)
			}
			// It comes back by itself, and what it printed meanwhile is not the caller's.
			got, logs := ask(t, w, `{}`)
			if got["where"] != "device" || len(logs) > 0 {
				t.Errorf("got %v, and the lines %v", got, logs)
			}
		})
	}
	if !strings.Contains(b.log.String(), "on its way to the host") {
		t.Errorf("the log: %s", b.log.String())
	}
}

func TestSuspendOff(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, hooks)
	run.Spec.Suspend = "none"
	w := b.start(t, run)
	if got := way(t, w); got != "" {
		t.Errorf("it says that it is suspended by %q", got)
	}
	if _, err := w.Suspend(t.Context()); actions.CodeOf(err) != actions.Unsupported {
		t.Errorf("got %v", err)
	}
	ask(t, w, `{}`)
}

func TestTrace(t *testing.T) {
	b := open(t, launcher.Config{})
	w := b.start(t, action(t, hooks))
	trace := actions.Trace{Parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", State: "a=b"}
	resp, err := w.Call(t.Context(), actions.Request{Trace: trace})
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Trace map[string]string }
	if err := json.Unmarshal(resp.Data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"traceparent": trace.Parent, "tracestate": trace.State}, got.Trace); diff != "" {
		t.Error(diff)
	}
}

// Workers on different devices are forked from one fork server, which uses none.
func TestDevices(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, hooks)
	run.Env = []string{"CUDA_VISIBLE_DEVICES=GPU-0"}
	fresh := b.start(t, run)
	if got, _ := ask(t, fresh, `{}`); got["devices"] != "GPU-0" {
		t.Errorf("a fresh worker sees %v", got["devices"])
	}
	first := b.forked(t, run)
	server := parent(t, first.PID())
	run.Fork = true
	for _, device := range []string{"GPU-0", "MIG-1", "GPU-2"} {
		run.Env = []string{"CUDA_VISIBLE_DEVICES=" + device}
		w := b.start(t, run)
		if parent(t, w.PID()) != server {
			t.Errorf("the worker on %s was not forked by the same server", device)
		}
		if got, _ := ask(t, w, `{}`); got["devices"] != device {
			t.Errorf("a forked worker on %s sees %v", device, got["devices"])
		}
	}
	run.Env = []string{"CUDA_VISIBLE_DEVICES=GPU-0,GPU-1"}
	if w := b.start(t, run); parent(t, w.PID()) == server {
		t.Error("a worker on two devices was forked by the server of those on one")
	}
	wantNoCUDA(t, server)
}

// wantNoCUDA looks for what a process has that uses CUDA: its driver, and devices.
func wantNoCUDA(tb testing.TB, pid int) {
	tb.Helper()
	maps, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "maps"))
	if err != nil {
		tb.Fatal(err)
	}
	if strings.Contains(string(maps), "libcuda") {
		tb.Error("the fork server has loaded CUDA's driver")
	}
	dir := filepath.Join("/proc", itoa(pid), "fd")
	files, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, file := range files {
		if to, err := os.Readlink(filepath.Join(dir, file.Name())); err == nil && strings.HasPrefix(to, "/dev/nvidia") {
			tb.Errorf("the fork server has opened %s", to)
		}
	}
}

// A fork server that would use a device is none: its workers would inherit a context that
// does not work in them.
func TestForkServerUsesNoDevice(t *testing.T) {
	place := t.TempDir()
	// It uses a device when it is imported, as long as there is one to see.
	const text = "import os\nclass cuda:\n    is_initialized = staticmethod(lambda: bool(os.environ.get('CUDA_VISIBLE_DEVICES')))\n"
	if err := os.WriteFile(filepath.Join(place, "torch.py"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, launcher.Config{})
	run := action(t, "import torch\n"+hooks)
	run.Env = []string{"PYTHONPATH=" + place, "CUDA_VISIBLE_DEVICES=GPU-0"}
	run.Spec.Preload = &[]string{"torch"}
	run.Fork = true
	b.start(t, run)
	eventually(t, "it is given up", func() bool { return strings.Contains(b.log.String(), "importing has initialized CUDA") })
	w := b.start(t, run)
	if parent(t, w.PID()) != os.Getpid() {
		t.Error("the next worker was forked")
	}
	if got, _ := ask(t, w, `{}`); got["devices"] != "GPU-0" {
		t.Errorf("it sees %v", got["devices"])
	}
}
