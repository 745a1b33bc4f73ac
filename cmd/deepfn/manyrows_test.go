package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
)

// mortal is a model that some rows end: by an exit, by a fault in native code, by a signal.
const mortal = `
import ctypes, os

def predict(n: int, end: str = ""):
    if end == "exit":
        os._exit(7)
    if end == "fault":
        ctypes.string_at(0)
    if end == "signal":
        os.kill(os.getpid(), 9)
    if end == "raise":
        raise ValueError("no")
    return {"n": n}
`

// TestRowsThatEndTheirProcess predicts on a batch of events, some of which end the process that
// they are predicted in with all others: each of the others is answered.
func TestRowsThatEndTheirProcess(t *testing.T) {
	p := servePython(t, lay(t, "mortal.py", mortal))
	for _, test := range []struct {
		name string
		ends map[int]string
	}{
		{"none", nil},
		{"an exception", map[int]string{17: "raise"}},
		{"an exit", map[int]string{299: "exit"}},
		{"native code", map[int]string{0: "fault"}},
		{"two of a kind", map[int]string{100: "signal", 101: "signal"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			const n = 300
			var events []map[string]any
			for i := range n {
				data := map[string]any{"n": i, "end": test.ends[i]}
				events = append(events, map[string]any{"specversion": "1.0", "id": fmt.Sprint(test.name, i), "source": "/test", "type": "t", "data": data})
			}
			answered := map[int]bool{}
			for _, e := range p.batch(t, events) {
				switch {
				case e.Type == "dev.deepfn.prediction":
					answered[e.Data.N] = true
				case e.Data.Error == "":
					t.Errorf("got %+v, want a prediction or a failure", e)
				}
			}
			for i := range n {
				if want := test.ends[i] == ""; answered[i] != want {
					t.Errorf("row %d: predicted is %v, want %v", i, answered[i], want)
				}
			}
		})
	}
}

// An answerEvent is what is looked at of an event in the answer to a batch.
type answerEvent struct {
	Type string
	Data struct {
		N     int
		Error string
	}
}

// batch sends events in one request and returns the answers to them.
func (p *process) batch(t *testing.T, events []map[string]any) (answers []answerEvent) {
	t.Helper()
	body, err := json.Marshal(events)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+"/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/cloudevents-batch+json")
	req.Header.Set("Prefer", "reply")
	r, err := do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(r.body), &answers); err != nil || len(answers) != len(events) {
		t.Fatalf("got %d with %d answers to %d events, %v: %.500s", r.status, len(answers), len(events), err, r.body)
	}
	return answers
}
