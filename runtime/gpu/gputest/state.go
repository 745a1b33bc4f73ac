package gputest

import (
	"cmp"
	"fmt"
	"math"
	"strings"
)

// A State is what a library answers. Units are NVML's own.
type State struct {
	// Driver is the driver's version, 570.86.15 by default; CUDA is 1000·major + 10·minor,
	// 12080 by default.
	Driver string
	CUDA   int
	GPUs   []GPU
	// Rules say which functions fail or wait.
	Rules []Rule
}

// A GPU is one device of a State.
type GPU struct {
	UUID, Name, PCI string
	// Total and Used are bytes.
	Total, Used int64
	// Major and Minor are the compute capability, Architecture NVML's number of it.
	Major, Minor, Architecture int
	// Utilization is in percent, Temperature in degrees Celsius, Power and Limit in
	// milliwatts, Clock in megahertz, ECC a count of uncorrected errors.
	Utilization, Temperature, Power, Limit, Clock, ECC int
	// Silent GPUs tell nothing but their UUID, name and memory.
	Silent bool
	// LostAfter is the number of the call about the GPU, from Set on, that finds it lost,
	// and all that follow do. Zero is never.
	LostAfter int
	// MIG divides the GPU into these instances; Instances says so also when there are none.
	MIG       bool
	Instances []Instance
	Processes []Process
}

// An Instance is a MIG instance of a GPU.
type Instance struct {
	UUID        string
	Total, Used int64
	// GI and CI are the ids of its GPU instance and its compute instance, and the slices
	// how many of the GPU's they have.
	GI, CI                   int
	GPUSlices, ComputeSlices int
	Processes                []Process
}

// A Process uses a device.
type Process struct {
	PID    int
	Memory int64
	// Kind is Compute by default.
	Kind Kind
}

// A Kind is how a process uses a device.
type Kind string

// The kinds of a Process, as nvidia-smi calls them; MPS is a client of the multi-process
// service.
const (
	Compute  Kind = "C"
	Graphics Kind = "G"
	MPS      Kind = "M"
)

// A Rule has a function fail, or wait.
type Rule struct {
	// Function is the symbol, "nvmlDeviceGetMemoryInfo"; "handle" is the handle of the GPU.
	Function string
	// Code is what it answers, and zero as it would; After is how many calls it answers as
	// it would before.
	Code, After int
	// GPU is the number of the only GPU that this is about, counted from one. Zero is all.
	GPU int
	// Wait is how many milliseconds each call takes first.
	Wait int
}

// An Event is what NVML reports of a GPU.
type Event struct {
	// GPU is its number, from zero.
	GPU int
	// Type is NVML's bit, and Data the number of the Xid for XidError.
	Type, Data uint64
	// Instance is one more than the id of the GPU instance (and the compute instance) that
	// the event is about. Zero is the whole GPU.
	Instance int
}

// The types of an Event.
const (
	SingleBitError uint64 = 1
	DoubleBitError uint64 = 2
	XidError       uint64 = 8
)

func (e Event) instance() uint32 {
	if e.Instance == 0 {
		return math.MaxUint32
	}
	return uint32(e.Instance - 1)
}

// A100 is a GPU of 80 GB without load whose UUID ends in the number.
func A100(n int) GPU {
	return GPU{
		UUID: fmt.Sprintf("GPU-00000000-0000-0000-0000-%012d", n), Name: "NVIDIA A100-SXM4-80GB",
		PCI: fmt.Sprintf("00000000:%02X:00.0", n+7), Total: 80 << 30, Used: 1 << 30, Major: 8, Architecture: 7,
		Temperature: 31, Power: 62_500, Limit: 400_000, Clock: 210,
	}
}

// text is the state as the library reads it.
func (s State) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "driver|%s\ncuda|%d\n", cmp.Or(s.Driver, "570.86.15"), cmp.Or(s.CUDA, 12080))
	for i, g := range s.GPUs {
		mig := g.MIG || len(g.Instances) > 0
		fmt.Fprintf(&b, "gpu|%s|%s|%s|%d|%d|%d|%d|%d|%d|%d|%d|%d|%d|%d|%d|%d|%d\n", g.UUID, g.Name, g.PCI, g.Total, g.Used, g.ECC,
			g.Major, g.Minor, g.Architecture, g.Utilization, g.Temperature, g.Power, g.Limit, g.Clock, bit(mig), bit(g.Silent), g.LostAfter)
		writeProcesses(&b, g.UUID, g.Processes)
		for _, m := range g.Instances {
			fmt.Fprintf(&b, "mig|%d|%s|%d|%d|%d|%d|%d|%d\n", i, m.UUID, m.Total, m.Used, m.GI, m.CI, m.GPUSlices, m.ComputeSlices)
			writeProcesses(&b, m.UUID, m.Processes)
		}
	}
	for _, r := range s.Rules {
		fmt.Fprintf(&b, "rule|%s|%d|%d|%d|%d\n", r.Function, r.Code, r.GPU-1, r.After, r.Wait)
	}
	return b.String()
}

func writeProcesses(b *strings.Builder, uuid string, processes []Process) {
	for _, p := range processes {
		fmt.Fprintf(b, "process|%s|%d|%d|%s\n", uuid, p.PID, p.Memory, cmp.Or(p.Kind, Compute))
	}
}

func bit(set bool) int {
	if set {
		return 1
	}
	return 0
}
