package benchmarks

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The functions that both sides run: one gives its JSON back, one its bytes. Through
// OpenWhisk's /init and /run bytes are base64 in JSON; a deepfn module takes and gives
// them as they are.
const (
	echoJSON   = "def main(args):\n    return args\n"
	echoBytes  = "def predict(data: bytes) -> bytes:\n    return bytes(data)\n"
	echoBase64 = `import base64

def main(args):
    return {"data": base64.b64encode(base64.b64decode(args["data"])).decode()}
`
)

// BenchmarkPython is one client's requests to a Python function: as JSON through /init
// and /run, and as bytes through the DEEPaaS API, beside OpenWhisk's own Go proxy with
// its Python launcher, request by request in turn. The peer is named by two variables:
// DEEPFN_PEER_PROXY, the program that apache/openwhisk-runtime-go builds, and
// DEEPFN_PEER_LAUNCHER, core/python3Action/lib/launcher.py of
// apache/openwhisk-runtime-python. It listens on port 8080, which must be free.
func BenchmarkPython(b *testing.B) {
	proxy, launcher := os.Getenv("DEEPFN_PEER_PROXY"), os.Getenv("DEEPFN_PEER_LAUNCHER")
	if proxy == "" || launcher == "" {
		b.Skip("the peer is not there: DEEPFN_PEER_PROXY and DEEPFN_PEER_LAUNCHER do not name it")
	}
	for _, size := range []int{1 << 10, 100 << 10, 1 << 20} {
		text := strings.Repeat("x", size)
		raw := bytes.Repeat([]byte{7, 200}, size/2)
		asJSON := fmt.Appendf(nil, `{"value":{"id":1,"d":%q}}`, text)
		asBase64 := fmt.Appendf(nil, `{"value":{"data":%q}}`, base64.StdEncoding.EncodeToString(raw))
		form, contentType := formOf(b, raw)
		b.Run(fmt.Sprintf("json/%dB", size), func(b *testing.B) {
			ours, pid := servePython(b, echoJSON)
			peer, peerPID := startPeer(b, proxy, launcher, echoJSON)
			compare(b,
				request{ours + "/run", "application/json", asJSON, text, pid},
				request{peer + "/run", "application/json", asJSON, text, peerPID})
		})
		b.Run(fmt.Sprintf("binary/%dB", size), func(b *testing.B) {
			ours, pid := servePython(b, echoBytes)
			peer, peerPID := startPeer(b, proxy, launcher, echoBase64)
			compare(b,
				request{ours + "/v2/models/function/predict/", contentType, form, string(raw), pid},
				request{peer + "/run", "application/json", asBase64, base64.StdEncoding.EncodeToString(raw), peerPID})
		})
	}
}

// A request is what is sent again and again, what its answer must hold, and the process
// that answers it.
type request struct {
	url, contentType string
	body             []byte
	want             string
	pid              int
}

// compare sends both requests in turn. It reports the medians and their ratio, and the
// time that the processors worked for a request in the server and all of its children,
// which says more than any other figure where the machine has other things to do.
func compare(b *testing.B, our, their request) {
	b.Helper()
	ours, peer := dial(b, our), dial(b, their)
	for range 100 { // and what they do beside their first requests is done
		ours.send(b)
		peer.send(b)
	}
	var a, z []time.Duration
	ourCPU, peerCPU := processorTime(b, our.pid), processorTime(b, their.pid)
	for b.Loop() {
		a = append(a, ours.send(b))
		z = append(z, peer.send(b))
	}
	ourCPU, peerCPU = processorTime(b, our.pid)-ourCPU, processorTime(b, their.pid)-peerCPU
	b.ReportMetric(float64(ourCPU.Nanoseconds())/1e3/float64(len(a)), "cpu-µs/request")
	b.ReportMetric(float64(peerCPU.Nanoseconds())/1e3/float64(len(z)), "peer-cpu-µs/request")
	b.ReportMetric(float64(median(a).Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(median(z).Nanoseconds())/1e3, "peer-p50-µs")
	b.ReportMetric(float64(median(z))/float64(median(a)), "times-faster")
	b.ReportMetric(float64(total(z))/float64(total(a)), "times-the-requests/s")
}

// processorTime returns how long the processors have worked for a process and its
// children, in all threads that there are.
func processorTime(b *testing.B, pid int) (sum time.Duration) {
	b.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) == 0 {
		b.Fatalf("process %d has no threads: %v", pid, err)
	}
	for _, task := range tasks {
		// A thread may have ended in between.
		var worked int64
		stat, _ := os.ReadFile(filepath.Join(task, "schedstat")) // #nosec G304 -- of a process that was started here
		_, _ = fmt.Sscan(string(stat), &worked)
		sum += time.Duration(worked)
		children, _ := os.ReadFile(filepath.Join(task, "children")) // #nosec G304 -- the same
		for child := range strings.FieldsSeq(string(children)) {
			if pid, err := strconv.Atoi(child); err == nil {
				sum += processorTime(b, pid)
			}
		}
	}
	return sum
}

