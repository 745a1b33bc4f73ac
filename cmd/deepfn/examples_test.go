package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// serveShipped serves a Python model of the program, whose environment 'make test' has
// made in the user's cache, and waits until it is ready.
func serveShipped(t *testing.T, model string) *process {
	t.Helper()
	p := newServer(t)
	p.serve(&p.stdout, model)
	eventually(t, model+" ready", func() bool { return p.mustGet("/readyz").status == 200 })
	return p
}

// predictFile uploads a file of the examples.
func (p *process) predictFile(model, argument, file, accept string) reply {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(top, "examples", file))
	if err != nil {
		p.t.Fatal(err)
	}
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreateFormFile(argument, filepath.Base(file))
	if err == nil {
		_, err = part.Write(data)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	_ = w.Close()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.base+"/v2/models/"+model+"/predict/", &body)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	req.Header.Set("Accept", accept)
	r, err := do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// TestDigits reads pictures of digits, trains, and reads them with the new version, which
// another server finds too.
func TestDigits(t *testing.T) {
	p := serveShipped(t, "digits")
	read := func(p *process, file string) (digit, version int) {
		r := p.predictFile("digits", "image", "digits/"+file, "*/*")
		var doc struct {
			Predictions struct{ Digit, Version int }
		}
		if err := json.Unmarshal([]byte(r.body), &doc); err != nil || r.status != 200 {
			t.Fatalf("got %d %s", r.status, r.body)
		}
		return doc.Predictions.Digit, doc.Predictions.Version
	}
	for file, want := range map[string]int{"3.png": 3, "7.png": 7} {
		if got, version := read(p, file); got != want || version != 1 {
			t.Errorf("%s: got %d of version %d, want %d of 1", file, got, version, want)
		}
	}
	started := p.mustPost("/v2/models/digits/train/?epochs=10", "", nil)
	var job struct {
		UUID, Status string
		Result       struct{ Output struct{ Accuracy float64 } }
		Progress     struct{ Fraction float64 }
	}
	if err := json.Unmarshal([]byte(started.body), &job); err != nil || job.UUID == "" || job.Status != "running" {
		t.Fatalf("train: got %d %s", started.status, started.body)
	}
	eventually(t, "trained", func() bool {
		r := p.mustGet("/v2/models/digits/train/" + job.UUID)
		if err := json.Unmarshal([]byte(r.body), &job); err != nil {
			t.Fatalf("status: got %s", r.body)
		}
		return job.Status != "running"
	})
	if job.Status != "done" || job.Result.Output.Accuracy < 0.95 || job.Progress.Fraction != 1 {
		t.Errorf("got %+v, want it done with an accuracy over 0.95", job)
	}
	if got, version := read(p, "3.png"); got != 3 || version != 2 {
		t.Errorf("after the training: got %d of version %d, want 3 of 2", got, version)
	}
	p.stop()
	next := newServer(t)
	next.env = p.env
	next.serve(&next.stdout, "digits")
	if got, version := read(next, "7.png"); got != 7 || version != 2 {
		t.Errorf("after a restart: got %d of version %d, want 7 of 2", got, version)
	}
}

// TestOCRPage reads a page, as text, as a picture with frames and as a PDF.
func TestOCRPage(t *testing.T) {
	p := serveShipped(t, "ocr")
	r := p.predictFile("ocr", "image", "ocr/page.png", "application/json")
	for _, line := range []string{"Serverless models stay warm", "Warm call: 12 ms (153 times faster)", "pages@example.org"} {
		if r.status != 200 || !strings.Contains(r.body, line) {
			t.Errorf("got %d %s, want the line %q", r.status, r.body, line)
		}
	}
	for mediaType, begins := range map[string]string{"image/png": "\x89PNG", "application/pdf": "%PDF-"} {
		r := p.predictFile("ocr", "image", "ocr/page.png", mediaType)
		if r.status != 200 || r.header.Get("Content-Type") != mediaType || !strings.HasPrefix(r.body, begins) {
			t.Errorf("%s: got %d %s, %.20q", mediaType, r.status, r.header.Get("Content-Type"), r.body)
		}
	}
	if r := p.predictFile("ocr", "image", "ocr/make_page.py", "*/*"); r.status != 422 || !strings.Contains(r.body, "Not a picture") {
		t.Errorf("no picture: got %d %s, want 422", r.status, r.body)
	}
}

// TestDemo asks for what no other shipped model has: a file of one's own back, an error
// with a status, and the page with a form for each argument.
func TestDemo(t *testing.T) {
	p := serveShipped(t, "demo")
	r := p.mustPost("/v2/models/demo/predict/", "application/json",
		[]byte(`{"integer": 7, "integers": [1, 2], "point": {"x": 1.5}, "day": "2026-01-31", "flag": false}`))
	for _, part := range []string{`"integer": {"type": "int", "value": 7}`, `[1, 2]`, `2026-01-31`} {
		if r.status != 200 || !strings.Contains(r.body, part) {
			t.Errorf("got %d %s, want it to hold %s", r.status, r.body, part)
		}
	}
	if r := p.mustPost("/v2/models/demo/predict/?http_error=418", "", nil); r.status != http.StatusTeapot {
		t.Errorf("http_error: got %d %s, want 418", r.status, r.body)
	}
	if r := p.mustPost("/v2/models/demo/predict/?percent=101&flag=maybe", "", nil); r.status != 422 ||
		!strings.Contains(r.body, `"percent"`) || !strings.Contains(r.body, `"flag"`) {
		t.Errorf("wrong arguments: got %d %s, want 422 for both", r.status, r.body)
	}
	if r := p.mustGet("/api"); r.status != 200 || strings.Contains(r.body, "http://") || strings.Contains(r.body, "https://") {
		t.Errorf("/api: got %d, %d bytes; want a page without addresses of others", r.status, len(r.body))
	}
	var swagger struct {
		Paths map[string]struct {
			Post struct{ Parameters []struct{ Name string } }
		}
	}
	page := p.mustGet("/swagger.json")
	if err := json.Unmarshal([]byte(page.body), &swagger); err != nil {
		t.Fatalf("swagger.json: %v", err)
	}
	names := fmt.Sprint(swagger.Paths["/v2/models/demo/predict/"].Post.Parameters)
	for _, name := range []string{"integers", "point", "files", "accept"} {
		if !strings.Contains(names, name) {
			t.Errorf("swagger.json: predict has %s, want %s among them", names, name)
		}
	}
}
