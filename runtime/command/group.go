package command

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	// patience bounds how long sweep waits for the end of processes that it has killed: one
	// in the middle of an operation of a device may take its time.
	patience = 2 * time.Second
	// pause is how long it waits between two looks.
	pause = time.Millisecond
)

// sweep kills the other processes of the group that this process leads, those that a
// program has started and not ended, and waits until they are gone. A process that leads
// no group is not the child of a worker, and sweeps nothing.
func sweep() {
	self := os.Getpid()
	if syscall.Getpgrp() != self {
		return
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(pause) {
		left := false
		for _, pid := range members(self) {
			if pid != self {
				left = true
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if !left {
			return
		}
	}
}

// members returns the living processes of a group.
func members(group int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err == nil && inGroup(stat, group) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// inGroup reads a line of /proc/PID/stat: "1 (name) S parent group …". The name may hold
// spaces and parentheses.
func inGroup(stat []byte, group int) bool {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 3 || string(fields[0]) == "Z" || string(fields[0]) == "X" {
		return false
	}
	pgrp, err := strconv.Atoi(string(fields[2]))
	return err == nil && pgrp == group
}
