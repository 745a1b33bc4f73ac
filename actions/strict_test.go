package actions

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestDecodeStrict(t *testing.T) {
	type inner struct {
		B string `json:"b"`
	}
	type section struct {
		A      string            `json:"a"`
		N      int               `json:"n,omitempty"`
		Port   *int              `json:"port"`
		On     bool              `json:"on"`
		Share  float64           `json:"share"`
		List   []string          `json:"list"`
		Many   *[]int            `json:"many"`
		Env    map[string]string `json:"env"`
		Of     map[string]inner  `json:"of"`
		In     inner             `json:"in"`
		Hidden string            `json:"-"`
	}
	const keys = "a, n, port, on, share, list, many, env, of, in"
	for _, test := range []struct{ in, want string }{
		{` {"a": "x", "in": {"b": "y"}, "many": [1]} `, ""},
		{`{"A": "x"}`, ""},
		{``, "the section is missing"},
		{"  \n", "the section is missing"},
		{`{"aa": 1}`, `unknown key "aa"; there are ` + keys},
		{`{"Hidden": "x"}`, `unknown key "Hidden"; there are ` + keys},
		{`{"in": {"c": 1}}`, `unknown key "c"`},
		{`{"in": {"a": 1}, "a": "x"}`, `unknown key "a"`},
		{`{"\u00fc\"": 1}`, `unknown key "ü\""; there are ` + keys},
		{`{"a": 1}`, "a: got number, want a string"},
		{`{"n": "x"}`, "n: got string, want a whole number"},
		{`{"n": 1.5}`, "n: got number 1.5, want a whole number"},
		{`{"port": true}`, "port: got bool, want a whole number"},
		{`{"on": 1}`, "on: got number, want true or false"},
		{`{"share": []}`, "share: got array, want a number"},
		{`{"list": "x"}`, "list: got string, want a list of strings"},
		{`{"many": {}}`, "many: got object, want a list"},
		{`{"env": 3}`, "env: got number, want an object of strings"},
		{`{"of": 3}`, "of: got number, want an object"},
		{`{"in": {"b": 3}}`, "in.b: got number, want a string"},
		{`[]`, "got array, want an object with some of the keys " + keys},
		{`"a"`, "got string, want an object with some of the keys " + keys},
		{`{} {}`, "there is something behind the section's end"},
		{`{}]`, "there is something behind the section's end"},
		{`{"a"`, "unexpected EOF"},
		{`{a}`, "invalid character"},
	} {
		var s section
		err := DecodeStrict([]byte(test.in), &s)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: got %v", test.in, err)
		case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)):
			t.Errorf("%s: got %v, want %s", test.in, err, test.want)
		}
	}
	var list []string
	if err := DecodeStrict([]byte(`{}`), &list); err == nil || err.Error() != "got object, want a list of strings" {
		t.Errorf("got %v", err)
	}
}

func FuzzDecodeStrict(f *testing.F) {
	f.Add([]byte(`{"name": "a", "type": "file"}`))
	f.Add([]byte(`{"nam": 1} x`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a Argument
		if err := DecodeStrict(data, &a); err == nil && !json.Valid(data) {
			t.Errorf("%q is taken", data)
		}
	})
}
