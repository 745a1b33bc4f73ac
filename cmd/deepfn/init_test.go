package main

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// zipped makes a zip in base64; files whose names begin with * may be executed.
func zipped(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, text := range files {
		h := &zip.FileHeader{Name: strings.TrimPrefix(name, "*"), Method: zip.Deflate}
		h.SetMode(0o644)
		if strings.HasPrefix(name, "*") {
			h.SetMode(0o755)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.Write([]byte(text))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// isBase64 is how OpenWhisk's controller says what is binary.
var isBase64 = regexp.MustCompile(`^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$`)

// initialize posts /init as OpenWhisk does.
func (p *process) initialize(code, main string, env map[string]string) reply {
	p.t.Helper()
	body, err := json.Marshal(map[string]any{"value": map[string]any{
		"name": "guest-action", "main": main, "code": code, "env": env,
		"binary": code != "" && isBase64.MatchString(strings.TrimSpace(code)),
	}})
	if err != nil {
		p.t.Fatal(err)
	}
	return p.mustPost("/init", jsonMedia, body)
}

const whiskSentinel = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX\n"

// printed returns what the server has written to a stream for OpenWhisk, and how many
// sentinels, after the wanted number is there.
func printed(t *testing.T, stream *syncBuffer, sentinels int) (text string, found int) {
	t.Helper()
	eventually(t, "as many sentinels as wanted", func() bool {
		return strings.Count(stream.String(), whiskSentinel) >= sentinels
	})
	for line := range strings.Lines(stream.String()) {
		switch {
		case line == whiskSentinel:
			found++
		case !strings.HasPrefix(line, "time=") && !strings.HasPrefix(line, "wsk property set "):
			text += line
		}
	}
	return text, found
}

// TestInitCode gives functions to a server as OpenWhisk does. The numbers are those of
// the table of its own tests of Python actions.
func TestInitCode(t *testing.T) {
	t.Parallel()
	const (
		echo = "def main(args):\n    return args\n"
		tiny = "import tiny\ndef main(args):\n    return {'tiny': tiny.value}\n"
		loop = "#!/bin/bash\nwhile read line; do echo \"got $line\"; echo '{\"hello\": \"shell\"}' >&3; done\n"
	)
	version, err := exec.CommandContext(t.Context(), current(t), "-c", "import sys; print('python%d.%d' % sys.version_info[:2], end='')").Output()
	if err != nil {
		t.Fatal(err)
	}
	site := "virtualenv/lib/" + string(version) + "/site-packages/"
	hello := build(t, "./testdata/hello")
	for _, c := range []struct {
		name, code, main string
		init             int    // the status of /init
		initBody         string // is in its body
		value            string // of /run; {} when it is empty
		status           int    // of /run; 200 when it is 0
		run              string // the body of /run, or with ~ a part of it
		out, err         string // are in what is printed
		quiet            bool   // nothing is
	}{
		{name: "plain source", code: echo, init: 200, initBody: `{"ok":true}`, value: `{"a":"❄"}`, run: `{"a": "❄"}`, quiet: true},
		{name: "list in, list out", code: "def main(args):\n    return args[::-1]\n", init: 200, value: `["a",1]`, run: `[1, "a"]`, quiet: true},
		{name: "no arguments", code: "def main():\n    return {}\n", init: 200, run: `{}`, quiet: true},
		{name: "no result", code: "def main(args):\n    pass\n", init: 200, status: 502, run: notADictionary, quiet: true},
		{name: "coroutine", code: "async def main(args):\n    return {'a': 1}\n", init: 200, run: `{"a": 1}`, quiet: true},
		{name: "another main", code: "def niam(args):\n    return {'niam': 1}\n", main: "niam", init: 200, run: `{"niam": 1}`, quiet: true},
		{name: "main is predict", code: "def predict(args):\n    return {'got': args}\n", main: "predict", init: 200, value: `{"q":1}`, run: `{"got": {"q": 1}}`, quiet: true},
		{name: "predict by name", code: "def predict(q: int):\n    return {'got': q}\n", main: "predict", init: 200, value: `{"q":1}`, run: `{"got": 1}`, quiet: true},
		{name: "no such main", code: echo, main: "niam", init: 502, initBody: "has no function niam", err: "has no function niam"},
		{name: "no function", code: "x = 1\n", init: 502, initBody: "neither get_predict_args, nor main(args)", err: "Cannot start action"},
		{
			name: "51 zip with a module", main: "niam", init: 200, value: `{"a":1}`, run: `{"echo": {"a": 1}}`, quiet: true,
			code: zipped(t, map[string]string{"__main__.py": "from other import f\ndef niam(args):\n    return {'echo': f(args)}\n", "other.py": "def f(x):\n    return x\n"}),
		},
		{
			name: "52 zip with a file", init: 200, run: `{"text": "relative"}`, quiet: true,
			code: zipped(t, map[string]string{"__main__.py": "def main(args):\n    return {'text': open('data/a.txt').read()}\n", "data/a.txt": "relative"}),
		},
		{name: "53 zip without __main__.py", code: zipped(t, map[string]string{"echo.py": echo}), init: 502, initBody: "Zip file does not include", err: "Zip file does not include"},
		{name: "54 exception", code: "def main(args):\n    raise ValueError('boom')\n", init: 200, run: "~ValueError: boom", err: "Traceback"},
		{name: "55 syntax error", code: "def main(args)\n    return {}\n", init: 502, initBody: "SyntaxError", err: "SyntaxError"},
		{name: "56 error in the result", code: "def main(args):\n    return {'error': 'sorry'}\n", init: 200, run: `{"error": "sorry"}`, quiet: true},
		{name: "57 missing package", code: "import iamnotthere\n" + echo, init: 502, initBody: "No module named 'iamnotthere'", err: "Traceback"},
		{name: "58 interpreter", code: "import sys\ndef main(args):\n    return {'python': sys.executable}\n", init: 200, run: "~python", quiet: true},
		{name: "59 array result", code: "def main(args):\n    return ['a', 'b']\n", init: 200, run: `["a", "b"]`, quiet: true},
		{name: "60 array input", code: echo, init: 200, value: `["a","b"]`, run: `["a", "b"]`, quiet: true},
		{name: "61 exit in main", code: "import sys\ndef main(args):\n    sys.exit(1)\n", init: 200, status: 400, run: `{"error":"command exited"}`, err: "SystemExit"},
		{name: "62 exit at import", code: "import sys\nsys.exit(1)\n" + echo, init: 502, initBody: "Cannot start action", err: "Command exited abruptly during initialization."},
		{name: "62 _exit at import", code: "import os\nos._exit(0)\n" + echo, init: 502, initBody: "Cannot start action: Command exited abruptly during initialization. ", err: "Command exited abruptly during initialization."},
		{name: "63 print at import", code: "import os\nprint('WORD is ' + os.environ['WORD'])\n" + echo, init: 200, run: `{}`, out: "WORD is xyz\n"},
		{name: "64 virtualenv with a module", code: zipped(t, map[string]string{"__main__.py": tiny, site + "tiny.py": "value = 7\n", "virtualenv/bin/activate_this.py": ""}), init: 200, run: `{"tiny": 7}`, quiet: true},
		{name: "65 virtualenv with a package", code: zipped(t, map[string]string{"__main__.py": tiny, site + "tiny/__init__.py": "value = 8\n"}), init: 200, run: `{"tiny": 8}`, quiet: true},
		{name: "66 virtualenv without __main__.py", code: zipped(t, map[string]string{"main.py": tiny, site + "tiny.py": ""}), init: 502, initBody: "does not include __main__.py", err: "does not include __main__.py"},
		{name: "67 no virtualenv", code: zipped(t, map[string]string{"__main__.py": echo, "virtualenv/readme": ""}), init: 502, initBody: "is no virtual environment", err: "is no virtual environment"},
		{name: "no zip", code: base64.StdEncoding.EncodeToString([]byte("PK\x03\x04 and no more")), init: 502, initBody: "it is damaged or cut short", err: "damaged"},
		{name: "zip that leaves its folder", code: zipped(t, map[string]string{"__main__.py": echo, "../../out.py": "x"}), init: 502, initBody: "Cannot start action", err: "Cannot start action"},
		{name: "shell script", code: loop, init: 200, run: `{"hello": "shell"}`, out: "got {"},
		{name: "zip with exec", code: zipped(t, map[string]string{"*exec": loop}), init: 200, run: `{"hello": "shell"}`, out: "got {"},
		{name: "zip with exec without its mode", code: zipped(t, map[string]string{"exec": loop}), init: 200, run: `{"hello": "shell"}`, out: "got {"},
		{name: "shell script that ends", code: "#!/bin/bash\necho hi\nexit 3\n", init: 502, initBody: "cannot start action: command exited", out: "hi", err: "exit status 3"},
		{name: "program", code: base64.StdEncoding.EncodeToString(hello), init: 200, value: `{"name":"Mike"}`, run: `{"message":"Hello, Mike!","word":"xyz"}`, out: "name=Mike\n"},
		{name: "zip with a program", code: zipped(t, map[string]string{"*exec": string(hello)}), init: 200, value: `{"name":"Mike"}`, run: `{"message":"Hello, Mike!","word":"xyz"}`, out: "name=Mike\n"},
		{name: "sentinel of its own", code: "def main(args):\n    print('" + strings.TrimSpace(whiskSentinel) + "')\n    return {}\n", init: 200, run: `{}`, out: "(sentinel)\n"},
		{name: "environment", code: "import os\nword = os.environ['WORD']\ndef main(args):\n    return {'word': word, 'id': os.environ['__OW_ACTIVATION_ID'], 'key': os.environ['__OW_API_KEY'], 'empty': os.environ['EMPTY']}\n", init: 200, run: `{"word": "xyz", "id": "iii", "key": "abc", "empty": ""}`, quiet: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newServer(t)
			p.serve(&p.stdout, "--python", current(t))
			if c.main == "" {
				c.main = "main"
			}
			if r := p.initialize(c.code, c.main, map[string]string{"WORD": "xyz", "EMPTY": ""}); !r.has(c.init, c.initBody) {
				t.Fatalf("/init: got %d %s, want %d with %s", r.status, r.body, c.init, c.initBody)
			} else if strings.Contains(r.body, "start "+filepath.Dir(current(t))) {
				t.Errorf("/init: got %s, which says where Python is", r.body)
			}
			if c.init == 200 {
				if c.value == "" {
					c.value = "{}"
				}
				r := p.mustPost("/run", jsonMedia, []byte(`{"value":`+c.value+`,"activation_id":"iii","api_key":"abc"}`))
				part, some := strings.CutPrefix(c.run, "~")
				if c.status == 0 {
					c.status = 200
				}
				if r.status != c.status || some && !strings.Contains(r.body, part) || !some && plainJSON(t, r.body) != plainJSON(t, c.run) {
					t.Errorf("/run: got %d %s, want %d %s", r.status, r.body, c.status, c.run)
				}
				if r.header.Get("Content-Length") == "" {
					t.Error("/run: there is no Content-Length")
				}
				if again := p.initialize(c.code, c.main, nil); again.status != 403 {
					t.Errorf("second /init: got %d %s, want 403", again.status, again.body)
				}
			}
			out, outs := printed(t, &p.stdout, 1)
			stderr, errs := printed(t, &p.stderr, 1)
			if outs != 1 || errs != 1 {
				t.Errorf("got %d and %d sentinels, want 1 on each stream", outs, errs)
			}
			out = strings.ReplaceAll(out, initOnceLine, "")
			if !strings.Contains(out, c.out) || !strings.Contains(stderr, c.err) || c.quiet && out+stderr != "" {
				t.Errorf("printed %q and %q, want %q and %q in them, nothing: %v", out, stderr, c.out, c.err, c.quiet)
			}
		})
	}
}

const initOnceLine = "Cannot initialize the action more than once.\n"

// plainJSON writes a JSON value in one way.
func plainJSON(t *testing.T, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Errorf("no JSON: %s", text)
	}
	out, _ := json.Marshal(v)
	return string(out)
}

// build compiles a program of the tests and returns it.
func build(t *testing.T, pkg string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "-ldflags=-s -w", pkg)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestInitAgain: code that does not start may be followed by code that does.
func TestInitAgain(t *testing.T) {
	t.Parallel()
	p := newServer(t)
	p.serve(&p.stdout, "--python", current(t))
	if r := p.initialize("raise SystemExit\n", "main", nil); r.status != 502 {
		t.Errorf("/init: got %d %s, want 502", r.status, r.body)
	}
	if r := p.run(`{}`); r.status != 500 {
		t.Errorf("/run before an /init: got %d %s, want 500", r.status, r.body)
	}
	if r := p.initialize("def main(args):\n    return {'second': 1}\n", "main", nil); r.status != 200 {
		t.Errorf("the second: got %d %s, want 200", r.status, r.body)
	}
	if r := p.run(`{}`); r.body != `{"second": 1}` {
		t.Errorf("/run: got %d %s", r.status, r.body)
	}
	if r := p.mustGet("/readyz"); r.status != 200 {
		t.Errorf("/readyz: got %d %s", r.status, r.body)
	}
}

// TestFunctionFile serves a file with a function over both protocols.
func TestFunctionFile(t *testing.T) {
	t.Parallel()
	p := servePython(t, copyOf(t, "function.py"))
	const route = "/v2/models/function/predict/"
	media, body := parts(t, [3]string{"name", "", "Ann"}, [3]string{"times", "", "2"}, [3]string{"sizes", "", "1"}, [3]string{"sizes", "", "2"}, [3]string{"file", "scan.nii.gz", "bytes"})
	for _, c := range []struct {
		name, path, media, body string
		status                  int
		want                    string
	}{
		{"query", route + "?name=Ann&times=2", jsonMedia, "", 200, `{"status":"OK","predictions":{"greeting":"hello hello Ann","sizes":null}}`},
		{"form", route, "application/x-www-form-urlencoded", "name=Ann&sizes=1&sizes=2", 200, `{"status":"OK","predictions":{"greeting":"hello Ann","sizes":[1,2]}}`},
		{"JSON", route, jsonMedia, `{"name":"Ann","sizes":[1]}`, 200, `{"status":"OK","predictions":{"greeting":"hello Ann","sizes":[1]}}`},
		{"multipart", route, media, string(body), 200, `{"status":"OK","predictions":{"greeting":"hello hello Ann","sizes":[1,2],"suffix":".nii.gz","text":"bytes"}}`},
		{"missing", route, jsonMedia, `{}`, 422, `{"name":["Missing data for required field."]}`},
		{"wrong", route, jsonMedia, `{"name":"Ann","times":"many"}`, 422, `{"times":["Not a valid integer."]}`},
		{"run", "/run", jsonMedia, `{"value":{"name":"Ann","times":2,"file":"Ynl0ZXM="}}`, 200, `{"greeting":"hello hello Ann","sizes":null,"suffix":"","text":"bytes"}`},
		{"run with a named file", "/run", jsonMedia, `{"value":{"name":"Ann","file":{"data":"Ynl0ZXM=","filename":"a.tar.gz"}}}`, 200, `{"greeting":"hello Ann","sizes":null,"suffix":".tar.gz","text":"bytes"}`},
		{"run, missing", "/run", jsonMedia, `{"value":{}}`, 200, `{"error":"name: Missing data for required field."}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := p.mustPost(c.path, c.media, []byte(c.body))
			if r.status != c.status || plainJSON(t, r.body) != plainJSON(t, c.want) {
				t.Errorf("got %d %s, want %d %s", r.status, r.body, c.status, c.want)
			}
		})
	}
	if r := p.mustGet("/v2/models/function/"); !r.has(200, "Greet somebody") {
		t.Errorf("metadata: got %d %s, want the function's documentation", r.status, r.body)
	}
	left, err := os.ReadDir(p.temp)
	if err != nil || len(left) > 0 {
		t.Errorf("the folder for temporary files holds %v, %v; want nothing after the requests", left, err)
	}
}

// A program that goes on after its deadline is ended, for the next caller does not wait
// long: its deadline is earlier than what other workers have to come to an end.
func TestProgramOverDeadline(t *testing.T) {
	t.Parallel()
	p := newServer(t)
	p.serve(&p.stdout, "--python", current(t))
	const sleeper = "#!/bin/sh\nwhile read -r line; do case \"$line\" in *sleep*) sleep 1000;; esac; echo '{\"ok\":1}' >&3; done\n"
	if r := p.initialize(base64.StdEncoding.EncodeToString([]byte(sleeper)), "main", nil); r.status != 200 {
		t.Fatalf("/init: got %d %s", r.status, r.body)
	}
	within := func(value string, d time.Duration) reply {
		return p.mustPost("/run", jsonMedia, fmt.Appendf(nil, `{"value":{"do":%q},"deadline":"%d"}`, value, time.Now().Add(d).UnixMilli()))
	}
	if r := within("sleep", 500*time.Millisecond); !r.has(200, "error") {
		t.Errorf("got %d %s, want an error at the deadline", r.status, r.body)
	}
	if r := within("answer", 4500*time.Millisecond); r.body != `{"ok":1}` {
		t.Errorf("the next one: got %d %s", r.status, r.body)
	}
}