func total(times []time.Duration) (sum time.Duration) {
	for _, d := range times {
		sum += d
	}
	return sum
}

// A client sends one request again and again on one connection, with as little work of
// its own as it can: it is the servers that are measured.
type client struct {
	conn    net.Conn
	in      *bufio.Reader
	message []byte
	answer  []byte // its memory is used again
	request
}

func dial(b *testing.B, r request) *client {
	b.Helper()
	u, err := url.Parse(r.url)
	if err != nil {
		b.Fatal(err)
	}
	var d net.Dialer
	conn, err := d.DialContext(b.Context(), "tcp", u.Host)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", u.Path, u.Host, r.contentType, len(r.body))
	return &client{
		conn: conn, in: bufio.NewReaderSize(conn, 64<<10), request: r,
		message: append([]byte(head), r.body...), answer: make([]byte, 2*len(r.body)+4<<10),
	}
}

// send sends the request and returns how long the answer took.
func (c *client) send(b *testing.B) time.Duration {
	b.Helper()
	began := time.Now()
	if _, err := c.conn.Write(c.message); err != nil {
		b.Fatal(err)
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for err == nil && n < len(c.answer) {
		var more int
		more, err = resp.Body.Read(c.answer[n:])
		n += more
	}
	took := time.Since(began)
	_ = resp.Body.Close()
	if !errors.Is(err, io.EOF) || resp.StatusCode != http.StatusOK || !bytes.Contains(c.answer[:n], []byte(c.want)) {
		b.Fatalf("%s: got %s, %d bytes, %v, not the %d bytes that were sent", c.url, resp.Status, n, err, len(c.want))
	}
	return took
}

func formOf(b *testing.B, data []byte) (body []byte, contentType string) {
	b.Helper()
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	part, err := w.CreateFormFile("data", "data.bin")
	if err == nil {
		_, err = part.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
	return buf.Bytes(), w.FormDataContentType()
}

// servePython serves a file with a function and returns the server's address and process.
func servePython(b *testing.B, source string) (address string, pid int) {
	b.Helper()
	program, err := filepath.Abs("../bin/deepfn")
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	file := filepath.Join(dir, "function.py")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		b.Fatal(err)
	}
	address = freeAddress(b)
	cmd := exec.CommandContext(b.Context(), program, "serve", file, "--listen", address, "--offline",
		"--python", os.Getenv("DEEPFN_TEST_PYTHON_CURRENT"), "--data", dir, "--payload-limit", "0")
	run(b, cmd)
	waitFor(b, func() bool {
		answer, err := get(b.Context(), "http://"+address+"/readyz")
		return err == nil && strings.Contains(answer, "ready")
	})
	return "http://" + address, cmd.Process.Pid
}

// startPeer starts OpenWhisk's proxy and makes the source its action: the launcher as it
// is, beside the source as main__.py, started by a script with the interpreter's path,
// because the proxy gives its child no PATH.
func startPeer(b *testing.B, proxy, launcher, source string) (address string, pid int) {
	b.Helper()
	lines, err := os.ReadFile(launcher) // #nosec G304 G703 -- a benchmark's own peer
	if err != nil {
		b.Fatal(err)
	}
	var code bytes.Buffer
	w := zip.NewWriter(&code)
	for name, text := range map[string]string{
		"exec":        "#!/bin/sh\ncd \"$(/usr/bin/dirname \"$0\")\"\nexec " + os.Getenv("DEEPFN_TEST_PYTHON_CURRENT") + " launcher.py\n",
		"launcher.py": string(lines),
		"main__.py":   source,
	} {
		header := &zip.FileHeader{Name: name, Method: zip.Deflate}
		header.SetMode(0o755)
		part, err := w.CreateHeader(header)
		if err == nil {
			_, err = part.Write([]byte(text))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), proxy)
	cmd.Dir = b.TempDir()
	run(b, cmd)
	const peer = "http://127.0.0.1:8080"
	body, err := json.Marshal(map[string]any{"value": map[string]any{
		"main": "main", "binary": true, "code": base64.StdEncoding.EncodeToString(code.Bytes()),
	}})
	if err != nil {
		b.Fatal(err)
	}
	waitFor(b, func() bool {
		answer, err := post(b.Context(), peer+"/init", body)
		if err == nil && !strings.Contains(answer, `"ok":true`) {
			b.Fatalf("the peer's /init: %s", answer)
		}
		return err == nil
	})
	return peer, cmd.Process.Pid
}

// run starts a command, which ends with the benchmark.
func run(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		http.DefaultClient.CloseIdleConnections()
	})
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return string(answer), err
}
