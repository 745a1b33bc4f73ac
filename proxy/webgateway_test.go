package proxy

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// A webController has one web action, /guest/pkg/fn, and /guest/fn, which is the same. It
// answers with its arguments, or as its knobs say.
type webController struct {
	fakeController
	action  whisk.Action
	outcome func(args json.RawMessage) whisk.Outcome
	fails   error

	mu     sync.Mutex // guards what follows
	args   json.RawMessage
	caller string
	n      int
}

func (w *webController) Web(_ context.Context, n whisk.Name) (whisk.Action, error) {
	if n.Namespace != "guest" || n.Package != "" && n.Package != "pkg" || n.Entity != "fn" {
		return whisk.Action{}, actions.Errorf(actions.NotFound, "nothing of that name")
	}
	return w.action, nil
}

func (w *webController) Invoke(_ context.Context, caller string, _ whisk.Name, in whisk.Invocation) (whisk.Outcome, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.args, w.caller = in.Args, caller
	w.n++
	if w.fails != nil {
		return whisk.Outcome{}, w.fails
	}
	if w.outcome != nil {
		return w.outcome(in.Args), nil
	}
	return succeeded(string(in.Args)), nil
}

// given are the arguments of the last invocation, without the headers.
func (w *webController) given(tb testing.TB) map[string]any {
	tb.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var args map[string]any
	if err := json.Unmarshal(w.args, &args); err != nil {
		tb.Fatalf("got arguments %s: %v", w.args, err)
	}
	delete(args, "__ow_headers")
	return args
}

func succeeded(result string) whisk.Outcome { return ended(whisk.Success, result) }

func ended(code int, result string) whisk.Outcome {
	return whisk.Outcome{Done: true, Activation: whisk.Activation{ID: "0123", Response: whisk.Response{Code: code, Result: json.RawMessage(result)}}}
}

func annotated(pairs ...string) whisk.KeyValues {
	var kv whisk.KeyValues
	for i := 0; i < len(pairs); i += 2 {
		kv = append(kv, whisk.KeyValue{Key: pairs[i], Value: json.RawMessage(pairs[i+1])})
	}
	return kv
}

// visit sends a request to the gateway, without a server between.
func visit(tb testing.TB, s *Server, method, path, body string, header ...string) response {
	tb.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	path, query, _ := strings.Cut(path, "?")
	return s.handle(tb.Context(), &request{
		method: method, path: webPath + path, query: query, body: []byte(body), id: "id-1", contentType: h.Get("Content-Type"),
		header: func(name string, each func(name, value string)) {
			for key, values := range h {
				if name == "" || http.CanonicalHeaderKey(name) == key {
					each(key, values[0])
				}
			}
		},
	})
}

