package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// TestBatchThroughBroker has the chunks of a batch done by another server, through a broker that
// accepts an event when the subscriber has taken it, as those of Knative do whose channel is in
// memory: so it has to be given several at the same time.
func TestBatchThroughBroker(t *testing.T) {
	t.Parallel()
	w := newBatchWorld(t, 400)
	replica := w.serve()
	pairs := make(chan struct{}) // the first event of two waits for the second one
	broker := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case pairs <- struct{}{}:
		case <-pairs:
		case <-time.After(time.Minute):
			t.Error("there was one chunk alone under way for a minute")
		}
		rw.WriteHeader(passOn(t, r, replica.base))
	}))
	t.Cleanup(broker.Close)
	p := newServer(t)
	p.serve(&p.stdout, filepath.Join(w.dir, "double.py"), "--python", current(t), "--allow-url", "file://"+w.dir+"/", "--allow-url", broker.URL+"/lab/")
	p.batchIn(p.begin(w.batch("rows.ndjson", "alone", `,"chunk_rows":50`)).ID, actions.JobDone)
	p.batchIn(p.begin(w.batch("rows.ndjson", "fanned", `,"chunk_rows":50,"through":"`+broker.URL+`/lab/default"`)).ID, actions.JobDone)
	if got, want := w.parts("fanned"), w.parts("alone"); got != want {
		t.Errorf("the answers of the replica are others: %d bytes, want %d", len(got), len(want))
	}
}

// passOn sends an event on to a subscriber, and returns what a broker answers then.
func passOn(t *testing.T, r *http.Request, to string) int {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return http.StatusBadRequest // the sender is gone
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return http.StatusInternalServerError
	}
	req.Header = r.Header.Clone()
	answer, err := do(req)
	if err != nil || answer.status != http.StatusNoContent {
		t.Logf("the replica answered %d %s, %v", answer.status, answer.body, err)
		return http.StatusInternalServerError
	}
	return http.StatusAccepted
}
