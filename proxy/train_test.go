package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// fakeJobs has the jobs that are put into it.
type fakeJobs struct {
	jobs      []actions.Job
	err       error
	submitted actions.Request
	shown     string
}

func (f *fakeJobs) Submit(_ context.Context, req actions.Request, shown json.RawMessage) (actions.Job, error) {
	f.submitted, f.shown = req, string(shown)
	return actions.Job{
		ID: "e30dd174e6d8456da8766b9bfb929300", Model: req.Model, Verb: req.Verb, Args: shown, State: actions.JobQueued,
		Created: time.Date(2026, 11, 22, 17, 41, 51, 590769000, time.Local),
	}, f.err
}

func (f *fakeJobs) List(_ context.Context, model string) ([]actions.Job, error) {
	var found []actions.Job
	for _, j := range f.jobs {
		if j.Model == model {
			found = append(found, j)
		}
	}
	return found, f.err
}

func (f *fakeJobs) Job(ctx context.Context, model, id string) (actions.Job, error) {
	jobs, err := f.List(ctx, model)
	for _, j := range jobs {
		if j.ID == id {
			return j, err
		}
	}
	return actions.Job{}, actions.Errorf(actions.NotFound, "%s has no training %q", model, id)
}

func (f *fakeJobs) Cancel(ctx context.Context, model, id string) (actions.Job, error) {
	j, err := f.Job(ctx, model, id)
	if err == nil && !j.State.Final() {
		j.State = actions.JobCancelled
	}
	f.jobs = nil
	return j, err
}

func (f *fakeJobs) Logs(ctx context.Context, model, id string) ([]byte, error) {
	_, err := f.Job(ctx, model, id)
	return []byte("epoch 1\n"), err
}

const trainPath = "/v2/models/mod/train/"

// The arguments of a training are parsed before it is accepted, and shown as they were.
func TestTrainSubmit(t *testing.T) {
	inv := &fakeInvoker{
		info:   []byte(`{"predict":null,"train":{"parameters":[{"name":"token","location":"headers"}]}}`),
		answer: answering(jsonType, `{"sleep": 3, "é": null}`),
	}
	jobs := &fakeJobs{}
	s, st := newServer(t, Config{Invoker: inv, Catalog: module(), Jobs: jobs})
	got := s.handle(t.Context(), &request{
		method: http.MethodPost, path: trainPath, query: "sleep=3", contentType: jsonType, body: []byte(`{"x":1}`),
		id: "id-1", accept: "image/png", header: headers([2]string{"Token", "t"}),
		answer: new(make([]byte, 0, 1000)), // which is not the job's: it goes on when others use it
	})
	wantResponse(t, got, 200, `{"date": "2026-11-22 17:41:51.590769", "args": {"sleep": 3, "\u00e9": null}, "uuid": "e30dd174e6d8456da8766b9bfb929300", "status": "running"}`)
	want := actions.Request{
		Model: "mod", Verb: actions.ParseTrain, ID: "id-1", Args: []byte(`{"x":1}`),
		Texts: []actions.Text{{Origin: actions.FromQuery, Name: "sleep", Value: "3"}, {Origin: actions.FromHeader, Name: "token", Value: "t"}},
	}
	if diff := cmp.Diff(want, inv.lastRequest()); diff != "" {
		t.Error(diff)
	}
	want.Verb = actions.Train
	if diff := cmp.Diff(want, jobs.submitted); diff != "" || jobs.shown != `{"sleep": 3, "é": null}` {
		t.Error(diff, jobs.shown)
	}
	if log := st.log.String(); strings.Count(log, "msg=invocation") != 1 || !strings.Contains(log, "verb=train") {
		t.Errorf("got log %s", log)
	}
	inv.answer = answering(jsonType, `null`)
	wantResponse(t, post(t, s, trainPath, `{}`), 200, `{"date": "2026-11-22 17:41:51.590769", "args": {}, "uuid"…`)
}