// Requests become arguments as in apache/openwhisk's WebActionsApiTests.scala.
func TestWebGatewayArguments(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString
	for _, tt := range []struct {
		name, method, path, body, contentType string
		raw                                   bool
		want                                  map[string]any
	}{
		{"nothing", "GET", "guest/pkg/fn", "", "", false, map[string]any{"__ow_path": ""}},
		{"default package", "GET", "guest/default/fn.json", "", "", false, map[string]any{"__ow_path": ""}},
		{"rest of the path", "GET", "guest/pkg/fn.http/a%20b/c/", "", "", false, map[string]any{"__ow_path": "/a%20b/c/"}},
		{"slash", "GET", "guest/pkg/fn/", "", "", false, map[string]any{"__ow_path": "/"}},
		{"query", "DELETE", "guest/pkg/fn?a=b&c=d%20e&a=z", "", "", false, map[string]any{"a": "z", "c": "d e"}},
		{"JSON", "POST", "guest/pkg/fn", `{"a":{"b":[1,2.50]},"n":null}`, jsonType, false, map[string]any{"a": map[string]any{"b": []any{1.0, 2.5}}, "n": nil}},
		{"JSON of a family", "POST", "guest/pkg/fn", `{"a":1}`, "application/cloudevents+json", false, map[string]any{"a": 1.0}},
		{"query and JSON", "POST", "guest/pkg/fn?a=q&b=q", `{"a":1}`, jsonType, false, map[string]any{"a": 1.0, "b": "q"}},
		{"form", "PUT", "guest/pkg/fn?b=q", `a=1+2&c=%C3%A9`, formType, false, map[string]any{"a": "1 2", "b": "q", "c": "é"}},
		{"JSON array", "POST", "guest/pkg/fn", ` [1,"a",false]`, jsonType, false, map[string]any{"__ow_body": []any{1.0, "a", false}}},
		{"JSON string", "POST", "guest/pkg/fn", `"a b"`, jsonType, false, map[string]any{"__ow_body": "a b"}},
		{"JSON true", "PATCH", "guest/pkg/fn", `true`, jsonType, false, map[string]any{"__ow_body": true}},
		{"empty JSON", "POST", "guest/pkg/fn", ``, jsonType, false, nil},
		{"text", "POST", "guest/pkg/fn?a=b", "1,2,3", "text/plain", false, map[string]any{"__ow_body": "1,2,3", "a": "b"}},
		{"text that is none", "POST", "guest/pkg/fn", "a\xffb", "text/plain; charset=utf-8", false, map[string]any{"__ow_body": "a\uFFFDb"}},
		{"binary", "POST", "guest/pkg/fn", "\x00\xff", "image/png", false, map[string]any{"__ow_body": "AP8="}},
		{"no type", "POST", "guest/pkg/fn", "\x00\xff", "", false, map[string]any{"__ow_body": "AP8="}},
		{"multipart", "POST", "guest/pkg/fn", "--b", "multipart/form-data; boundary=b", false, map[string]any{"__ow_body": "LS1i"}},
		{"raw", "POST", "guest/pkg/fn?x=1&__ow_user=a", `{"x": 1}`, jsonType, true, map[string]any{"__ow_query": "x=1&__ow_user=a", "__ow_body": encoded([]byte(`{"x": 1}`))}},
		{"raw and empty", "POST", "guest/pkg/fn", "", "", true, map[string]any{"__ow_query": "", "__ow_body": ""}},
		{"raw form", "POST", "guest/pkg/fn", "a=b", formType, true, map[string]any{"__ow_query": "", "__ow_body": "a=b"}},
		{"raw text", "POST", "guest/pkg/fn", "a=b", "text/html", true, map[string]any{"__ow_query": "", "__ow_body": "a=b"}},
		{"raw binary", "POST", "guest/pkg/fn", "\x00", "application/zip", true, map[string]any{"__ow_query": "", "__ow_body": "AA=="}},
		{"head", "HEAD", "guest/pkg/fn", "", "", false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &webController{action: whisk.Action{Annotations: annotated("raw-http", fmt.Sprint(tt.raw), "final", "true"), Parameters: annotated("x", "1")}}
			s, _ := newServer(t, Config{Controller: c})
			got := visit(t, s, tt.method, strings.Replace(tt.path, "/fn", "/fn.json", 1), tt.body, "Content-Type", tt.contentType)
			if strings.Contains(tt.path, ".") {
				got = visit(t, s, tt.method, tt.path, tt.body, "Content-Type", tt.contentType)
			}
			if got.status != 200 && got.status != 204 {
				t.Fatalf("got %d %s", got.status, got.body)
			}
			want := map[string]any{"__ow_method": strings.ToLower(tt.method), "__ow_path": ""}
			maps.Copy(want, tt.want)
			if diff := cmp.Diff(want, c.given(t)); diff != "" {
				t.Error(diff)
			}
			if c.caller != "guest" || got.header.Get("X-Openwhisk-Activation-Id") != "0123" {
				t.Errorf("got caller %q, header %v", c.caller, got.header)
			}
		})
	}
}

