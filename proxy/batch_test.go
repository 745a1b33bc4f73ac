package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// fakeBatches has the jobs that are put into it.
type fakeBatches struct {
	fakeJobs
	err       error // of Submit and Do
	submitted actions.Batch
	done      actions.Chunk
}

func (f *fakeBatches) Submit(_ context.Context, b actions.Batch) (actions.Job, error) {
	f.submitted = b
	args, _ := json.Marshal(b)
	return batchJob(args), f.err
}

func (f *fakeBatches) Do(_ context.Context, c actions.Chunk) error {
	f.done = c
	return f.err
}

const (
	batchID   = "e30dd174e6d8456da8766b9bfb929300"
	batchPath = "/v2/models/mod/batch/"
	jobText   = `{"id":"` + batchID + `","model":"mod","verb":"predict","args":`
	jobState  = `,"state":"queued","created":"2026-11-30T01:00:00Z"}`
)

func batchJob(args json.RawMessage) actions.Job {
	return actions.Job{
		ID: batchID, Model: "mod", Verb: actions.Predict, Args: args,
		State: actions.JobQueued, Created: time.Date(2026, 11, 30, 1, 0, 0, 0, time.UTC),
	}
}

func TestBatchSubmit(t *testing.T) {
	const plain = `{"model":"mod","input":{"url":"s3://in/a.csv"},"output":{"url":"s3://out/a/"}}`
	for _, tt := range []struct {
		name, body string
		submit     error
		none       bool // no Batches
		status     int
		want       string
	}{
		{"short", `{"input":"s3://in/a.csv","output":"s3://out/a/"}`, nil, false, 202, jobText + plain + jobState + "\n"},
		{"with its model", plain, nil, false, 202, jobText + plain + jobState + "\n"},
		{"of another", strings.Replace(plain, `"mod"`, `"other"`, 1), nil, false, 400, `{"error":"the batch is of the model \"other\", and its address of mod; leave the member model out","code":"invalid"}` + "\n"},
		{"unknown member", `{"inputs":1}`, nil, false, 400, `{"error":"the batch: unknown key \"inputs\"; there are model, input…`},
		{"no object", `7`, nil, false, 400, `{"error":"a batch is a JSON object with an input and an output","code":"invalid"}` + "\n"},
		{"not JSON", `{`, nil, false, 400, `{"error":"a batch is a JSON object with an input and an output","code":"invalid"}` + "\n"},
		{"not allowed", plain, actions.Errorf(actions.Forbidden, "s3://in/ is not allowed"), false, 403, `{"error":"s3://in/ is not allowed","code":"forbidden"}` + "\n"},
		{"too many", plain, actions.Errorf(actions.Busy, "1000 jobs wait"), false, 429, `{"error":"1000 jobs wait","code":"busy"}` + "\n"},
		{"broken", plain, errors.New("secret"), false, 500, `{"error":"internal error; the log has its cause under request id id-1","code":"internal"}` + "\n"},
		{"no batches", plain, nil, true, 501, `{"error":"this server runs no batch predictions","code":"unsupported"}` + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Catalog: module(), BasePath: "/base"}
			batches := &fakeBatches{err: tt.submit}
			if !tt.none {
				cfg.Batches = batches
			}
			s, _ := newServer(t, cfg)
			got := post(t, s, "/base"+batchPath, tt.body)
			wantResponse(t, got, tt.status, tt.want)
			location := ""
			if tt.status == 202 {
				location = "/base" + batchPath + batchID
			}
			if got.location != location {
				t.Errorf("got the location %q, want %q", got.location, location)
			}
			if tt.status == 202 && batches.submitted.Input.URL != "s3://in/a.csv" {
				t.Errorf("submitted: %+v", batches.submitted)
			}
		})
	}
}

func TestBatchRoutes(t *testing.T) {
	job := batchJob(json.RawMessage(`{}`))
	job.Progress = &actions.Progress{Fraction: 0.5, Rows: 10, Total: 20, Chunks: 1, Time: job.Created}
	const progress = `,"progress":{"fraction":0.5,"rows":10,"total":20,"chunks":1,"time":"2026-11-30T01:00:00Z"}}`
	queued := strings.TrimSuffix(jobText+"{}"+jobState, "}") + progress
	long := strings.Repeat("x", 201)
	for _, tt := range []struct {
		method, path string
		jobs         []actions.Job
		status       int
		want         string
	}{
		{"GET", batchPath, nil, 200, "[]\n"},
		{"GET", batchPath, []actions.Job{job}, 200, "[" + queued + "]\n"},
		{"GET", batchPath + batchID, []actions.Job{job}, 200, queued + "\n"},
		{"GET", batchPath + batchID + "/", []actions.Job{job}, 200, queued + "\n"},
		{"GET", batchPath + "none", []actions.Job{job}, 404, `{"error":"mod has no training \"none\"","code":"not_found"}` + "\n"},
		{"GET", batchPath + long, []actions.Job{job}, 404, `{"error":"mod has no batch \"` + short(long) + `\"","code":"not_found"}` + "\n"},
		{"DELETE", batchPath + batchID, []actions.Job{job}, 200, strings.Replace(queued, `"queued"`, `"cancelled"`, 1) + "\n"},
		{"GET", batchPath + batchID + "/logs", []actions.Job{job}, 200, "epoch 1\n"},
		{"GET", "/v2/models/none/batch/", nil, 404, `{"error":"there is no model \"none\"; there is mod","code":"not_found"}` + "\n"},
		{"PUT", batchPath, nil, 405, `{"error":"/v2/models/mod/batch/ does not take PUT","code":"unsupported"}` + "\n"},
	} {
		s, _ := newServer(t, Config{Catalog: module(), Batches: &fakeBatches{fakeJobs: fakeJobs{jobs: tt.jobs}}})
		got := s.handle(t.Context(), &request{method: tt.method, path: tt.path, id: "id-1"})
		if got.status != tt.status || string(got.body) != tt.want {
			t.Errorf("%s %s: got %d %s, want %d %s", tt.method, tt.path, got.status, got.body, tt.status, tt.want)
		}
	}
}

