package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/gpu"
	"github.com/deepfn/deepfn/runtime/invoker"
)

const (
	// contextMemory is what a CUDA context takes of a device's memory beside a model's weights.
	contextMemory = 512 << 20
	// leastGuess is what a model is taken to need of a GPU at least, of which nobody knows it.
	leastGuess = 1 << 30
)

// poolSettings are the flags of the pool of instances, which serve and node have.
type poolSettings struct {
	instances  int
	queueDepth int
	idleTime   time.Duration
	timeout    time.Duration

	keepAlive   string
	headroom    bytesFlag
	hostMemory  bytesFlag
	residency   time.Duration
	release     time.Duration
	deviceCalls int
}

// A bytesFlag is a number of bytes, or -1 when nothing was said.
type bytesFlag struct {
	actions.Bytes
	set bool
}

// Set implements pflag.Value.
func (b *bytesFlag) Set(text string) error {
	b.set = true
	return b.Bytes.Set(text)
}

// String implements pflag.Value.
func (b *bytesFlag) String() string {
	if !b.set {
		return ""
	}
	return b.Bytes.String()
}

func (s *poolSettings) addFlags(f *pflag.FlagSet) {
	f.IntVar(&s.instances, "instances", 1, "most instances of one model (DEEPFN_INSTANCES)")
	f.IntVar(&s.queueDepth, "queue-depth", 256, "requests of one model that may wait (DEEPFN_QUEUE_DEPTH)")
	f.DurationVar(&s.idleTime, "idle-time", 10*time.Minute, "stop an instance that was not used for so long, on a GPU as soon as its memory is\nwanted; negative: never (DEEPFN_IDLE_TIME)")
	f.DurationVar(&s.timeout, "timeout", 5*time.Minute, "most time for one request; 0: no limit (DEEPFN_TIMEOUT)")
	f.StringVar(&s.keepAlive, "keep-alive", string(invoker.Fixed), "fixed: --idle-time for all; histogram: learned from the times between a model's requests,\nwith instances started ahead of them (DEEPFN_KEEP_ALIVE)")
	f.DurationVar(&s.release, "release-before-pause", 0, "leave the GPUs when there was no request for so long, before the platform freezes the\nprocess; on OpenWhisk 8s; 0: never (DEEPFN_RELEASE_BEFORE_PAUSE)")
	f.Var(&s.headroom, "gpu-headroom", "memory of each GPU that is never given to models (DEEPFN_GPU_HEADROOM; default a twentieth,\n512 MiB at most)")
	f.Var(&s.hostMemory, "host-memory", "memory of the machine for models that leave a GPU and can come back fast\n(DEEPFN_HOST_MEMORY; default a quarter of what it has, or this container may have; 0: none)")
	f.DurationVar(&s.residency, "gpu-residency", 2*time.Second, "time that a model may stay on a GPU at least (DEEPFN_GPU_RESIDENCY)")
	f.IntVar(&s.deviceCalls, "gpu-calls", 1, "instances that may work on one GPU at the same time; 0: any number (DEEPFN_GPU_CALLS)")
}

// resolve fills in from the environment what no flag has set, and checks it.
func (s *poolSettings) resolve(f *pflag.FlagSet, getenv func(string) string) error {
	for _, v := range []struct{ flag, name string }{
		{"instances", "DEEPFN_INSTANCES"},
		{"queue-depth", "DEEPFN_QUEUE_DEPTH"},
		{"idle-time", "DEEPFN_IDLE_TIME"},
		{"timeout", "DEEPFN_TIMEOUT"},
		{"keep-alive", "DEEPFN_KEEP_ALIVE"},
		{"release-before-pause", "DEEPFN_RELEASE_BEFORE_PAUSE"},
		{"gpu-headroom", "DEEPFN_GPU_HEADROOM"},
		{"host-memory", "DEEPFN_HOST_MEMORY"},
		{"gpu-residency", "DEEPFN_GPU_RESIDENCY"},
		{"gpu-calls", "DEEPFN_GPU_CALLS"},
	} {
		text := getenv(v.name)
		if text == "" || f.Changed(v.flag) {
			continue
		}
		if err := f.Lookup(v.flag).Value.Set(text); err != nil {
			return usageError{fmt.Errorf("%s=%s: want %s", v.name, text, wanted(f.Lookup(v.flag).Value.Type()))}
		}
	}
	switch {
	case s.timeout < 0 || s.release < 0 || s.residency < 0 || s.deviceCalls < 0:
		return usageError{errors.New("--timeout, --release-before-pause, --gpu-residency and --gpu-calls want 0 or more")}
	case s.idleTime == 0:
		return usageError{errors.New("--idle-time wants a time such as 10m, or less than 0 for never")}
	case s.instances < 1 || s.queueDepth < 1:
		return usageError{errors.New("--instances and --queue-depth want 1 or more")}
	case s.keepAlive != string(invoker.Fixed) && s.keepAlive != string(invoker.Histogram):
		return usageError{fmt.Errorf("--keep-alive %s: want fixed or histogram", s.keepAlive)}
	}
	return nil
}

