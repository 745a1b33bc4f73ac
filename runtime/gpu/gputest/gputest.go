package gputest

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A Variant is a kind of library.
type Variant int

// The variants of NVML. The zero value has every function.
const (
	// Full has every function that deepfn knows.
	Full Variant = iota
	// Old has those of a library of many years ago: in their first version, and no MIG.
	Old
	// Broken answers every call with an unknown error.
	Broken
	// Mismatch is not of the version of the driver.
	Mismatch
	// Empty is a library without one function of NVML.
	Empty
)

//go:embed testdata/nvml.c
var nvmlSource string

//go:embed testdata/cuda.c
var cudaSource string

// A Library is a compiled library, and what it answers. Many may use it.
type Library struct {
	tb   testing.TB
	path string

	mu     sync.Mutex // guards what follows, and the file
	state  State
	serial int
	events []Event
}

// NVML compiles a libnvidia-ml.so.1 that lacks some functions, by their symbols. Until Set it
// has no GPU.
func NVML(tb testing.TB, variant Variant, without ...string) *Library {
	tb.Helper()
	var flags []string
	switch variant {
	case Full:
	case Old:
		without = append(without, notOld()...)
	case Broken:
		flags = append(flags, "-DBROKEN")
	case Mismatch:
		flags = append(flags, "-DMISMATCH")
	case Empty:
		without = append(without, "nvml*")
	}
	return compile(tb, "libnvidia-ml.so.1", nvmlSource, without, flags)
}

// CUDA compiles a libcuda.so.1 that lacks some functions.
func CUDA(tb testing.TB, without ...string) *Library {
	tb.Helper()
	return compile(tb, "libcuda.so.1", cudaSource, without, nil)
}

// notOld are the functions that Old lacks.
func notOld() []string {
	return []string{
		"nvml*_v2", "nvml*_v3", "nvmlSystemGetCudaDriverVersion", "nvmlDeviceGetArchitecture",
		"nvmlDeviceGetCudaComputeCapability", "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetTotalEccErrors",
		"nvmlDeviceGet*Mig*", "nvmlDeviceGet*InstanceId", "nvmlDeviceGetMPSComputeRunningProcesses",
	}
}

func compile(tb testing.TB, name, source string, without, flags []string) *Library {
	tb.Helper()
	dir := tb.TempDir()
	l := &Library{tb: tb, path: filepath.Join(dir, name)}
	files := map[string]string{"fake.c": source, "hide": ""}
	args := []string{"-shared", "-fPIC", "-O1", "-o", l.path, "-Wl,-soname," + name, "-Wl,-Bsymbolic"}
	if len(without) > 0 {
		files["hide"] = "{ global: *; local: " + strings.Join(without, "; ") + "; };\n"
		args = append(args, "-Wl,--version-script="+filepath.Join(dir, "hide"))
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			tb.Fatalf("gputest: %v", err)
		}
	}
	args = slices.Concat(args, flags, []string{filepath.Join(dir, "fake.c"), "-ldl", "-lpthread"})
	if out, err := exec.CommandContext(tb.Context(), "cc", args...).CombinedOutput(); err != nil {
		tb.Fatalf("gputest: the C compiler cc, which the tests need: %v\n%s", err, out)
	}
	l.Set(State{})
	return l
}

// Path is the absolute path of the library.
func (l *Library) Path() string { return l.path }

// Set has the library answer another state from the next call on, and its counts of calls
// begin again. What was raised by Raise stays.
func (l *Library) Set(s State) {
	l.tb.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	l.serial++
	l.writeLocked()
}

// State is what was set.
func (l *Library) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Raise has NVML report an event, once to each process that waits for events.
func (l *Library) Raise(e Event) {
	l.tb.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	l.writeLocked()
}

// Calls are the calls that a library made by CUDA has had, in their order: "lock 7 500".
func (l *Library) Calls() []string {
	l.tb.Helper()
	data, err := os.ReadFile(l.path + ".calls")
	if err != nil && !os.IsNotExist(err) {
		l.tb.Errorf("gputest: %v", err)
	}
	return strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' })
}

func (l *Library) writeLocked() {
	l.tb.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "serial|%d\n%s", l.serial, l.state.text())
	for i, e := range l.events {
		fmt.Fprintf(&text, "event|%d|%d|%d|%d|%d|%d\n", i+1, e.GPU, e.Type, e.Data, e.instance(), e.instance())
	}
	part := l.path + ".part" // a library must not read half of it
	err := os.WriteFile(part, []byte(text.String()), 0o600)
	if err == nil {
		err = os.Rename(part, l.path+".state")
	}
	if err != nil {
		l.tb.Errorf("gputest: %v", err)
	}
}
