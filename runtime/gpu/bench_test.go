package gpu

import (
	"testing"
	"time"

	"github.com/deepfn/deepfn/runtime/gpu/gputest"
)

// BenchmarkRead reads eight GPUs of the binding's mock: what is ours of a reading.
func BenchmarkRead(b *testing.B) {
	m := openWith(Config{}, func() (*driver, State, error) { return start(mockServer()) })
	defer func() { _ = m.Close() }()
	for b.Loop() {
		if devices, err := m.Read(b.Context()); err != nil || len(devices) != 8 {
			b.Fatal(len(devices), err)
		}
	}
}

// BenchmarkCheckpoint suspends and resumes through a library that does nothing.
func BenchmarkCheckpoint(b *testing.B) {
	c := OpenCheckpoint(CheckpointConfig{Library: gputest.CUDA(b).Path(), LockTime: time.Second})
	for b.Loop() {
		if err := c.Suspend(b.Context(), 7); err != nil {
			b.Fatal(err)
		}
		if err := c.Resume(b.Context(), 7); err != nil {
			b.Fatal(err)
		}
	}
}
