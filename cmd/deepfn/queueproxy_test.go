package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/proxy"
)

const (
	queuePort = "8012" // what the cluster calls; its other ports cannot be chosen: 8022 and 9090
	queueBase = "http://127.0.0.1:" + queuePort
	drainURL  = "http://127.0.0.1:8022/wait-for-drain"
	kubelet   = "kube-probe/1.34"
	inFlight  = 200
)

// gated is a model that is loaded, and a prediction that ends, when there is a file.
const gated = `
import os, time

def wait(path):
    while path and not os.path.exists(path):
        time.sleep(0.002)

def warm():
    wait(%q)

def predict(n: int, gate: str = ""):
    wait(gate)
    return {"n": n}
`

// TestQueueProxy has the real queue-proxy of Knative before a function, as its pods have. Where it
// is allowed the test runs in a network of its own, because most ports of that program are fixed.
func TestQueueProxy(t *testing.T) {
	t.Parallel() // it waits for half a minute, as queue-proxy does before it ends
	const inside = "DEEPFN_TEST_NETWORK"
	if os.Getenv("DEEPFN_TEST_QUEUE_PROXY") == "" {
		t.Fatal("DEEPFN_TEST_QUEUE_PROXY names no queue-proxy: run make test")
	}
	if os.Getenv(inside) == "own" {
		loopback(t)
	} else if done := inOwnNetwork(t, inside+"=own"); done {
		return
	}
	f := newFunction(t)
	t.Run("readiness", f.readiness)
	t.Run("concurrency", f.concurrency)
	t.Run("events", f.events)
	t.Run("h2c", f.h2c)
	t.Run("scale down", f.scaleDown)
}

// inOwnNetwork runs the test again in another process with a network of its own, and says whether
// that was possible.
func inOwnNetwork(t *testing.T, variable string) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "5m")
	cmd.Env = append(os.Environ(), variable)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if id := os.Geteuid(); id != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		t.Logf("no network of its own: %v; the ports of this machine are used", err)
		return false
	}
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	return true
}

// loopback makes 127.0.0.1 usable in a new network.
func loopback(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatalf("lo: %v", err)
	}
}

// A function is a deepfn as the container of a Knative service, with a model that is not loaded
// until the file ready is there.
type function struct {
	*process
	ready string
}

func newFunction(t *testing.T) *function {
	t.Helper()
	f := &function{newServer(t), filepath.Join(t.TempDir(), "ready")}
	f.env = append(f.env, "K_SERVICE=iris", "K_CONFIGURATION=iris", "K_REVISION=iris-00001")
	f.serve(&f.stdout, lay(t, "gated.py", fmt.Sprintf(gated, f.ready)), "--python", current(t))
	return f
}

// openGate makes the file of a gate.
func openGate(t *testing.T, gate string) {
	t.Helper()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A queueProxy is the program, with its output.
type queueProxy struct {
	cmd    *exec.Cmd
	output syncBuffer
	ended  chan struct{}
	err    error // once ended
}

// queue starts queue-proxy before the function and waits until it listens.
func (f *function) queue(t *testing.T, concurrency int) *queueProxy {
	t.Helper()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(f.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	q := &queueProxy{cmd: exec.Command(os.Getenv("DEEPFN_TEST_QUEUE_PROXY")), ended: make(chan struct{})} //nolint:noctx // cleanup ends it
	q.cmd.Env = []string{
		"CONTAINER_CONCURRENCY=" + strconv.Itoa(concurrency), "QUEUE_SERVING_PORT=" + queuePort, "QUEUE_SERVING_TLS_PORT=8112",
		"USER_PORT=" + port, "REVISION_TIMEOUT_SECONDS=300",
		`SERVING_READINESS_PROBE={"httpGet":{"path":"/readyz","port":` + port + `,"host":"127.0.0.1","scheme":"HTTP"},"periodSeconds":1,"failureThreshold":1,"successThreshold":1,"timeoutSeconds":1}`,
		`SERVING_LOGGING_CONFIG={"level":"info","encoding":"json","outputPaths":["stdout"],"errorOutputPaths":["stderr"]}`,
		"SERVING_LOGGING_LEVEL=info", "SERVING_NAMESPACE=default", "SERVING_SERVICE=iris", "SERVING_CONFIGURATION=iris",
		"SERVING_REVISION=iris-00001", "SERVING_POD=iris-00001-pod", "SERVING_POD_IP=127.0.0.1", "SYSTEM_NAMESPACE=knative-serving",
	}
	q.cmd.Stdout, q.cmd.Stderr = &q.output, &q.output
	if err := q.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process
		defer close(q.ended)
		q.err = q.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = q.cmd.Process.Kill()
		<-q.ended
		if t.Failed() {
			t.Logf("queue-proxy said: %s", q.output.String())
		}
	})
	eventually(t, "queue-proxy listens", func() bool { _, err := get(t, queueBase+"/", kubelet, "queue"); return err == nil })
	return q
}

