package actionloop_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/actionloop"
)

func TestParseSpec(t *testing.T) {
	for _, test := range []struct{ name, spec, msg string }{
		{"path", `{"path":"bin/exec"}`, ""},
		{"command", `{"command":["python3","main.py"],"ack":true,"settle":"2s","working_dir":"/tmp","env":{"A":"b=c"}}`, ""},
		{"nothing", ``, "the section is missing"},
		{"empty", `{}`, "say either path or command"},
		{"both", `{"path":"a","command":["b"]}`, "say either path or command"},
		{"unknown", `{"path":"a","args":[]}`, `unknown key "args"`},
		{"a wrong type", `{"command":"exec"}`, "command"},
		{"more", `{"path":"a"} {}`, "behind the section's end"},
		{"outside", `{"path":"../exec"}`, "not in the action's folder"},
		{"absolute", `{"path":"/bin/sh"}`, "not in the action's folder"},
		{"no name", `{"command":[""]}`, "the program's name is missing"},
		{"zero byte", `{"command":["a\u0000b"]}`, "zero byte"},
		{"working folder outside", `{"path":"a","working_dir":"../b"}`, "working_dir"},
		{"settle", `{"path":"a","settle":"soon"}`, "settle"},
		{"negative settle", `{"path":"a","settle":"-1s"}`, "settle"},
		{"variable", `{"path":"a","env":{"A=B":"c"}}`, "env"},
		{"odd variable", `{"path":"a","env":{"a b":"c"}}`, ""},
		{"the cookie", `{"path":"a","env":{"DEEPFN_WORKER":"1"}}`, "belongs to deepfn"},
		{"empty variable", `{"path":"a","env":{"":"c"}}`, "env"},
		{"zero byte in a variable", `{"path":"a","env":{"A":"\u0000"}}`, "env"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := actionloop.ParseSpec(json.RawMessage(test.spec))
			if test.msg == "" && err == nil {
				return
			}
			if test.msg == "" || actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), test.msg) {
				t.Errorf("got %v, want %q", err, test.msg)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		name string
		m    actions.Model
		msg  string
	}{
		{"path in a folder", actions.Model{Dir: "/x", Spec: []byte(`{"path":"a"}`)}, ""},
		{"command without a folder", actions.Model{Spec: []byte(`{"command":["sh"]}`)}, ""},
		{"path without a folder", actions.Model{Spec: []byte(`{"path":"a"}`)}, "no folder"},
		{"working folder without a folder", actions.Model{Spec: []byte(`{"command":["a"],"working_dir":"b"}`)}, "no folder"},
		{"variables of an init are left out, not refused", actions.Model{Spec: []byte(`{"command":["a"]}`), Env: map[string]string{"=": ""}}, ""},
		{"spec", actions.Model{Spec: []byte(`[]`)}, "executable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := actionloop.Check(test.m)
			if test.msg == "" && err == nil {
				return
			}
			if test.msg == "" || actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), test.msg) {
				t.Errorf("got %v, want %q", err, test.msg)
			}
		})
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(`{"path":"a","env":{"A":"b"}}`))
	f.Add([]byte(`{"command":["a","b"],"settle":"1s"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := actionloop.ParseSpec(raw)
		if err != nil {
			if actions.CodeOf(err) != actions.Invalid {
				t.Fatalf("got %v, want an invalid", err)
			}
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := actionloop.ParseSpec(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}