// wanted is what a flag of that type takes, for people.
func wanted(kind string) string {
	switch kind {
	case "int":
		return "a number"
	case "duration":
		return "a time such as 30s or 5m"
	case "bytes":
		return "a size such as 4 GiB"
	}
	return "a " + kind
}

// openPool makes the pool of the models of a catalog, with the GPUs of this machine. The caller
// closes the pool, then calls done.
func (h *house) openPool(s *poolSettings, models invoker.Catalog, exceptions func(actions.Model) int) (pool *invoker.Invoker, done func()) {
	cfg := invoker.Config{
		Catalog: models, Start: h.start, MaxInstances: s.instances, QueueDepth: s.queueDepth, Instances: exceptions,
		IdleTime: s.idleTime, Timeout: s.timeout, KeepAlive: invoker.KeepAlive(s.keepAlive), Log: h.log,
	}
	if !h.mayHaveGPU() {
		return invoker.New(cfg), func() {}
	}
	h.placed = true
	h.checkpoint = gpu.OpenCheckpoint(gpu.CheckpointConfig{Library: h.libcuda})
	peaks := gpu.OpenPeaks(filepath.Join(h.data, "peaks.json"), h.log)
	monitor := gpu.Open(gpu.Config{
		Library: h.nvml, MPSPipe: h.getenv("CUDA_MPS_PIPE_DIRECTORY"), TimeSliced: gpu.TimeSliced(h.getenv), Log: h.log,
	})
	cfg.Devices, cfg.Demand, cfg.Peaks = monitor, h.demand, peaks
	cfg.Headroom, cfg.HostMemory = headroomOf(s.headroom), hostMemoryOf(s.hostMemory)
	cfg.Residency, cfg.ReleaseTime, cfg.DeviceCalls = s.residency, s.release, s.deviceCalls
	if s.residency == 0 {
		cfg.Residency = -1
	}
	if s.deviceCalls == 0 {
		cfg.DeviceCalls = -1
	}
	return invoker.New(cfg), func() {
		_ = monitor.Close()
		if err := peaks.Close(); err != nil {
			h.log.Warn("what was measured of the models is not kept", "error", err)
		}
	}
}

// mayHaveGPU says whether it is worth to look for GPUs: nothing is looked for that takes time
// where there can be none.
func (h *house) mayHaveGPU() bool {
	if h.device == "cpu" {
		return false
	}
	if h.nvml != "" {
		return true
	}
	for _, path := range []string{"/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg"} {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return false
}

// headroomOf says in the pool's words how much of a device is kept free: there, zero means the
// default.
func headroomOf(b bytesFlag) int64 {
	if b.set && b.Bytes == 0 {
		return -1
	}
	return int64(b.Bytes)
}

// hostMemoryOf is how much of the host's memory suspended models may take.
func hostMemoryOf(b bytesFlag) int64 {
	if b.set {
		return int64(b.Bytes)
	}
	return hostShare(machineMemory(), proxy.MemoryLimit(os.DirFS("/")))
}

// hostShare is a quarter of the machine's memory, or of what a container may have of it, zero
// for no limit: beyond that the kernel ends processes.
func hostShare(machine, limit int64) int64 {
	if limit > 0 {
		machine = min(machine, limit)
	}
	return machine / 4
}

// demand is what an instance of a model needs of the devices: what it says, else what its files
// let expect. Plain functions and programs use a GPU only if they say so.
func (h *house) demand(m actions.Model) invoker.Demand {
	r := m.Resources
	if r.NoGPU {
		return invoker.Demand{}
	}
	d := invoker.Demand{
		Devices: max(r.GPUs, 1), Memory: int64(r.GPUMemory), ComputeCapability: r.ComputeCapability, Guess: r.GPUMemory == 0,
	}
	if !d.Guess {
		return d
	}
	if r.GPUs == 0 && (isCode(m) || m.Runtime == actions.Executable) {
		return invoker.Demand{}
	}
	var files int64
	for _, path := range h.catalog.Paths(m) {
		if info, err := os.Stat(path); err == nil {
			files += info.Size()
		}
	}
	d.Memory = max(files*6/5+contextMemory, leastGuess)
	return d
}

// visible is the variable that shows a worker its devices. On a machine with GPUs a model that
// has none does not see any, else it would take memory that nobody knows of.
func (h *house) visible(devices []string) []string {
	if !h.placed {
		return nil
	}
	return []string{"CUDA_VISIBLE_DEVICES=" + strings.Join(devices, ",")}
}

// machineMemory is how many bytes of memory this machine has, zero if it does not say.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}