// get asks as a probe does.
func get(t *testing.T, url, agent, probe string) (reply, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", agent)
	if probe != "" {
		req.Header.Set("K-Network-Probe", probe)
	}
	return do(req)
}

// probe asks queue-proxy as the kubelet does, and returns the status.
func probe(t *testing.T) int {
	t.Helper()
	r, err := get(t, queueBase+"/", kubelet, "queue")
	if err != nil {
		t.Fatal(err)
	}
	return r.status
}

// answers are what n predictions at once got.
type answers struct {
	wait   sync.WaitGroup
	mu     sync.Mutex // guards counts
	counts map[int]int
	errs   []error
}

// predict sends n predictions at once, which wait for a gate.
func (f *function) predict(t *testing.T, base, gate string, n int) *answers {
	t.Helper()
	a := &answers{counts: map[int]int{}}
	to := &process{t: t, base: base}
	for i := range n {
		a.wait.Go(func() { // ends with its answer
			r, err := to.post("/v2/models/gated/predict/", jsonMedia, fmt.Appendf(nil, `{"n":%d,"gate":%q}`, i, gate))
			a.mu.Lock()
			defer a.mu.Unlock()
			if err == nil && r.status == http.StatusOK && !strings.Contains(r.body, fmt.Sprintf(`{"n": %d}`, i)) {
				err = fmt.Errorf("the answer to another: %s", r.body)
			}
			if err != nil {
				a.errs = append(a.errs, err)
				return
			}
			a.counts[r.status]++
		})
	}
	return a
}

// count returns how many answers of a status there are by now.
func (a *answers) count(status int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.counts[status]
}

// want waits for all answers and compares how many there are of each status.
func (a *answers) want(t *testing.T, counts map[int]int) {
	t.Helper()
	a.wait.Wait()
	if fmt.Sprint(a.counts) != fmt.Sprint(counts) || len(a.errs) > 0 {
		t.Errorf("got answers by status %v and the errors %v, want %v", a.counts, a.errs, counts)
	}
}

// hasInFlight waits until the function has n requests.
func (f *function) hasInFlight(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d requests in flight", n), func() bool {
		var stats proxy.Stats
		if err := json.Unmarshal([]byte(f.mustGet("/stats").body), &stats); err != nil || len(stats.Models) != 1 {
			t.Fatalf("got %d models, %v", len(stats.Models), err)
		}
		return stats.Models[0].Waiting+stats.Models[0].States.InUse == n
	})
}

// readiness: no probe says ready before the model is loaded.
func (f *function) readiness(t *testing.T) {
	f.queue(t, 0)
	for range 3 {
		if got := probe(t); got != http.StatusServiceUnavailable {
			t.Errorf("while the model is loaded: got %d, want 503", got)
		}
	}
	for _, agent := range []string{kubelet, "Knative-Activator-Probe", "Go-http-client/1.1"} {
		if r, err := get(t, f.base+"/readyz", agent, ""); err != nil || r.status != http.StatusServiceUnavailable {
			t.Errorf("/readyz for %s: got %v, %v, want 503", agent, r.status, err)
		}
		if r, err := get(t, f.base+"/healthz", agent, ""); err != nil || r.status != http.StatusOK {
			t.Errorf("/healthz for %s: got %v, %v, want 200", agent, r.status, err)
		}
	}
	openGate(t, f.ready)
	eventually(t, "ready", func() bool { return probe(t) == http.StatusOK })
	f.predict(t, queueBase, "", 1).want(t, map[int]int{200: 1})
}

