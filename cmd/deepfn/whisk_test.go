package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions/whisk"
)

// A wskCommand is a command of wsk with the requests that it makes, as they were recorded
// from the real one, and the exit code that it has when they are answered so.
type wskCommand struct {
	Command  string
	Exit     int
	Requests []wskRequest
}

// A wskRequest is one of them.
type wskRequest struct {
	Method, Path string
	Open         bool // sent without a key
	Body         json.RawMessage
	Status       int
	// Want are the members of the answer that wsk reads. A text that begins with … is the
	// end of one, {id} the id of the activation to keep.
	Want any
	Keep bool // the id of the activation that this makes
}

// whiskCatalog is a folder of actions with the one that the recorded commands name.
func whiskCatalog(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	folder := filepath.Join(dir, "uc-lara-dockerized")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"action.yaml": "name: uc-lara-dockerized\nruntime: python\npython: {module: lara}\n",
		"lara.py":     "def main(args):\n    return args\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// serveWhisk starts a server with OpenWhisk's API, whose Python is current.
func serveWhisk(t *testing.T, args ...string) *process {
	t.Helper()
	p := newServer(t)
	return p.serve(&p.stdout, append([]string{"--python", current(t)}, args...)...)
}

// api makes a request of OpenWhisk's API as wsk does.
func (p *process) api(method, path, body string, open bool) reply {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.base+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("User-Agent", "OpenWhisk-CLI/1.0 (2024-09-24T10:23:10-04:00) linux amd64")
	if body != "" {
		req.Header.Set("Content-Type", jsonMedia)
	}
	if user, key, _ := strings.Cut(whisk.GuestAuth, ":"); !open {
		req.SetBasicAuth(user, key)
	}
	r, err := do(req)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

// own makes a request below the caller's namespace.
func (p *process) own(method, path, body string) reply {
	p.t.Helper()
	return p.api(method, "/api/v1/namespaces/_/"+path, body, false)
}

// The recorded requests of wsk, in the order of a session, are answered with the statuses
// from which it makes its exit codes and with what it reads of the bodies.
func TestWhiskGolden(t *testing.T) {
	text, err := os.ReadFile("testdata/wsk/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var commands []wskCommand
	if err := json.Unmarshal(text, &commands); err != nil {
		t.Fatal(err)
	}
	p := serveWhisk(t, "--catalog", whiskCatalog(t))
	id := ""
	for _, c := range commands {
		status, path := 0, ""
		for _, r := range c.Requests {
			path = strings.ReplaceAll(r.Path, "{id}", id)
			body := ""
			if r.Body != nil {
				body = string(r.Body) + "\n"
			}
			got := p.api(r.Method, path, body, r.Open)
			if r.Keep {
				id = got.header.Get("X-Openwhisk-Activation-Id")
			}
			if status = got.status; status != r.Status {
				t.Errorf("%s: %s %s: got %d %s, want %d", c.Command, r.Method, path, got.status, got.body, r.Status)
				continue
			}
			if r.Want == nil {
				if got.body != "" {
					t.Errorf("%s: %s %s: got %s, want no body", c.Command, r.Method, path, got.body)
				}
				continue
			}
			var doc any
			if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
				t.Errorf("%s: %s %s: %v: %s", c.Command, r.Method, path, err, got.body)
			}
			if fault := lacks(r.Want, doc, id); fault != "" {
				t.Errorf("%s: %s %s: %s\n%s", c.Command, r.Method, path, fault, got.body)
			}
		}
		if got := wskExit(status, path); got != c.Exit && c.Exit != 1 { // 1 is wsk's own opinion
			t.Errorf("%s: the exit code would be %d, want %d", c.Command, got, c.Exit)
		}
	}
}

// wskExit is the exit code of wsk after an answer.
func wskExit(status int, path string) int {
	switch {
	case status == 202 && strings.Contains(path, "blocking=true"):
		return 202
	case status < 300:
		return 0
	}
	return (status - 256) & 0xff
}

// lacks says where a document is not as wanted; it may have more members and entries.
func lacks(want, got any, id string) string {
	switch want := want.(type) {
	case map[string]any:
		doc, ok := got.(map[string]any)
		for name, value := range want {
			member, there := doc[name]
			if !ok || !there {
				return fmt.Sprintf("there is no member %s in %v", name, got)
			}
			if fault := lacks(value, member, id); fault != "" {
				return name + ": " + fault
			}
		}
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) < len(want) {
			return fmt.Sprintf("got %v, want a list of %d or more", got, len(want))
		}
		for i := range want {
			if fault := lacks(want[i], list[i], id); fault != "" {
				return fmt.Sprintf("%d: %s", i, fault)
			}
		}
	case string:
		if end, ok := strings.CutPrefix(want, "…"); ok && (end == "" || strings.HasSuffix(fmt.Sprint(got), end)) {
			return ""
		}
		if want = strings.ReplaceAll(want, "{id}", id); got != want {
			return fmt.Sprintf("got %v, want %s", got, want)
		}
	default:
		if got != want {
			return fmt.Sprintf("got %v, want %v", got, want)
		}
	}
	return ""
}

func TestLacks(t *testing.T) {
	for _, tt := range []struct {
		want, got string
		ok        bool
	}{
		{`{"a":1}`, `{"a":1,"b":2}`, true},
		{`{"a":1}`, `{"a":2}`, false},
		{`{"a":"…"}`, `{"a":null}`, true},
		{`{"a":"…"}`, `{}`, false},
		{`{}`, `[]`, true},
		{`{"a":"…x y"}`, `{"a":"2026 x y"}`, true},
		{`{"a":"…x y"}`, `{"a":"2026 x z"}`, false},
		{`{"a":"{id}"}`, `{"a":"77"}`, true},
		{`[{"a":1}]`, `[{"a":1},{"a":2}]`, true},
		{`[{"a":1}]`, `[]`, false},
		{`[]`, `{}`, false},
		{`true`, `false`, false},
	} {
		var want, got any
		if json.Unmarshal([]byte(tt.want), &want) != nil || json.Unmarshal([]byte(tt.got), &got) != nil {
			t.Fatal(tt)
		}
		if fault := lacks(want, got, "77"); (fault == "") != tt.ok {
			t.Errorf("%s in %s: got %q", tt.want, tt.got, fault)
		}
	}
}

// Actions of other models work beside the model of the command line, and two actions of
// one model share its instance.
func TestWhiskBesideModel(t *testing.T) {
	model := lay(t, "token.py", "import os\n\ndef main(args):\n    return {\"pid\": os.getpid(), \"own\": True}\n")
	p := serveWhisk(t, model, "--catalog", whiskCatalog(t))
	for _, action := range []string{"one", "two"} {
		if r := p.own("PUT", "actions/"+action, `{"exec":{"kind":"deepfn:token"}}`); r.status != 200 {
			t.Fatalf("put: got %d %s", r.status, r.body)
		}
	}
	var pids []int
	pid := func(body string) (answer struct{ Pid int }) {
		if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Pid == 0 {
			t.Fatalf("got %s, %v", body, err)
		}
		return answer
	}
	for _, path := range []string{"actions/one", "actions/two"} {
		r := p.own("POST", path+"?blocking=true&result=true", "")
		if r.status != 200 {
			t.Fatalf("%s: got %d %s", path, r.status, r.body)
		}
		pids = append(pids, pid(r.body).Pid)
	}
	pids = append(pids, pid(p.run("{}").body).Pid)
	if len(slices.Compact(pids)) != 1 {
		t.Errorf("got the instances %v, want one", pids)
	}
	for _, name := range []string{"token", "uc-lara-dockerized"} {
		r := p.api("POST", "/api/v1/namespaces/whisk.system/actions/models/"+name+"?blocking=true&result=true", `{"a":1}`, false)
		if r.status != 200 {
			t.Errorf("%s: got %d %s", name, r.status, r.body)
		}
	}
	if r := p.mustGet("/v2/models/uc-lara-dockerized/"); r.status != 404 {
		t.Errorf("DEEPaaS shows the other model: got %d %s", r.status, r.body)
	}
}

// What was acknowledged is there after the server was killed.
func TestWhiskAfterKill(t *testing.T) {
	p := newServer(t)
	args := []string{"--python", current(t)}
	p.serve(&p.stdout, args...)
	code, _ := json.Marshal(map[string]any{"exec": map[string]string{"kind": "python:3", "code": "def main(args):\n    print(args)\n    return args\n"}})
	if r := p.own("PUT", "actions/echo", string(code)); r.status != 200 {
		t.Fatalf("put: got %d %s", r.status, r.body)
	}
	r := p.own("POST", "actions/echo?blocking=true", `{"a":1}`)
	id := r.header.Get("X-Openwhisk-Activation-Id")
	if r.status != 200 || len(id) != 32 {
		t.Fatalf("invoke: got %d %s", r.status, r.body)
	}
	p.kill()
	again := newServer(t)
	again.data, again.env = p.data, p.env
	again.serve(&again.stdout, args...)
	if r := again.own("GET", "activations/"+id+"/logs", ""); r.status != 200 || !strings.Contains(r.body, " stdout: {'a': 1}") {
		t.Errorf("logs: got %d %s", r.status, r.body)
	}
	if r := again.own("POST", "actions/echo?blocking=true&result=true", `{"b":2}`); r.status != 200 || r.body != `{"b":2}`+"\n" {
		t.Errorf("invoke: got %d %s", r.status, r.body)
	}
	if code := again.stop(); code != 0 {
		t.Errorf("exit code after SIGTERM: got %d", code)
	}
}

// Who may use the API depends on the address and the key.
func TestWhiskKeys(t *testing.T) {
	const ownKey = "me:0123456789abcdef"
	tests := []struct {
		name   string
		env    []string
		args   []string
		status int    // of GET /api/v1
		stderr string // is in it; with a ! it is not
	}{
		{"loopback", nil, nil, 200, "wsk property set --apihost BASE --auth " + whisk.GuestAuth + "\n"},
		{"key of one's own", []string{"DEEPFN_API_KEY=" + ownKey}, nil, 200, "wsk property set --apihost BASE --auth \"$DEEPFN_API_KEY\"\n"},
		{"the key is not shown", []string{"DEEPFN_API_KEY=" + ownKey}, nil, 200, "!" + ownKey},
		{"all addresses", nil, []string{"--listen", "0.0.0.0:0"}, 404, `level=INFO msg="no OpenWhisk API on an address that others reach; DEEPFN_API_KEY, a key of your own, turns it on"`},
		{"all addresses, asked for", []string{"DEEPFN_OPENWHISK_API=1"}, []string{"--listen", "0.0.0.0:0"}, 404, `level=WARN msg="no OpenWhisk API: on an address that others reach it needs a key of your own, DEEPFN_API_KEY"`},
		{"all addresses with a key", []string{"DEEPFN_API_KEY=" + ownKey}, []string{"--listen", "0.0.0.0:0"}, 200, "wsk property set --apihost BASE "},
		{"off", nil, []string{"--openwhisk-api=false"}, 404, "!wsk property"},
		{"off by a variable", []string{"DEEPFN_OPENWHISK_API=false"}, nil, 404, "!wsk property"},
		{"an action container", []string{"__OW_API_HOST=https://ow.example"}, nil, 404, "!wsk property"},
		{"an action container, asked for", []string{"__OW_API_HOST=https://ow.example"}, []string{"--openwhisk-api"}, 200, "wsk property"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newServer(t)
			p.env = append(p.env, tt.env...)
			p.serve(&p.stdout, tt.args...)
			p.base = strings.Replace(p.base, "[::]", "127.0.0.1", 1)
			if r := p.mustGet("/api/v1"); r.status != tt.status {
				t.Errorf("got %d %s, want %d", r.status, r.body, tt.status)
			}
			p.stop()
			want, never := strings.CutPrefix(strings.ReplaceAll(tt.stderr, "BASE", p.base), "!")
			if strings.Contains(p.stderr.String(), want) == never {
				t.Errorf("stderr is %s, want (never: %v) %s", p.stderr.String(), never, want)
			}
		})
	}
}

