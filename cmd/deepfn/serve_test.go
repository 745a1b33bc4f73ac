package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/deepfn/deepfn/runtime/onnx/onnxtest"
)

// linePNG draws the text as a PNG.
func linePNG(t *testing.T, text string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := png.Encode(&buf, onnxtest.DrawLine(text, onnxtest.Regular, 32)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// A reply is an HTTP answer with its body read.
type reply struct {
	status int
	header http.Header
	body   string
}

func (p *process) post(path, contentType string, body []byte) (reply, error) {
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.base+path, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Content-Type", contentType)
	return do(req)
}

func (p *process) mustPost(path, contentType string, body []byte) reply {
	p.t.Helper()
	r, err := p.post(path, contentType, body)
	if err != nil {
		p.t.Fatalf("POST %s: %v", path, err)
	}
	return r
}

func (p *process) mustGet(path string) reply {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.base+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r, err := do(req)
	if err != nil {
		p.t.Fatalf("GET %s: %v", path, err)
	}
	return r
}

func do(req *http.Request) (reply, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(data)}, err
}

// runBody is the body of a /run whose argument image is the picture.
func runBody(picture []byte) []byte {
	return fmt.Appendf(nil, `{"value":{"image":%q},"activation_id":"a1","deadline":"9999999999999"}`, base64.StdEncoding.EncodeToString(picture))
}

func textOf(t *testing.T, body string) string {
	t.Helper()
	var answer struct{ Text string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("answer %s: %v", body, err)
	}
	return answer.Text
}

func TestServeReadsText(t *testing.T) {
	p := serve(t, "ocr-line")
	if r := p.mustPost("/init", "application/json", []byte(`{"value":{"name":"ocr","main":"main","binary":false}}`)); r.status != 200 {
		t.Fatalf("/init: got %d %s", r.status, r.body)
	}
	if r := p.mustGet("/readyz"); r.status != 200 {
		t.Errorf("/readyz after /init: got %d %s", r.status, r.body)
	}
	const text = "Plankton sample 4711"
	picture := linePNG(t, text)
	r := p.mustPost("/run", "application/json", runBody(picture))
	if got := textOf(t, r.body); r.status != 200 || got != text {
		t.Errorf("/run: got %d %s, want the text %q", r.status, r.body, text)
	}
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, _ := w.CreateFormFile("image", "line.png")
	_, _ = part.Write(picture)
	_ = w.Close()
	r = p.mustPost("/v2/models/ocr-line/predict/", w.FormDataContentType(), form.Bytes())
	var answer struct {
		Status      string
		Predictions struct{ Text string }
	}
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || answer.Status != "OK" || answer.Predictions.Text != text {
		t.Errorf("predict: got %d %s, want the text %q", r.status, r.body, text)
	}
	if r := p.mustGet("/v2/models/ocr-line/"); !strings.Contains(r.body, "CPUExecutionProvider") && !strings.Contains(r.body, "CUDAExecutionProvider") {
		t.Errorf("metadata names no provider: %s", r.body)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code after SIGTERM: got %d, want 0", code)
	}
	const sentinel = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX\n"
	if out := p.stdout.String(); out != sentinel {
		t.Errorf("stdout: got %q, want the one sentinel", out)
	}
	if n := strings.Count(p.stderr.String(), sentinel); n != 1 {
		t.Errorf("stderr: got %d sentinels, want 1", n)
	}
}

// An /init that failed is forgotten: the next one may choose another model, and readiness
// is about that one alone.
func TestInitAfterFailure(t *testing.T) {
	catalog := t.TempDir()
	action := filepath.Join(catalog, "bad", "action.yaml")
	if err := os.MkdirAll(filepath.Dir(action), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "runtime: onnx\narguments: []\nfiles: {model: {path: none.onnx, sha256: " + strings.Repeat("0", 64) + "}}\nonnx: {model: model}\n"
	if err := os.WriteFile(action, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := serve(t, "--catalog", catalog)
	if r := p.mustPost("/init", "application/json", []byte(`{"value":{"code":"{\"model\":\"bad\"}"}}`)); r.status != 502 || !strings.Contains(r.body, "none.onnx") {
		t.Errorf("/init of a model without its file: got %d %s, want 502 with the file", r.status, r.body)
	}
	if r := p.mustPost("/init", "application/json", []byte(`{"value":{"code":"{\"model\":\"text-angle\"}"}}`)); r.status != 200 {
		t.Errorf("/init: got %d %s", r.status, r.body)
	}
	if r := p.mustGet("/readyz"); r.status != 200 {
		t.Errorf("/readyz: got %d %s", r.status, r.body)
	}
}

// A file larger than the default room for payloads is taken where --max-body allows it.
func TestLargeBody(t *testing.T) {
	p := serve(t, "ocr-line", "--max-body", "200000000")
	r := p.mustPost("/v2/models/ocr-line/predict/?image=x", "application/json", []byte(`{}`))
	if r.status != 422 {
		t.Errorf("a small one: got %d %s", r.status, r.body)
	}
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, _ := w.CreateFormFile("image", "line.png")
	_, _ = part.Write(make([]byte, 100<<20))
	_ = w.Close()
	r = p.mustPost("/v2/models/ocr-line/predict/", w.FormDataContentType(), form.Bytes())
	if r.status != 422 || !strings.Contains(r.body, "picture") {
		t.Errorf("100 MiB: got %d %.300s, want that it is no picture", r.status, r.body)
	}
}

// OpenWhisk chooses the model: the server was started without one.
func TestInitChoosesModel(t *testing.T) {
	p := serve(t)
	if r := p.mustPost("/run", "application/json", []byte(`{"value":{}}`)); r.status != 500 {
		t.Errorf("/run before /init: got %d %s, want 500", r.status, r.body)
	}
	if r := p.mustPost("/init", "application/json", []byte(`{"value":{"code":"{\"model\":\"nothing\"}"}}`)); r.status != 502 || !strings.Contains(r.body, "ocr-line") {
		t.Errorf("/init of an unknown model: got %d %s, want 502 and the models there are", r.status, r.body)
	}
	if r := p.mustPost("/init", "application/json", []byte(`{"value":{"code":"{\"model\":\"text-angle\"}"}}`)); r.status != 200 {
		t.Fatalf("/init: got %d %s", r.status, r.body)
	}
	r := p.mustPost("/run", "application/json", runBody(linePNG(t, "upright")))
	if r.status != 200 || !strings.Contains(r.body, `"label":"0"`) {
		t.Errorf("/run: got %d %s, want the label 0", r.status, r.body)
	}
	if r := p.mustPost("/init", "application/json", []byte(`{}`)); r.status != 403 {
		t.Errorf("second /init: got %d %s, want 403", r.status, r.body)
	}
}

// 8 clients at once, 2,000 requests: every answer is the caller's own.
func TestManyClients(t *testing.T) {
	p := serve(t, "ocr-line", "--warm", "2")
	const clients, requests = 8, 2000
	bodies := make([][]byte, 50)
	for i := range bodies {
		bodies[i] = runBody(linePNG(t, fmt.Sprintf("n %d", 100+i*17)))
	}
	var next, wrong atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for n := next.Add(1); n <= requests; n = next.Add(1) {
				i := int(n) % len(bodies)
				r, err := p.post("/run", "application/json", bodies[i])
				var answer struct{ Text string }
				_ = json.Unmarshal([]byte(r.body), &answer)
				if err != nil || strings.ReplaceAll(answer.Text, " ", "") != fmt.Sprintf("n%d", 100+i*17) {
					wrong.Add(1)
					t.Errorf("request %d: got %s %v, want the text n %d", n, r.body, err, 100+i*17)
				}
			}
		})
	}
	wg.Wait()
	if wrong.Load() > 0 {
		t.Errorf("%d of %d answers are wrong", wrong.Load(), requests)
	}
}

