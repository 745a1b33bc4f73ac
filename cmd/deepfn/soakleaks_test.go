package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// A holding is what a process has.
type holding struct{ descriptors, mappings, anonymous int }

// look counts what the node has.
func (s *soak) look() holding {
	s.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", s.node.cmd.Process.Pid)
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		s.t.Fatal(err)
	}
	maps, err := os.ReadFile(proc + "maps")
	if err != nil {
		s.t.Fatal(err)
	}
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		s.t.Fatal(err)
	}
	h := holding{descriptors: len(fds), mappings: strings.Count(string(maps), "memfd:deepfn")}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			_, _ = fmt.Sscan(rest, &h.anonymous) // kB
		}
	}
	return h
}

// settled waits until the node has only what it had before the relays came, and what its idle
// workers have; then ends it, and with it all its processes.
func (s *soak) settled(before holding) {
	t := s.t
	t.Helper()
	var now holding
	var workers int
	defer func() {
		t.Logf("the node before the relays came: %+v; after they had gone: %+v with %d idle workers", before, now, workers)
	}()
	eventually(t, "all given back", func() bool {
		s.mu.Lock()
		workers = len(s.workers)
		s.mu.Unlock()
		now = s.look()
		// A worker has two mappings and ten descriptors at most; the server's own connections,
		// timers and logs a few.
		return now.mappings == 2*workers && now.descriptors <= before.descriptors+10*workers+10
	})
	if grown := now.anonymous - before.anonymous; grown > 150<<10 {
		t.Errorf("the node has %d KiB more memory than before", grown)
	}
	all := s.node.descendants()
	if code := s.node.stop(); code != 0 {
		t.Errorf("the node ended with %d: %s", code, s.node.stderr.String())
	}
	for _, pid := range all {
		eventually(t, fmt.Sprintf("process %d gone", pid), func() bool { return syscall.Kill(pid, 0) != nil })
	}
	if _, err := os.Stat(s.socket); err == nil {
		t.Error("the socket is there after the node has ended")
	}
}
