package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// current is the interpreter that has what today's modules bring.
func current(t *testing.T) string {
	t.Helper()
	return interpreterOf(t, "DEEPFN_TEST_PYTHON_CURRENT")
}

func interpreterOf(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf("%s is not set: run make test", variable)
	}
	return path
}

// lay writes a file of the test into a folder of its own and returns its path.
func lay(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// copyOf copies a module of testdata into a folder of its own and returns its path.
func copyOf(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return lay(t, name, string(text))
}

// newServer makes a server whose temporary files and data are in folders of its own.
func newServer(t *testing.T) *process {
	t.Helper()
	p := &process{t: t, ended: make(chan struct{}), temp: t.TempDir(), data: t.TempDir()}
	p.env = []string{"TMPDIR=" + p.temp, "DEEPFN_DATA=" + p.data, "PYTHONDONTWRITEBYTECODE=1"}
	return p
}

// servePython serves with the current interpreter, and waits until the model is ready.
func servePython(t *testing.T, model string, args ...string) *process {
	t.Helper()
	p := newServer(t)
	p.serve(&p.stdout, append([]string{model, "--python", current(t)}, args...)...)
	eventually(t, "ready", func() bool { return p.mustGet("/readyz").status == 200 })
	return p
}

const (
	faultsRoute = "/v2/models/faults/predict/"
	jsonMedia   = "application/json"
)

// v2 predicts over the DEEPaaS API with JSON.
func (p *process) v2(body string) reply { return p.mustPost(faultsRoute, jsonMedia, []byte(body)) }

// run invokes over OpenWhisk's.
func (p *process) run(value string) reply {
	return p.mustPost("/run", jsonMedia, []byte(`{"value":`+value+`}`))
}

// workerID is the process id that the model faults tells.
func (p *process) workerID() int {
	p.t.Helper()
	r := p.run(`{}`)
	var answer struct{ Pid int }
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || answer.Pid == 0 {
		p.t.Fatalf("a good request: got %d %s %v, want the worker's id", r.status, r.body, err)
	}
	return answer.Pid
}

// parts makes a multipart body of parts NAME, FILENAME, DATA; without a filename the part is text.
func parts(t *testing.T, of ...[3]string) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range of {
		if p[1] == "" {
			_ = w.WriteField(p[0], p[2])
			continue
		}
		part, err := w.CreateFormFile(p[0], p[1])
		if err != nil {
			t.Fatal(err)
		}
		_, _ = part.Write([]byte(p[2]))
	}
	_ = w.Close()
	return w.FormDataContentType(), b.Bytes()
}

