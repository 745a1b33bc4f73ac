package node

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// BenchmarkInvoke is one caller's request to a node in another process, whose pool answers
// at once with the file.
func BenchmarkInvoke(b *testing.B) {
	socket := filepath.Join(b.TempDir(), "n")
	startProcess(b, modeNode, socket)
	r := NewRelay(RelayConfig{Path: socket})
	b.Cleanup(func() { _ = r.Close() })
	for _, size := range []int{100, 10 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			req := actions.Request{Model: "echo", Files: []actions.File{{Name: "f", Data: make([]byte, size)}}, Buffer: make([]byte, 0, size)}
			times := make([]time.Duration, 0, b.N)
			b.ReportAllocs()
			for b.Loop() {
				began := time.Now()
				if resp, err := r.Invoke(b.Context(), req); err != nil || len(resp.Data) != size {
					b.Fatalf("got %d bytes, %v", len(resp.Data), err)
				}
				times = append(times, time.Since(began))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1e3, "p50-µs")
		})
	}
}