func TestTrainRefused(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		parse, job error
		none       bool // no Jobs
		status     int
		want       string
	}{
		{"wrong argument", `{}`, &actions.Error{Code: actions.Invalid, Fields: map[string][]string{"sleep": {"Not a valid integer."}}}, nil, false, 422, `{"sleep":["Not a valid integer."]}`},
		{"cannot", `{}`, actions.Errorf(actions.Unsupported, "mod cannot be trained"), nil, false, 501, `{"error":"mod cannot be trained","code":"unsupported"}`},
		{"not JSON", `{`, nil, nil, false, 400, `{"json":["Invalid JSON body."]}`},
		{"disk full", `{}`, nil, actions.Errorf(actions.Unavailable, "no space left"), false, 503, `{"error":"no space left","code":"unavailable"}`},
		{"broken", `{}`, nil, errors.New("secret"), false, 500, `{"error":"internal error; the log has its cause under request id id-1","code":"internal"}`},
		{"no trainings", `{}`, nil, nil, true, 501, `{"error":"mod cannot be trained: this server runs no trainings","code":"unsupported"}`},
	} {
		inv := &fakeInvoker{answer: answering(jsonType, `{}`)}
		if tt.parse != nil {
			inv.answer = failing(tt.parse)
		}
		jobs := &fakeJobs{err: tt.job}
		cfg := Config{Invoker: inv, Catalog: module(), Jobs: jobs}
		if tt.none {
			cfg.Jobs = nil
		}
		s, _ := newServer(t, cfg)
		t.Run(tt.name, func(t *testing.T) {
			wantResponse(t, post(t, s, trainPath, tt.body), tt.status, tt.want+"\n")
			if tt.job == nil && jobs.submitted.Model != "" {
				t.Error("a training was submitted")
			}
		})
	}
	s, _ := newServer(t, Config{Jobs: &fakeJobs{}, Invoker: &fakeInvoker{answer: failing(actions.Errorf(actions.Unsupported, "echo cannot be trained"))}})
	wantResponse(t, post(t, s, "/v2/models/echo/train/", `{}`), 501, `{"error":"echo cannot be trained…`)
	wantResponse(t, post(t, s, "/v2/models/nope/train/", `{}`), 404, `{"error":"there is no model…`)
}

// The status of a training in all its states, in upstream's words and order.
func TestTrainings(t *testing.T) {
	begun := time.Date(1996, 1, 2, 3, 4, 5, 600000000, time.Local)
	job := func(id string, state actions.JobState, change func(*actions.Job)) actions.Job {
		j := actions.Job{ID: id, Model: "mod", Verb: actions.Train, Args: json.RawMessage(`{"a":1}`), State: state, Created: begun}
		change(&j)
		return j
	}
	none := func(*actions.Job) {}
	head := func(id string) string {
		return `{"date": "1996-01-02 03:04:05.600000", "args": {"a": 1}, "uuid": "` + id + `", "status": `
	}
	jobs := []actions.Job{
		job("q", actions.JobQueued, none),
		job("r", actions.JobRunning, func(j *actions.Job) { j.Progress = &actions.Progress{Fraction: 0.42, Text: "epoch 3"} }),
		job("d", actions.JobDone, func(j *actions.Job) {
			j.Result, j.Finished = json.RawMessage(`[1,2]`), begun.Add(3005668*time.Microsecond)
		}),
		job("n", actions.JobDone, func(j *actions.Job) { j.Finished = begun.Add(25 * time.Hour) }),
		job("w", actions.JobDone, func(j *actions.Job) { // it waited for an hour
			j.Started, j.Finished = begun.Add(time.Hour), begun.Add(time.Hour+2*time.Second)
		}),
		job("e", actions.JobFailed, func(j *actions.Job) { j.Error = "ValueError: x" }),
		job("c", actions.JobCancelled, none),
		job("i", actions.JobInterrupted, func(j *actions.Job) { j.Error, j.Args = "the server ended", nil }),
	}
	want := []string{
		head("q") + `"running", "queued": true}`,
		head("r") + `"running", "progress": {"fraction": 0.42, "text": "epoch 3"}}`,
		head("d") + `"done", "result": {"output": [1, 2], "finish_date": "1996-01-02 03:04:08.605668", "duration": "0:00:03.005668"}}`,
		head("n") + `"done", "result": {"output": null, "finish_date": "1996-01-03 04:04:05.600000", "duration": "1 day, 1:00:00"}}`,
		head("w") + `"done", "result": {"output": null, "finish_date": "1996-01-02 04:04:07.600000", "duration": "0:00:02"}}`,
		head("e") + `"error", "message": "ValueError: x"}`,
		head("c") + `"cancelled"}`,
		strings.Replace(head("i"), `{"a": 1}`, `{}`, 1) + `"interrupted", "message": "the server ended"}`,
	}
	s, _ := newServer(t, Config{Catalog: module(), Jobs: &fakeJobs{jobs: jobs}})
	wantResponse(t, get(t, s, trainPath), 200, "["+strings.Join(want, ", ")+"]")
	for i, j := range jobs {
		wantResponse(t, get(t, s, trainPath+j.ID), 200, want[i])
		wantResponse(t, get(t, s, trainPath+j.ID+"/"), 200, want[i])
	}
	for _, path := range []string{"d/logs", "d/logs/"} {
		if got := get(t, s, trainPath+path); got.status != 200 || got.contentType != textType || string(got.body) != "epoch 1\n" {
			t.Errorf("%s: got %d %s %s", path, got.status, got.contentType, got.body)
		}
	}
	if got := get(t, s, strings.TrimSuffix(trainPath, "/")); got.status != 308 || got.location != trainPath {
		t.Errorf("got %d %s", got.status, got.location)
	}
	del := func(id string) response {
		return s.handle(t.Context(), &request{method: http.MethodDelete, path: trainPath + id, id: "id-1"})
	}
	wantResponse(t, del("r"), 200, head("r")+`"cancelled", "progress": {"fraction": 0.42, "text": "epoch 3"}}`)
	wantResponse(t, del("r"), 404, `{"error":"mod has no training \"r\"","code":"not_found"}`+"\n")
	wantResponse(t, get(t, s, trainPath), 200, `[]`)
}