// record adds a row to the table of faults in the file that DEEPFN_TEST_FAULTS names.
func record(t *testing.T, cells ...any) {
	t.Helper()
	name := os.Getenv("DEEPFN_TEST_FAULTS")
	if name == "" {
		return
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var row strings.Builder
	for _, c := range cells {
		text := fmt.Sprint(c)
		if r, ok := c.(reply); ok {
			text = fmt.Sprintf("%d `%s`", r.status, strings.TrimSpace(r.body[:min(len(r.body), 400)]))
		}
		row.WriteString("| " + strings.ReplaceAll(text, "|", "\\|") + " ")
	}
	_, _ = fmt.Fprintln(f, row.String()+"|")
}

func (r reply) has(status int, text string) bool {
	return r.status == status && strings.Contains(r.body, text)
}

// warming is a function whose warm leaves a line in a file for each process, and whose
// call says whether its process was warm.
const warming = `
import os, time

path = os.environ["DEEPFN_MODEL_DIR"] + "/warmed"
is_warm = False


def warm():
    global is_warm
    with open(path, "a") as f:
        f.write("%d\n" % os.getpid())
    is_warm = True


def main(args):
    if args.get("hang"):
        print("hanging")
        while True:
            time.sleep(0.01)
    return {"warm": is_warm, "pid": os.getpid()}
`

// TestWarm: a model is warmed once in each worker, before that is ready. A killed worker's
// successor is warm before it answers, and a caller who leaves costs nobody a loaded model.
func TestWarm(t *testing.T) {
	t.Parallel()
	p := servePython(t, lay(t, "warming.py", warming), "--warm", "2")
	pids := workersOf(p, 2)
	warmed := func() string {
		text, err := os.ReadFile(filepath.Join(p.data, "models", "warming", "warmed"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	ask := func() {
		t.Helper()
		if r := p.run(`{}`); !r.has(200, `"warm": true`) {
			t.Errorf("got %d %s, want an answer of a warm worker", r.status, r.body)
		}
	}
	for range 20 {
		ask()
	}
	for _, pid := range pids {
		if n := strings.Count(warmed(), fmt.Sprintf("%d\n", pid)); n != 1 {
			t.Errorf("worker %d was warmed %d times, want once", pid, n)
		}
	}

	for range 4 { // callers who leave
		ctx, leave := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+"/v2/models/warming/predict/", strings.NewReader(`{"hang":true}`))
		if err != nil {
			t.Fatal(err)
		}
		left := make(chan error, 1)
		go func() { // ends with its request
			_, err := do(req)
			left <- err
		}()
		eventually(t, "the call in progress", func() bool {
			return strings.Contains(p.mustGet("/metrics").body, `deepfn_instances{model="warming",state="in_use"} 1`)
		})
		ask() // of the other worker
		leave()
		if err := <-left; err == nil {
			t.Error("the call that hangs was answered")
		}
		eventually(t, "the call ended", func() bool {
			return strings.Contains(p.mustGet("/metrics").body, `deepfn_instances{model="warming",state="in_use"} 0`)
		})
	}
	if again := workersOf(p, 2); !slices.Equal(pids, again) {
		t.Errorf("workers %v became %v, want that they live: each had loaded its model", pids, again)
	}

	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	for _, pid := range pids {
		eventually(t, "the killed worker gone", func() bool { return !alive(pid) })
	}
	eventually(t, "two deaths seen by the server", func() bool { // else one of the dead may get the request
		return strings.Contains(p.mustGet("/metrics").body, `deepfn_instance_deaths_total{model="warming"} 2`)
	})
	ask()
	if n := strings.Count(warmed(), "\n"); n < 3 {
		t.Errorf("got %d lines of warm, want one of a new worker", n)
	}
}

// TestLeftChildren: what a model leaves behind ends with its worker.
func TestLeftChildren(t *testing.T) {
	t.Parallel()
	p := servePython(t, copyOf(t, "faults.py"))
	r := p.run(`{"fault":"forks"}`)
	var answer struct{ Left []int }
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || len(answer.Left) != 2 {
		t.Fatalf("got %d %s, want two processes", r.status, r.body)
	}
	worker := p.workerID()
	for _, pid := range answer.Left {
		if !alive(pid) {
			t.Errorf("process %d ended with the call, want that it goes on", pid)
		}
	}
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, pid := range append(answer.Left, worker) {
		eventually(t, "gone with its worker", func() bool { return !alive(pid) })
	}
	p.workerID()
	record(t, "predict: leaves children behind", r, r, "goes on; its children end with it")
}

// TestCancelledCalls: callers leave a call that waits, computes, or has its process
// stopped. The worker lives if it can.
func TestCancelledCalls(t *testing.T) {
	t.Parallel()
	p := servePython(t, copyOf(t, "faults.py"))
	for _, c := range []struct {
		fault string
		dies  bool
	}{{"hangs", false}, {"spins", false}, {"stops", true}} {
		before := p.workerID()
		deadline := time.Now().Add(500 * time.Millisecond).UnixMilli()
		run := p.mustPost("/run", jsonMedia, fmt.Appendf(nil, `{"value":{"fault":"%s"},"deadline":"%d"}`, c.fault, deadline))
		if !run.has(200, "took longer than it was allowed to") {
			t.Errorf("%s: got %d %s, want that it took too long", c.fault, run.status, run.body)
		}
		if after := p.workerID(); (after != before) != c.dies {
			t.Errorf("%s: worker %d became %d, want that it dies: %v", c.fault, before, after, c.dies)
		}
		worker := "goes on"
		if c.dies {
			worker = "is killed after `CancelGrace`, and replaced"
		}
		record(t, "predict: "+c.fault+", with a deadline", "504 after `--timeout`", run, worker)
	}
}

// TestHTTPException: an exception of aiohttp is an answer with its status and reason, as
// under the published server.
func TestHTTPException(t *testing.T) {
	t.Parallel()
	model := lay(t, "teapot.py", "from aiohttp import web\ndef predict(n: int = 0):\n    raise web.HTTPUnprocessableEntity(reason='no cats here') if n else web.HTTPNotFound(text='nothing found')\n")
	p := newServer(t)
	p.serve(&p.stdout, model, "--python", interpreterOf(t, "DEEPFN_TEST_PYTHON_DEEPAAS"))
	for _, c := range []struct {
		n, status int
		want      string
	}{{1, 422, "no cats here"}, {0, 404, "nothing found"}} {
		body := fmt.Sprintf(`{"n":%d}`, c.n)
		v2, run := p.mustPost("/v2/models/teapot/predict/", jsonMedia, []byte(body)), p.run(body)
		if !v2.has(c.status, c.want) || !run.has(200, c.want) {
			t.Errorf("got %d %s and %d %s, want %d with %q, and 200", v2.status, v2.body, run.status, run.body, c.status, c.want)
		}
		record(t, fmt.Sprintf("predict: raises an HTTP %d", c.status), v2, run, "goes on")
	}
}
