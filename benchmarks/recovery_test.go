package benchmarks

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkRecovery kills the worker of ocr-line with SIGKILL while four clients send
// requests, and measures the time from there to the first good answer to a request that
// was sent after the kill. It counts the requests that failed.
func BenchmarkRecovery(b *testing.B) {
	srv := startServer(b)
	ctx, stop := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	var killed, lastGood, failed atomic.Int64 // times in ns since start; a count
	began := time.Now()
	killed.Store(-1)
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				sent := int64(time.Since(began))
				answer, err := post(ctx, srv.url, srv.body)
				switch {
				case ctx.Err() != nil:
				case err != nil || !strings.Contains(answer, `"text"`):
					failed.Add(1)
				case sent > killed.Load():
					lastGood.Store(int64(time.Since(began)))
				}
			}
		})
	}
	var times []time.Duration
	for b.Loop() {
		waitFor(b, func() bool { return lastGood.Load() > max(killed.Load(), 0) })
		pid := srv.worker(b)
		at := int64(time.Since(began))
		killed.Store(at)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		waitFor(b, func() bool { return lastGood.Load() > at })
		times = append(times, time.Duration(lastGood.Load()-at))
	}
	b.ReportMetric(ms(median(times)), "p50-ms")
	b.ReportMetric(ms(maximum(times)), "max-ms")
	b.ReportMetric(float64(failed.Load())/float64(len(times)), "failed/kill")
}

// A benchServer is a deepfn that serves ocr-line.
type benchServer struct {
	pid  int
	url  string
	body []byte
}

func startServer(b *testing.B) benchServer {
	b.Helper()
	program, body := coldSetup(b)
	address := freeAddress(b)
	cmd, _ := serveCommand(b, program, address)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	s := benchServer{pid: cmd.Process.Pid, url: "http://" + address + "/run", body: body}
	waitFor(b, func() bool {
		answer, err := post(b.Context(), s.url, s.body)
		return err == nil && strings.Contains(answer, `"text"`)
	})
	return s
}

// worker returns the process id of the server's worker.
func (s benchServer) worker(b *testing.B) int {
	b.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range tasks {
		data, _ := os.ReadFile(path) // a thread may have gone
		if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			return pid
		}
	}
	b.Fatal("the server has no worker")
	return 0
}

// coldSetup returns the program to measure and the body of a /run for it.
func coldSetup(b *testing.B) (program string, body []byte) {
	b.Helper()
	program, err := filepath.Abs("../bin/deepfn")
	if err != nil {
		b.Fatal(err)
	}
	picture, err := os.ReadFile("../examples/ocr-line/line.png")
	if err != nil {
		b.Fatal(err)
	}
	return program, fmt.Appendf(nil, `{"value":{"image":%q}}`, base64.StdEncoding.EncodeToString(picture))
}

// waitFor polls until the condition holds.
func waitFor(b *testing.B, condition func() bool) {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatal("it does not come about in a minute")
		}
	}
}

func maximum(times []time.Duration) (m time.Duration) {
	for _, d := range times {
		m = max(m, d)
	}
	return m
}
