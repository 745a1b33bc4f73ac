package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"maps"
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

// batchSize is how many rows a test takes: some, or what a variable says.
func batchSize(t *testing.T, variable string, usual int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%s: %v", variable, text, err)
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
func (p *process) batchStatus(at string) (job actions.Job) {
	p.t.Helper()
	r := p.mustGet(at)
	if err := json.Unmarshal([]byte(r.body), &job); r.status != 200 || err != nil {
		p.t.Fatalf("got %d %s, %v", r.status, r.body, err)
	}
	return job
}

// A killedBatch is a batch that is done twice: by the command, undisturbed, and by a server that is
// killed over it.
type killedBatch struct {
	model, name string // as the command knows it, and the server
	rows, chunk int
	kills       int
	members     map[string]any // of the batch, but for the output
	flags       []string       // the same for the command
}

// TestBatchKilled kills the server ten times while it does a batch, over few pictures fewer times,
// and its workers between, and shows that the output is that of an undisturbed run, byte by byte, and that each kill cost one
// chunk at most.
func TestBatchKilled(t *testing.T) {
	t.Run("rows", func(t *testing.T) {
		dir, n := t.TempDir(), batchSize(t, "DEEPFN_TEST_BATCH_ROWS", 150_000)
		input := filepath.Join(dir, "rows.ndjson")
		writeRows(t, input, n)
		b := killedBatch{
			model: writeSum(t), name: "sum", rows: n, chunk: max(2_000, n/100), kills: 10,
			members: map[string]any{"input": map[string]string{"url": "file://" + input, "key": "id"}, "map": map[string]string{"a": "a", "b": "b"}},
			flags:   []string{"--input", input, "--key", "id", "--map", "a=a", "--map", "b=b"},
		}
		quiet := b.undisturbed(t, dir)
		if got := quiet.askedRows(); got != n {
			t.Fatalf("the undisturbed run asked for %d rows, want %d", got, n)
		}
		p, killed := b.killed(t, dir)
		again := p.askedRows() - n
		t.Logf("%d kills, %d of %d rows asked for again", killed, again, n)
		if again > killed*b.chunk {
			t.Errorf("after %d kills %d rows were asked for again, want at most a chunk of %d for each", killed, again, b.chunk)
		}
	})
	t.Run("images", func(t *testing.T) {
		dir, n := t.TempDir(), batchSize(t, "DEEPFN_TEST_BATCH_IMAGES", 60)
		input := filepath.Join(dir, "lines") + "/"
		writeLines(t, input, n)
		b := killedBatch{
			model: "ocr-line", name: "ocr-line", rows: n, chunk: min(64, n/15), kills: min(10, n/15),
			members: map[string]any{"input": "file://" + input}, flags: []string{"--input", input},
		}
		b.undisturbed(t, dir)
		b.killed(t, dir)
	})
}

// writeLines writes the picture of a line n times, each cut at another place.
func writeLines(t *testing.T, dir string, n int) {
	t.Helper()
	data, err := os.ReadFile("../../examples/ocr-line/line.png")
	if err != nil {
		t.Fatal(err)
	}
	line, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	whole, ok := line.(interface {
		SubImage(r image.Rectangle) image.Image
	})
	if !ok {
		t.Fatalf("a %T cannot be cut", line)
	}
	files := map[string]string{}
	for i := range n {
		bounds := line.Bounds()
		bounds.Max.X -= i % (bounds.Dx() / 2)
		var out bytes.Buffer
		if err := png.Encode(&out, whole.SubImage(bounds)); err != nil {
			t.Fatal(err)
		}
		files[fmt.Sprintf("%05d.png", i)] = out.String()
	}
	writeAll(t, dir, files)
}

// undisturbed does the batch by the command.
func (b *killedBatch) undisturbed(t *testing.T, dir string) *process {
	t.Helper()
	p := newServer(t)
	args := append([]string{"batch", "run", b.model, "--output", filepath.Join(dir, "quiet"), "--chunk-rows", strconv.Itoa(b.chunk)}, b.flags...)
	if out := p.command(args...); out.code != 0 {
		t.Fatalf("the undisturbed run: %d %s", out.code, out.stderr)
	}
	return p
}

// killed does the batch by a server that is killed over it, and compares the outputs.
func (b *killedBatch) killed(t *testing.T, dir string) (p *process, killed int) {
	t.Helper()
	p = newServer(t)
	restart := func() {
		p.ended = make(chan struct{})
		p.serve(&p.stdout, b.model, "--allow-url", "file://"+dir+"/")
	}
	restart()
	at := b.submit(p, dir)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for killed < b.kills && !p.batchStatus(at).State.Final() {
		p.awaitRows(at, random.Int64N(int64(b.rows/b.kills)))
		if children := p.children(); killed%3 == 1 && len(children) > 0 { // a worker first
			_ = syscall.Kill(children[random.IntN(len(children))], syscall.SIGKILL)
		}
		p.kill()
		killed++
		restart()
	}
	for !p.batchStatus(at).State.Final() {
		p.awaitRows(at, int64(b.chunk)) // fails after a minute without
	}
	job := p.batchStatus(at)
	if job.State != actions.JobDone || job.Progress == nil || job.Progress.Rows != int64(b.rows) {
		t.Fatalf("got %+v", job)
	}
	if diff := cmp.Diff(treeOf(t, filepath.Join(dir, "quiet")), treeOf(t, filepath.Join(dir, "killed"))); diff != "" {
		t.Errorf("the outputs differ:\n%.2000s", diff)
	}
	t.Logf("%d kills, %d chunks of %d rows begun again, of %d", killed, job.Progress.Redone, b.chunk, job.Progress.Chunks)
	if killed < 3 || job.Progress.Redone > killed {
		t.Errorf("after %d kills %d chunks were begun again, want at most one for each", killed, job.Progress.Redone)
	}
	return p, killed
}

// submit has the server begin the batch, and returns where it tells of it.
func (b *killedBatch) submit(p *process, dir string) string {
	p.t.Helper()
	members := maps.Clone(b.members)
	members["output"], members["chunk_rows"] = "file://"+dir+"/killed/", b.chunk
	body, err := json.Marshal(members)
	if err != nil {
		p.t.Fatal(err)
	}
	var job actions.Job
	r := p.mustPost("/v2/models/"+b.name+"/batch/", jsonMedia, body)
	if err := json.Unmarshal([]byte(r.body), &job); r.status != 202 || err != nil {
		p.t.Fatalf("got %d %s, want 202 and a job", r.status, r.body)
	}
	return "/v2/models/" + b.name + "/batch/" + job.ID
}

// awaitRows waits until a batch has done so many rows more, or has ended.
func (p *process) awaitRows(at string, more int64) {
	p.t.Helper()
	first := int64(-1)
	eventually(p.t, "progress of the batch", func() bool {
		job := p.batchStatus(at)
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
