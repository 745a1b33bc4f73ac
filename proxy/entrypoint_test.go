package proxy

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/deepfn/deepfn/actions"
)

// functions is a catalog of what code may be given, and the invoker that runs it: the code
// is the name of a function of this test.
type functions struct {
	fakeInvoker
	run map[string]func(args map[string]any) any

	mu      sync.Mutex // guards what follows
	sources []actions.Source
	loaded  string
}

func newFunctions() *functions {
	f := &functions{run: map[string]func(args map[string]any) any{
		"hello": func(map[string]any) any { return map[string]any{"payload": "Hello World!"} },
		"params": func(a map[string]any) any {
			return map[string]any{"payload": "Hello " + text(a["name"]) + " from " + text(a["place"]) + "!"}
		},
		"web": func(a map[string]any) any {
			said := "you did not tell me who you are."
			if a["name"] != nil {
				said = "hello " + text(a["name"])
			}
			return map[string]any{"body": "<html><body><h3>" + said + "</h3></body></html>"}
		},
		"raw": func(a map[string]any) any { return map[string]any{"response": a} },
	}}
	f.info = json.RawMessage(functionInfo)
	f.answer = func(_ context.Context, req actions.Request) (actions.Response, error) {
		f.mu.Lock()
		run := f.run[f.loaded]
		f.mu.Unlock()
		var args map[string]any
		if err := json.Unmarshal(req.Args, &args); err != nil {
			return actions.Response{}, actions.Errorf(actions.Failed, "%w", err)
		}
		data, err := json.Marshal(run(args))
		return actions.Response{ContentType: jsonType, Data: data, Logs: []actions.LogLine{{Stream: actions.Stdout, Text: "ran"}}}, err
	}
	return f
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func (f *functions) Models(context.Context) ([]actions.Model, error) { return nil, nil }

func (f *functions) Model(_ context.Context, name string) (actions.Model, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.loaded == "" || name != "fn" {
		return actions.Model{}, actions.Errorf(actions.NotFound, "there is no model %q", name)
	}
	return actions.Model{Name: "fn", Runtime: actions.Python}, nil
}

// Import takes the name of a function, or a "zip:" of it.
func (f *functions) Import(_ context.Context, source actions.Source) (actions.Model, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	code := strings.TrimPrefix(string(source.Data), "zip:")
	if f.run[code] == nil {
		return actions.Model{}, actions.Errorf(actions.Invalid, "it is no code")
	}
	f.sources = append(f.sources, source)
	f.loaded = code
	return actions.Model{Name: "fn", Runtime: actions.Python}, nil
}

// entry sends a request to the single entrypoint.
func toEntry(tb testing.TB, s *Server, method, path, body string, header ...string) response {
	tb.Helper()
	path, query, _ := strings.Cut(path, "?")
	return s.handle(tb.Context(), &request{
		method: method, path: path, query: query, id: "id-1", contentType: jsonType, body: []byte(body),
		header: func(name string, each func(name, value string)) {
			for i := 0; i < len(header); i += 2 {
				if name == "" || strings.EqualFold(name, header[i]) {
					each(header[i], header[i+1])
				}
			}
		},
	})
}

const entryActivation = `"activation":{"namespace":"","action_name":"hello","api_host":"","api_key":"","activation_id":"","transaction_id":"","deadline":1000000}`

// The example cases of the contract, in its order; facts are in
// docs/single_entrypoint_proxy_contract.md of apache/openwhisk. Each works for a stem cell
// with two requests and with one, and for a function that has its code from the start.
func TestEntryExamples(t *testing.T) {
	zip := base64.StdEncoding.EncodeToString([]byte("zip:hello"))
	for _, tt := range []struct {
		name   string
		entry  Entry
		value  string // "" is no body
		status int
		media  string
		body   string
	}{
		{"1 hello world", Entry{Code: "hello"}, `{"name": "Joe", "place": "TX"}`, 200, jsonType, `{"payload":"Hello World!"}`},
		{"2 with params", Entry{Code: "params"}, `{"name": "Joe", "place": "TX"}`, 200, jsonType, `{"payload":"Hello Joe from TX!"}`},
		{"3 web action", Entry{Code: "web"}, `{"name": "Joe"}`, 200, "text/html; charset=UTF-8", `<html><body><h3>hello Joe</h3></body></html>`},
		{"4 without input", Entry{Code: "web"}, ``, 200, "text/html; charset=UTF-8", `<html><body><h3>you did not tell me who you are.</h3></body></html>`},
		{
			"5 raw",
			Entry{Code: "raw", Raw: true},
			`{ "name": "Joe" }`, 200, jsonType,
			`{"response":{"__ow_body":"eyJuYW1lIjoiSm9lIn0=","__ow_headers":{"host":"localhost"},"__ow_method":"POST","__ow_path":"","__ow_query":{},"__ow_user":""}}`,
		},
		{"7 zip", Entry{Code: zip, Binary: true}, `{"name": "Joe"}`, 200, jsonType, `{"payload":"Hello World!"}`},
		{"8 not main", Entry{Code: "hello", Main: "hello"}, `{"name": "Joe"}`, 200, jsonType, `{"payload":"Hello World!"}`},
		{"9 zip, not main", Entry{Code: zip, Binary: true, Main: "hello"}, `{"name": "Joe"}`, 200, jsonType, `{"payload":"Hello World!"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			init := string(jsonResponse(0, map[string]any{
				"name": "hello", "main": tt.entry.Main, "code": tt.entry.Code, "binary": tt.entry.Binary, "raw": tt.entry.Raw, "env": map[string]string{},
			}).body)
			run, both := "", `{"init":`+init+`,`+entryActivation+`}`
			if tt.value != "" {
				run, both = `{`+entryActivation+`,"value":`+tt.value+`}`, `{"init":`+init+`,`+entryActivation+`,"value":`+tt.value+`}`
			}
			check := func(how string, s *Server, f *functions, body string) {
				t.Helper()
				got := toEntry(t, s, "POST", "/", body, "Host", "localhost")
				if got.status != tt.status || got.contentType != tt.media || string(got.body) != tt.body {
					t.Errorf("%s: got %d %s %s\nwant %d %s %s", how, got.status, got.contentType, got.body, tt.status, tt.media, tt.body)
				}
				if got.header.Get("Access-Control-Allow-Origin") != "*" || got.header.Get("Access-Control-Allow-Methods") != webMethods {
					t.Errorf("%s: got header %v", how, got.header)
				}
				if len(f.sources) != 1 || f.sources[0].Main != tt.entry.Main {
					t.Errorf("%s: got sources %+v", how, f.sources)
				}
			}
			f := newFunctions()
			s, st := newServer(t, Config{Catalog: f, Invoker: f})
			wantResponse(t, toEntry(t, s, "POST", "/", `{"init":`+init+`}`), 200, initOK)
			wantSentinels(t, st, 0)
			check("init, then run", s, f, run)
			check("run again", s, f, run)
			wantSentinels(t, st, 2)

			f = newFunctions()
			s, st = newServer(t, Config{Catalog: f, Invoker: f})
			check("init and run", s, f, both)
			wantSentinels(t, st, 1)

			f = newFunctions()
			s, _ = newServer(t, Config{Catalog: f, Invoker: f, Entry: tt.entry})
			check("specialized", s, f, run)
			if tt.value != "" {
				check("value alone", s, f, `{"value":`+tt.value+`}`)
			}
			check("again", s, f, run)
		})
	}
	t.Run("6 no code", func(t *testing.T) {
		f := newFunctions()
		s, st := newServer(t, Config{Catalog: f, Invoker: f})
		wantResponse(t, toEntry(t, s, "POST", "/", `{"init":{}}`), 403, `{"error":"Missing main/no code to execute."}`+"\n")
		wantSentinels(t, st, 0)
		wantResponse(t, toEntry(t, s, "POST", "/", `{`+entryActivation+`,"value":{}}`), 500, `{"error":"no action defined yet"}`+"\n")
		wantResponse(t, toEntry(t, s, "POST", "/", ``), 500, `{"error":"no action defined yet"}`+"\n")
		wantSentinels(t, st, 2)
	})
}

func TestEntryRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cfg    Config
		body   string
		header []string
		status int
		text   string
	}{
		{"init of a function with code", Config{Entry: Entry{Code: "hello"}}, `{"init":{"code":"web"}}`, nil, 500, `{"error":"internal error during request processing."}`},
		{"init of a model", Config{Model: "fn"}, `{"init":{"code":"web"},` + entryActivation + `}`, nil, 500, `{"error":"internal error during request processing."}`},
		{"init that fails is all that is done", Config{}, `{"init":{"code":"nope"},` + entryActivation + `}`, nil, 502, `{"error":"Cannot start action: it is no code"}`},
		{"not JSON", Config{}, `name=Joe`, nil, 400, `{"error":"Error unmarshaling request: invalid character 'a' in literal null (expecting 'u')"}`},
		{"no object", Config{}, `[1]`, nil, 400, `{"error":"Error unmarshaling request: the body is not a JSON object"}`},
		{"init is no object", Config{}, `{"init":"x"}`, nil, 400, `{"error":"Error unmarshaling request: init is not an object"}`},
		{"activation is no object", Config{}, `{"activation":[]}`, nil, 400, `{"error":"Error unmarshaling request: activation is not an object"}`},
		{"value is no object", Config{Entry: Entry{Code: "hello"}}, `{` + entryActivation + `,"value":"x"}`, nil, 404, `{"error":"The action did not receive a dictionary or array as an argument."}`},
		{"event", Config{Entry: Entry{Code: "hello"}}, `{}`, []string{"Ce-Id", "1"}, 400, `{"error":"the event has no specversion: it is 1.0 or 0.3","code":"invalid"}`},
		{"page of another site", Config{Entry: Entry{Code: "hello"}}, `{}`, []string{"Sec-Fetch-Site", "cross-site"}, 403, `{"error":…`},
		{"code from another site", Config{Entry: Entry{Public: true}}, `{"init":{"code":"hello"}}`, []string{"Sec-Fetch-Site", "cross-site"}, 403, `{"error":…`},
		{"page of another site, which may", Config{Entry: Entry{Code: "hello", Public: true}}, `{}`, []string{"Sec-Fetch-Site", "cross-site"}, 200, `{"payload":"Hello World!"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFunctions()
			tt.cfg.Catalog, tt.cfg.Invoker = f, f
			s, _ := newServer(t, tt.cfg)
			got := toEntry(t, s, "POST", "/", tt.body, tt.header...)
			got.body = []byte(strings.TrimSpace(string(got.body)))
			wantResponse(t, got, tt.status, tt.text)
		})
	}
	for _, contentType := range []string{"application/cloudevents+json", "application/cloudevents-batch+json; charset=utf-8"} {
		s, _ := newServer(t, Config{Model: "echo"})
		got := s.handle(t.Context(), &request{method: "POST", path: "/", contentType: contentType, body: []byte("{}")})
		if got.status != 400 {
			t.Errorf("%s: got %d, want 400 for what is no event", contentType, got.status)
		}
	}
	s, _ := newServer(t, Config{Model: "echo", MaxBody: 10})
	if got := s.handle(t.Context(), &request{method: "POST", path: "/", refused: s.tooLargeError()}); got.status != 413 {
		t.Errorf("too large: got %d", got.status)
	}
	rebound := func(name string, each func(name, value string)) {
		switch name {
		case "Host":
			each(name, "evil.example")
		case "Origin":
			each(name, "http://evil.example")
		}
	}
	for _, body := range []string{`{"init":{"code":"hello"}}`, `{}`} {
		f := newFunctions()
		s, _ := newServer(t, Config{Catalog: f, Invoker: f})
		got := s.handle(t.Context(), &request{method: "POST", path: "/", body: []byte(body), loopback: true, header: rebound})
		if got.status != 403 || len(f.sources) > 0 {
			t.Errorf("a name that leads here: got %d %s", got.status, got.body)
		}
	}
	silent := func(name string, each func(name, value string)) { // as a browser's GET without TLS
		if name == "Host" {
			each(name, "evil.example")
		}
	}
	for _, public := range []bool{false, true} {
		f := newFunctions()
		s, _ := newServer(t, Config{Catalog: f, Invoker: f, Entry: Entry{Code: "hello", Methods: []string{"GET"}, Public: public}})
		got := s.handle(t.Context(), &request{method: "GET", path: "/", loopback: true, header: silent})
		if want := map[bool]int{false: 403, true: 200}[public]; got.status != want {
			t.Errorf("a GET by a name that leads here, public %v: got %d %s, want %d", public, got.status, got.body, want)
		}
	}
	s.draining.Store(true)
	if got := toEntry(t, s, "POST", "/", `{}`); got.status != 503 {
		t.Errorf("draining: got %d %s", got.status, got.body)
	}
}

// GET answers with the documents of DEEPaaS unless it is a method of the entrypoint.
func TestEntryMethods(t *testing.T) {
	for _, tt := range []struct {
		methods []string
		base    string
		runs    string
		allow   string
		get     int
	}{
		{nil, "", "POST", "GET, HEAD, POST", 200},
		{[]string{"POST"}, "", "POST", "GET, HEAD, POST", 200},
		{[]string{"GET", "POST"}, "", "GET HEAD POST", "GET, POST", 200},
		{[]string{"GET", "PUT", "DELETE", "OPTIONS"}, "", "GET HEAD PUT DELETE OPTIONS", "GET, PUT, DELETE, OPTIONS", 200},
		{nil, "/a", "POST", "POST", 405},
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
			inv := &fakeInvoker{answer: answering(jsonType, `{"ran":true}`)}
			s, _ := newServer(t, Config{Model: "echo", Invoker: inv, BasePath: tt.base, Entry: Entry{Methods: tt.methods}})
			got := toEntry(t, s, method, "/", "")
			runs := strings.Contains(" "+tt.runs+" ", " "+method+" ")
			if runs != (inv.calls() == 1) {
				t.Errorf("%v %s: got %d %s", tt.methods, method, got.status, got.body)
			}
			if method == http.MethodOptions && !runs {
				if got.status != 200 || got.allow != tt.allow || string(got.body) != tt.allow || len(got.header) > 0 {
					t.Errorf("%v OPTIONS: got %d %s, Allow %q and %v", tt.methods, got.status, got.body, got.allow, got.header)
				}
				continue
			}
			if reads := method == http.MethodGet || method == http.MethodHead; !runs && (reads && got.status != tt.get || !reads && (got.status != 405 || got.allow != tt.allow)) {
				t.Errorf("%v %s: got %d, Allow %q", tt.methods, method, got.status, got.allow)
			}
		}
	}
}

// A browser asks with OPTIONS whether a page of another site may send JSON, and it may where
// such pages may run the function.
func TestEntryPreflight(t *testing.T) {
	inv := &fakeInvoker{answer: answering(jsonType, `{}`)}
	s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Entry: Entry{Public: true}})
	got := toEntry(t, s, "OPTIONS", "/", "", "Origin", "http://a.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
	if got.status != 200 || inv.calls() != 0 || got.header.Get("Access-Control-Allow-Origin") != "*" ||
		!strings.Contains(got.header.Get("Access-Control-Allow-Methods"), "POST") || got.header.Get("Access-Control-Allow-Headers") != "content-type" {
		t.Errorf("got %d %s, %v and %d calls", got.status, got.body, got.header, inv.calls())
	}
}

// A function with code of its own is initialized when the server begins, once, and /readyz
// says when that is done; if it fails, the first request tries again.
func TestEntryBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFunctions()
		s, _ := newServer(t, Config{Catalog: f, Invoker: f, Entry: Entry{Code: "hello"}})
		if got := get(t, s, "/readyz"); got.status != 503 {
			t.Errorf("got %d %s", got.status, got.body)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { s.begin(t.Context()) })
			wg.Go(func() {
				if got := toEntry(t, s, "POST", "/", `{"value":{}}`); got.status != 200 {
					t.Errorf("got %d %s", got.status, got.body)
				}
			})
		}
		wg.Wait()
		if got := get(t, s, "/readyz"); got.status != 200 || len(f.sources) != 1 {
			t.Errorf("got %d %s, %d sources", got.status, got.body, len(f.sources))
		}
	})
	f := newFunctions()
	broken := f.run["hello"]
	delete(f.run, "hello")
	s, st := newServer(t, Config{Catalog: f, Invoker: f, Entry: Entry{Code: "hello"}})
	s.begin(t.Context())
	if !strings.Contains(st.log.String(), "not initialized") {
		t.Errorf("got log %s", st.log.String())
	}
	wantResponse(t, toEntry(t, s, "POST", "/", `{"value":{}}`), 502, `{"error":"Cannot start action: it is no code"}`+"\n")
	f.run["hello"] = broken
	wantResponse(t, toEntry(t, s, "POST", "/", `{"value":{}}`), 200, `{"payload":"Hello World!"}`)
}

