package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/gpu"
)

// TestPoolFlags: each flag and its variable take what their help says, and what they do not take
// is a fault of the command line that says what to write.
func TestPoolFlags(t *testing.T) {
	for name, test := range map[string]struct {
		flag, variable, value, want string // want is a part of the error, empty for none
	}{
		"instances":            {"instances", "INSTANCES", "0", "--instances"},
		"no number":            {"instances", "INSTANCES", "many", "INSTANCES=many: want a number"},
		"queue depth":          {"queue-depth", "QUEUE_DEPTH", "0", "--queue-depth"},
		"never idle":           {"idle-time", "IDLE_TIME", "-1s", ""},
		"no idle time":         {"idle-time", "IDLE_TIME", "0", "--idle-time wants a time such as 10m, or less than 0 for never"},
		"no time":              {"idle-time", "IDLE_TIME", "10", "IDLE_TIME=10: want a time such as 30s or 5m"},
		"no timeout":           {"timeout", "TIMEOUT", "0", ""},
		"less than none":       {"timeout", "TIMEOUT", "-1s", "--timeout"},
		"histogram":            {"keep-alive", "KEEP_ALIVE", "histogram", ""},
		"no such keep-alive":   {"keep-alive", "KEEP_ALIVE", "lru", "want fixed or histogram"},
		"no release":           {"release-before-pause", "RELEASE_BEFORE_PAUSE", "0", ""},
		"release in the past":  {"release-before-pause", "RELEASE_BEFORE_PAUSE", "-8s", "--release-before-pause"},
		"headroom":             {"gpu-headroom", "GPU_HEADROOM", "2 GiB", ""},
		"no headroom":          {"gpu-headroom", "GPU_HEADROOM", "0", ""},
		"less than no memory":  {"gpu-headroom", "GPU_HEADROOM", "-1", "GPU_HEADROOM=-1: want a size such as 4 GiB"},
		"host memory":          {"host-memory", "HOST_MEMORY", "a lot", "HOST_MEMORY=a lot: want a size such as 4 GiB"},
		"no residency":         {"gpu-residency", "GPU_RESIDENCY", "0", ""},
		"negative residency":   {"gpu-residency", "GPU_RESIDENCY", "-2s", "--gpu-residency"},
		"any number of calls":  {"gpu-calls", "GPU_CALLS", "0", ""},
		"less than no calls":   {"gpu-calls", "GPU_CALLS", "-1", "--gpu-calls"},
		"what is empty is not": {"gpu-calls", "GPU_CALLS", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var s poolSettings
			f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
			s.addFlags(f)
			err := s.resolve(f, func(name string) string {
				if name == "DEEPFN_"+test.variable {
					return test.value
				}
				return ""
			})
			switch _, usage := errors.AsType[usageError](err); {
			case test.want == "":
				if err != nil {
					t.Errorf("got %v", err)
				}
			case !usage || !strings.Contains(err.Error(), test.want):
				t.Errorf("got %v, want a fault of the command line with %q", err, test.want)
			}
			if test.value == "" || test.want == "" || !strings.HasPrefix(test.want, "--") {
				return
			}
			s = poolSettings{}
			f = pflag.NewFlagSet("serve", pflag.ContinueOnError)
			s.addFlags(f)
			if err := f.Parse([]string{"--" + test.flag + "=" + test.value}); err != nil {
				t.Fatal(err)
			}
			if err := s.resolve(f, func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("as a flag: got %v, want %q", err, test.want)
			}
		})
	}
}

// TestHostShare: suspended models take what the container may have into account.
func TestHostShare(t *testing.T) {
	for _, test := range []struct{ machine, limit, want int64 }{
		{512 << 30, 0, 128 << 30},
		{512 << 30, 8 << 30, 2 << 30},
		{16 << 30, 64 << 30, 4 << 30},
		{0, 0, 0},
	} {
		if got := hostShare(test.machine, test.limit); got != test.want {
			t.Errorf("%d bytes, %d allowed: got %d, want %d", test.machine, test.limit, got, test.want)
		}
	}
}

// TestCheckpointOf: the driver suspends the worker's own process and no other.
func TestCheckpointOf(t *testing.T) {
	with := &house{checkpoint: gpu.OpenCheckpoint(gpu.CheckpointConfig{})}
	for runtime, want := range map[string]bool{
		actions.ONNX: true, actions.Python: true, actions.Executable: false, actions.HTTP: false,
	} {
		if got := with.checkpointOf(actions.Model{Runtime: runtime}) != nil; got != want {
			t.Errorf("%s: got %t, want %t", runtime, got, want)
		}
		if (&house{}).checkpointOf(actions.Model{Runtime: runtime}) != nil {
			t.Errorf("%s without a driver: got a checkpointer", runtime)
		}
	}
}
