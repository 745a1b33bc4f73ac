package many_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/many"
)

// answered predicts n rows with a model whose every call has one answer.
func answered(ctx context.Context, by actions.Batching, n int, resp actions.Response) []many.Result {
	invoke := func(context.Context, actions.Request) (actions.Response, error) { return resp, nil }
	return many.Predict(ctx, many.Call{Model: actions.Model{Name: "m", Runtime: actions.Python}, Batching: by, Invoke: invoke}, numbered(n))
}

func TestAnswersThatAreNone(t *testing.T) {
	list := actions.Batching{Argument: "rows"}
	for _, test := range []struct{ name, answer, says string }{
		{"too short", `[]`, "is a list of 0; a list of 1 answers, or"},
		{"too long", `[1,2]`, "is a list of 2"},
		{"a number", `7`, `is "7"`},
		{"a list too short", `{"a":[1],"b":[]}`, `has "b", which is a list of 0`},
		{"a member that is no list", `{"a":[1],"model":"x"}`, `has "model", which is no list`},
		{"an empty object", `{}`, "is an empty object"},
		{"no JSON", `[1,`, "is not JSON"},
		{"two values", `[1] 3`, "is not JSON"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := answered(t.Context(), list, 1, jsonResponse([]byte(test.answer)))[0].Err
			if actions.CodeOf(err) != actions.Failed || !strings.Contains(err.Error(), "the answer of m to a call of 1 rows "+test.says) {
				t.Errorf("got %v, want one that says %q", err, test.says)
			}
		})
	}
	picture := answered(t.Context(), list, 1, actions.Response{ContentType: "image/png", Data: []byte("x")})[0].Err
	if picture == nil || !strings.Contains(picture.Error(), `m answered "image/png" to a call of 1 rows`) {
		t.Errorf("got %v", picture)
	}
	missing := answered(t.Context(), actions.Batching{Argument: "rows", Answer: "a.b"}, 1, jsonResponse([]byte(`{"a":{"c":[1]}}`)))[0].Err
	if missing == nil || !strings.Contains(missing.Error(), `has no "a.b", which batching.answer names`) {
		t.Errorf("got %v", missing)
	}
}

func TestOutcomes(t *testing.T) {
	answer := `[
		{"value": {"a": [1]}},
		{"value": null, "whole": true},
		{"error": "no", "code": "invalid", "fields": {"x": ["is wrong"]}, "status": 418},
		{"content_type": "image/png", "filename": "a.png", "data": "aGVsbG8="}
	]`
	resp := jsonResponse([]byte(answer))
	resp.Timing.Run = time.Second
	resp.Logs = []actions.LogLine{{Stream: actions.Stdout, Text: "hello"}}
	timing := actions.Timing{Run: time.Second}
	want := []many.Result{
		{Response: actions.Response{ContentType: "application/json", Data: []byte(`{"a": [1]}`), Timing: timing, Logs: resp.Logs}},
		{Response: actions.Response{ContentType: "application/json", Data: []byte(`null`), Timing: timing, Whole: true}},
		{Err: &actions.Error{Code: actions.Invalid, Msg: "no", Fields: map[string][]string{"x": {"is wrong"}}, Status: 418}},
		{Response: actions.Response{ContentType: "image/png", Filename: "a.png", Data: []byte("hello"), Timing: timing}},
	}
	if diff := cmp.Diff(want, answered(t.Context(), actions.Batching{}, 4, resp)); diff != "" {
		t.Errorf("the results (-want +got):\n%s", diff)
	}
}

// FuzzAnswers gives each way an answer of anything, and expects a result for each row that is
// either valid JSON or an error.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`[1,2,3]`, `{"a":[1,2,3]}`, `{"a":[1],"b":[2,3]}`, `[{"value":1},{"value":2},{"error":"x","code":"failed"}]`,
		`[{"content_type":"a/b","data":"aGk="},{"data":"!"},{}]`, `{"out":[[1],[2],[3]]}`, `[`, ``, `null`,
		`[{"error":1,"code":2},{"fields":{}},{"value":1,"error":"x"}]`,
	} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, n uint8) {
		if !json.Valid(data) {
			return // Invoke promises that it is
		}
		for _, by := range []actions.Batching{{}, {Argument: "rows"}, {Columns: true, Answer: "out"}} {
			rows := int(n%5) + 1
			results := answered(t.Context(), by, rows, jsonResponse(data))
			if len(results) != rows {
				t.Fatalf("got %d results, want %d", len(results), rows)
			}
			for i, r := range results {
				switch {
				case r.Err != nil:
					if actions.CodeOf(r.Err) == "" || r.Response.Data != nil {
						t.Errorf("row %d: got an error without a code, or with an answer: %+v", i, r)
					}
				case r.Response.ContentType == "application/json" && !json.Valid(r.Response.Data):
					t.Errorf("row %d: got %q, want JSON", i, r.Response.Data)
				}
			}
		}
	})
}