// FuzzEntry sends the single entrypoint whatever a caller may: the answer is always one.
func FuzzEntry(f *testing.F) {
	f.Add(`{"value":{"name":"Joe"}}`, false)
	f.Add(`{`+entryActivation+`,"value":{"name":"Joe"}}`, true)
	f.Add(`{"init":{"code":"hello","raw":true},"activation":{},"value":"x"}`, false)
	f.Add(`{"init":{"code":1},"activation":{"a":1,"a":2},"value":[]}`, false)
	f.Add(`{"activation":{ },"value":null}`, true)
	f.Add(` `, true)
	f.Fuzz(func(t *testing.T, body string, raw bool) {
		fn := newFunctions()
		cfg := Config{Catalog: fn, Invoker: fn}
		if raw {
			cfg.Entry = Entry{Code: "raw", Raw: true}
		}
		s, st := newServer(t, cfg)
		got := toEntry(t, s, "POST", "/", body)
		switch got.status {
		case 200, 204, 400, 403, 404, 500, 502:
		default:
			t.Errorf("got %d %s", got.status, got.body)
		}
		if got.contentType == jsonType && !json.Valid(got.body) {
			t.Errorf("got %q", got.body)
		}
		if n := strings.Count(st.out.String(), sentinel); n > 2 {
			t.Errorf("got %d sentinels", n)
		}
	})
}
