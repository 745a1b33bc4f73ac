package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// entryActivation is what a request to the single entrypoint has beside its value.
const entryActivation = `"activation":{"namespace":"","action_name":"hello","api_host":"","api_key":"","activation_id":"","transaction_id":"","deadline":1000000}`

// TestEntrypoint runs the example cases of OpenWhisk's contract for Knative with functions
// in Python: specialized by the environment, and as a stem cell that is told its code.
func TestEntrypoint(t *testing.T) {
	t.Parallel()
	const (
		hello  = "def main(args):\n    return {'payload': 'Hello World!'}\n"
		params = "def main(args):\n    return {'payload': 'Hello ' + args['name'] + ' from ' + args['place'] + '!'}\n"
		web    = "def main(args):\n    name = args.get('name')\n    msg = 'hello ' + name if name else 'you did not tell me who you are.'\n" +
			"    return {'body': '<html><body><h3>' + msg + '</h3></body></html>'}\n"
		raw   = "def main(args):\n    args['__ow_headers'] = sorted(args['__ow_headers'])\n    return {'response': args}\n"
		other = "def hello(args):\n    return {'payload': 'Hello World!'}\n"
		html  = "text/html; charset=UTF-8"
	)
	for _, tt := range []struct {
		name, code, main string
		binary, raw      bool
		value            string
		media, body      string
	}{
		{"hello world", hello, "", false, false, `{"name":"Joe","place":"TX"}`, jsonMedia, `{"payload": "Hello World!"}`},
		{"with params", params, "", false, false, `{"name":"Joe","place":"TX"}`, jsonMedia, `{"payload": "Hello Joe from TX!"}`},
		{"web action with input", web, "", false, false, `{"name":"Joe"}`, html, `<html><body><h3>hello Joe</h3></body></html>`},
		{"web action without input", web, "", false, false, ``, html, `<html><body><h3>you did not tell me who you are.</h3></body></html>`},
		{
			"raw", raw, "", false, true, `{"name": "Joe"}`, jsonMedia,
			`{"response":{"__ow_body":"eyJuYW1lIjoiSm9lIn0=","__ow_headers":["accept-encoding","content-length","content-type","host","user-agent"],` +
				`"__ow_method":"POST","__ow_path":"","__ow_query":{},"__ow_user":""}}`,
		},
		{"zip", zipped(t, map[string]string{"__main__.py": hello}), "", true, false, `{"name":"Joe"}`, jsonMedia, `{"payload": "Hello World!"}`},
		{"not main", other, "hello", false, false, `{"name":"Joe"}`, jsonMedia, `{"payload": "Hello World!"}`},
		{"zip, not main", zipped(t, map[string]string{"__main__.py": other}), "hello", true, false, `{"name":"Joe"}`, jsonMedia, `{"payload": "Hello World!"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			run := "{" + entryActivation + `,"value":` + tt.value + "}"
			if tt.value == "" {
				run = ""
			}
			check := func(how string, p *process, body string) {
				t.Helper()
				got := p.mustPost("/", jsonMedia, []byte(body))
				same := got.body == tt.body || tt.media == jsonMedia && plainJSON(t, got.body) == plainJSON(t, tt.body)
				if got.status != 200 || got.header.Get("Content-Type") != tt.media || !same {
					t.Errorf("%s: got %d %s %s\nwant %s", how, got.status, got.header.Get("Content-Type"), got.body, tt.body)
				}
			}
			start := func(env ...string) *process {
				p := newServer(t)
				p.env = append(append(p.env, "__OW_RUNTIME_PLATFORM=knative"), env...)
				return p.serve(&p.stdout, "--python", current(t))
			}
			p := start("__OW_ACTION_CODE="+tt.code, "__OW_ACTION_MAIN="+tt.main, "__OW_ACTION_BINARY="+boolText(tt.binary), "__OW_ACTION_RAW="+boolText(tt.raw))
			check("specialized", p, run)
			check("specialized, again", p, run)
			if got := p.mustPost("/", jsonMedia, []byte(`{"init":{"code":"x"}}`)); got.status != 500 || !strings.Contains(got.body, "internal error during request processing.") {
				t.Errorf("a second function: got %d %s", got.status, got.body)
			}
			init, err := json.Marshal(map[string]any{"name": "hello", "main": tt.main, "code": tt.code, "binary": tt.binary, "raw": tt.raw, "env": map[string]string{}})
			if err != nil {
				t.Fatal(err)
			}
			p = start()
			if got := p.mustPost("/", jsonMedia, []byte(`{"init":{}}`)); got.status != 403 {
				t.Errorf("no code: got %d %s", got.status, got.body)
			}
			if got := p.mustPost("/", jsonMedia, []byte(`{`+entryActivation+`,"value":{}}`)); got.status != 500 {
				t.Errorf("run without code: got %d %s", got.status, got.body)
			}
			if tt.value == "" {
				if got := p.mustPost("/", jsonMedia, []byte(`{"init":`+string(init)+`}`)); got.status != 200 {
					t.Fatalf("init: got %d %s", got.status, got.body)
				}
			} else {
				check("init and run", p, `{"init":`+string(init)+`,`+run[1:])
			}
			check("run", p, run)
		})
	}
}

// Methods that are none end the server before it listens; without POST it says so.
func TestEntryHTTPMethods(t *testing.T) {
	t.Parallel()
	for _, methods := range []string{"[foo]", "[get,post,patchh]", "GET;POST"} {
		env := map[string]string{"DEEPFN_DATA": t.TempDir(), "DEEPFN_CACHE": t.TempDir(), "__OW_HTTP_METHODS": methods}
		var stderr strings.Builder
		code := run(t.Context(), program{
			args: []string{"serve", "--listen", "127.0.0.1:0"}, stdout: &stderr, stderr: &stderr,
			getenv: func(name string) string { return env[name] },
		})
		if code != exitUsage || !strings.Contains(stderr.String(), "__OW_HTTP_METHODS="+methods+": ") {
			t.Errorf("%s: got %d %s", methods, code, stderr.String())
		}
	}
	for methods, status := range map[string]int{"[get,post]": 500, `["put", "get"]`: 405} {
		p := newServer(t)
		p.env = append(p.env, "__OW_HTTP_METHODS="+methods)
		p.serve(&p.stdout, "--python", current(t))
		if r := p.mustPost("/", jsonMedia, []byte(`{}`)); r.status != status {
			t.Errorf("%s: POST got %d %s, want %d", methods, r.status, r.body, status)
		}
		if warned := strings.Contains(p.stderr.String(), "POST does not run the function"); warned != (status == 405) {
			t.Errorf("%s: warned %t: %s", methods, warned, p.stderr.String())
		}
	}
}

func boolText(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// TestWebActions serves models and a function as web actions of the server's own OpenWhisk.
func TestWebActions(t *testing.T) {
	t.Parallel()
	p := newServer(t)
	p.serve(&p.stdout, "--python", current(t), "--catalog", whiskCatalog(t))
	code, err := json.Marshal("import sys\n\ndef main(args):\n    print('asked', args['__ow_method'])\n    return {'statusCode': 201, 'headers': {'x-path': args['__ow_path']}, 'body': args.get('name')}\n")
	if err != nil {
		t.Fatal(err)
	}
	for name, exec := range map[string]string{
		"ocr": `{"kind":"blackbox","image":"deepfn/ocr-line"}`,
		"fn":  `{"kind":"python:3","code":` + string(code) + `}`,
	} {
		body := `{"exec":` + exec + `,"annotations":[{"key":"web-export","value":true}]}`
		if got := p.own("PUT", "actions/"+name, body); got.status != 200 {
			t.Fatalf("%s: got %d %s", name, got.status, got.body)
		}
	}
	const web = "/api/v1/web/guest/default/"
	line, err := os.ReadFile(filepath.Join(top, "examples", "ocr-line", "line.png"))
	if err != nil {
		t.Fatal(err)
	}
	contentType, form := parts(t, [3]string{"image", "line.png", string(line)})
	encoded, err := json.Marshal(map[string]string{"image": base64.StdEncoding.EncodeToString(line)})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path, contentType string
		body              []byte
	}{
		{"ocr", contentType, form},
		{"ocr.http", jsonMedia, encoded},
		{"ocr/v2/models/ocr-line/predict/", contentType, form},
		{"ocr.http/v2/models/ocr-line/predict", jsonMedia, encoded},
	} {
		if got := p.mustPost(web+tt.path, tt.contentType, tt.body); !got.has(200, "Serverless models stay warm 2026") {
			t.Errorf("%s as %s: got %d %s", tt.path, tt.contentType, got.status, got.body)
		}
	}
	if got := p.mustPost(web+"ocr", contentType, append(form, make([]byte, 1<<20)...)); !got.has(413, "by reference") {
		t.Errorf("too large: got %d %.300s", got.status, got.body)
	}
	for path, want := range map[string]string{
		"ocr/":                          `"href": "/api/v1/web/guest/default/ocr/api"`,
		"ocr/v2/models/":                `"id": "ocr-line"`,
		"ocr/swagger.json":              `"/api/v1/web/guest/default/ocr/v2/models/ocr-line/predict/"`,
		"ocr/api":                       `<script src="api/page.js" defer>`,
		"ocr/api/page.css":              "{",
		"ocr.json/v2/models/ocr-line/":  `"statusCode":200`,
		"ocr.text/v2/models/ocr-line/x": "nothing at", // the body of the result
	} {
		got := p.mustGet(web + path)
		if got.status != 200 || !strings.Contains(got.body, want) {
			t.Errorf("%s: got %d %.300s, want %s", path, got.status, got.body, want)
		}
	}
	got := p.mustGet(web + "fn/a/b?name=Ada")
	if got.status != 201 || got.body != "Ada" || got.header.Get("X-Path") != "/a/b" || got.header.Get("X-Openwhisk-Activation-Id") == "" {
		t.Errorf("a function: got %d %v %s", got.status, got.header, got.body)
	}
	logs := p.own("GET", "activations/"+got.header.Get("X-Openwhisk-Activation-Id")+"/logs", "")
	if !strings.Contains(logs.body, "stdout: asked get") {
		t.Errorf("got logs %s", logs.body)
	}
}
