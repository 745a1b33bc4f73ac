package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/deepfn/deepfn/runtime/gpu/gputest"
)

// driver plays the driver: it sees which processes of models there are, and says that they take
// the memory of their model.
func (s *soak) driver(stop chan struct{}) {
	known := map[int]soakWorker{}
	for {
		select {
		case <-stop:
			return
		case <-time.After(30 * time.Millisecond):
		}
		state := gputest.State{GPUs: []gputest.GPU{gputest.A100(0), gputest.A100(1)}}
		var workers []int
		living := s.node.descendants()
		maps.DeleteFunc(known, func(pid int, _ soakWorker) bool { return !slices.Contains(living, pid) }) // another may get its id
		for _, pid := range living {
			w, ok := known[pid]
			if !ok {
				if w = readWorker(pid); w.memory == 0 { // another process, or not yet what it will be
					continue
				}
				known[pid] = w
			}
			for i := range state.GPUs {
				if g := &state.GPUs[i]; w.memory > 0 && g.UUID == w.device && syscall.Kill(pid, 0) == nil {
					memory := w.memory
					if _, err := os.Stat(w.away); err == nil {
						memory = contextMemory
					}
					g.Used += memory
					g.Processes = append(g.Processes, gputest.Process{PID: pid, Memory: memory, Kind: gputest.Compute})
					workers = append(workers, pid)
				}
			}
		}
		s.mu.Lock()
		s.workers = workers
		for i := range state.GPUs {
			g := &state.GPUs[i]
			if g.Used > g.Total {
				s.t.Errorf("the models hold %d GiB of the %d of %s", g.Used/gib, g.Total/gib, g.UUID)
			}
			s.foreign[i] = min(s.foreign[i], g.Total-g.Used) // nobody has what is not there
			g.Used += s.foreign[i]
		}
		s.mu.Unlock()
		s.library.Set(state)
	}
}

// A soakWorker is a process of a model.
type soakWorker struct {
	device string
	memory int64  // while it is not suspended
	away   string // a file that is there while it is
}

// readWorker finds out which model a process has.
func readWorker(pid int) soakWorker {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)) // it may have gone
	var w soakWorker
	for kv := range strings.SplitSeq(string(data), "\x00") {
		name, value, _ := strings.Cut(kv, "=")
		switch name {
		case "CUDA_VISIBLE_DEVICES":
			w.device = value
		case "DEEPFN_MODEL_DIR":
			if i, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(value), "m")); err == nil {
				w.memory, w.away = soakMemory(i), filepath.Join(value, fmt.Sprintf("suspended-%d", pid))
			}
		}
	}
	return w
}