// Two servers of one data folder: the second has no API and serves all else.
func TestWhiskDataTaken(t *testing.T) {
	first := serveWhisk(t)
	second := newServer(t)
	second.env = first.env
	second.serve(&second.stdout)
	if r := second.mustGet("/api/v1"); r.status != 404 {
		t.Errorf("got %d %s, want 404", r.status, r.body)
	}
	if r := second.mustGet("/v2/"); r.status != 200 {
		t.Errorf("got %d %s", r.status, r.body)
	}
	if log := second.stderr.String(); !strings.Contains(log, `level=WARN msg="no OpenWhisk API`) {
		t.Errorf("the log is %s", log)
	}
}

func TestWhiskSettings(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{map[string]string{"DEEPFN_API_KEY": "nocolon"}, nil, "want UUID:KEY"},
		{nil, []string{"--api-key", ":x"}, "want UUID:KEY"},
		{nil, []string{"--api-key", "x:"}, "want UUID:KEY"},
		{map[string]string{"DEEPFN_OPENWHISK_API": "maybe"}, nil, "want true or false"},
		{map[string]string{"DEEPFN_PAYLOAD_LIMIT": "1M"}, nil, "want a number of bytes"},
		{nil, []string{"--payload-limit", "-1"}, "wants 0 or more"},
		{nil, []string{"--listen", "0.0.0.0:0", "--api-key", whisk.GuestAuth}, "everybody knows this key"},
	} {
		env := map[string]string{"DEEPFN_DATA": t.TempDir(), "DEEPFN_CACHE": t.TempDir()}
		maps.Copy(env, tt.env)
		var stderr strings.Builder
		code := run(t.Context(), program{
			args: append([]string{"serve"}, tt.args...), stdout: &stderr, stderr: &stderr,
			getenv: func(name string) string { return env[name] },
		})
		if code != exitUsage || !strings.Contains(stderr.String(), tt.want) {
			t.Errorf("%v %v: got %d %s, want %s", tt.env, tt.args, code, stderr.String(), tt.want)
		}
	}
}

// A function does not see the key of the server that runs it.
func TestWhiskKeyStaysHere(t *testing.T) {
	p := newServer(t)
	p.env = append(p.env, "DEEPFN_API_KEY=me:0123456789abcdef", "OTHER=seen")
	p.serve(&p.stdout, lay(t, "env.py", "import os\ndef main(args):\n    return {n: os.environ.get(n) for n in ('DEEPFN_API_KEY', 'OTHER')}\n"),
		"--python", current(t))
	if r := p.run(`{}`); r.body != `{"DEEPFN_API_KEY": null, "OTHER": "seen"}` {
		t.Errorf("got %d %s", r.status, r.body)
	}
}
