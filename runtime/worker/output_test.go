package worker_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/workertest"
)

// taken are the lines that an Output got.
type taken struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (l *taken) take(line actions.LogLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf("%d %s", line.Stream, line.Text))
}

func (l *taken) get() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

func TestOutputEndsLines(t *testing.T) {
	tests := []struct {
		name, print string
		want        []string
	}{
		{"newlines", "a\n\nb", []string{"1 a", "1 ", "1 b"}},
		{"carriage returns", "\r 0%\r50%\r100%", []string{"1  0%", "1 50%", "1 100%"}},
		{"both", "a\r\nb\r\n\r\nc", []string{"1 a", "1 b", "1 c"}},
		{"the other way", "a\n\rb", []string{"1 a", "1 b"}},
		{"nothing else", "\r\r\r", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got taken
			cfg := config()
			cfg.Output = got.take
			w := start(t, cfg)
			if resp := call(t, w, workertest.Args{Print: tt.print}); len(resp.Logs) > 0 {
				t.Errorf("the call got %v too", resp.Logs)
			}
			if diff := cmp.Diff(tt.want, got.get()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Lines come while the call that prints them goes on.
func TestOutputComesDuringACall(t *testing.T) {
	var got taken
	cfg := config()
	cfg.Output = got.take
	w := start(t, cfg)
	until := t.TempDir() + "/until"
	done := make(chan error, 1)
	go func() {
		_, err := w.Call(t.Context(), actions.Request{Args: workertest.Args{Stdout: 2, Until: until}.JSON()})
		done <- err
	}()
	eventually(t, "the lines come", func() bool { return len(got.get()) == 2 })
	touch(t, until)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// It does not matter how many calls there are at a time.
func TestOutputOfConcurrentCalls(t *testing.T) {
	var got taken
	cfg := config()
	cfg.Output, cfg.Concurrency = got.take, 4
	w := start(t, cfg)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { call(t, w, workertest.Args{Stdout: 100, Stderr: 100}) })
	}
	wg.Wait()
	eventually(t, "the lines come", func() bool { return len(got.get()) == 800 })
}

// An Output that does not return holds up neither the child nor Close, and learns how
// much it has missed.
func TestOutputThatDoesNotReturn(t *testing.T) {
	release := make(chan struct{})
	first := true
	var got taken
	cfg := config()
	cfg.Output = func(line actions.LogLine) {
		if first {
			first = false
			<-release
		}
		got.take(line)
	}
	w := start(t, cfg)
	for range 3 {
		call(t, w, workertest.Args{LineBytes: 9 << 20})
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	close(release)
	var lines []string
	eventually(t, "the lines come", func() bool {
		lines = got.get()
		return len(lines) > 0 && strings.Contains(lines[len(lines)-1], "lines were dropped here")
	})
	size := 0
	for _, line := range lines {
		size += len(line)
	}
	// 10 MiB that waited, and what the Output had been handed when it stopped.
	if size > 21<<20 || size < 9<<20 {
		t.Errorf("got %d bytes", size)
	}
}

// What a child prints as its last words has come when the worker is done.
func TestOutputOfADeath(t *testing.T) {
	var got taken
	cfg := config(workertest.HelloExit)
	cfg.Output = got.take
	if _, err := worker.Start(t.Context(), cfg); err == nil {
		t.Fatal("it starts")
	}
	if lines := got.get(); len(lines) != 30 || lines[29] != "2 reason 29" {
		t.Errorf("got %d lines: %q", len(lines), lines)
	}
}