func TestWebGatewayRefuses(t *testing.T) {
	key := "Basic " + base64.StdEncoding.EncodeToString([]byte("u:p:p"))
	const notAllowed = "Request defines parameters that are not allowed (e.g., reserved properties)."
	for _, tt := range []struct {
		name, method, path, body string
		header                   []string
		annotations              []string
		status                   int
		text                     string
	}{
		{"another action", "GET", "guest/pkg/nope", "", nil, nil, 404, "The requested resource does not exist."},
		{"another namespace", "GET", "who/pkg/fn", "", nil, nil, 404, "The requested resource does not exist."},
		{"no action", "GET", "guest/pkg", "", nil, nil, 404, "The requested resource could not be found."},
		{"no name", "GET", "guest/pkg/.http", "", nil, nil, 404, "The requested resource could not be found."},
		{"bad name", "GET", "guest/pkg/a%2Fb", "", nil, nil, 404, "The requested resource could not be found."},
		{"bad method", "TRACE", "guest/pkg/fn", "", nil, nil, 405, "HTTP method not allowed, supported methods: " + webMethods},
		{"reserved in the query", "GET", "guest/pkg/fn?__ow_user=root", "", nil, nil, 400, notAllowed},
		{"reserved in the body", "POST", "guest/pkg/fn", `{"__ow_body":1}`, []string{"Content-Type", jsonType}, nil, 400, notAllowed},
		{"reserved in a form", "POST", "guest/pkg/fn", `__ow_method=x`, []string{"Content-Type", formType}, nil, 400, notAllowed},
		{"final", "GET", "guest/pkg/fn?x=2", "", nil, []string{"final", "true"}, 400, notAllowed},
		{"not final", "GET", "guest/pkg/fn?x=2", "", nil, []string{"final", "false"}, 200, ""},
		{"final without a value", "GET", "guest/pkg/fn?y=2", "", nil, []string{"final", "true"}, 200, ""},
		{"not JSON", "POST", "guest/pkg/fn", `{"a`, []string{"Content-Type", jsonType}, nil, 400, "The request content was malformed:\nunexpected end of JSON input"},
		{"not a form", "POST", "guest/pkg/fn", `a=%zz`, []string{"Content-Type", formType}, nil, 400, "The request content was malformed:\nthe form is not URL-encoded"},
		{"not a query", "GET", "guest/pkg/fn?a=%zz", "", nil, nil, 400, "The query parameter 'a=%zz' was malformed:\nit is not URL-encoded"},
		{"too large", "POST", "guest/pkg/fn", strings.Repeat("x", 2001), nil, nil, 413, "Request larger than allowed: 2001 > 2000 bytes."},
		{"key wanted", "GET", "guest/pkg/fn", "", nil, []string{"require-whisk-auth", "true"}, 401, "The resource requires authentication, which was not supplied with the request"},
		{"wrong key", "GET", "guest/pkg/fn", "", []string{"Authorization", "Basic eDp5"}, []string{"require-whisk-auth", "true"}, 401, "The resource requires authentication, which was not supplied with the request"},
		{"key", "GET", "guest/pkg/fn", "", []string{"Authorization", key}, []string{"require-whisk-auth", "true"}, 200, ""},
		{"secret wanted", "GET", "guest/pkg/fn", "", []string{"Authorization", key}, []string{"require-whisk-auth", `"s"`}, 401, "The resource requires authentication, which was not supplied with the request"},
		{"wrong secret", "GET", "guest/pkg/fn", "", []string{"X-Require-Whisk-Auth", "S"}, []string{"require-whisk-auth", `"s"`}, 401, "The resource requires authentication, which was not supplied with the request"},
		{"secret", "GET", "guest/pkg/fn", "", []string{"X-Require-Whisk-Auth", "s"}, []string{"require-whisk-auth", `"s"`}, 200, ""},
		{"number", "GET", "guest/pkg/fn", "", []string{"X-Require-Whisk-Auth", "7"}, []string{"require-whisk-auth", `7`}, 200, ""},
		{"no secret at all", "GET", "guest/pkg/fn", "", nil, []string{"require-whisk-auth", `null`}, 401, "The resource requires authentication, which was not supplied with the request"},
		{"empty secret", "GET", "guest/pkg/fn", "", nil, []string{"require-whisk-auth", `""`}, 401, "The resource requires authentication, which was not supplied with the request"},
		{"auth is off", "GET", "guest/pkg/fn", "", nil, []string{"require-whisk-auth", "false"}, 200, ""},
		{"a page of another site", "GET", "guest/pkg/fn", "", []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, nil, 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &webController{action: whisk.Action{Annotations: annotated(tt.annotations...), Parameters: annotated("x", "1", "y", "null")}}
			c.outcome = func(json.RawMessage) whisk.Outcome { return succeeded(`{"body":"yes"}`) }
			s, _ := newServer(t, Config{Controller: c, MaxPayload: 2000})
			got := visit(t, s, tt.method, tt.path, tt.body, tt.header...)
			want := "yes"
			if tt.status != 200 {
				want = string(jsonResponse(0, apiError{tt.text, "id-1"}).body)
			}
			if got.status != tt.status || string(got.body) != want {
				t.Errorf("got %d %s, want %d %s", got.status, got.body, tt.status, want)
			}
			if (tt.status == 200) != (c.n == 1) {
				t.Errorf("got %d invocations", c.n)
			}
			if tt.name == "key" && c.given(t)["__ow_user"] != "guest" {
				t.Errorf("got arguments %s", c.args)
			}
		})
	}
}

