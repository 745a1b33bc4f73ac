package node

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// benchNode makes the test binary a node whose pool is an echo; the value is its socket.
const benchNode = "DEEPFN_TEST_NODE"

// benchMain serves the node of a benchmark until its standard input ends.
func benchMain() {
	socket := os.Getenv(benchNode)
	if socket == "" {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() { // ends the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	ln, err := Listen(ctx, socket, 0o600)
	if err != nil {
		panic(err)
	}
	pool := &fakePool{}
	fmt.Println("ready")
	_ = New(Config{Pool: pool, Catalog: fakeCatalog{}, Forget: func(string) {}}).Serve(ctx, ln)
	os.Exit(0)
}

// BenchmarkInvoke is one caller's request to a node in another process, whose pool answers
// at once with the file.
func BenchmarkInvoke(b *testing.B) {
	socket := filepath.Join(b.TempDir(), "n")
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), "/proc/self/exe")
	cmd.Env = append(os.Environ(), benchNode+"="+socket)
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 10)); err != nil {
		b.Fatal(err)
	}
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
