package onnx

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// TestPredictMany compares what each row gets with what it gets alone.
func TestPredictMany(t *testing.T) {
	p, _ := start(t, tiny(t, identity(int(fp32), -1, 2), ""))
	rows := []string{`{"x":[[1,2]]}`, `{"x":[[1,2],[3,4.5]]}`, `{"x":[[1]]}`, `{"x":"no"}`, `{}`, `[]`, `{"x":[[5,6]]}`}
	for _, accept := range []string{"", typeNPY, "image/png"} {
		var want []map[string]any
		args := []byte{'['}
		for i, row := range rows {
			args = append(comma(args, i), row...)
			r, err := p.Call(t.Context(), actions.Request{Args: json.RawMessage(row), Accept: accept})
			want = append(want, alone(t, r, err))
		}
		r, err := p.Call(t.Context(), actions.Request{Verb: actions.PredictMany, Args: append(args, ']'), Accept: accept})
		if err != nil {
			t.Fatal(err)
		}
		var got []map[string]any
		if err := json.Unmarshal(r.Data, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("accept %q (-alone +many):\n%s", accept, diff)
		}
		if i := slices.IndexFunc(got, func(m map[string]any) bool { return m["error"] == nil }); accept != "image/png" && i != 0 {
			t.Errorf("accept %q: the first that is right is row %d", accept, i)
		}
	}
}

// alone returns what predict-many has to say where predict gave an answer.
func alone(t *testing.T, r actions.Response, err error) map[string]any {
	t.Helper()
	var told any = map[string]any{"content_type": r.ContentType, "filename": r.Filename, "data": r.Data}
	if r.ContentType == typeJSON {
		told = map[string]any{"value": json.RawMessage(r.Data)}
	}
	if e, ok := errors.AsType[*actions.Error](err); ok {
		m := map[string]any{"error": e.Msg, "code": e.Code}
		if e.Fields != nil {
			m["fields"] = e.Fields
		}
		told = m
	}
	b, err := json.Marshal(told)
	if err != nil {
		t.Fatal(err)
	}
	var plain map[string]any
	if err := json.Unmarshal(b, &plain); err != nil {
		t.Fatal(err)
	}
	return plain
}

func TestPredictManyAsAWhole(t *testing.T) {
	p, _ := start(t, tiny(t, identity(int(fp32), -1), ""))
	left, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name string
		ctx  context.Context //nolint:containedctx // the one of the call
		req  actions.Request
		code actions.Code
	}{
		{"an object", t.Context(), actions.Request{Args: json.RawMessage(`{"x":[1]}`)}, actions.Invalid},
		{"nothing", t.Context(), actions.Request{}, actions.Invalid},
		{"a file", t.Context(), actions.Request{Args: json.RawMessage(`[{}]`), Files: []actions.File{{Name: "x"}}}, actions.Invalid},
		{"left", left, actions.Request{Args: json.RawMessage(`[{"x":[1]}]`)}, actions.Canceled},
		{"no rows", t.Context(), actions.Request{Args: json.RawMessage(`[]`)}, ""},
	} {
		test.req.Verb = actions.PredictMany
		r, err := p.Call(test.ctx, test.req)
		if got := actions.CodeOf(err); got != test.code || test.code == "" && string(r.Data) != `[]` {
			t.Errorf("%s: got %s, %v, want the code %q", test.name, r.Data, err, test.code)
		}
	}
}
