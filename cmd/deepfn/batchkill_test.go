package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// sumModule predicts lists of rows, and notes in a file how many it was asked for.
const sumModule = `import os

def predict(rows: list) -> list:
    with open(os.path.join(os.environ["DEEPFN_MODEL_DIR"], "asked"), "a") as f:
        f.write(f"{len(rows)}\n")
    return [{"sum": row["a"] + row["b"]} for row in rows]
`

// writeSum makes the folder of that model.
func writeSum(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "sum")
	writeAll(t, dir, map[string]string{
		"action.yaml": "runtime: python\npython: {path: model.py, interpreter: " + current(t) + "}\nbatching: {argument: rows, size: 500}\n",
		"model.py":    sumModule,
	})
	return dir
}

// batchRows is how many rows the tests of kills take: some, or what DEEPFN_TEST_BATCH_ROWS says.
func batchRows(t *testing.T) int {
	t.Helper()
	text := os.Getenv("DEEPFN_TEST_BATCH_ROWS")
	if text == "" {
		return 150_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("DEEPFN_TEST_BATCH_ROWS=%s: %v", text, err)
	}
	return n
}

// writeRows writes an input of n rows.
func writeRows(t *testing.T, path string, n int) {
	t.Helper()
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `{"id":"r%d","a":%d,"b":%d.5}`+"\n", i, i, i%97)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// treeOf returns the files of a folder by name.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// askedRows is how many rows the model has been asked for, by all its workers.
func (p *process) askedRows() (n int) {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.data, "models", "sum", "asked"))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.FieldsSeq(string(data)) {
		rows, err := strconv.Atoi(line)
		if err != nil {
			p.t.Fatalf("the model wrote %q", line)
		}
		n += rows
	}
	return n
}

// batchStatus returns what a server says of a batch.
func (p *process) batchStatus(id string) (job actions.Job) {
	p.t.Helper()
	r := p.mustGet("/v2/models/sum/batch/" + id)
	if err := json.Unmarshal([]byte(r.body), &job); r.status != 200 || err != nil {
		p.t.Fatalf("got %d %s, %v", r.status, r.body, err)
	}
	return job
}

// TestBatchKilled kills the server ten times while it does a batch, and its workers between, and
// shows that the output is that of an undisturbed run, byte by byte, and that each kill cost one
// chunk at most.
func TestBatchKilled(t *testing.T) {
	const kills, chunk = 10, 2_000
	rows := batchRows(t)
	model, dir := writeSum(t), t.TempDir()
	input := filepath.Join(dir, "rows.ndjson")
	writeRows(t, input, rows)
	args := []string{"--input", input, "--key", "id", "--chunk-rows", strconv.Itoa(chunk), "--map", "a=a", "--map", "b=b"}
	quiet := newServer(t)
	if out := quiet.command(append([]string{"batch", "run", model, "--output", filepath.Join(dir, "quiet")}, args...)...); out.code != 0 {
		t.Fatalf("the undisturbed run: %d %s", out.code, out.stderr)
	}
	if got := quiet.askedRows(); got != rows {
		t.Fatalf("the undisturbed run asked for %d rows, want %d", got, rows)
	}

	p := newServer(t)
	restart := func() {
		p.ended = make(chan struct{})
		p.serve(&p.stdout, model, "--allow-url", "file://"+dir+"/")
	}
	restart()
	body, err := json.Marshal(map[string]any{
		"input": map[string]string{"url": "file://" + input, "key": "id"}, "output": map[string]string{"url": "file://" + dir + "/killed/"},
		"chunk_rows": chunk, "map": map[string]string{"a": "a", "b": "b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := p.mustPost("/v2/models/sum/batch/", jsonMedia, body)
	var job actions.Job
	if err := json.Unmarshal([]byte(r.body), &job); r.status != 202 || err != nil {
		t.Fatalf("got %d %s, want 202 and a job", r.status, r.body)
	}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	killed := 0
	for killed < kills && !p.batchStatus(job.ID).State.Final() {
		p.awaitRows(job.ID, random.Int64N(int64(rows)/kills))
		if children := p.children(); killed%3 == 1 && len(children) > 0 { // a worker first
			_ = syscall.Kill(children[random.IntN(len(children))], syscall.SIGKILL)
		}
		p.kill()
		killed++
		restart()
	}
	eventually(t, "the end of the batch", func() bool { return p.batchStatus(job.ID).State.Final() })
	job = p.batchStatus(job.ID)
	if job.State != actions.JobDone || job.Progress == nil || job.Progress.Rows != int64(rows) {
		t.Fatalf("got %+v", job)
	}
	if diff := cmp.Diff(treeOf(t, filepath.Join(dir, "quiet")), treeOf(t, filepath.Join(dir, "killed"))); diff != "" {
		t.Errorf("the outputs differ:\n%.2000s", diff)
	}
	again := p.askedRows() - rows
	t.Logf("%d kills, %d of %d rows asked for again, %d chunks begun again", killed, again, rows, job.Progress.Redone)
	if killed < 3 || again > killed*chunk || job.Progress.Redone > killed {
		t.Errorf("after %d kills %d rows were asked for again, and %d chunks: want at most a chunk of %d for each kill", killed, again, job.Progress.Redone, chunk)
	}
}

// awaitRows waits until a batch has done so many rows more, or has ended.
func (p *process) awaitRows(id string, more int64) {
	p.t.Helper()
	first := int64(-1)
	eventually(p.t, "progress of the batch", func() bool {
		job := p.batchStatus(id)
		switch {
		case job.State.Final():
			return true
		case job.Progress == nil:
			return false
		case first < 0:
			first = job.Progress.Rows
		}
		return job.Progress.Rows-first >= more
	})
}
