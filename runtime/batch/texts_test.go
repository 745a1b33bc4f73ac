package batch_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/batch"
)

const table = "mem://in/rows.csv"

// describing has a model say that it has these parameters; nil says nothing.
func describing(parameters []actions.Parameter) option {
	return func(cfg *batch.Config) {
		cfg.Describe = func(context.Context, actions.Model) (*actions.Description, error) {
			if parameters == nil {
				return &actions.Description{Function: true}, nil
			}
			return &actions.Description{Predict: &actions.Signature{Parameters: parameters}}, nil
		}
	}
}

// echo answers with the arguments.
func echo(_ context.Context, req actions.Request) (actions.Response, error) {
	if req.Verb == actions.PredictMany {
		return actions.Response{}, actions.Errorf(actions.Unsupported, "one at a time")
	}
	return actions.Response{ContentType: "application/json", Data: append(append([]byte(`{"got":`), req.Args...), '}')}, nil
}

func echoing(cfg *batch.Config) { cfg.Invoke = echo }

func parameter(name string, kind actions.ArgumentType, required bool, schema string) actions.Parameter {
	return actions.Parameter{Argument: actions.Argument{Name: name, Type: kind, Required: required}, Schema: json.RawMessage(schema)}
}

// TestTexts shows what of a table reaches models that say that an argument is a text.
func TestTexts(t *testing.T) {
	const text, number = `{"type":"string"}`, `{"type":"number"}`
	of := func(parameters ...actions.Parameter) []actions.Parameter { return parameters }
	plain := of(parameter("a", actions.TypeString, true, text))
	for name, test := range map[string]struct {
		parameters []actions.Parameter
		change     func(*actions.Batch)
		want       string // the arguments of two rows, "1,2" and ",3"
	}{
		"nothing is said":      {want: `{"a":1,"b":2} {"b":3}`},
		"named":                {change: func(b *actions.Batch) { b.Input.Text = []string{"a"} }, want: `{"a":"1","b":2} {"a":"","b":3}`},
		"required":             {parameters: plain, want: `{"a":"1","b":2} {"a":"","b":3}`},
		"optional":             {parameters: of(parameter("a", actions.TypeString, false, text)), want: `{"a":"1","b":2} {"b":3}`},
		"optional, and named":  {parameters: of(parameter("a", actions.TypeString, false, text)), change: func(b *actions.Batch) { b.Input.Text = []string{"a"} }, want: `{"a":"1","b":2} {"a":"","b":3}`},
		"or null":              {parameters: of(parameter("a", actions.TypeString, true, `{"anyOf":[`+text+`,{"type":"null"}]}`)), want: `{"a":"1","b":2} {"a":"","b":3}`},
		"a moment":             {parameters: of(parameter("a", actions.TypeString, true, `{"type":"string","format":"date"}`)), want: `{"a":"1","b":2} {"b":3}`},
		"a choice":             {parameters: of(parameter("a", actions.TypeString, true, `{"enum":["1","2"]}`)), want: `{"a":"1","b":2} {"b":3}`},
		"a choice of nothing":  {parameters: of(parameter("a", actions.TypeString, true, `{"enum":["1",""]}`)), want: `{"a":"1","b":2} {"a":"","b":3}`},
		"bytes":                {parameters: of(parameter("a", actions.TypeFile, true, `{"type":"string","format":"binary"}`)), want: `{"a":"1","b":2} {"b":3}`},
		"a number":             {parameters: of(parameter("a", actions.TypeNumber, true, number)), want: `{"a":1,"b":2} {"b":3}`},
		"of which nobody says": {parameters: of(parameter("a", actions.TypeAny, true, `true`)), want: `{"a":1,"b":2} {"b":3}`},
		"mapped": {
			parameters: plain, change: func(b *actions.Batch) { b.Map = map[string]string{"a": "b", "x": "a"} },
			want: `{"a":"2","x":1} {"a":"3"}`,
		},
		"mapped to a text and a number": {
			parameters: of(parameter("a", actions.TypeString, true, text), parameter("n", actions.TypeNumber, true, number)),
			change:     func(b *actions.Batch) { b.Map = map[string]string{"a": "b", "n": "b"} },
			want:       `{"a":2,"n":2} {"a":3,"n":3}`,
		},
		"mapped to two texts": {
			parameters: of(parameter("a", actions.TypeString, true, text), parameter("c", actions.TypeString, false, text)),
			change:     func(b *actions.Batch) { b.Map = map[string]string{"a": "a", "c": "a"} },
			want:       `{"a":"1","c":"1"} {}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory(map[string]string{table: "a,b\n1,2\n,3\n"})
			b := actions.Batch{Model: "twice", Input: actions.BatchInput{URL: table}, Output: actions.BatchOutput{URL: output, Select: []string{"got"}}}
			if test.change != nil {
				test.change(&b)
			}
			engine := newEngine(t, &client{memory: m}, newModel(), describing(test.parameters), echoing)
			if _, err := engine.Run(t.Context(), "job", b, batch.Watcher{}); err != nil {
				t.Fatal(err)
			}
			one, other, _ := strings.Cut(test.want, " ")
			want := `{"key":0,"prediction":{"got":` + one + "}}\n" + `{"key":1,"prediction":{"got":` + other + "}}\n"
			if diff := cmp.Diff(want, m.below(output)["part-000000.ndjson"]); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			p, err := engine.Preview(t.Context(), b, 1)
			if err != nil || string(p.Args) != one {
				t.Errorf("preview: got %s, %v, want %s", p.Args, err, one)
			}
		})
	}
}

// TestTextsOfLists shows what of a table reaches models that take many rows in a call.
func TestTextsOfLists(t *testing.T) {
	const row = `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"},"c":{"type":"string"}},"required":["a","b"]}`
	for name, test := range map[string]struct {
		parameter actions.Parameter
		batching  actions.Batching
		want      string
	}{
		"columns": {
			parameter: parameter("a", actions.TypeArray, true, `{"type":"array","items":{"type":"string"}}`),
			batching:  actions.Batching{Columns: true}, want: `{"a":["1","2.50","",""]}`,
		},
		"columns of texts or null": {
			parameter: parameter("a", actions.TypeArray, true, `{"type":"array","items":{"type":["string","null"]}}`),
			batching:  actions.Batching{Columns: true}, want: `{"a":["1","2.50","",""]}`,
		},
		"columns or null": {
			parameter: parameter("a", actions.TypeArray, true, `{"anyOf":[{"type":"null"},{"type":"array","items":{"type":"string"}}]}`),
			batching:  actions.Batching{Columns: true}, want: `{"a":["1","2.50","",""]}`,
		},
		"columns of numbers": {
			parameter: parameter("a", actions.TypeArray, true, `{"type":"array","items":{"type":["string","number"]}}`),
			batching:  actions.Batching{Columns: true}, want: `{"a":[1,2.50,null,null]}`,
		},
		"rows": {
			parameter: parameter("rows", actions.TypeArray, true, `{"type":"array","items":`+row+`}`),
			batching:  actions.Batching{Argument: "rows"}, want: `{"rows":[{"a":"1"},{"a":"2.50"},{"a":""},{"a":""}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory(map[string]string{table: "a,\n1,x\n2.50,x\n,x\n\"\",x\n"})
			b := actions.Batch{
				Model: "twice", Input: actions.BatchInput{URL: table}, Output: actions.BatchOutput{URL: output}, Batching: test.batching, MaxErrors: "100%",
			}
			var calls []string
			engine := newEngine(t, &client{memory: m}, newModel(), describing([]actions.Parameter{test.parameter}), func(cfg *batch.Config) {
				cfg.Invoke = func(_ context.Context, req actions.Request) (actions.Response, error) {
					calls = append(calls, string(req.Args))
					return actions.Response{ContentType: "application/json", Data: []byte("[0,0,0,0]")}, nil
				}
			})
			if _, err := engine.Run(t.Context(), "job", b, batch.Watcher{}); err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(calls, test.want) {
				t.Errorf("got the calls %q, want %q among them", calls, test.want)
			}
		})
	}
}

// TestTextsOfOwnArguments shows that a model whose arguments the engine parses gets texts, too.
func TestTextsOfOwnArguments(t *testing.T) {
	m := newMemory(map[string]string{table: "a\n1\n"})
	b := actions.Batch{Model: "twice", Input: actions.BatchInput{URL: table}, Output: actions.BatchOutput{URL: output}}
	engine := newEngine(t, &client{memory: m}, newModel(), echoing, func(cfg *batch.Config) {
		cfg.Model = func(context.Context, string) (actions.Model, error) {
			return actions.Model{
				Name: "twice", Runtime: actions.ONNX, Arguments: []actions.Argument{{Name: "a", Type: actions.TypeString, Required: true}},
			}, nil
		}
		cfg.Describe = func(context.Context, actions.Model) (*actions.Description, error) { return nil, nil }
	})
	if _, err := engine.Run(t.Context(), "job", b, batch.Watcher{}); err != nil {
		t.Fatal(err)
	}
	if got := m.below(output)["part-000000.ndjson"]; got != `{"key":0,"prediction":{"got":{"a":"1"}}}`+"\n" {
		t.Errorf("got %s, want a text", got)
	}
}

// TestTextsStay shows that all chunks are read as the first one, by whoever does them: what the model
// said when the batch began is not asked again.
func TestTextsStay(t *testing.T) {
	objects := map[string]string{table: "a,n\n1,1\n,2\n3,3\n4.0,4\n"}
	asText := describing([]actions.Parameter{parameter("a", actions.TypeString, true, `{"type":"string"}`)})
	b := actions.Batch{Model: "twice", Input: actions.BatchInput{URL: table}, Output: actions.BatchOutput{URL: output}, ChunkRows: 1}
	want := newMemory(objects)
	if _, err := newEngine(t, &client{memory: want}, newModel(), asText, echoing).Run(t.Context(), "job", b, batch.Watcher{}); err != nil {
		t.Fatal(err)
	}
	if got := want.below(output)["part-000003.ndjson"]; !strings.Contains(got, `"4.0"`) {
		t.Fatalf("got %s, want a text", got)
	}
	t.Run("goes on", func(t *testing.T) {
		m := newMemory(objects)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := newEngine(t, &client{memory: m}, newModel(), asText, echoing).Run(ctx, "job", b, batch.Watcher{Progress: func(p actions.Progress) {
			if p.Chunks == 2 {
				cancel()
			}
		}})
		wantError(t, err, actions.Canceled, "")
		if _, err = newEngine(t, &client{memory: m}, newModel(), describing(nil), echoing).Run(t.Context(), "job", b, batch.Watcher{}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.below(output), m.below(output)); diff != "" {
			t.Errorf("output (-want +got):\n%s", diff)
		}
	})
	t.Run("replicas", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(objects)
			bus := &broker{t: t, tries: map[int]int{}}
			for range 2 {
				bus.replicas = append(bus.replicas, newEngine(t, &client{memory: m}, newModel(), describing(nil), echoing))
			}
			b := b
			b.Through = "https://broker.test/"
			coordinator := newEngine(t, &client{memory: m}, newModel(), asText, func(cfg *batch.Config) { cfg.Dispatch = bus.dispatch })
			_, err := coordinator.Run(t.Context(), "job", b, batch.Watcher{})
			bus.wg.Wait()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.below(output), m.below(output)); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	})
	// With other texts it is another batch.
	b.Input.Text = []string{"n"}
	_, err := newEngine(t, &client{memory: want}, newModel(), asText, echoing).Run(t.Context(), "job", b, batch.Watcher{})
	wantError(t, err, actions.Conflict, "complete batch")
}
