package actionloop_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
)

// A large request is neither decoded nor copied more often than it must be: the memory
// that it takes at its peak is a small multiple of it, with what parent and child share.
func TestMemory(t *testing.T) {
	const size = 32 << 20
	cfg := config(t, model(startPlain))
	cfg.Setup = []byte(strings.Replace(string(cfg.Setup), "4194304", "67108864", 1))
	cfg.MaxPayload = 2 * size
	w := start(t, cfg)
	before := peak(t, w)
	args := append(append([]byte(`{"x":"`), make([]byte, 0, size)...), strings.Repeat("x", size-8)...)
	resp, err := w.Call(t.Context(), actions.Request{Args: append(args, `"}`...)})
	if err != nil || len(resp.Data) < size {
		t.Fatalf("got %d bytes, %v", len(resp.Data), err)
	}
	most := 5.0 // shared twice, in chunks, and joined
	if race {
		most *= 3 // the detector's own
	}
	got := float64(peak(t, w)-before) / size
	t.Logf("the peak is %.1f times the request", got)
	if got > most {
		t.Errorf("the peak is %.1f times the request, want at most %v", got, most)
	}
}

// peak returns the most memory that the worker's process has had, in bytes.
func peak(tb testing.TB, w *worker.Worker) int {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.PID()))
	if err != nil {
		tb.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "VmHWM:")
	var kib int
	if _, err := fmt.Sscan(after, &kib); err != nil {
		tb.Fatal(err)
	}
	return kib << 10
}
