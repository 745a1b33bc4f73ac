package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// doubling is a model that takes a millisecond for a row, and fails for those without a number.
const doubling = "import time\n\ndef main(args):\n    time.sleep(0.001)\n    return {'double': args['n'] * 2}\n"

// A batchWorld is a folder with a model and rows, and the servers that work there.
type batchWorld struct {
	t   *testing.T
	dir string
}

func newBatchWorld(t *testing.T, rows int) *batchWorld {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for n := range rows {
		_, _ = fmt.Fprintf(&b, `{"id":"r%d","n":%d}`+"\n", n, n)
	}
	for name, data := range map[string][]byte{"double.py": []byte(doubling), "rows.ndjson": b.Bytes(), "wrong.ndjson": []byte("{}\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &batchWorld{t: t, dir: dir}
}

func (w *batchWorld) serve(args ...string) *process {
	w.t.Helper()
	return servePython(w.t, filepath.Join(w.dir, "double.py"), append([]string{"--allow-url", "file://" + w.dir + "/"}, args...)...)
}

// batch is the JSON of a batch from one file of the folder to another folder below it.
func (w *batchWorld) batch(input, output, more string) string {
	return fmt.Sprintf(`{"input":{"url":"file://%s/%s","key":"id"},"output":"file://%s/%s/"%s}`, w.dir, input, w.dir, output, more)
}

// parts are the answers and the rows of errors of a batch.
func (w *batchWorld) parts(output string) string {
	w.t.Helper()
	// What a killed server was writing has a name that begins with a dot, until it is swept.
	names, err := filepath.Glob(filepath.Join(w.dir, output, "[a-z]*.*"))
	if err != nil || len(names) == 0 {
		w.t.Fatalf("there is nothing in %s: %v", output, err)
	}
	var b strings.Builder
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			w.t.Fatal(err)
		}
		_, _ = fmt.Fprintf(&b, "%s\n%s", filepath.Base(name), strings.ReplaceAll(string(data), "/"+output+"/", "/"))
	}
	return b.String()
}

const batchRoute = "/v2/models/double/batch/"

// begin begins a batch.
func (p *process) begin(body string) actions.Job {
	p.t.Helper()
	r := p.mustPost(batchRoute, jsonMedia, []byte(body))
	var job actions.Job
	if err := json.Unmarshal([]byte(r.body), &job); err != nil || r.status != http.StatusAccepted || r.header.Get("Location") != batchRoute+job.ID {
		p.t.Fatalf("got %d %s, %v, want a job and where it is", r.status, r.body, err)
	}
	return job
}

func (p *process) batchOf(id string) actions.Job {
	p.t.Helper()
	r := p.mustGet(batchRoute + id)
	var job actions.Job
	if err := json.Unmarshal([]byte(r.body), &job); err != nil || r.status != http.StatusOK {
		p.t.Fatalf("got %d %s, %v, want a job", r.status, r.body, err)
	}
	return job
}

// batchIn waits until a batch is in a state.
func (p *process) batchIn(id string, state actions.JobState) actions.Job {
	p.t.Helper()
	var job actions.Job
	eventually(p.t, "a batch that is "+string(state), func() bool {
		job = p.batchOf(id)
		return job.State == state
	})
	return job
}

// TestBatchOutlivesServers kills servers, and ends others, in the middle of a batch.
func TestBatchOutlivesServers(t *testing.T) {
	t.Parallel()
	w := newBatchWorld(t, 3000)
	p := w.serve()
	data := p.data
	undisturbed := p.batchIn(p.begin(w.batch("rows.ndjson", "calm", `,"chunk_rows":100`)).ID, actions.JobDone)
	id := p.begin(w.batch("rows.ndjson", "rough", `,"chunk_rows":100`)).ID
	rows := int64(0)
	const ends = 4
	for n := range ends {
		eventually(t, "progress", func() bool {
			progress := p.batchOf(id).Progress
			if progress == nil || progress.Rows <= rows+200 {
				return false
			}
			rows = progress.Rows
			return true
		})
		if n%2 == 0 {
			p.kill()
		} else if code := p.stop(); code != 0 {
			t.Errorf("the server ended with %d", code)
		}
		p = w.serve("--data", data)
	}
	job := p.batchIn(id, actions.JobDone)
	if job.Attempts != ends+1 || job.Progress.Rows != 3000 {
		t.Errorf("got %d attempts and the progress %+v", job.Attempts, job.Progress)
	}
	if again := job.Progress.Redone; again > ends {
		t.Errorf("%d chunks were done again, want at most one for each server that ended", again)
	}
	if got, want := w.parts("rough"), w.parts("calm"); got != want {
		t.Errorf("the answers are others than those of a batch that nobody disturbed: %d bytes, want %d", len(got), len(want))
	}
	if r := p.mustGet(batchRoute + id + "/logs"); !r.has(200, "goes on after") {
		t.Errorf("got the logs %d %s", r.status, r.body)
	}
	if string(undisturbed.Result) == "" || !strings.Contains(string(job.Result), `"rows":3000`) {
		t.Errorf("got the results %s and %s", undisturbed.Result, job.Result)
	}
}

