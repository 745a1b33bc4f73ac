package launcher_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// What has started threads, or touched a GPU, is not forked.
func TestUnsafeImports(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"a thread", "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n", "importing has started threads"},
		{"CUDA", "class cuda:\n    is_initialized = staticmethod(lambda: True)\n", "importing has initialized CUDA"},
		{"the end", "import os\nif len(open('/proc/self/cmdline').read().split('zygote')) > 1:\n    os._exit(3)\n", "it ended: exit status 3"},
		{"a crash", "import os, signal\nif len(open('/proc/self/cmdline').read().split('zygote')) > 1:\n    os.kill(os.getpid(), signal.SIGSEGV)\n", "it ended: signal: segmentation fault"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := open(t, launcher.Config{})
			run := action(t, "import torch\n\ndef main(args):\n    return {}\n")
			place := t.TempDir()
			if err := os.WriteFile(filepath.Join(place, "torch.py"), []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			run.Env = []string{"PYTHONPATH=" + place}
			run.Spec.Preload = &[]string{"torch"}
			run.Fork = true
			ask(t, b.start(t, run), `{}`)
			eventually(t, "it is logged", func() bool { return strings.Contains(b.log.String(), "no fork server") })
			if !strings.Contains(b.log.String(), tt.want) {
				t.Errorf("the log: %s", b.log.String())
			}
			ask(t, b.start(t, run), `{}`)
		})
	}
}

// What cannot be imported is left out, and its output is logged.
func TestPreloadThatFails(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, about)
	run.Spec.Preload = &[]string{"there.is.none", "numpy", "antigravity.x"}
	run.Env = []string{"BROWSER=true"}
	w := b.forked(t, run)
	if got, _ := ask(t, w, `{}`); got["forked"] != true {
		t.Error("it was not forked")
	}
	if !strings.Contains(b.log.String(), "there.is.none: ModuleNotFoundError") {
		t.Errorf("the log: %s", b.log.String())
	}
}

// An empty list of imports turns fork servers off.
func TestPreloadOff(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, about)
	run.Spec.Preload = &[]string{}
	run.Fork = true
	b.start(t, run)
	b.start(t, run)
	if err := b.Close(); err != nil || b.log.String() != "" {
		t.Errorf("got %v, the log: %s", err, b.log.String())
	}
}
