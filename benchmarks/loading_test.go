package benchmarks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/deepfn/deepfn/runtime/gpu/gputest"
)

// BenchmarkWarmWhileLoading measures what a request for a warm model takes while nothing else
// happens, and while another model is evicted from the same (fake) GPU for a third, which takes ten
// seconds to load; the two in turn.
func BenchmarkWarmWhileLoading(b *testing.B) {
	base := serveModels(b)
	var quiet, loading []time.Duration
	for b.Loop() {
		ask(b, base, "old", true) // takes the place of the slow one
		quiet = append(quiet, warmTimes(b, base, 8*time.Second)...)
		var wg sync.WaitGroup
		began := time.Now()
		wg.Go(func() { ask(b, base, "slow", true) })
		loading = append(loading, warmTimes(b, base, 8*time.Second)...)
		wg.Wait()
		if took := time.Since(began); took < 10*time.Second {
			b.Fatalf("the other model was there after %v: it was not loaded meanwhile", took)
		}
	}
	for name, times := range map[string][]time.Duration{"quiet": quiet, "loading": loading} {
		b.ReportMetric(ms(percentile(times, 0.5)), name+"-p50-ms")
		b.ReportMetric(ms(percentile(times, 0.99)), name+"-p99-ms")
	}
	b.ReportMetric(float64(percentile(loading, 0.99))/float64(percentile(quiet, 0.99)), "p99-ratio")
}

// percentile returns the time that the part of them does not exceed.
func percentile(times []time.Duration, part float64) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

// warmTimes asks the warm model again and again for some time.
func warmTimes(b *testing.B, base string, d time.Duration) []time.Duration {
	b.Helper()
	var times []time.Duration
	for began := time.Now(); time.Since(began) < d; {
		at := time.Now()
		ask(b, base, "warm", false)
		times = append(times, time.Since(at))
	}
	return times
}

// ask sends one request to a model, which has to be loaded for it or to be there.
func ask(b *testing.B, base, model string, load bool) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, base+"/v2/models/"+model+"/predict/", strings.NewReader("{}"))
	if err != nil {
		b.Error(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Error(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if from := resp.Header.Get("Deepfn-Start"); err != nil || resp.StatusCode != http.StatusOK || (from != "warm") != load {
		b.Errorf("%s: %d from %s: %s, %v", model, resp.StatusCode, from, text, err)
	}
}

// serveModels starts a server with one fake GPU of 80 GB and three models, of which two do not
// fit together, with the third warm.
func serveModels(b *testing.B) string {
	b.Helper()
	program, err := filepath.Abs("../bin/deepfn")
	if err != nil {
		b.Fatal(err)
	}
	nvml := gputest.NVML(b, gputest.Full)
	nvml.Set(gputest.State{GPUs: []gputest.GPU{gputest.A100(0)}})
	catalog := b.TempDir()
	for model, m := range map[string]struct {
		memory int
		code   string
	}{
		"warm": {20, ""},
		"old":  {50, ""},
		"slow": {50, "import time\ntime.sleep(10)\n"},
	} {
		dir := filepath.Join(catalog, model)
		action := fmt.Sprintf("runtime: python\npython: {path: model.py, interpreter: python3}\nresources: {gpu_memory: %d GiB}\n", m.memory)
		code := m.code + "\ndef predict():\n    return {\"ok\": True}\n"
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		for name, text := range map[string]string{"action.yaml": action, "model.py": code} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	address := freeAddress(b)
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), program, "serve", "--listen", address, "--catalog", catalog,
		"--data", b.TempDir(), "--gpu-residency", "0", "--host-memory", "0")
	cmd.Env = append(os.Environ(), "DEEPFN_NVML="+nvml.Path(), "DEEPFN_OFFLINE=1")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if b.Failed() {
			b.Log(output.String())
		}
	})
	base := "http://" + address
	waitFor(b, func() bool {
		text, err := get(b.Context(), base+"/healthz")
		return err == nil && json.Valid([]byte(text))
	})
	ask(b, base, "warm", true)
	return base
}