// children returns the process ids of the server's workers.
func (p *process) children() []int {
	p.t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	var pids []int
	for _, path := range tasks {
		data, _ := os.ReadFile(path) // a thread may have gone
		for field := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// alive reports whether the process runs; one that has ended and waits to be reaped by
// its new parent does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return !bytes.HasPrefix(state, []byte("Z"))
}

// kill -9 of the worker under load: only the request that it held fails.
func TestKillWorkerUnderLoad(t *testing.T) {
	p := serve(t, "ocr-line")
	body := runBody(linePNG(t, "steady"))
	eventually(t, "ready", func() bool { return p.mustGet("/readyz").status == 200 })
	const clients, kills = 4, 5
	var good, failed atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for !stop.Load() {
				r, err := p.post("/run", "application/json", body)
				switch {
				case err != nil || r.status != 200:
					t.Errorf("got %d %s %v, want 200 always", r.status, r.body, err)
					return
				case strings.Contains(r.body, `"error"`):
					failed.Add(1)
					if !strings.Contains(r.body, "killed") {
						t.Errorf("the error does not say what happened: %s", r.body)
					}
				default:
					good.Add(1)
				}
			}
		})
	}
	for range kills {
		before := good.Load()
		eventually(t, "answered before the kill", func() bool { return good.Load() > before+2 })
		pids := p.children()
		if len(pids) != 1 {
			t.Fatalf("got workers %v, want one", pids)
		}
		if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		before = good.Load()
		eventually(t, "answered after the kill", func() bool { return good.Load() > before+2 })
	}
	stop.Store(true)
	wg.Wait()
	if n := failed.Load(); n > kills {
		t.Errorf("%d requests failed in %d kills, want at most the one that each worker held", n, kills)
	}
}