// Other sites may ask, unless the action answers OPTIONS itself.
func TestWebGatewayCORS(t *testing.T) {
	c := &webController{outcome: func(json.RawMessage) whisk.Outcome {
		return succeeded(`{"headers":{"Access-Control-Allow-Methods":"OPTIONS, GET","Set-Cookie":["a=b","c=d; Path=/"],"X-N":1,"X-B":true,"Content-Length":"9"},"body":"x"}`)
	}}
	s, _ := newServer(t, Config{Controller: c})
	got := visit(t, s, "OPTIONS", "guest/pkg/fn", "", "Access-Control-Request-Headers", "x-custom")
	want := http.Header{
		"Access-Control-Allow-Origin": {"*"}, "Access-Control-Allow-Methods": {webMethods}, "Access-Control-Allow-Headers": {"x-custom"},
	}
	if diff := cmp.Diff(want, got.header); got.status != 200 || len(got.body) > 0 || c.n != 0 || diff != "" {
		t.Errorf("got %d %s, %d invocations, %s", got.status, got.body, c.n, diff)
	}
	got = visit(t, s, "GET", "guest/pkg/fn", "")
	want = http.Header{
		"Access-Control-Allow-Origin": {"*"}, "Access-Control-Allow-Methods": {"OPTIONS, GET"},
		"Access-Control-Allow-Headers": {"Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent"},
		"Set-Cookie":                   {"a=b", "c=d; Path=/"}, "X-N": {"1"}, "X-B": {"true"}, "X-Openwhisk-Activation-Id": {"0123"},
	}
	if diff := cmp.Diff(want, got.header); diff != "" {
		t.Error(diff)
	}
	c.action.Annotations = annotated("web-custom-options", "true", "require-whisk-auth", "true")
	got = visit(t, s, "OPTIONS", "guest/pkg/fn", "")
	if got.status != 200 || c.n != 2 || got.header.Get("Access-Control-Allow-Origin") != "" || got.header.Get("Access-Control-Allow-Methods") != "OPTIONS, GET" {
		t.Errorf("got %d %v, %d invocations", got.status, got.header, c.n)
	}
	if got = visit(t, s, "GET", "guest/pkg/fn", ""); got.status != 401 {
		t.Errorf("got %d", got.status)
	}
}