// A training says that it waits when it has waited for a moment.
func TestTrainingQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := actions.Job{ID: "q", Model: "mod", State: actions.JobQueued, Created: time.Now()}
		s, _ := newServer(t, Config{Catalog: module(), Jobs: &fakeJobs{jobs: []actions.Job{job}}})
		queued := func() any {
			var doc map[string]any
			if err := json.Unmarshal(get(t, s, trainPath+"q").body, &doc); err != nil || doc["status"] != "running" {
				t.Errorf("got %v, %v", doc, err)
			}
			return doc["queued"]
		}
		time.Sleep(queuedTime - time.Nanosecond)
		if got := queued(); got != nil {
			t.Errorf("got queued %v at once", got)
		}
		time.Sleep(time.Nanosecond)
		if got := queued(); got != true {
			t.Errorf("got queued %v, want true", got)
		}
	})
}

func TestTrainingsErrors(t *testing.T) {
	long := strings.Repeat("x", 10000)
	s, _ := newServer(t, Config{Catalog: module(), Jobs: &fakeJobs{}})
	wantResponse(t, get(t, s, trainPath+"a"), 404, `{"error":"mod has no training \"a\"","code":"not_found"}`+"\n")
	wantResponse(t, get(t, s, trainPath+"a/logs"), 404, `{"error":"mod has no training \"a\"","code":"not_found"}`+"\n")
	wantResponse(t, get(t, s, trainPath+"a/b"), 404, `{"error":"there is nothing at…`)
	wantResponse(t, get(t, s, "/v2/models/nope/train/"), 404, `{"error":"there is no model…`)
	if got := get(t, s, trainPath+long); got.status != 404 || len(got.body) > 500 {
		t.Errorf("got %d with %d bytes", got.status, len(got.body))
	}
	s, st := newServer(t, Config{Catalog: module(), Jobs: &fakeJobs{err: errors.New("disk secret")}})
	wantResponse(t, get(t, s, trainPath), 500, `{"error":"internal error…`)
	if !strings.Contains(st.log.String(), "disk secret") {
		t.Error("the log does not have the cause")
	}
	s, _ = newServer(t, Config{Catalog: module()}) // without Jobs
	wantResponse(t, get(t, s, trainPath), 200, `[]`)
	wantResponse(t, get(t, s, trainPath+"a"), 404, `{"error":"mod has no training…`)
}

func TestPythonDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0:00:00", time.Microsecond: "0:00:00.000001", 61*time.Minute + time.Second: "1:01:01", -time.Second: "0:00:00",
		49*time.Hour + 1500*time.Millisecond: "2 days, 1:00:01.500000", time.Nanosecond: "0:00:00",
	} {
		if got := pythonDuration(d); got != want {
			t.Errorf("got %q of %d, want %q", got, d, want)
		}
	}
}

// An endpoint that is turned off is upstream's 402.
func TestTurnedOff(t *testing.T) {
	s, _ := newServer(t, Config{Catalog: module(), Jobs: &fakeJobs{}, NoPredict: true, NoTrain: true, NoDocs: true})
	for _, line := range []string{"POST " + modPath, "POST " + trainPath, "GET " + trainPath, "GET " + trainPath + "a", "DELETE " + trainPath + "a"} {
		method, path, _ := strings.Cut(line, " ")
		got := s.handle(t.Context(), &request{method: method, path: path, body: []byte("{}")})
		if got.status != 402 || string(got.body) != "402: Payment Required" || got.contentType != textType {
			t.Errorf("%s: got %d %s %s", line, got.status, got.contentType, got.body)
		}
	}
	for _, line := range []string{"POST /v2/models/nobody/predict/", "POST /v2/models/nobody/train/", "GET /v2/models/nobody/train/a"} {
		method, path, _ := strings.Cut(line, " ")
		if got := s.handle(t.Context(), &request{method: method, path: path}); got.status != 404 {
			t.Errorf("%s: got %d, want 404 of a model that there is not", line, got.status)
		}
	}
	wantResponse(t, get(t, s, "/"), 200, `{"versions": [{"version": "stable", "id": "v2", "links": [{"rel": "self", "type": "application/json", "href": "/v2/"}]}], `+
		`"links": [{"rel": "describedby", "type": "application/json", "href": "/swagger.json"}]}`)
	wantResponse(t, get(t, s, "/v2/models/mod/"), 200, `{"id": "mod"…`)
	s, _ = newServer(t, Config{Model: "mod", Catalog: module(), NoPredict: true, Invoker: &fakeInvoker{answer: answering(jsonType, "{}")}})
	wantResponse(t, post(t, s, "/run", `{}`), 200, `{}`) // OpenWhisk's endpoint is another one
}

func TestDebug(t *testing.T) {
	lines := []actions.LogLine{{Stream: actions.Stdout, Text: "out"}, {Stream: actions.Stderr, Text: "err"}}
	s, _ := newServer(t, Config{Catalog: module(), Debug: true, Invoker: &fakeInvoker{answer: failing(&actions.Error{Code: actions.Failed, Logs: lines})}})
	if got := get(t, s, "/v2/debug/"); got.status != 200 || got.contentType != textType || len(got.body) != 0 {
		t.Errorf("got %d %s %q", got.status, got.contentType, got.body)
	}
	post(t, s, modPath, `{}`)
	s.cfg.Invoker = &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
		return actions.Response{ContentType: jsonType, Logs: lines[:1]}, nil
	}}
	post(t, s, modPath, `{}`)
	if got := string(get(t, s, "/v2/debug/").body); got != "out\nerr\nout\n" {
		t.Errorf("got %q", got)
	}
	s.cfg.Debug = false
	if got := get(t, s, "/v2/debug/"); got.status != 204 || len(got.body) != 0 {
		t.Errorf("got %d %q", got.status, got.body)
	}
}

func TestPrintedIsBounded(t *testing.T) {
	var p printed
	for range 40 {
		p.add([]actions.LogLine{{Text: strings.Repeat("a", maxDebug/8)}, {Text: "b"}})
	}
	if got := p.show(); len(got) > maxDebug || len(got) < maxDebug/2 || !strings.HasSuffix(string(got), "a\nb\n") || cap(p.text) > 4*maxDebug {
		t.Errorf("got %d bytes of %d", len(got), cap(p.text))
	}
	p.add([]actions.LogLine{{Text: strings.Repeat("c", 5*maxDebug)}})
	if got := p.show(); len(got) != maxDebug || got[0] != 'c' {
		t.Errorf("got %d bytes", len(got))
	}
}
