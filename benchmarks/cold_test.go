package benchmarks

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	ort "github.com/yalue/onnxruntime_go"
)

// BenchmarkColdStart is the time from the start of `deepfn serve ocr-line` to its first
// answer, beside the time that ONNX Runtime alone takes for a session of the same model
// with its default optimisation, interleaved in one run.
func BenchmarkColdStart(b *testing.B) {
	program, body := coldSetup(b)
	model := filepath.Join(os.Getenv("DEEPFN_TEST_MODELS"), "ch_PP-OCRv4_rec_infer.onnx")
	loadSession := bareSession(b, model)
	coldStart(b, program, body) // writes the optimised model, as a first start does
	var cold, bare []time.Duration
	for b.Loop() {
		bare = append(bare, loadSession())
		cold = append(cold, coldStart(b, program, body))
	}
	b.ReportMetric(ms(median(cold)), "cold-ms")
	b.ReportMetric(ms(median(bare)), "bare-session-ms")
	b.ReportMetric(ms(median(cold)-median(bare)), "over-bare-ms")
}

// coldStart serves, waits for the first answer and returns how long that took.
func coldStart(b *testing.B, program string, body []byte) time.Duration {
	b.Helper()
	address := freeAddress(b)
	began := time.Now()
	cmd, stderr := serveCommand(b, program, address)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	for {
		resp, err := post(b.Context(), "http://"+address+"/run", body)
		took := time.Since(began)
		switch {
		case err == nil && strings.Contains(resp, `"text"`):
			return took
		case err == nil:
			b.Fatalf("got %s", resp)
		case took > time.Minute:
			b.Fatalf("no answer in a minute: %v: %s", err, stderr.String())
		}
		time.Sleep(time.Millisecond) // until it listens
	}
}

// serveCommand is the command that serves ocr-line, and what it will print to stderr.
func serveCommand(b *testing.B, program, address string) (*exec.Cmd, *bytes.Buffer) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), program, "serve", "ocr-line", "--listen", address, "--offline")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr
}

func post(ctx context.Context, url string, body []byte) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return string(answer), err
}

func freeAddress(b *testing.B) string {
	b.Helper()
	var cfg net.ListenConfig
	ln, err := cfg.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

// bareSession returns a function that makes and destroys a session of the model, and
// returns how long making it took. The library and its environment are loaded before.
func bareSession(b *testing.B, model string) func() time.Duration {
	b.Helper()
	ort.SetSharedLibraryPath(os.Getenv("DEEPFN_TEST_ONNXRUNTIME"))
	if err := ort.InitializeEnvironment(); err != nil {
		b.Fatalf("%v; run it with 'make bench'", err)
	}
	b.Cleanup(func() { _ = ort.DestroyEnvironment() })
	inputs, outputs, err := ort.GetInputOutputInfo(model)
	if err != nil {
		b.Fatal(err)
	}
	return func() time.Duration {
		options, err := ort.NewSessionOptions()
		if err == nil {
			err = options.SetIntraOpNumThreads(1)
		}
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		session, err := ort.NewDynamicAdvancedSession(model, []string{inputs[0].Name}, []string{outputs[0].Name}, options)
		took := time.Since(began)
		if err != nil {
			b.Fatal(err)
		}
		_ = session.Destroy()
		_ = options.Destroy()
		return took
	}
}

func median(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
