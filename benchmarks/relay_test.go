package benchmarks

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/node"
)

const (
	// frontProcess says what the test binary is to be when it starts itself again, and
	// frontSocket is the socket of the node, or the model of a receiver.
	frontProcess = "DEEPFN_BENCH_FRONT"
	frontSocket  = "DEEPFN_BENCH_SOCKET"

	modeNode   = "node"   // a pool behind a socket
	modeRelay  = "relay"  // a front whose pool is the node's
	modeInside = "inside" // a front with a pool
)

// serveProcess is a process of BenchmarkRelay or BenchmarkEvents. It prints a line when it is ready, and ends
// with its standard input.
func serveProcess(mode, socket string) {
	_ = os.Unsetenv(frontProcess) // its own children are something else
	ctx, stop := context.WithCancel(context.Background())
	go func() { // ends the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	var err error
	switch mode {
	case modeNode:
		err = serveNode(ctx, socket)
	case modeEvents, modeReceiver:
		err = serveReceiver(ctx, mode, socket)
	default:
		err = serveFront(ctx, mode, socket)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, mode, err)
		os.Exit(1)
	}
}

func serveNode(ctx context.Context, socket string) error {
	pool := echoPool()
	defer func() { _ = pool.Close(context.Background()) }()
	ln, err := node.Listen(ctx, socket, 0o600)
	if err != nil {
		return err
	}
	n := node.New(node.Config{Pool: pool, Catalog: echo{}, Forget: pool.Forget})
	fmt.Println("ready")
	return n.Serve(ctx, ln)
}

func serveFront(ctx context.Context, mode, socket string) error {
	cfg := proxy.Config{Model: "echo", Catalog: echo{}}
	if mode == modeRelay {
		relay := node.NewRelay(node.RelayConfig{Path: socket})
		defer func() { _ = relay.Close() }()
		cfg.Invoker, cfg.Catalog = relay, relay
	} else {
		pool := echoPool()
		defer func() { _ = pool.Close(context.Background()) }()
		cfg.Invoker = pool
	}
	var listen net.ListenConfig
	ln, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	return proxy.New(cfg).Serve(ctx, ln)
}

// startProcess starts the test binary as a process of the mode, which ends with the
// benchmark, and returns the line that it prints, and its id.
func startProcess(b *testing.B, mode, socket string) (line string, pid int) {
	b.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), "/proc/self/exe")
	cmd.Env = append(os.Environ(), frontProcess+"="+mode, frontSocket+"="+socket)
	cmd.Stderr = os.Stderr
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
	text := make([]byte, 100)
	n, err := out.Read(text)
	if err != nil {
		b.Fatal(mode, err)
	}
	return strings.TrimSpace(string(text[:n])), cmd.Process.Pid
}

// BenchmarkRelay is one client's POST /run to two fronts, each in a process of its own, in
// turns: one has a pool, the other is the relay of a node, which is a third process. Both
// pools have a child that sends the file back.
func BenchmarkRelay(b *testing.B) {
	for _, size := range []int{100, 10 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			socket := filepath.Join(b.TempDir(), "n")
			startProcess(b, modeNode, socket)
			var urls []string
			for _, mode := range []string{modeInside, modeRelay} {
				address, _ := startProcess(b, mode, socket)
				urls = append(urls, "http://"+address+"/run")
			}
			body := fmt.Appendf(nil, `{"value":{"data":%q}}`, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, size)))
			want := len(base64.StdEncoding.EncodeToString(make([]byte, size)))
			times := make([][]time.Duration, len(urls))
			for i, url := range urls {
				runOnce(b, url, body, want) // the cold start
				times[i] = nil
			}
			for n := 0; b.Loop(); n++ {
				for i := range urls {
					i = (i + n) % len(urls)
					times[i] = append(times[i], runOnce(b, urls[i], body, want))
				}
			}
			inside, relay := median(times[0]), median(times[1])
			b.ReportMetric(float64(inside.Nanoseconds())/1e3, "inside-p50-µs")
			b.ReportMetric(float64(relay.Nanoseconds())/1e3, "relay-p50-µs")
			b.ReportMetric(float64((relay-inside).Nanoseconds())/1e3, "more-µs")
			b.ReportMetric(100*(float64(relay)/float64(inside)-1), "more-%")
			// What it costs when nobody else wants the processor.
			b.ReportMetric(float64((quiet(times[1])-quiet(times[0])).Nanoseconds())/1e3, "quiet-more-µs")
		})
	}
}

// quiet is the time that a tenth of the calls keep to.
func quiet(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(times))[len(times)/10]
}

// runOnce sends a POST /run and returns how long the answer took, whose base64 has want
// bytes.
func runOnce(b *testing.B, url string, body []byte, want int) time.Duration {
	b.Helper()
	began := time.Now()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	answer, err := io.ReadAll(resp.Body)
	took := time.Since(began)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK || len(answer) < want || len(answer) > want+100 {
		b.Fatalf("got %s, %d bytes, %v; want %d bytes of base64", resp.Status, len(answer), err, want)
	}
	return took
}
