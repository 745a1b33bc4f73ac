package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// listensOn says whether a process, or one that descends from it, listens on a port, as
// Linux tells. Where that cannot be told it is true.
//
// The port of the contract is everybody's: without the question, a container that starts
// slowly would be taken for another program that starts there meanwhile.
func listensOn(pid int, port string) bool {
	sockets := listeners(port)
	if sockets == nil {
		return true
	}
	for _, p := range append(descendants(pid), pid) {
		open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p)) // the pattern is right
		for _, fd := range open {
			if link, err := os.Readlink(fd); err == nil && sockets[link] {
				return true
			}
		}
	}
	return false
}

// listeners returns the sockets that listen on a port, as they are named among the open
// files of processes; nil when they cannot be read.
func listeners(port string) map[string]bool {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil
	}
	var sockets map[string]bool
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table) // #nosec G304 -- one of the two above
		if err != nil {
			continue
		}
		if sockets == nil {
			sockets = make(map[string]bool)
		}
		for line := range strings.Lines(string(text)) {
			// The number of the line, the address, the other side's, the state, …, the inode.
			const listening, inode = "0A", 9
			fields := strings.Fields(line)
			if len(fields) > inode && fields[3] == listening && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", n)) {
				sockets["socket:["+fields[inode]+"]"] = true
			}
		}
	}
	return sockets
}
