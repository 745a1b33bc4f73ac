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

// SIGTERM: the request in flight is answered, readiness goes, the workers end.
func TestDrain(t *testing.T) {
	p := serve(t, "ocr-line")
	eventually(t, "ready", func() bool { return p.mustGet("/readyz").status == 200 })
	body := runBody(linePNG(t, "the last one"))
	answered := make(chan reply, 1)
	go func() { // ends with its request
		r, _ := p.post("/run", "application/json", body)
		answered <- r
	}()
	eventually(t, "in flight", func() bool {
		return strings.Contains(p.mustGet("/metrics").body, `deepfn_instances{model="ocr-line",state="in_use"} 1`) || len(answered) > 0
	})
	pids := p.children()
	if code := p.stop(); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	if r := <-answered; textOf(t, r.body) != "the last one" {
		t.Errorf("the request in flight: got %d %s", r.status, r.body)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("worker %d lives after the server", pid)
		}
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
