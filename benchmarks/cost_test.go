package benchmarks

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// actionChild makes this program the action that BenchmarkCost runs behind both proxies.
const actionChild = "DEEPFN_BENCH_ACTION"

// echoAction is an action of OpenWhisk's ActionLoop: it reads an activation a line and
// writes its value back on descriptor 3.
func echoAction(in io.Reader, out io.Writer) {
	r := bufio.NewReaderSize(in, 64<<10)
	for {
		text, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		var activation struct {
			Value json.RawMessage `json:"value"`
		}
		if json.Unmarshal(text, &activation) != nil {
			return
		}
		_, _ = out.Write(append(activation.Value, '\n'))
	}
}

// control answers a /run in this process with the least that any proxy has to do: read
// the body, find the value in it, write it back.
func control(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var activation struct {
		Value json.RawMessage `json:"value"`
	}
	if err == nil {
		err = json.Unmarshal(body, &activation)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(activation.Value)))
	_, _ = w.Write(activation.Value)
}

// BenchmarkCost is what a proxy itself costs: one client's POST /run, with a new
// connection for each as OpenWhisk's invoker has it, to an action that gives its value
// back, an executable or a Python function. In turn, request by request: deepfn,
// OpenWhisk's own Go proxy with the same action, and a handler in this process without any
// action, which costs as little as can be. The peer is that of BenchmarkPython.
func BenchmarkCost(b *testing.B) {
	proxy, launcher := os.Getenv("DEEPFN_PEER_PROXY"), os.Getenv("DEEPFN_PEER_LAUNCHER")
	if proxy == "" || launcher == "" {
		b.Skip("the peer is not there: DEEPFN_PEER_PROXY and DEEPFN_PEER_LAUNCHER do not name it")
	}
	for _, size := range []int{100, 10 << 10, 1 << 20} {
		text := strings.Repeat("x", size)
		body := fmt.Appendf(nil, `{"value":{"id":1,"d":%q}}`, text)
		to := func(address string) request { return request{address + "/run", "application/json", body, text, 0} }
		b.Run(fmt.Sprintf("executable/%dB", size), func(b *testing.B) {
			compareCost(b, to(serveControl(b)), to(serveAction(b)), to(startPeerAction(b, proxy)))
		})
		b.Run(fmt.Sprintf("python/%dB", size), func(b *testing.B) {
			ours, _ := servePython(b, echoJSON)
			peer, _ := startPeer(b, proxy, launcher, echoJSON)
			compareCost(b, to(serveControl(b)), to(ours), to(peer))
		})
	}
}

// compareCost sends the requests in turn and reports the medians and their ratios.
func compareCost(b *testing.B, control, ours, peer request) {
	b.Helper()
	subjects := []request{control, ours, peer}
	times := make([][]time.Duration, len(subjects))
	for range 50 { // and what they do beside their first requests is done
		for _, s := range subjects {
			once(b, s)
		}
	}
	for b.Loop() {
		for i, s := range subjects {
			times[i] = append(times[i], once(b, s))
		}
	}
	own := float64(median(times[0]))
	for i, name := range []string{"control", "deepfn", "peer"} {
		b.ReportMetric(float64(median(times[i]).Nanoseconds())/1e3, name+"-p50-µs")
		b.ReportMetric(float64(median(times[i]))/own, name+"/control")
	}
}

// once sends a request on a connection of its own and returns how long that took.
func once(b *testing.B, r request) time.Duration {
	b.Helper()
	began := time.Now()
	c := dialOnce(b, r)
	c.send(b)
	_ = c.conn.Close()
	return time.Since(began)
}

// dialOnce is dial for a connection that its caller closes.
func dialOnce(b *testing.B, r request) *client {
	b.Helper()
	host := strings.TrimSuffix(strings.TrimPrefix(r.url, "http://"), "/run")
	var d net.Dialer
	conn, err := d.DialContext(b.Context(), "tcp", host)
	if err != nil {
		b.Fatal(err)
	}
	head := fmt.Sprintf("POST /run HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", host, r.contentType, len(r.body))
	return &client{
		conn: conn, in: bufio.NewReaderSize(conn, 64<<10), request: r,
		message: append([]byte(head), r.body...), answer: make([]byte, len(r.body)+4<<10),
	}
}

func serveControl(b *testing.B) string {
	b.Helper()
	var cfg net.ListenConfig
	ln, err := cfg.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(control), ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }() // ends with Close
	b.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			b.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

// script writes the script that makes this program the action.
func script(b *testing.B) (file string, text []byte) {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	text = fmt.Appendf(nil, "#!/bin/sh\nexport %s=1\nexec %s\n", actionChild, self)
	file = filepath.Join(b.TempDir(), "exec")
	if err := os.WriteFile(file, text, 0o700); err != nil { // #nosec G306 -- it is run
		b.Fatal(err)
	}
	return file, text
}

// serveAction serves the action with deepfn and returns the server's address.
func serveAction(b *testing.B) string {
	b.Helper()
	program, err := filepath.Abs("../bin/deepfn")
	if err != nil {
		b.Fatal(err)
	}
	file, _ := script(b)
	address := freeAddress(b)
	cmd := exec.CommandContext(b.Context(), program, "serve", file, "--listen", address, "--offline", "--data", b.TempDir())
	cmd.Env = append(os.Environ(), "DEEPFN_PAYLOAD_LIMIT=0")
	run(b, cmd)
	waitFor(b, func() bool {
		answer, err := get(b.Context(), "http://"+address+"/readyz")
		return err == nil && strings.Contains(answer, "ready")
	})
	return "http://" + address
}

// startPeerAction starts OpenWhisk's proxy with the same action.
func startPeerAction(b *testing.B, proxy string) string {
	b.Helper()
	_, text := script(b)
	cmd := exec.CommandContext(b.Context(), proxy)
	cmd.Dir = b.TempDir()
	run(b, cmd)
	const peer = "http://127.0.0.1:8080"
	body, err := json.Marshal(map[string]any{"value": map[string]any{
		"main": "main", "binary": true, "code": base64.StdEncoding.EncodeToString(text),
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
	return peer
}