// events takes what a server sends.
type events struct {
	mu  sync.Mutex // guards got
	got []string   // type, state
}

func (e *events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var job actions.Job
	if err := json.NewDecoder(r.Body).Decode(&job); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.Header.Get("Ce-Subject") == job.ID && r.Header.Get("Ce-Id") != "" {
		e.got = append(e.got, r.Header.Get("Ce-Type")+" "+string(job.State))
	}
	w.WriteHeader(http.StatusAccepted)
}

func (e *events) has(want string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.got, want)
}

// TestBatchEvents has the sink told of the ends of batches.
func TestBatchEvents(t *testing.T) {
	t.Parallel()
	w, sink := newBatchWorld(t, 5000), &events{}
	receiver := httptest.NewServer(sink)
	defer receiver.Close()
	p := w.serve("--sink", receiver.URL)
	failed := p.batchIn(p.begin(w.batch("wrong.ndjson", "failed", `,"max_errors":"0"`)).ID, actions.JobFailed)
	if !strings.Contains(failed.Error, "1 of 1 rows failed") {
		t.Errorf("got the error %q", failed.Error)
	}
	failed = p.batchIn(p.begin(w.batch("wrong.ndjson", "all", "")).ID, actions.JobFailed)
	if !strings.Contains(failed.Error, "all rows failed, 1 of them. The first: ") || !strings.Contains(failed.Error, "/all/errors-*.ndjson say why") {
		t.Errorf("got the error %q", failed.Error)
	}
	p.batchIn(p.begin(w.batch("wrong.ndjson", "done", `,"max_errors":"100%"`)).ID, actions.JobDone)
	running := p.begin(w.batch("rows.ndjson", "cancelled", `,"chunk_rows":10`)).ID
	p.batchIn(running, actions.JobRunning)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, p.base+batchRoute+running, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := do(req); err != nil || !r.has(200, `"state":"cancelled"`) {
		t.Errorf("DELETE: got %d %s, %v", r.status, r.body, err)
	}
	if r := p.mustGet(batchRoute + running); r.status != 404 {
		t.Errorf("after DELETE: got %d %s, want 404", r.status, r.body)
	}
	for _, want := range []string{
		cloudevent.BatchFailed + " error", cloudevent.BatchDone + " done", cloudevent.BatchCancelled + " cancelled",
	} {
		eventually(t, "the event "+want, func() bool { return sink.has(want) })
	}
}

// TestBatchRefused asks for what a server may not, or cannot do.
func TestBatchRefused(t *testing.T) {
	t.Parallel()
	w := newBatchWorld(t, 1)
	p := w.serve()
	for body, want := range map[string]string{
		`{"input":"file:///etc/hostname","output":"file://` + w.dir + `/out/"}`:                                "403 --allow-url",
		`{"input":"file://` + w.dir + `/rows.ndjson","output":"file:///etc/out/"}`:                             "403 --allow-url",
		`{"input":"file://` + w.dir + `/none.ndjson","output":"file://` + w.dir + `/out/"}`:                    "404 none.ndjson",
		`{"input":"file://` + w.dir + `/rows.ndjson","output":"file://` + w.dir + `/out"}`:                     "400 ends in a slash",
		w.batch("rows.ndjson", "out", `,"through":"openwhisk:/guest/x"`):                                       "403 --batch-through",
		w.batch("rows.ndjson", "out", `,"sink":"http://127.0.0.1:1/"`):                                         "403 ",
		strings.Replace(w.batch("rows.ndjson", "out", ""), `"key"`, `"format":"ndjson","text":["x"],"key"`, 1): "422 is for csv alone",
		strings.Replace(w.batch("rows.ndjson", "out", ""), `"input"`, `"model":"other","input"`, 1):            "400 leave the member model out",
		strings.Replace(w.batch("rows.ndjson", "out", ""), `"input"`, `"inputs":[],"input"`, 1):                `400 unknown key \"inputs\"`,
		strings.Replace(w.batch("rows.ndjson", "out", ""), `"input"`, `"chunk_rows":-1,"input"`, 1):            "400 chunk_rows",
	} {
		status, words, _ := strings.Cut(want, " ")
		if r := p.mustPost(batchRoute, jsonMedia, []byte(body)); fmt.Sprint(r.status) != status || !strings.Contains(r.body, words) {
			t.Errorf("%s: got %d %s, want %s", body, r.status, r.body, want)
		}
	}
	if r := p.mustGet(batchRoute); r.status != 200 || strings.TrimSpace(r.body) != "[]" {
		t.Errorf("the list: got %d %s, want it empty", r.status, r.body)
	}
	none := w.serve("--batches", "0")
	if r := none.mustGet(batchRoute); r.status != 501 {
		t.Errorf("without batches: got %d %s, want 501", r.status, r.body)
	}
}

