package benchmarks

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/workertest"
)

const linesChild = "DEEPFN_BENCH_LINES"

func TestMain(m *testing.M) {
	if os.Getenv(programChild) != "" { // which the receiver's other variables are told, too
		serveProgram()
		return
	}
	if os.Getenv(actionChild) != "" {
		echoAction(os.Stdin, os.NewFile(3, "answers"))
		return
	}
	if os.Getenv(linesChild) != "" {
		echoLines(os.Stdin, os.Stdout)
		return
	}
	if mode := os.Getenv(frontProcess); mode != "" {
		serveProcess(mode, os.Getenv(frontSocket))
		return
	}
	workertest.Main()
	os.Exit(m.Run())
}

// A line is the control's message: what OpenWhisk's own proxies send to the process of
// an action, one JSON object a line.
type line struct {
	ContentType string `json:"content_type,omitempty"`
	Data        []byte `json:"data"` // base64
}

// echoLines is the control's child: it decodes each line and encodes it again, as a
// model does that reads its input.
func echoLines(r io.Reader, w io.Writer) {
	in, out := bufio.NewReaderSize(r, 64<<10), bufio.NewWriter(w)
	for {
		text, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var msg line
		if json.Unmarshal(text, &msg) != nil {
			return
		}
		_ = json.NewEncoder(out).Encode(msg)
		_ = out.Flush()
	}
}

// A linesInvoker is the control behind the same front: a child that speaks JSON lines.
type linesInvoker struct {
	mu  sync.Mutex // guards the pipes: one call at a time
	in  io.WriteCloser
	out *bufio.Reader
}

func newLinesInvoker(b *testing.B) *linesInvoker {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), linesChild+"=1")
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
	return &linesInvoker{in: in, out: bufio.NewReaderSize(out, 64<<10)}
}

func (v *linesInvoker) Invoke(_ context.Context, req actions.Request) (actions.Response, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	text, err := json.Marshal(line{ContentType: req.Files[0].ContentType, Data: req.Files[0].Data})
	if err != nil {
		return actions.Response{}, err
	}
	if _, err := v.in.Write(append(text, '\n')); err != nil {
		return actions.Response{}, err
	}
	answer, err := v.out.ReadBytes('\n')
	if err != nil {
		return actions.Response{}, err
	}
	var msg line
	if err := json.Unmarshal(answer, &msg); err != nil {
		return actions.Response{}, err
	}
	return actions.Response{ContentType: "application/octet-stream", Data: msg.Data}, nil
}

func (v *linesInvoker) Info(string) json.RawMessage { return nil }
func (v *linesInvoker) Stats() []actions.PoolStats  { return nil }

// echo is the catalog of one model that answers with its file.
type echo struct{}

func (echo) Model(context.Context, string) (actions.Model, error) {
	return actions.Model{Name: "echo", Runtime: actions.ONNX, Arguments: []actions.Argument{{Name: "data", Type: actions.TypeFile, Required: true}}}, nil
}

func (echo) Import(context.Context, actions.Source) (actions.Model, error) {
	return actions.Model{}, actions.Errorf(actions.Unsupported, "no code is taken here")
}

func (e echo) Models(ctx context.Context) ([]actions.Model, error) {
	m, err := e.Model(ctx, "")
	return []actions.Model{m}, err
}

func newWorkerInvoker(b *testing.B) *invoker.Invoker {
	b.Helper()
	v := echoPool()
	b.Cleanup(func() { _ = v.Close(context.Background()) })
	return v
}

// echoPool is a pool whose instances send back what they get.
func echoPool() *invoker.Invoker {
	argv, env := workertest.Command()
	return invoker.New(invoker.Config{Catalog: echo{}, Start: func(ctx context.Context, _ actions.Model, _ []string) (invoker.Instance, error) {
		w, err := worker.Start(ctx, worker.Config{Argv: argv, Env: env})
		if err != nil {
			return nil, err
		}
		return w, nil
	}})
}

// BenchmarkRun is one client's POST /run through the whole front to a child that sends
// the file back, with deepfn's workers and with a child that speaks JSON lines.
func BenchmarkRun(b *testing.B) {
	for _, size := range []int{100, 10 << 10, 1 << 20} {
		body := fmt.Appendf(nil, `{"value":{"data":%q}}`, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, size)))
		b.Run(fmt.Sprintf("worker/%dB", size), func(b *testing.B) { benchmarkRun(b, newWorkerInvoker(b), body, size) })
		b.Run(fmt.Sprintf("jsonlines/%dB", size), func(b *testing.B) { benchmarkRun(b, newLinesInvoker(b), body, size) })
	}
}

func benchmarkRun(b *testing.B, v proxy.Invoker, body []byte, size int) {
	b.Helper()
	front := proxy.New(proxy.Config{Invoker: v, Catalog: echo{}, Model: "echo"})
	var cfg net.ListenConfig
	ln, err := cfg.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	served := make(chan error, 1)
	go func() { served <- front.Serve(ctx, ln) }() // ends with stop
	b.Cleanup(func() {
		stop()
		<-served
	})
	url := "http://" + ln.Addr().String() + "/run"
	want := len(base64.StdEncoding.EncodeToString(make([]byte, size)))
	once := func() time.Duration {
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
	once() // the cold start
	var times []time.Duration
	for b.Loop() {
		times = append(times, once())
	}
	b.ReportMetric(float64(median(times).Nanoseconds())/1e3, "p50-µs")
}
