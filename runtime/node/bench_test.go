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

	"golang.org/x/sys/unix"

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

// BenchmarkPingPong is a frame to another process and back, over what a frame could go over.
func BenchmarkPingPong(b *testing.B) {
	b.Run("stream", func(b *testing.B) { pingPong(b, socketPair(b, unix.SOCK_STREAM)) })
	b.Run("seqpacket", func(b *testing.B) { pingPong(b, socketPair(b, unix.SOCK_SEQPACKET)) })
	b.Run("pipes", func(b *testing.B) {
		theirs, ours, err := os.Pipe()
		if err != nil {
			b.Fatal(err)
		}
		in, out, err := os.Pipe()
		if err != nil {
			b.Fatal(err)
		}
		pingPong(b, [4]*os.File{in, ours, theirs, out})
	})
}

// socketPair returns the two ends of a socket, each twice: to read and to write.
func socketPair(b *testing.B, kind int) [4]*os.File {
	b.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		b.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	return [4]*os.File{ours, ours, theirs, theirs}
}

// pingPong starts the other process, which has the last two files.
func pingPong(b *testing.B, files [4]*os.File) {
	b.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), "/proc/self/exe")
	cmd.Env = append(os.Environ(), modeVariable+"="+modeEcho)
	cmd.ExtraFiles = files[2:]
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	_, _ = files[2].Close(), files[3].Close()
	defer func() {
		_, _ = files[0].Close(), files[1].Close()
		_ = cmd.Wait()
	}()
	var frame [frameSize]byte
	times := make([]time.Duration, 0, b.N)
	for b.Loop() {
		began := time.Now()
		if _, err := files[1].Write(frame[:]); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(files[0], frame[:]); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1e3, "p50-µs")
}
