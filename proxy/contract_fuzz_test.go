package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// runBodies are bodies of /run as the invoker, the official suites and their gaps have them.
var runBodies = []string{
	`{}`, `XXX`, `null`, `[]`, `""`, ``, ` `, "\ufeff{}", `{"value":null}`, `{"value":{}}`, `{"value":"A"}`, `{"value":5}`, `{"value":true}`,
	`{"value":["a","b"]}`, `{"value":[]}`, `{"value":{"string":"❄ ☃ ❄"}}`, `{"value":{"numbers":[42,1]}}`, `{"value":{"object":{"a":"A"}}}`,
	`{"value":{"text":"a","n":1},"activation_id":"x","deadline":"1"}`, `{"value":{"image":"AAE="}}`, `{"value":{"image":{"data":"AAE=","filename":"a"}}}`,
	`{"value":{},"api_key":"abc","namespace":"zzz","action_name":"xxx","action_version":"0.0.1","activation_id":"iii","deadline":"123"}`,
	`{"value":{},"deadline":1700000000000}`, `{"value":{},"deadline":"1e400"}`, `{"value":{},"deadline":"-1"}`, `{"deadline":{}}`,
	`{"value":{"a":1,"a":2},"value":{"a":3}}`, `{"activation_id":"a","activation_id":"b\n"}`, `{"v\u0061lue":{"n":1}}`, `{"value":{"\u0000":"\u0000"}}`,
	"{\"value\":{\"text\":\"\xff\"}}", `{"value":{"text":"\ud800"}}`, `{"value":{"n":1e999}}`, `{"value":{"n":01}}`, `{"value":{"n":1}} {}`,
	`{"value":{"error":"sorry"}}`, `{"value":{"__ow_method":"get","__ow_path":"/v2/","__ow_headers":{}}}`, `{"value":{"accept":"image/*"}}`,
	`{"value":{"image":{"url":"https://example.com/"}}}`, `{"value":{"result_to":"https://example.com/"}}`, "{\"value\":{\"a\":\r\n1}}",
	`{"value":` + strings.Repeat(`[`, 950) + strings.Repeat(`]`, 950) + `}`, `{"value":{` + strings.Repeat(`"a":1,`, 1100) + `"b":1}}`,
}

// Whatever the body is, /run answers with an object, in one of the contract's statuses, and
// ends the logs once; and what a model gets is the value that encoding/json finds.
func FuzzRun(f *testing.F) {
	for _, body := range runBodies {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s, st := newServer(t, Config{Model: "echo", MaxPayload: 1 << 20})
		got := post(t, s, "/run", string(body))
		if got.status != 200 && got.status != 404 {
			t.Errorf("got status %d", got.status)
		}
		wantJSONObject(t, got)
		wantSentinels(t, st, 1)

		inv := &fakeInvoker{info: []byte(`{"function":true,"predict":{"parameters":[],"open":true}}`)}
		s, st = newServer(t, Config{Model: "mod", Catalog: module(), Invoker: inv})
		got = post(t, s, "/run", string(body))
		wantSentinels(t, st, 1)
		if !json.Valid(got.body) {
			t.Errorf("got %q", got.body)
		}
		want, status := wantedRun(body)
		switch {
		case inv.calls() == 0 && got.status == 200:
			if !bytes.HasPrefix(got.body, []byte(`{"error":"`)) {
				t.Errorf("got %s of nobody", got.body)
			}
		case got.status != status || status == 200 && !bytes.Equal(inv.lastRequest().Args, want):
			t.Errorf("got %d %q, want %d %q", got.status, inv.lastRequest().Args, status, want)
		}
	})
}

// wantedRun says which arguments encoding/json finds in a body, and the status for them. A
// body that is none is an error in an answer of status 200.
func wantedRun(body []byte) (args []byte, status int) {
	var doc map[string]json.RawMessage
	if json.Unmarshal(body, &doc) != nil || doc == nil || !utf8.Valid(body) {
		return nil, 200
	}
	switch value := doc["value"]; {
	case len(value) == 0, value[0] == 'n':
		return nil, 200
	case value[0] == '{', value[0] == '[':
		return value, 200
	}
	return nil, 404
}

