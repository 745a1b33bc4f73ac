package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const trainRoute = "/v2/models/learner/train/"

// A training is the status of one as the API tells it.
type training struct {
	UUID, Status, Message string
	Args                  map[string]any
	Result                struct{ Output json.RawMessage }
	Progress              struct {
		Fraction float64
		Text     string
	}
}

// asTraining reads the status of a training.
func asTraining(t *testing.T, r reply) training {
	t.Helper()
	var tr training
	if err := json.Unmarshal([]byte(r.body), &tr); err != nil || r.status != 200 {
		t.Fatalf("got %d %s, %v, want a training", r.status, r.body, err)
	}
	return tr
}

// train begins a training.
func (p *process) train(args string) training {
	p.t.Helper()
	tr := asTraining(p.t, p.mustPost(trainRoute, jsonMedia, []byte(args)))
	if tr.Status != "running" || len(tr.UUID) != 32 {
		p.t.Fatalf("got %+v, want a running one with an id", tr)
	}
	return tr
}

func (p *process) status(id string) training {
	p.t.Helper()
	return asTraining(p.t, p.mustGet(trainRoute+id))
}

// until waits until a training has a status.
func (p *process) until(id, status string) training {
	p.t.Helper()
	var tr training
	eventually(p.t, "a training that is "+status, func() bool {
		tr = p.status(id)
		return tr.Status == status
	})
	return tr
}

// pids waits until a training has said its process ids, and returns them.
func (p *process) pids(id string) (worker, child int) {
	p.t.Helper()
	eventually(p.t, "the training's process ids", func() bool {
		_, line, _ := strings.Cut(p.mustGet(trainRoute+id+"/logs").body, "pids ")
		n, _ := fmt.Sscan(line, &worker, &child)
		return n == 2
	})
	return worker, child
}

func gone(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("process %d gone", pid), func() bool { return !alive(pid) })
	}
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTraining trains over the API while predictions go on, with a second training that
// waits for the first.
func TestTraining(t *testing.T) {
	t.Parallel()
	p := servePython(t, copyOf(t, "learner.py"))
	gate := filepath.Join(t.TempDir(), "gate")
	media, body := parts(t, [3]string{"steps", "", "3"}, [3]string{"gate", "", gate}, [3]string{"file", "data.csv", "a,b"})
	first := asTraining(t, p.mustPost(trainRoute, media, body))
	if first.Args["steps"] != 3.0 {
		t.Errorf("got the arguments %v, want 3 steps", first.Args)
	}
	second := p.train(`{"steps":4}`)
	eventually(t, "progress", func() bool { return p.status(first.UUID).Progress.Fraction > 0 })
	if tr := p.status(first.UUID); tr.Progress.Fraction != 0.5 || tr.Progress.Text != "half" || tr.Status != "running" {
		t.Errorf("got %+v, want half of it", tr)
	}
	worker, _ := p.pids(first.UUID)
	for n := range 20 {
		r := p.mustPost("/v2/models/learner/predict/", jsonMedia, fmt.Appendf(nil, `{"n":%d}`, n))
		if !r.has(200, fmt.Sprintf(`"n": %d,`, n)) || strings.Contains(r.body, fmt.Sprintf(`"pid": %d}`, worker)) {
			t.Errorf("prediction during a training: got %d %s", r.status, r.body)
		}
	}
	if logs := p.mustGet(trainRoute + second.UUID + "/logs"); strings.Contains(logs.body, "training starts") {
		t.Errorf("the second training did not wait for the first: %s", logs.body)
	}
	touch(t, gate)
	done := p.until(first.UUID, "done")
	kept := filepath.Join(p.data, "models", "learner")
	if want := fmt.Sprintf(`{"steps": 3, "text": "a,b", "kept": "%s"}`, kept); plainJSON(t, string(done.Result.Output)) != plainJSON(t, want) {
		t.Errorf("got the result %s, want %s", done.Result.Output, want)
	}
	if logs := p.mustGet(trainRoute + first.UUID + "/logs"); !logs.has(200, "training starts\n") || !logs.has(200, "training ends") {
		t.Errorf("got the logs %d %s", logs.status, logs.body)
	}
	p.until(second.UUID, "done")
	if r := p.mustGet(trainRoute); !strings.Contains(r.body, first.UUID) || !strings.Contains(r.body, second.UUID) {
		t.Errorf("the list has not both: %s", r.body)
	}
	if left, err := os.ReadDir(p.temp); err != nil || len(left) > 0 {
		t.Errorf("the folder for temporary files holds %v, %v; want nothing after the trainings", left, err)
	}
}

