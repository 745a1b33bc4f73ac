package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