// What hinders the activation is said in the API's words; without the API its routes say
// how to have it.
func TestWebGatewayErrors(t *testing.T) {
	for code, status := range map[actions.Code]int{actions.Busy: 429, actions.Unavailable: 503, actions.Internal: 500, actions.TooLarge: 413} {
		c := &webController{fails: actions.Errorf(code, "why")}
		s, _ := newServer(t, Config{Controller: c})
		got := visit(t, s, "GET", "guest/pkg/fn", "")
		var doc apiError
		if err := json.Unmarshal(got.body, &doc); err != nil || got.status != status || doc.Error == "" || doc.Code != "id-1" {
			t.Errorf("%s: got %d %s, want %d", code, got.status, got.body, status)
		}
	}
	s, _ := newServer(t, Config{})
	if got := visit(t, s, "GET", "guest/pkg/fn", ""); got.status != 404 || !strings.Contains(string(got.body), "--openwhisk-api") {
		t.Errorf("got %d %s", got.status, got.body)
	}
	s, _ = newServer(t, Config{Controller: &webController{}})
	s.draining.Store(true)
	if got := visit(t, s, "GET", "guest/pkg/fn", ""); got.status != 503 || got.retryAfter == 0 {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

// A model as a web action, from a client over HTTP through the gateway to the routes of
// DEEPaaS and back: the page, and everything that the page asks for, are below the action.
func TestWebGatewayServesModel(t *testing.T) {
	c := &webController{}
	r := start(t, Config{Model: "echo", Controller: c, Storage: newFakeStorage(), MaxPayload: 1 << 20, MaxBody: 4 << 20})
	c.outcome = func(args json.RawMessage) whisk.Outcome {
		resp, err := r.Activate(t.Context(), actions.Activation{Model: "echo", Value: args, Context: []actions.Text{
			{Origin: actions.FromContext, Name: "__OW_ACTION_NAME", Value: "/guest/pkg/fn"},
		}})
		if err != nil {
			t.Error(err)
		}
		return succeeded(string(resp.Data))
	}
	const base = "/api/v1/web/guest/pkg/fn"
	do := func(method, path, contentType, body string) (answer, string) {
		t.Helper()
		return r.do(t, method, path, body, "Content-Type: "+contentType)
	}
	resp, page := do("GET", base+"/api", "", "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/html; charset=UTF-8" || resp.Header.Get("Content-Security-Policy") != pagePolicy {
		t.Fatalf("got %s %v", resp.Status, resp.Header)
	}
	_, direct := do("GET", "/api", "", "")
	if page != direct {
		t.Errorf("the page is not the one of /api: %s", page)
	}
	links := regexp.MustCompile(`(?:src|href)="([^"#:]*)"`).FindAllStringSubmatch(page, -1)
	for _, link := range append(links, []string{"", "v2/models/echo/"}, []string{"", "v2/models/echo/train/"}) {
		if strings.HasPrefix(link[1], "/") {
			t.Errorf("the page links %s, which is not below it", link[1])
		}
		_, want := do("GET", "/"+link[1], "", "")
		resp, got := do("GET", base+"/"+link[1], "", "")
		want = strings.ReplaceAll(want, `"/v2/`, `"`+base+`/v2/`)
		if resp.StatusCode != 200 || link[1] != "swagger.json" && link[1] != "v2/models/" && got != want {
			t.Errorf("%s: got %s %.300s\nwant %.300s", link[1], resp.Status, got, want)
		}
	}
	form := "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n\x00\xff\x80\r\n--b\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n4\r\n--b--\r\n"
	resp, got := do("POST", base+"/v2/models/echo/predict/", "multipart/form-data; boundary=b", form)
	if resp.StatusCode != 200 || got != `{"status": "OK", "predictions": {"n":4}}` {
		t.Errorf("got %s %s", resp.Status, got)
	}
	if files := r.cfg.Invoker.(*fakeInvoker).lastRequest().Files; len(files) != 1 || string(files[0].Data) != "\x00\xff\x80" {
		t.Errorf("got files %+v", files)
	}
	if resp, got = do("POST", base+"/v2/models/echo/predict/", jsonType, `{"n":"x"}`); resp.StatusCode != 422 || got != `{"n":["must be an integer, not \"x\""]}` {
		t.Errorf("got %s %s", resp.Status, got)
	}
	if resp, got = do("POST", base+"/v2/models/echo/predict/", jsonType, strings.Repeat(" ", 1<<20+1)); resp.StatusCode != 413 || !strings.Contains(got, "by reference") {
		t.Errorf("got %s %s", resp.Status, got)
	}
	if resp, got = do("POST", base, jsonType, strings.Repeat(" ", 5<<20)); resp.StatusCode != 413 || !strings.Contains(got, `"code"`) {
		t.Errorf("got %s %s", resp.Status, got)
	}
	if resp, _ = do("HEAD", base+"/v2/", "", ""); resp.StatusCode != 200 {
		t.Errorf("got %s", resp.Status)
	}
	if resp, _ = do("GET", base+"/ui", "", ""); resp.StatusCode != 302 || resp.Header.Get("Location") != base+"/api" {
		t.Errorf("got %s %v", resp.Status, resp.Header)
	}
}

// The page asks for nothing by an absolute path.
func TestPageAsksBelowItself(t *testing.T) {
	script, err := pageFiles.ReadFile("page/page.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range regexp.MustCompile(`(?:fetch|readJSON|operationForm|new URL)\(([^,)]+)`).FindAllSubmatch(script, -1) {
		switch argument := string(call[1]); argument {
		case `"swagger.json"`, `"v2/models/"`, "url", "path", "at", `at + "/logs"`, "model.at + \"predict/\"", "model.at + \"train/\"", "model":
		default:
			t.Errorf("page.js asks for %s", argument)
		}
	}
	if !strings.Contains(string(script), "at: `v2/models/${found[2]}/`") {
		t.Error("the place of a model is not said from the page's own")
	}
}