// SIGTERM: the requests in flight, those in the queue too, are answered; the workers end.
func TestDrain(t *testing.T) {
	p := serve(t, "ocr-line")
	eventually(t, "ready", func() bool { return p.mustGet("/readyz").status == 200 })
	body := runBody(linePNG(t, "the last one"))
	const clients = 12
	answers := make(chan reply, clients)
	for range clients {
		go func() { // ends with its request
			r, _ := p.post("/run", "application/json", body)
			answers <- r
		}()
	}
	eventually(t, "in flight and in the queue", func() bool {
		metrics := p.mustGet("/metrics").body
		return strings.Contains(metrics, `deepfn_instances{model="ocr-line",state="in_use"} 1`) &&
			!strings.Contains(metrics, `deepfn_queue_length{model="ocr-line"} 0`)
	})
	if len(answers) == clients {
		t.Fatal("all requests were answered before the signal")
	}
	pids := p.children()
	if code := p.stop(); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	good := 0
	for range clients {
		switch r := <-answers; {
		case r.status == http.StatusOK && textOf(t, r.body) == "the last one":
			good++
		case r.status != http.StatusServiceUnavailable:
			t.Errorf("got %d %s, want the answer, or 503 for one that came after the signal", r.status, r.body)
		}
	}
	if good < 2 {
		t.Errorf("got %d answers, want at least those of the one in flight and the one in the queue", good)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("worker %d lives after the server", pid)
		}
	}
}

// Who read the server's stdout has gone: the server goes on.
func TestClosedStdout(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := (&process{t: t, ended: make(chan struct{})}).serve(w, "text-angle")
	_, _ = r.Close(), w.Close()
	body := runBody(linePNG(t, "upright"))
	for range 3 {
		if r := p.mustPost("/run", "application/json", body); r.status != 200 || !strings.Contains(r.body, `"label":"0"`) {
			t.Errorf("got %d %s", r.status, r.body)
		}
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
}

// The server is killed: its worker does not outlive it.
func TestNoOrphan(t *testing.T) {
	p := serve(t, "text-angle")
	eventually(t, "ready", func() bool { return p.mustGet("/readyz").status == 200 })
	pids := p.children()
	if len(pids) != 1 {
		t.Fatalf("got workers %v, want one", pids)
	}
	p.kill()
	eventually(t, "the worker gone", func() bool { return !alive(pids[0]) })
}
