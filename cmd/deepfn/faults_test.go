package main

import "testing"

// TestModelFaults has a model do what no model should, over both protocols.
func TestModelFaults(t *testing.T) {
	t.Parallel()
	p := servePython(t, copyOf(t, "faults.py"))
	for _, c := range []struct {
		fault  string
		status int    // under /v2/
		v2     string // is in that answer
		run    string // is in the answer of /run, whose status is 200
		dies   bool   // the worker does
	}{
		{fault: "raises", status: 500, v2: `{"error":"ValueError: the picture is upside down","code":"failed"}`, run: `{"error":"ValueError: the picture is upside down"}`},
		{fault: "raises-unprintable", status: 500, v2: "UnprintableError: <its __str__ raised RuntimeError>", run: "UnprintableError"},
		{fault: "recurses", status: 500, v2: "RecursionError", run: "RecursionError"},
		{fault: "exit", status: 500, v2: "predict called sys.exit(3)", run: "predict called sys.exit(3)"},
		{fault: "_exit", status: 503, v2: "the process ended: exit status 3", run: "the process ended: exit status 3", dies: true},
		{fault: "abort", status: 503, v2: "signal: aborted", run: "signal: aborted", dies: true},
		{fault: "segfault", status: 503, v2: "signal: segmentation fault", run: "signal: segmentation fault", dies: true},
		{fault: "killed", status: 503, v2: "for want of memory", run: "for want of memory", dies: true},
		{fault: "keyboard", status: 500, v2: "KeyboardInterrupt", run: "KeyboardInterrupt"},
		{fault: "terminated", status: 503, v2: "signal: terminated", run: "signal: terminated", dies: true},
		{fault: "memory", status: 500, v2: "predict ran out of memory", run: "predict ran out of memory"},
		{fault: "flood", status: 200, v2: `{"printed": 104857600}`, run: `{"printed": 104857600}`},
		{fault: "copy", status: 200, v2: `{"copy": false}`, run: `{"copy": false}`},
		{fault: "close-1", status: 200, v2: `{"closed": 1}`, run: `{"closed": 1}`},
		{fault: "close-all", status: 200, v2: `{"closed": "all"}`, run: `{"closed": "all"}`},
		{fault: "no-stdout", status: 200, v2: `{"stdout": null}`, run: `{"stdout": null}`},
		{fault: "nan", status: 200, v2: `{"a": null, "b": [null, null], "c": 1.5}`, run: `{"a": null, "b": [null, null], "c": 1.5}`},
		{fault: "array", status: 200, v2: `{"boxes": [[1, 2], [3, 4]], "score": 0.5, "n": 3}`, run: `{"boxes": [[1, 2], [3, 4]], "score": 0.5, "n": 3}`},
		{fault: "scalar", status: 200, v2: `"predictions": 7}`, run: `{"result":7}`},
		{fault: "array-nan", status: 200, v2: `"predictions": [1.0, null]}`, run: `[1.0, null]`},
		{fault: "datetime", status: 200, v2: `{"at": "2026-01-02T03:04:05", "day": "2026-01-02"}`, run: `{"at": "2026-01-02T03:04:05", "day": "2026-01-02"}`},
		{fault: "set", status: 200, v2: `{"labels": ["a", "b"]}`, run: `{"labels": ["a", "b"]}`},
		{fault: "circular", status: 500, v2: "predict returned a circular structure at predictions.a[0]", run: "circular structure"},
		{fault: "unprintable", status: 500, v2: "faults.Unprintable, which has no form in JSON at predictions.a[1]", run: "no form in JSON"},
		{fault: "object", status: 500, v2: "no form in JSON at predictions.a[1]", run: "no form in JSON"},
		{fault: "surrogate", status: 200, v2: `{"text": "a\ud800b"}`, run: `{"text": "a\ud800b"}`},
		{fault: "deep", status: 500, v2: "nested more than 200 deep", run: "nested more than 200 deep"},
		{fault: "large", status: 413, v2: "the answer has 209715202 bytes", run: "the answer has 209715202 bytes"},
		{fault: "big-integer", status: 200, v2: `"predictions": 1180591620717411303424}`, run: `{"result":1180591620717411303424}`},
		{fault: "none", status: 200, v2: `"predictions": null}`, run: `{"result":null}`},
		{fault: "text", status: 200, v2: `"predictions": "plain"}`, run: `{"result":"plain"}`},
		{fault: "generator", status: 500, v2: "ValueError: in the middle", run: "ValueError: in the middle"},
		{fault: "coroutine", status: 200, v2: `{"later": true}`, run: `{"later": true}`},
		{fault: "keys", status: 200, v2: `{"1": "a", "(2, 3)": "b", "null": "c"}`, run: `{"1": "a", "(2, 3)": "b", "null": "c"}`},
	} {
		t.Run(c.fault, func(t *testing.T) {
			before := p.workerID()
			v2 := p.v2(`{"fault":"` + c.fault + `"}`)
			if !v2.has(c.status, c.v2) {
				t.Errorf("/v2: got %d %.300s, want %d with %s", v2.status, v2.body, c.status, c.v2)
			}
			between := p.workerID()
			run := p.run(`{"fault":"` + c.fault + `"}`)
			if !run.has(200, c.run) {
				t.Errorf("/run: got %d %.300s, want 200 with %s", run.status, run.body, c.run)
			}
			after := p.workerID()
			if died := before != between && between != after; died != c.dies || !died && before != after {
				t.Errorf("workers %d, %d, %d: want that each died: %v", before, between, after, c.dies)
			}
			worker := "goes on"
			if c.dies {
				worker = "is replaced"
			}
			record(t, "predict: "+c.fault, v2, run, worker)
		})
	}
}
