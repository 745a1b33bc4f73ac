package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestRunMemory sends 32 MiB through /run, twice, and looks at the most memory that the
// server has had: for the body, which is on disk and in memory as far as it is read, and the
// answer. OpenWhisk's own proxy takes five times the payload.
func TestRunMemory(t *testing.T) {
	const payload = 32 << 20
	factor := 2.5
	if race { // which keeps the history of each byte
		factor = 25
	}
	p := servePython(t, lay(t, "echo.py", "def main(args):\n    return args\n"), "--payload-limit", "0")
	p.run(`{}`)
	idle := p.peakMemory()
	value := fmt.Sprintf(`{"d": %q}`, strings.Repeat("x", payload))
	for i := range 2 {
		if r := p.run(value); r.status != 200 || r.body != value {
			t.Fatalf("got %d, %d bytes: %.100s; want the %d that were sent", r.status, len(r.body), r.body, len(value))
		}
		took := float64(p.peakMemory()-idle) / payload
		t.Logf("after request %d: %.1f times the payload over idle", i+1, took)
		if took > factor {
			t.Errorf("request %d took %.1f times the payload over idle, want %.1f at most", i+1, took, factor)
		}
	}
}

// peakMemory returns the most bytes of memory that the server has had.
func (p *process) peakMemory() int {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	fields := strings.Fields(string(status))
	kib, err := strconv.Atoi(fields[slices.Index(fields, "VmHWM:")+1])
	if err != nil {
		p.t.Fatal(err)
	}
	return kib << 10
}
