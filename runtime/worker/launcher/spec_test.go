package launcher_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

func TestParseSpec(t *testing.T) {
	preload := []string{}
	tests := []struct {
		name, in, wrong string
		want            launcher.Spec
	}{
		{name: "nothing"},
		{name: "empty", in: " {} "},
		{
			name: "all", in: `{"path": "api.py", "main": "f", "interpreter": "env/bin/python", "requirements": ["numpy==2"],
				"preload": [], "concurrency": 2, "suspend": "torch", "working_dir": "data", "env": {"A": "b"}}`,
			want: launcher.Spec{
				Path: "api.py", Main: "f", Interpreter: "env/bin/python", Requirements: []string{"numpy==2"},
				Preload: &preload, Concurrency: 2, Suspend: "torch", WorkingDir: "data", Env: map[string]string{"A": "b"},
			},
		},
		{name: "unknown key", in: `{"modul": "x"}`, wrong: `python: unknown key "modul"; there are path, module, entry_point, main, interpreter, requirements, preload, concurrency, suspend, working_dir, env`},
		{name: "a number for a string", in: `{"path": 3}`, wrong: "python: path: got number, want a string"},
		{name: "a string for a list", in: `{"requirements": "numpy"}`, wrong: "python: requirements: got string, want a list of strings"},
		{name: "a list for an object", in: `{"env": []}`, wrong: "python: env: got array, want an object of strings"},
		{name: "no object", in: `"api.py"`, wrong: "python: got string, want an object with some of the keys path, "},
		{name: "something behind", in: `{} {}`, wrong: "python: there is something behind the section's end"},
		{name: "no JSON", in: `{"path"`, wrong: "python: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := launcher.ParseSpec([]byte(tt.in))
			if tt.wrong != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.wrong) {
					t.Fatalf("got error %v, want %q", err, tt.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name, spec, wrong string
		env               map[string]string
	}{
		{name: "nothing"},
		{name: "path", spec: `{"path": "src/api.py"}`},
		{name: "module", spec: `{"module": "package.api"}`},
		{name: "object", spec: `{"module": "package.api:Model"}`},
		{name: "entry point", spec: `{"entry_point": "any name-1"}`},
		{name: "environment", spec: `{"env": {"A_1": "x=y"}}`, env: map[string]string{"__OW_API_HOST": "h"}},
		{name: "two", spec: `{"path": "a.py", "module": "a"}`, wrong: "only one of them"},
		{name: "outside", spec: `{"path": "../api.py"}`, wrong: `path: "../api.py" is not in the action's folder`},
		{name: "absolute", spec: `{"path": "/etc/passwd"}`, wrong: "is not in the action's folder"},
		{name: "no module", spec: `{"module": "a b"}`, wrong: "no name of a module"},
		{name: "no object", spec: `{"module": "a:"}`, wrong: "no name of a module"},
		{name: "no function", spec: `{"path": "a.py", "main": "f()"}`, wrong: "no name of a function"},
		{name: "interpreter outside", spec: `{"interpreter": "../python"}`, wrong: "interpreter: "},
		{name: "working dir outside", spec: `{"working_dir": ".."}`, wrong: "working_dir: "},
		{name: "too much at a time", spec: `{"concurrency": 65}`, wrong: "concurrency: got 65, want 1 to 64"},
		{name: "too little at a time", spec: `{"concurrency": -1}`, wrong: "concurrency: "},
		{name: "suspended by hooks", spec: `{"suspend": "hooks"}`},
		{name: "suspended by magic", spec: `{"suspend": "magic"}`, wrong: `suspend: got "magic", want hooks, torch or none`},
		{name: "an option of pip", spec: `{"requirements": ["--index-url=x"]}`, wrong: "requirements: "},
		{name: "no requirement", spec: `{"requirements": [" "]}`, wrong: "requirements: "},
		{name: "code to preload", spec: `{"preload": ["os; x"]}`, wrong: "preload: "},
		{name: "no name of a variable", spec: `{"env": {"A=B": "x"}}`, wrong: `env: "A=B"`},
		{name: "zero byte", spec: `{"env": {"A": "\u0000"}}`, wrong: "zero byte"},
		{name: "the cookie", spec: `{"env": {"DEEPFN_WORKER": "1"}}`, wrong: "belongs to deepfn"},
		{name: "odd variables", spec: `{"env": {"a b": "x", "1.ü": ""}}`, env: map[string]string{"a b": "x"}},
		{name: "variables of an init are left out, not refused", env: map[string]string{"": "x", "A=B": "x", "DEEPFN_WORKER": "1"}},
		{name: "unknown key", spec: `{"x": 1}`, wrong: "unknown key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := launcher.Check(actions.Model{Name: "m", Dir: "/m", Spec: []byte(tt.spec), Env: tt.env})
			if tt.wrong == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("got %v, want %q", err, tt.wrong)
			}
		})
	}
	if err := launcher.Check(actions.Model{Name: "m", Spec: []byte(`{"path": "a.py"}`)}); err == nil {
		t.Error("a file of an action without a folder was taken")
	}
}

func TestNewSetup(t *testing.T) {
	got := launcher.NewSetup(actions.Model{Name: "m", Dir: "/m"}, launcher.Spec{Path: "src/api.py", Main: "f", Suspend: "none"})
	want := launcher.Setup{Model: "m", Path: "/m/src/api.py", Main: "f", Warm: true, Suspend: "none"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
