package gpu

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// A mark is what an event made bad: a GPU, or one of its MIG instances.
type mark struct {
	gpu    string
	gi, ci uint32 // whole for all of the GPU
}

// covers says whether a unit is, or is a part of, what is marked.
func (k mark) covers(u unit) bool {
	if u.UUID == k.gpu {
		return k.gi == whole
	}
	return u.Parent == k.gpu && (k.gi == whole || k.gi == u.gi && (k.ci == whole || k.ci == u.ci))
}

// bad remembers that an event has made something bad, and says so.
func (m *Monitor) bad(k mark, reason string) {
	m.mu.Lock()
	_, known := m.marks[k]
	if !known {
		m.marks[k] = reason
	}
	m.mu.Unlock()
	if !known {
		m.cfg.Log.Error("device is bad", "device", k.gpu, "reason", reason)
		m.tell()
	}
}

// settle applies to units what events have said, and how they are shared. A GPU that was away
// and is back was reset, which is what the events asked for.
func (m *Monitor) settle(units []unit) {
	mps := m.hasMPS()
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.marks {
		if gpu := find(units, k.gpu); gpu != nil && gpu.Health == actions.Lost {
			delete(m.marks, k)
		}
	}
	for i := range units {
		u := &units[i]
		for k, reason := range m.marks {
			if u.Health == actions.Healthy && k.covers(*u) {
				u.Health, u.Reason = actions.Unhealthy, reason
			}
		}
		u.MPS = u.MPS || mps && !u.MIG
		u.TimeSliced = m.cfg.TimeSliced
	}
}

// hasMPS says whether the control daemon of NVIDIA's multi-process service is there: it makes a
// pipe of this name.
func (m *Monitor) hasMPS() bool {
	dir := m.cfg.MPSPipe
	if dir == "" {
		dir = "/tmp/nvidia-mps"
	}
	info, err := os.Stat(filepath.Join(dir, "control"))
	return err == nil && info.Mode().Type()&(os.ModeNamedPipe|os.ModeSocket) != 0
}

// TimeSliced says whether the environment tells of Kubernetes' time slicing: NVIDIA's device
// plugin then hands one GPU to several pods. It calls the shares GPU-…::1, GPU-…::2, and
// takes the number off again before it sets NVIDIA_VISIBLE_DEVICES; runtimes that pass its
// words on do not. NVIDIA's GPU feature discovery says it in labels of the node
// (nvidia.com/gpu.sharing-strategy is time-slicing, nvidia.com/gpu.product ends in -SHARED),
// which a manifest can hand on as DEEPFN_GPU_SHARING.
func TimeSliced(getenv func(string) string) bool {
	sharing := getenv("DEEPFN_GPU_SHARING")
	return strings.Contains(getenv("NVIDIA_VISIBLE_DEVICES"), "::") ||
		strings.EqualFold(sharing, "time-slicing") || strings.HasSuffix(sharing, "-SHARED")
}

// causedByApplication says whether an Xid tells of a program's fault, or of the cleaning up
// after one, so that the GPU is as good as before. These are the ones that NVIDIA's own
// Kubernetes device plugin ignores (internal/rm/health.go), of those for which
// https://docs.nvidia.com/deploy/xid-errors/ has the program restarted.
func causedByApplication(xid uint64) bool {
	return slices.Contains([]uint64{
		13,  // an exception of the graphics engine: a kernel's bad access or instruction
		31,  // a page fault: a bad address
		43,  // a program's channel was reset
		45,  // channels are torn down after an earlier error
		68,  // an exception of the video decoder
		109, // a context did not yield in time
	}, xid)
}

// xidText names an Xid in the words of people. The numbers are NVIDIA's, see
// https://docs.nvidia.com/deploy/xid-errors/.
func xidText(xid uint64) string {
	texts := map[uint64]string{
		48:  "uncorrectable memory error (double-bit ECC)",
		61:  "the GPU's microcontroller has stopped",
		62:  "the GPU's microcontroller has halted",
		63:  "a row of memory will be remapped, or a page retired; it takes a reset",
		64:  "a row of memory cannot be remapped, or a page cannot be retired",
		74:  "NVLink error",
		79:  "the GPU has fallen off the bus",
		92:  "many corrected memory errors",
		94:  "uncorrectable memory error, contained",
		95:  "uncorrectable memory error, not contained",
		119: "the GPU's system processor does not answer",
		120: "error of the GPU's system processor",
		140: "uncorrectable memory error, not recovered",
	}
	text := texts[xid]
	if text == "" {
		text = "see NVIDIA's catalogue of Xid errors"
	}
	return fmt.Sprintf("Xid %d: %s", xid, text)
}