// TestTrainingFaults begins trainings that cannot be, or fail.
func TestTrainingFaults(t *testing.T) {
	t.Parallel()
	p := servePython(t, copyOf(t, "learner.py"))
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{`{}`, 422, `{"steps":["Missing data for required field."]}`},
		{`{"steps":"many"}`, 422, `{"steps":["Not a valid integer."]}`},
		{`{"steps":1,"file":7}`, 422, `{"file":["Must be an uploaded file."]}`},
		{`{"steps":`, 400, "Invalid JSON body."},
	} {
		r := p.mustPost(trainRoute, jsonMedia, []byte(c.args))
		if !r.has(c.status, c.want) {
			t.Errorf("%s: got %d %s, want %d %s", c.args, r.status, r.body, c.status, c.want)
		}
		record(t, "train: "+c.args, r, "-", "none is started")
	}
	if r := p.mustGet(trainRoute); r.status != 200 || strings.TrimSpace(r.body) != "[]" {
		t.Errorf("the list: got %d %s, want it empty", r.status, r.body)
	}
	for fault, want := range map[string]string{"raise": "ValueError: the data are empty", "die": "exit status 7"} {
		tr := p.until(p.train(`{"steps":1,"fault":"`+fault+`"}`).UUID, "error")
		if !strings.Contains(tr.Message, want) {
			t.Errorf("%s: got %q, want %q", fault, tr.Message, want)
		}
		worker, child := p.pids(tr.UUID)
		gone(t, worker, child)
		record(t, "train: "+fault, "status `error`, `"+tr.Message+"`", "-", "of the training: ends")
	}
	for _, path := range []string{trainRoute + "nothing", trainRoute + strings.Repeat("0", 32), trainRoute + "..%2f..%2fetc"} {
		if r := p.mustGet(path); r.status != 404 {
			t.Errorf("GET %s: got %d %s, want 404", path, r.status, r.body)
		}
	}
}

// TestCancelTraining ends a training and all processes that it has started.
func TestCancelTraining(t *testing.T) {
	t.Parallel()
	p := servePython(t, copyOf(t, "learner.py"))
	running := p.train(`{"steps":1,"gate":"/nowhere"}`)
	waiting := p.train(`{"steps":2,"gate":"/nowhere"}`)
	worker, child := p.pids(running.UUID)
	for _, id := range []string{waiting.UUID, running.UUID} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, p.base+trainRoute+id, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := do(req)
		if err != nil || asTraining(t, r).Status != "cancelled" {
			t.Errorf("DELETE: got %d %s %v, want it cancelled", r.status, r.body, err)
		}
		if r := p.mustGet(trainRoute + id); r.status != 404 {
			t.Errorf("after DELETE: got %d %s, want 404", r.status, r.body)
		}
	}
	gone(t, worker, child)
	p.until(p.train(`{"steps":3}`).UUID, "done")
	if r := p.mustPost("/v2/models/learner/predict/", jsonMedia, []byte(`{"n":1}`)); !r.has(200, `"n": 1`) {
		t.Errorf("prediction after it: got %d %s", r.status, r.body)
	}
	record(t, "train: cancelled", "200 with the status `cancelled`; then 404", "-", "of the training: ends, with its process group")
}

// TestServerEndsDuringTraining kills a server, and ends another with SIGTERM, while it
// trains. The next one with the same data says that the training was interrupted.
func TestServerEndsDuringTraining(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(p *process, child int){
		"kill -9": func(p *process, child int) {
			p.kill()
			// The kernel ends the worker, but not what that has started: nobody is left
			// who could kill its group.
			_ = syscall.Kill(child, syscall.SIGKILL)
		},
		"SIGTERM": func(p *process, _ int) { p.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			model := copyOf(t, "learner.py")
			p := servePython(t, model, "--grace", "1s")
			done := p.until(p.train(`{"steps":1}`).UUID, "done")
			running := p.train(`{"steps":2,"gate":"/nowhere"}`)
			waiting := p.train(`{"steps":3}`)
			worker, child := p.pids(running.UUID)
			end(p, child)
			gone(t, worker, child)

			next := servePython(t, model, "--data", p.data)
			for _, id := range []string{running.UUID, waiting.UUID} {
				if tr := next.status(id); tr.Status != "interrupted" {
					t.Errorf("got %+v, want it interrupted", tr)
				}
			}
			if tr := next.status(done.UUID); tr.Status != "done" || !strings.Contains(string(tr.Result.Output), `"steps": 1`) {
				t.Errorf("got %+v, want the result of the one that was done", tr)
			}
			if logs := next.mustGet(trainRoute + running.UUID + "/logs"); !logs.has(200, "training starts") {
				t.Errorf("got the logs %d %s", logs.status, logs.body)
			}
			next.until(next.train(`{"steps":4}`).UUID, "done")
			record(t, "train: server ends by "+name, "status `interrupted`, after a restart with the same data", "-", "of the training: ends with the server")
		})
	}
}

// TestNoTraining turns trainings off, and asks a model that has none.
func TestNoTraining(t *testing.T) {
	t.Parallel()
	p := servePython(t, copyOf(t, "learner.py"), "--train-endpoint=false")
	r := p.mustPost(trainRoute, jsonMedia, []byte(`{"steps":1}`))
	if r.status != 402 {
		t.Errorf("got %d %s, want 402", r.status, r.body)
	}
	record(t, "train: turned off", r, "-", "goes on")
	without := servePython(t, copyOf(t, "function.py"))
	r = without.mustPost("/v2/models/function/train/", jsonMedia, []byte(`{}`))
	if r.status != 501 {
		t.Errorf("a model that cannot be trained: got %d %s, want 501", r.status, r.body)
	}
	record(t, "train: the model has none", r, "-", "goes on")
}
