package actions_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

func TestParseBatch(t *testing.T) {
	tests := map[string]struct {
		text string
		want actions.Batch
		says string // of the error; "" for none
	}{
		"short": {
			text: `{"input":"s3://in/a.csv","output":"s3://out/a/"}`,
			want: actions.Batch{Input: actions.BatchInput{URL: "s3://in/a.csv"}, Output: actions.BatchOutput{URL: "s3://out/a/"}},
		},
		"long": {
			text: `{"model":"m","input":{"url":"file:///in/","match":"*.png","key":"name"},"output":{"url":"file:///out/","join":["*"]},
				"arguments":{"k":[1, 2]},"map":{"image":"file"},"batching":{"size":8,"columns":true},"concurrency":2,"chunk_rows":5,
				"chunk_bytes":1048576,"max_errors":"1%","retries":-1,"through":"http://broker","sink":"http://sink"}`,
			want: actions.Batch{
				Model: "m", Input: actions.BatchInput{URL: "file:///in/", Match: "*.png", Key: "name"},
				Output:    actions.BatchOutput{URL: "file:///out/", Join: []string{"*"}},
				Arguments: map[string]json.RawMessage{"k": json.RawMessage(`[1,2]`)}, Map: map[string]string{"image": "file"},
				Batching: actions.Batching{Size: 8, Columns: true}, Concurrency: 2, ChunkRows: 5, ChunkBytes: 1 << 20,
				MaxErrors: "1%", Retries: -1, Through: "http://broker", Sink: "http://sink",
			},
		},
		"empty":             {text: `{}`},
		"null":              {text: `null`, says: "a batch is a JSON object with an input and an output"},
		"no object":         {text: `["s3://in/"]`, says: "a batch is a JSON object"},
		"nothing":           {text: ``, says: "a batch is a JSON object"},
		"unknown member":    {text: `{"inputs":"s3://in/"}`, says: `unknown key "inputs"; there are model, input, output, arguments, map`},
		"unknown in input":  {text: `{"input":{"uri":"s3://in/"}}`, says: `the input of the batch: unknown key "uri"; there are url, format`},
		"unknown in output": {text: `{"output":{"url":"s3://o/","key":"x"}}`, says: `the output of the batch: unknown key "key"`},
		"wrong type":        {text: `{"input":["s3://in/"]}`, says: "the input of the batch: got array, want an object"},
		"wrong number":      {text: `{"chunk_rows":"many"}`, says: "chunk_rows: got string, want a whole number"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := actions.ParseBatch([]byte(test.text))
			if test.says == "" {
				if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
				return
			}
			if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want Invalid with %q", err, test.says)
			}
		})
	}
}

func FuzzParseBatch(f *testing.F) {
	f.Add([]byte(`{"input":"s3://in/a.csv","output":{"url":"s3://out/"},"batching":{"size":3}}`))
	f.Add([]byte(`{"input":null,"output":7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := actions.ParseBatch(data)
		if err != nil {
			if actions.CodeOf(err) != actions.Invalid {
				t.Errorf("got %v, want Invalid", err)
			}
			return
		}
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := actions.ParseBatch(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if second, err := json.Marshal(again); err != nil || string(second) != string(text) {
			t.Errorf("%s became %s, %v", text, second, err)
		}
	})
}
