package proxy

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// What a function answers becomes an answer by the rules of web actions, and without their
// members it is the answer.
func TestEntryAnswers(t *testing.T) {
	for _, tt := range []struct {
		result      string
		status      int
		contentType string
		body        string
	}{
		{`{"a":1}`, 200, jsonType, `{"a":1}`},
		{`[1]`, 200, jsonType, `[1]`},
		{`{"error":"no"}`, 200, jsonType, `{"error":"no"}`},
		{`{"statusCode":201,"a":1}`, 201, jsonType, `{"a":1}`},
		{`{"statusCode":404}`, 404, "", ""},
		{`{"headers":{"x-a":"b"},"a":1}`, 200, jsonType, `{"a":1}`},
		{`{"headers":{"content-type":"image/png"},"body":"AP8="}`, 200, "image/png", "\x00\xff"},
		{`{"body":""}`, 204, "", ""},
		{`{"statusCode":200,"body":""}`, 204, "", ""},
		{`{"statusCode":200,"body":null}`, 204, "", ""},
		{`{"body":{"a":1}}`, 200, jsonType, `{"a":1}`},
		{`{"body":"é"}`, 200, "text/html; charset=UTF-8", "é"},
		{`{"body":"é","headers":{"Content-Type":"text/plain"}}`, 200, "text/plain; charset=UTF-8", "é"},
		{`{"statusCode":"x"}`, 502, jsonType, `{"error":"Response is not valid 'message/http'."}` + "\n"},
		{`{"headers":{"content-type":"image/png"},"body":"é"}`, 502, jsonType, `{"error":"Response type in header did not match generated content type."}` + "\n"},
	} {
		inv := &fakeInvoker{answer: answering(jsonType, tt.result), info: json.RawMessage(functionInfo)}
		s, st := newServer(t, Config{Model: "mod", Catalog: module(), Invoker: inv})
		got := toEntry(t, s, "POST", "/", `{`+entryActivation+`,"value":{}}`, "Access-Control-Request-Headers", "x-b")
		if got.status != tt.status || got.contentType != tt.contentType || string(got.body) != tt.body {
			t.Errorf("%s: got %d %q %q", tt.result, got.status, got.contentType, got.body)
		}
		if got.header.Get("Access-Control-Allow-Headers") != "x-b" || strings.Contains(tt.result, "x-a") && got.header.Get("X-A") != "b" {
			t.Errorf("%s: got header %v", tt.result, got.header)
		}
		wantSentinels(t, st, 1)
	}
}

// The HTTP context and what the platform says reach a function, and nobody can forge them;
// other models see value alone.
func TestEntryArguments(t *testing.T) {
	context := []string{"Host", "h", "X-A", "b"}
	for _, tt := range []struct {
		name, model, path, body string
		raw                     bool
		want                    string
		texts                   []actions.Text
	}{
		{
			"function", "mod", "/", `{"activation":{"namespace":"ns","activation_id":"a1","x":"y"},"value":{"n":1,"__ow_user":"root"}}`, false,
			`{"n":1,"__ow_user":"ns","__ow_method":"POST","__ow_headers":{"host":"h","x-a":"b"},"__ow_path":""}`,
			[]actions.Text{{Origin: actions.FromContext, Name: "__OW_NAMESPACE", Value: "ns"}, {Origin: actions.FromContext, Name: "__OW_ACTIVATION_ID", Value: "a1"}, {Origin: actions.FromContext, Name: "__OW_X", Value: "y"}},
		},
		{"value alone", "mod", "/", `{"value":{"n":1}}`, false, `{"n":1}`, nil},
		{"activation alone", "mod", "/", `{"activation":{}}`, false, `{"__ow_user":"","__ow_method":"POST","__ow_headers":{"host":"h","x-a":"b"},"__ow_path":""}`, nil},
		{"array", "mod", "/", `{"activation":{},"value":[1]}`, false, `[1]`, nil},
		{"null", "mod", "/", `{"init":null,"activation":null,"value":null}`, false, `{}`, nil},
		{
			"raw", "mod", "/?a=1&b=2&b=3", `{"activation":{},"value":"as it is"}`, true,
			`{"__ow_body":"as it is","__ow_query":{"a":"1","b":["2","3"]},"__ow_user":"","__ow_method":"POST","__ow_headers":{"host":"h","x-a":"b"},"__ow_path":""}`, nil,
		},
		{"raw array", "mod", "/", `{"value":[1, 2]}`, true, `{"__ow_body":"WzEsMl0=","__ow_query":{},"__ow_user":"","__ow_method":"POST","__ow_headers":{"host":"h","x-a":"b"},"__ow_path":""}`, nil},
		{"model", "echo", "/", `{"activation":{"namespace":"ns"},"value":{"n":1}}`, false, `{"n":1}`, nil},
	} {
		inv := &fakeInvoker{info: json.RawMessage(functionInfo), answer: answering(jsonType, `{}`)}
		cfg := Config{Model: tt.model, Invoker: inv, Entry: Entry{Raw: tt.raw}}
		if tt.model == "mod" {
			cfg.Catalog = module()
		}
		s, _ := newServer(t, cfg)
		if got := toEntry(t, s, "POST", tt.path, tt.body, context...); got.status != 200 {
			t.Errorf("%s: got %d %s", tt.name, got.status, got.body)
		}
		last := inv.lastRequest()
		if diff := cmp.Diff(tt.want, string(last.Args)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		if tt.texts != nil {
			if diff := cmp.Diff(tt.texts, last.Texts); diff != "" {
				t.Errorf("%s: %s", tt.name, diff)
			}
		}
	}
}