// TestBatchByTrigger has a rule of OpenWhisk begin batches.
func TestBatchByTrigger(t *testing.T) {
	t.Parallel()
	w := newBatchWorld(t, 20)
	p := w.serve()
	for _, entity := range []struct{ path, body string }{ // the rule needs the trigger
		{"triggers/nightly", `{}`},
		{"rules/r", `{"trigger":"/_/nightly","action":"/whisk.system/batch/double"}`},
	} {
		if r := p.own(http.MethodPut, entity.path+"?overwrite=true", entity.body); r.status != 200 {
			t.Fatalf("%s: got %d %s", entity.path, r.status, r.body)
		}
	}
	fire := fmt.Sprintf(`{"input":"file://%[1]s/rows.ndjson","output":"file://%[1]s/out/"}`, w.dir)
	if r := p.own(http.MethodPost, "triggers/nightly", fire); r.status != 202 {
		t.Fatalf("fire: got %d %s", r.status, r.body)
	}
	var list []actions.Job
	eventually(t, "a batch", func() bool {
		list = nil
		err := json.Unmarshal([]byte(p.mustGet(batchRoute).body), &list)
		return err == nil && len(list) == 1
	})
	p.batchIn(list[0].ID, actions.JobDone)
	if got := w.parts("out"); !strings.Contains(got, `{"key":19,"prediction":{"double": 38}}`) {
		t.Errorf("got %s", got)
	}
}

// TestBatchThroughWhisk has the chunks of a batch done by the actions of another server.
func TestBatchThroughWhisk(t *testing.T) {
	t.Parallel()
	w := newBatchWorld(t, 400)
	replica := w.serve()
	const through = "openwhisk:/whisk.system/models/double"
	p := newServer(t)
	p.env = append(p.env, "WHISK_APIHOST="+replica.base)
	p.serve(&p.stdout, filepath.Join(w.dir, "double.py"), "--python", current(t), "--allow-url", "file://"+w.dir+"/", "--batch-through", through)
	p.batchIn(p.begin(w.batch("rows.ndjson", "alone", `,"chunk_rows":50`)).ID, actions.JobDone)
	p.batchIn(p.begin(w.batch("rows.ndjson", "fanned", `,"chunk_rows":50,"through":"`+through+`"`)).ID, actions.JobDone)
	if got, want := w.parts("fanned"), w.parts("alone"); got != want {
		t.Errorf("the answers of the replica are others: %d bytes, want %d", len(got), len(want))
	}
	if r := replica.own(http.MethodGet, "activations?limit=0", ""); strings.Count(r.body, `"activationId"`) != 8 {
		t.Errorf("the replica had %d activations, want 8", strings.Count(r.body, `"activationId"`))
	}
}

// TestBatchWatch has the command line talk to a server.
func TestBatchWatch(t *testing.T) {
	t.Parallel()
	w := newBatchWorld(t, 50)
	p := w.serve()
	deepfn := func(code int, args ...string) (stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		got := run(context.Background(), program{
			args: append([]string{"batch"}, append(args, "--server", p.base)...), stdin: strings.NewReader(""), stdout: &out, stderr: &errs,
			getenv: func(string) string { return "" },
		})
		if got != code {
			t.Errorf("batch %v: got %d, want %d: %s%s", args, got, code, &out, &errs)
		}
		return out.String(), errs.String()
	}
	input, output := filepath.Join(w.dir, "rows.ndjson"), filepath.Join(w.dir, "out")
	out, _ := deepfn(exitOK, "submit", "double", "--input", input, "--output", output, "--watch")
	if !strings.Contains(out, `"rows":50`) {
		t.Errorf("submit: got %s", out)
	}
	id, _ := deepfn(exitOK, "submit", "double", "--input", filepath.Join(w.dir, "wrong.ndjson"), "--output", output+"2", "--max-errors", "0")
	id = strings.TrimSpace(id)
	if _, errs := deepfn(exitFailed, "watch", id); !strings.Contains(errs, "the batch failed: 1 of 1 rows failed") {
		t.Errorf("watch: got %s", errs)
	}
	for _, name := range []string{id, "double/" + id} {
		if out, _ := deepfn(exitOK, "status", name); !strings.Contains(out, `"state": "error"`) {
			t.Errorf("status: got %s", out)
		}
	}
	if out, _ := deepfn(exitOK, "list"); strings.Count(out, "\n") != 3 || !strings.Contains(out, id+"  double  error") {
		t.Errorf("list: got %s", out)
	}
	if out, _ := deepfn(exitOK, "logs", id); !strings.Contains(out, "1 of 1 rows failed") {
		t.Errorf("logs: got %s", out)
	}
	deepfn(exitOK, "cancel", id)
	for _, command := range []string{"cancel", "status", "watch", "logs"} {
		if _, errs := deepfn(exitNotFound, command, id); !strings.Contains(errs, "no batch") {
			t.Errorf("%s: got %s", command, errs)
		}
	}
	if _, errs := deepfn(exitUnavailable, "submit", "double", "--input", "/etc/hostname", "--output", output); !strings.Contains(errs, "--allow-url") {
		t.Errorf("submit: got %s", errs)
	}
}
