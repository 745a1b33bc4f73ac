package worker

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// What was hidden is there still, for this process and for the other, and takes no
// memory of this one.
func TestCopyOut(t *testing.T) {
	m, err := newMemory(1, 40<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	want := make([]byte, 33<<20)
	_, _ = rand.Read(want)
	for _, size := range []int{0, 1, keepSize - 1, keepSize, keepSize + 1, window + 1, 2 * window, 33 << 20} {
		for _, at := range []int{0, 1, 64, 4095, 4096} {
			t.Run(fmt.Sprintf("%d at %d", size, at), func(t *testing.T) {
				lane := m.request(0)[at:][:size]
				copy(lane, want[:size])
				hide(lane)
				if got := copyOut([]byte("head"), lane); !bytes.Equal(got, append([]byte("head"), want[:size]...)) {
					t.Errorf("got %d other bytes", len(got))
				}
				if !bytes.Equal(lane, want[:size]) {
					t.Error("the memory has lost them")
				}
			})
		}
	}
}

func TestCopyOutTakesNoSecondCopy(t *testing.T) {
	const size = 64 << 20
	m, err := newMemory(1, size)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	lane := m.request(0)[:size]
	for i := range lane {
		lane[i] = 1
	}
	if before := sharedMemory(t); before < size {
		t.Fatalf("got %d bytes of shared memory, want the %d that were written", before, size)
	}
	hide(lane)
	if got := sharedMemory(t); got > size/8 {
		t.Errorf("got %d bytes of shared memory after hide", got)
	}
	buf := copyOut(make([]byte, 0, size), lane)
	if got := sharedMemory(t); got > size/8 || len(buf) != size {
		t.Errorf("got %d bytes of shared memory after %d were copied", got, len(buf))
	}
}

// sharedMemory returns how much shared memory this process has in its pages.
func sharedMemory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, line, ok := strings.Cut(string(status), "RssShmem:")
	kib, err := strconv.Atoi(strings.Fields(line)[0])
	if !ok || err != nil {
		t.Fatalf("RssShmem: %v", err)
	}
	return kib << 10
}