// TestBatchElsewhere has servers that run no batches.
func TestBatchElsewhere(t *testing.T) {
	s, _ := newServer(t, Config{Catalog: module(), Elsewhere: "ask the node"})
	wantResponse(t, get(t, s, batchPath), 501, `{"error":"there are no batch predictions here: ask the node","code":"unsupported"}`+"\n")
	s, _ = newServer(t, Config{Catalog: module(), Batches: &fakeBatches{}, NoPredict: true})
	for _, got := range []response{get(t, s, batchPath), post(t, s, batchPath, `{}`)} {
		if got.status != http.StatusPaymentRequired {
			t.Errorf("without predictions: got %d %s", got.status, got.body)
		}
	}
}

// TestBatchCrossSite has a page of another site begin a batch.
func TestBatchCrossSite(t *testing.T) {
	batches := &fakeBatches{}
	s, _ := newServer(t, Config{Catalog: module(), Batches: batches})
	got := s.handle(t.Context(), &request{
		method: http.MethodPost, path: batchPath, id: "id-1", body: []byte(`{"input":"s3://in/a.csv"}`),
		header: headers([2]string{"Sec-Fetch-Site", "cross-site"}, [2]string{"Origin", "https://other.example"}),
	})
	if got.status != http.StatusForbidden || batches.submitted.Input.URL != "" {
		t.Errorf("got %d %s, submitted %+v", got.status, got.body, batches.submitted)
	}
}

// TestBatchActivation has OpenWhisk begin batches and do chunks.
func TestBatchActivation(t *testing.T) {
	const answer = jobText + `{"model":"mod","input":{"url":"s3://in/"},"output":{"url":"s3://out/"}}` + jobState
	for _, tt := range []struct {
		name, value string
		fail        error
		none        bool // no Batches
		want        string
		chunk       int // that was done
	}{
		{"request", `{"dev.deepfn.batch.requested":{"input":"s3://in/","output":"s3://out/"}}`, nil, false, answer, 0},
		{"of another model", `{"dev.deepfn.batch.requested":{"model":"x","input":"s3://in/","output":"s3://out/"}}`, nil, false, strings.Replace(answer, `{"model":"mod","input`, `{"model":"x","input`, 1), 0},
		{"wrong", `{"dev.deepfn.batch.requested":{"inputs":1}}`, nil, false, `{"error":"the batch: unknown key \"inputs\"; there are…`, 0},
		{"refused", `{"dev.deepfn.batch.requested":{}}`, actions.Errorf(actions.Forbidden, "no"), false, `{"error":"no"}`, 0},
		{"chunk", `{"dev.deepfn.batch.chunk":{"job":"j","index":7,"row":70,"at":null,"input":"f","batch":{}}}`, nil, false, `{"done":true}`, 7},
		{"chunk that cannot be", `{"dev.deepfn.batch.chunk":{"index":7}}`, actions.Errorf(actions.Invalid, "no such chunk"), false, `{"error":"no such chunk"}`, 7},
		{"no chunk", `{"dev.deepfn.batch.chunk":[1]}`, nil, false, `{"error":"the chunk of a batch cannot be read: …`, 0},
		{"an argument beside", `{"dev.deepfn.batch.chunk":{"index":7},"x":1}`, nil, false, `{"dev.deepfn.batch.chunk":{"index":7},"x":1}`, 0},
		{"no batches", `{"dev.deepfn.batch.chunk":{"index":7}}`, nil, true, `{"dev.deepfn.batch.chunk":{"index":7}}`, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			batches := &fakeBatches{err: tt.fail}
			cfg := Config{Catalog: module(), Model: "mod"}
			if !tt.none {
				cfg.Batches = batches
			}
			s, _ := newServer(t, cfg)
			got := post(t, s, "/run", `{"value":`+tt.value+`}`)
			got.body = []byte(strings.TrimSuffix(string(got.body), "\n"))
			wantResponse(t, got, 200, tt.want)
			if diff := cmp.Diff(tt.chunk, batches.done.Index); diff != "" {
				t.Errorf("the chunk (-want +got):\n%s", diff)
			}
		})
	}
}

// TestBatchBegins has an activation of the controller begin before its batch does, once.
func TestBatchBegins(t *testing.T) {
	for _, refused := range []error{nil, actions.Errorf(actions.Canceled, "the server ends")} {
		batches, begun := &fakeBatches{}, 0
		s, _ := newServer(t, Config{Catalog: module(), Batches: batches})
		resp, err := s.Activate(t.Context(), actions.Activation{
			Model: "mod", Value: []byte(`{"dev.deepfn.batch.requested":{"input":"s3://in/"}}`),
			Begin: func(context.Context) error { begun++; return refused },
		})
		if actions.CodeOf(err) != actions.CodeOf(refused) || begun != 1 || (batches.submitted.Model == "mod") != (refused == nil) {
			t.Errorf("got %s, %v after %d beginnings, submitted %+v", resp.Data, err, begun, batches.submitted)
		}
	}
}