// initBodies are bodies of /init.
var initBodies = []string{
	`{}`, `XXX`, `null`, ``, `{"value":null}`, `{"value":{}}`, `{"value":"A"}`, `{"value":{"code":null,"env":null,"main":null,"name":null,"binary":null}}`,
	`{"value":{"code":"","main":""}}`, `{"value":{"code":" \n"}}`, `{"value":{"code":5}}`, `{"value":{"code":"x","main":5}}`, `{"value":{"code":"x","binary":"yes"}}`,
	`{"value":{"code":"{\"model\":\"echo\"}","binary":false,"main":"main","env":{"A":null}}}`, `{"value":{"code":"{\"model\":\"nope\"}"}}`, `{"value":{"code":"{}"}}`,
	`{"value":{"code":"UEsDBA==","binary":true}}`, `{"value":{"code":"%%%%","binary":true}}`, `{"value":{"code":"UEsD\nBA==\n","binary":true}}`, `{"value":{"code":"UEsDBA","binary":true}}`,
	`{"value":{"name":"hello","main":"niam","binary":false,"code":"def niam(args):\n    return {\"☃\": 1}\n","env":{"SOME_VAR":"xyz","ANOTHER_VAR":"","N":[1,2,3],"O":{"a":1},"B":true}}}`,
	`{"value":{"code":"x","env":{"__OW_ACTION_NAME":"/guest/p/hi","__OW_DEADLINE":"123","A=B":"c","":"d"}}}`, `{"value":{"code":"x","env":[]}}`, `{"value":{"code":"x","env":"A"}}`,
	"{\"value\":{\"code\":\"\xff\"}}", `{"value":{"code":"\ud800"}}`, `{"value":{"code":"a","code":"b"}}`, `{"value":{"c\u006fde":"x"}}`, `{"value":{"CODE":"x"}}`,
}

// Whatever the body is, /init answers with an object, in one of the contract's statuses; it
// says 200 if and only if there is an action then, and the code that is imported is the one
// that encoding/json and encoding/base64 find.
func FuzzInit(f *testing.F) {
	for _, body := range initBodies {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, catalog := range []Catalog{fakeCatalog{}, &importing{}} {
			s, st := newServer(t, Config{Catalog: catalog})
			got := post(t, s, "/init", string(body))
			if got.status != 200 && got.status != 400 && got.status != 403 && got.status != 502 {
				t.Errorf("got status %d", got.status)
			}
			wantJSONObject(t, got)
			if (got.status == 200) != (s.action.Load() != nil) || got.status == 200 && string(got.body) != initOK || strings.HasSuffix(string(got.body), "\n\n") {
				t.Errorf("got %d %q and action %v", got.status, got.body, s.action.Load())
			}
			wantSentinels(t, st, strings.Count(st.err.String(), sentinel)) // as many on each stream
			a := s.action.Load()
			if c, ok := catalog.(*importing); ok && a != nil && a.imported {
				if diff := cmp.Diff(wantedSource(t, body), c.source); diff != "" {
					t.Error(diff)
				}
			}
		}
	})
}

// wantedSource reads the body of an /init with the standard library.
func wantedSource(t *testing.T, body []byte) actions.Source {
	t.Helper()
	var doc, value map[string]json.RawMessage
	var env map[string]any
	want := actions.Source{Env: map[string]string{}}
	var code string
	binary := false
	for _, err := range []error{
		json.Unmarshal(body, &doc), json.Unmarshal(doc["value"], &value), optional(value["code"], &code), optional(value["name"], &want.Name),
		optional(value["main"], &want.Main), optional(value["binary"], &binary), optional(value["env"], &env),
	} {
		if err != nil {
			t.Fatalf("it was taken, and is wrong: %v", err)
		}
	}
	for name, v := range env {
		switch v := v.(type) {
		case nil:
			want.Env[name] = ""
		case string:
			want.Env[name] = v
		default:
			var raw map[string]json.RawMessage
			_ = json.Unmarshal(value["env"], &raw)
			var b bytes.Buffer
			_ = json.Compact(&b, raw[name])
			want.Env[name] = b.String()
		}
	}
	if want.Name == "" {
		want.Name = want.Env["__OW_ACTION_NAME"]
	}
	want.Data = []byte(code)
	if trimmed := strings.TrimSpace(code); binary && !strings.HasPrefix(trimmed, "{") {
		data, err := base64.StdEncoding.DecodeString(trimmed)
		if err != nil {
			t.Fatalf("it was taken, and is no base64: %v", err)
		}
		want.Data = data
	}
	return want
}

// optional reads a value that may be absent.
func optional(raw json.RawMessage, into any) error {
	if len(raw) == 0 {
		return nil
	}
	return json.Unmarshal(raw, into)
}
