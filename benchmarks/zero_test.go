package benchmarks

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// zeroModule is the Python module of BenchmarkScaleFromZero. What it imports is what most
// modules import at least.
const zeroModule = "import numpy\n\ndef main(args):\n    return {\"text\": str(numpy.arange(int(args[\"n\"])).sum())}\n"

// BenchmarkScaleFromZero is the time from the exec of a function's process to its first
// answer, in turns: of a relay, whose model is warm on the node, and of deepfn serve, which
// has the model in it. Both are killed after that.
func BenchmarkScaleFromZero(b *testing.B) {
	program, picture := coldSetup(b)
	relay := filepath.Join(b.TempDir(), "deepfn-relay")
	build := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", relay, "../cmd/deepfn-relay")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v: %s", err, out)
	}
	module := filepath.Join(b.TempDir(), "sum.py")
	if err := os.WriteFile(module, []byte(zeroModule), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, test := range []struct {
		name, model, path string
		body              []byte
	}{
		{"ocr-line", "ocr-line", "ocr-line", picture},
		{"python", "sum", module, []byte(`{"value":{"n":4}}`)},
	} {
		b.Run(test.name, func(b *testing.B) {
			socket := filepath.Join(b.TempDir(), "n")
			python := []string{"--offline", "--python", os.Getenv("DEEPFN_TEST_PYTHON_CURRENT")}
			node := startCommand(b, append([]string{program, "node", test.path, "--socket", socket}, python...)...)
			defer node()
			b.Setenv("DEEPFN_NODE", "unix://"+socket)
			withRelay := func() time.Duration {
				address := freeAddress(b)
				return firstAnswer(b, address, test.body, relay, test.model, "--listen", address)
			}
			inside := func() time.Duration {
				address := freeAddress(b)
				return firstAnswer(b, address, test.body, append([]string{program, "serve", test.path, "--listen", address, "--node", ""}, python...)...)
			}
			withRelay() // the node has loaded it now
			inside()    // and the files are in the page cache
			var relays, insides []time.Duration
			for b.Loop() {
				relays = append(relays, withRelay())
				insides = append(insides, inside())
			}
			b.ReportMetric(ms(median(relays)), "relay-ms")
			b.ReportMetric(ms(median(insides)), "inside-ms")
		})
	}
}

// startCommand starts a program, and returns what kills it.
func startCommand(b *testing.B, argv ...string) (kill func()) {
	b.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if b.Failed() {
			b.Logf("%s: %s", argv[0], stderr.String())
		}
	}
}

// firstAnswer starts a program, waits for its first answer to /run, kills it, and returns
// how long the answer took since the start.
func firstAnswer(b *testing.B, address string, body []byte, argv ...string) time.Duration {
	b.Helper()
	began := time.Now()
	defer startCommand(b, argv...)()
	for {
		resp, err := post(b.Context(), "http://"+address+"/run", body)
		took := time.Since(began)
		switch {
		case err == nil && strings.Contains(resp, `"text"`):
			return took
		case err == nil:
			b.Fatalf("got %s", resp)
		case took > time.Minute:
			b.Fatalf("no answer in a minute: %v", err)
		}
		time.Sleep(time.Millisecond) // until it listens
	}
}