// concurrency: with containerConcurrency 1, one runs, ten wait in queue-proxy, and it refuses the rest.
func (f *function) concurrency(t *testing.T) {
	f.queue(t, 1)
	gate := filepath.Join(t.TempDir(), "gate")
	a := f.predict(t, queueBase, gate, 15)
	eventually(t, "four are refused", func() bool { return a.count(http.StatusServiceUnavailable) == 4 })
	f.hasInFlight(t, 1)
	openGate(t, gate)
	a.want(t, map[int]int{200: 11, 503: 4})
}

// events: a CloudEvent through queue-proxy is answered with an event of the service.
func (f *function) events(t *testing.T) {
	f.queue(t, 0)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, queueBase+"/", strings.NewReader(`{"n": 5}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": jsonMedia, "Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Type": "t", "Ce-Source": "/s", "Prefer": "reply",
	} {
		req.Header.Set(name, value)
	}
	r, err := do(req)
	if err != nil || r.status != http.StatusOK || !strings.Contains(r.body, `"n": 5`) || r.header.Get("Ce-Source") != "/services/iris/models/gated" {
		t.Errorf("got %d %s with %v, %v", r.status, r.body, r.header, err)
	}
}

// h2c: queue-proxy goes on in the protocol that it is called in, and the function has HTTP/1.1
// alone. The port of a service must not be named h2c.
func (f *function) h2c(t *testing.T) {
	f.queue(t, 0)
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, queueBase+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h2.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadGateway {
		t.Errorf("got %d, want 502", resp.StatusCode)
	}
}

// scaleDown: the pod is deleted with 200 requests in flight, and more come while it is known to
// others. queue-proxy has SIGTERM first; the function when that says that it has drained.
func (f *function) scaleDown(t *testing.T) {
	q := f.queue(t, 0)
	gate := filepath.Join(t.TempDir(), "gate")
	first := f.predict(t, queueBase, gate, inFlight)
	f.hasInFlight(t, inFlight)
	if err := q.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not ready any longer", func() bool { return probe(t) == http.StatusServiceUnavailable })
	late := f.predict(t, queueBase, gate, 20)
	f.hasInFlight(t, inFlight+20)
	openGate(t, gate)
	if r, err := get(t, drainURL, kubelet, ""); err != nil || r.status != http.StatusOK {
		t.Errorf("wait-for-drain: got %d, %v", r.status, err)
	}
	if code := f.stop(); code != 0 {
		t.Errorf("the function ended with %d", code)
	}
	if <-q.ended; q.err != nil {
		t.Errorf("queue-proxy ended with %v", q.err)
	}
	first.want(t, map[int]int{200: inFlight})
	late.want(t, map[int]int{200: 20})
}

// TestTerminatedInFlight ends a function alone, as a platform without a queue-proxy does: all that
// it has is answered, and what comes later is refused.
func TestTerminatedInFlight(t *testing.T) {
	f := newFunction(t)
	openGate(t, f.ready)
	eventually(t, "ready", func() bool { return f.mustGet("/readyz").status == http.StatusOK })
	gate := filepath.Join(t.TempDir(), "gate")
	a := f.predict(t, f.base, gate, inFlight)
	f.hasInFlight(t, inFlight)
	if err := f.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not ready any longer", func() bool { return f.mustGet("/readyz").status == http.StatusServiceUnavailable })
	f.predict(t, f.base, gate, 3).want(t, map[int]int{503: 3})
	openGate(t, gate)
	a.want(t, map[int]int{200: inFlight})
	if code := f.stop(); code != 0 {
		t.Errorf("got the exit code %d, want 0", code)
	}
}
