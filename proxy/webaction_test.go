package proxy

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// A webReply is the result of a web action.
type webReply struct {
	StatusCode int               `json:"statusCode"`
	Headers    map[string]string `json:"headers"`
	Body       json.RawMessage   `json:"body"`
}

// text is the body as a caller gets it.
func (r *webReply) text(tb testing.TB) string {
	tb.Helper()
	if len(r.Body) == 0 || r.Body[0] != '"' {
		return string(r.Body)
	}
	text := jsonText(r.Body)
	if mediaType, params := mediaTypeOf(r.Headers["content-type"]); !isTextType(mediaType, params["charset"] != "") || isJSONFamily(mediaType) {
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			tb.Errorf("got a body of type %s that is not base64: %v", mediaType, err)
		}
		return string(data)
	}
	return text
}

// web runs the activation of a web action.
func web(tb testing.TB, s *Server, value string) webReply {
	tb.Helper()
	got := post(tb, s, "/run", `{"action_name":"/guest/my pkg/ocr","value":`+value+`}`)
	var reply webReply
	if err := json.Unmarshal(got.body, &reply); got.status != 200 || err != nil || reply.StatusCode == 0 {
		tb.Errorf("%s: got %d %s, %v", value, got.status, got.body, err)
	}
	return reply
}

const webPredict = `"__ow_path":"/v2/models/echo/predict/"`

// Each form in which OpenWhisk hands a request on becomes the request that it was.
func TestWebActionRequest(t *testing.T) {
	form := "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\x00\xff\r\n--b--\r\n"
	encoded := base64.StdEncoding.EncodeToString
	for _, tt := range []struct {
		name, value string
		args        string
		file        string
	}{
		{"no path", `{"__ow_method":"post","n":1}`, `{"n":1}`, ""},
		{"empty path", `{"__ow_method":"post","__ow_path":"","n":1}`, `{"n":1}`, ""},
		{"slash", `{"__ow_method":"POST","__ow_path":"/","n":1}`, `{"n":1}`, ""},
		{"predict", `{"__ow_method":"post",` + webPredict + `,"n":1}`, `{"n":1}`, ""},
		{"without its last slash", `{"__ow_method":"post","__ow_path":"/v2/models/echo/predict","n":1}`, `{"n":1}`, ""},
		{"escaped", `{"__ow_method":"post","__ow_path":"/v2/models/%65cho/predict/","n":1}`, `{"n":1}`, ""},
		{"query string of a request without a body", `{"__ow_method":"post",` + webPredict + `,"n":"1","text":"7"}`, `{"text":"7","n":1}`, ""},
		{"query string and JSON", `{"__ow_method":"post","__ow_headers":{"content-type":"application/json"},"n":"2","text":"x","numbers":[1]}`, `{"text":"x","n":2,"numbers":[1]}`, ""},
		{"form", `{"__ow_method":"post","__ow_headers":{"content-type":"application/x-www-form-urlencoded"},"n":"2","text":"a&b=c"}`, `{"text":"a&b=c","n":2}`, ""},
		{"a file in JSON", `{"__ow_method":"post","__ow_headers":{"content-type":"application/json; charset=utf-8"},"image":"AP8="}`, `{}`, "\x00\xff"},
		{"multipart in base64", `{"__ow_method":"post","__ow_headers":{"content-type":"multipart/form-data; boundary=b"},"n":"3","__ow_body":"` + encoded([]byte(form)) + `"}`, `{"n":3}`, "\x00\xff"},
		{"multipart as text", `{"__ow_method":"post","__ow_headers":{"content-type":"multipart/form-data; boundary=b"},"__ow_body":` +
			string(quoted(strings.ReplaceAll(form, "\xff", "\x01"))) + `}`, `{}`, "\x00\x01"},
		{"raw JSON", `{"__ow_method":"post","__ow_query":"n=5","__ow_headers":{"content-type":"application/json"},"__ow_body":"` + encoded([]byte(`{"text":"é"}`)) + `"}`, `{"text":"é","n":5}`, ""},
		{"raw JSON that nobody encoded", `{"__ow_method":"post","__ow_query":"","__ow_headers":{"content-type":"application/json"},"__ow_body":"{\"n\":6}"}`, `{"n":6}`, ""},
		{"raw form", `{"__ow_method":"post","__ow_query":"","__ow_headers":{"content-type":"application/x-www-form-urlencoded"},"__ow_body":"n=7&text=a%20b"}`, `{"text":"a b","n":7}`, ""},
		{"raw multipart", `{"__ow_method":"post","__ow_query":"n=8","__ow_headers":{"content-type":"multipart/form-data; boundary=b"},"__ow_body":"` + encoded([]byte(form)) + `"}`, `{"n":8}`, "\x00\xff"},
		{"raw without a body", `{"__ow_method":"post","__ow_query":"n=9","__ow_body":""}`, `{"n":9}`, ""},
		{"the platform's own", `{"__ow_method":"post","__ow_user":"guest","__ow_other":1,"n":1}`, `{"n":1}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := &fakeInvoker{}
			s, st := newServer(t, Config{Model: "echo", Invoker: inv})
			got := web(t, s, tt.value)
			want := `{"status": "OK", "predictions": ` + tt.args + `}`
			if got.StatusCode != 200 || got.Headers["content-type"] != jsonType || got.text(t) != want {
				t.Errorf("got %d %v %s, want %s", got.StatusCode, got.Headers, got.Body, want)
			}
			files := inv.lastRequest().Files
			if tt.file != "" && (len(files) != 1 || string(files[0].Data) != tt.file) || tt.file == "" && len(files) > 0 {
				t.Errorf("got files %+v, want %q", files, tt.file)
			}
			wantSentinels(t, st, 1)
		})
	}
}

// What a web action answers is what the route of DEEPaaS answers.
func TestWebActionAnswers(t *testing.T) {
	post, get := `"__ow_method":"post",`, `"__ow_method":"get",`
	for _, tt := range []struct {
		name, value string
		status      int
		contentType string
		body        string // … at the end: it begins so
	}{
		{"versions", `{` + get + `"__ow_path":""}`, 200, jsonType, `{"versions": [{"version": "stable", "id": "v2", "links": [{"rel": "self", "type": "application/json", "href": "/api/v1/web/guest/my%20pkg/ocr/v2/"}]}]…`},
		{"versions below", `{` + get + `"__ow_path":"/v2"}`, 200, jsonType, `{"version": "stable"…`},
		{"a browser", `{` + get + `"__ow_path":"/","__ow_headers":{"accept":"text/html,*/*"}}`, 302, "text/plain; charset=utf-8", "…"},
		{"models, this one alone", `{` + get + `"__ow_path":"/v2/models/"}`, 200, jsonType, `{"models": [{"id": "echo", "name": "echo", "links": [{"rel": "self", "href": "/api/v1/web/guest/my%20pkg/ocr/v2/models/echo"}]…`},
		{"model", `{` + get + `"__ow_path":"/v2/models/echo/"}`, 200, jsonType, `{"id": "echo"…`},
		{"another model", `{` + get + `"__ow_path":"/v2/models/other/"}`, 404, jsonType, `{"error":"this web action serves the model echo alone, not \"other\"","code":"not_found"}`},
		{"another model's predict", `{` + post + `"__ow_path":"/v2/models/other/predict/"}`, 404, jsonType, `{"error":"this web action…`},
		{"wrong argument", `{` + post + webPredict + `,"n":"x"}`, 422, jsonType, `{"n":["must be an integer, not \"x\""]}`},
		{"nothing there", `{` + get + `"__ow_path":"/nope"}`, 404, jsonType, `{"error":"the web action has nothing at /nope","code":"not_found"}`},
		{"dots", `{` + get + `"__ow_path":"/v2/%2e%2e/run"}`, 404, jsonType, `{"error":…`},
		{"slashes", `{` + get + `"__ow_path":"/v2%2Fmodels/"}`, 404, jsonType, `{"error":…`},
		{"run", `{` + post + `"__ow_path":"/run"}`, 404, jsonType, `{"error":…`},
		{"init", `{` + post + `"__ow_path":"/init"}`, 404, jsonType, `{"error":…`},
		{"metrics", `{` + get + `"__ow_path":"/metrics"}`, 404, jsonType, `{"error":…`},
		{"the API", `{` + get + `"__ow_path":"/api/v1/namespaces"}`, 404, jsonType, `{"error":…`},
		{"wrong method", `{"__ow_method":"delete",` + webPredict + `}`, 405, jsonType, `{"error":"/v2/models/echo/predict/ does not take DELETE"…`},
		{"wrong method of nothing", `{"__ow_method":"delete"}`, 405, jsonType, `{"error":…`},
		{"head", `{"__ow_method":"head","__ow_path":"/v2/"}`, 200, "", ""},
		{"page", `{` + get + `"__ow_path":"/api"}`, 200, "text/html; charset=utf-8", "<!doctype html>…"},
		{"script", `{` + get + `"__ow_path":"/api/page.js"}`, 200, "text/javascript; charset=utf-8", `"use strict"…`},
		{"headers that are none", `{` + post + `"__ow_headers":[1],"n":1}`, 200, jsonType, `{"status": "OK"…`},
		{"not JSON", `{` + post + `"__ow_query":"","__ow_headers":{"content-type":"application/json"},"__ow_body":"eyI="}`, 400, jsonType, `{"json":["Invalid JSON body."…`},
		{"JSON that is no object", `{` + post + `"__ow_headers":{"content-type":"application/json"},"__ow_body":[1]}`, 422, jsonType, `{"json":["Invalid input type."]}`},
		{"JSON that is a string", `{` + post + `"__ow_headers":{"content-type":"application/json"},"__ow_body":"eyI="}`, 422, jsonType, `{"json":["Invalid input type."]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, st := newServer(t, Config{Model: "echo"})
			got := web(t, s, tt.value)
			body := got.text(t)
			if start, ok := strings.CutSuffix(tt.body, "…"); ok && strings.HasPrefix(body, start) {
				body = tt.body
			}
			if got.StatusCode != tt.status || got.Headers["content-type"] != tt.contentType || body != tt.body {
				t.Errorf("got %d %v %s\nwant %d %s %s", got.StatusCode, got.Headers, got.Body, tt.status, tt.contentType, tt.body)
			}
			wantSentinels(t, st, 1)
		})
	}
}

// Whatever a model answers comes to the caller of the web action byte by byte.
func TestWebActionContent(t *testing.T) {
	for _, tt := range []struct{ contentType, data, as string }{
		{"image/png", "\x89PNG\x00", "image/png"},
		{"image/svg+xml", "<svg/>", "image/svg+xml"},
		{"text/plain", "é<&>\u2028", "text/plain; charset=utf-8"},
		{"text/csv; header=present", "a,b", "text/csv; charset=utf-8"},
		{"text/plain; charset=latin-1", "\xe9", "application/octet-stream"},
		{"application/xml", "<a>é</a>", "application/xml; charset=utf-8"},
		{"application/geo+json", `{"a": 1}`, "application/geo+json"},
		{"application/geo+json", `"eyI="`, "application/geo+json"},
		{"application/octet-stream", "\x00", "application/octet-stream"},
		{"not a type", "x", "application/octet-stream"},
		{"application/pdf", "%PDF", "application/pdf"},
	} {
		s, _ := newServer(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: answering(tt.contentType, tt.data)}})
		got := web(t, s, `{"__ow_method":"post"}`)
		if text := got.text(t); got.StatusCode != 200 || got.Headers["content-type"] != tt.as || text != tt.data {
			t.Errorf("%s: got %d %v %q, want %s %q", tt.contentType, got.StatusCode, got.Headers, text, tt.as, tt.data)
		}
		parts, wrong := parseWebResult(webResult(&response{status: 200, contentType: tt.as, body: []byte(tt.data)}))
		if answer, also := parts.httpAnswer(); wrong+also != "" || string(answer.body) != tt.data {
			t.Errorf("%s: the gateway makes %q of it: %s%s", tt.contentType, answer.body, wrong, also)
		}
	}
	s, _ := newServer(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
		return actions.Response{ContentType: "image/png", Filename: "é.png", Data: []byte("x")}, nil
	}}})
	got := web(t, s, `{"__ow_method":"post"}`)
	want := map[string]string{
		"content-type": "image/png", "content-disposition": "attachment; filename*=utf-8''%C3%A9.png",
		"content-security-policy": answerPolicy, "x-content-type-options": "nosniff",
	}
	if diff := cmp.Diff(want, got.Headers); diff != "" {
		t.Error(diff)
	}
}

// Failures are answers with their status, but for one that is the platform's affair.
func TestWebActionFailures(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		retry  string
	}{
		{actions.Errorf(actions.Failed, "no"), 500, ""},
		{&actions.Error{Code: actions.Invalid, Msg: "no", Status: 418}, 418, ""},
		{&actions.Error{Code: actions.Busy, Msg: "no", RetryAfter: 1}, 429, "1"},
		{context.DeadlineExceeded, 504, ""},
		{errors.New("secret"), 500, ""},
	} {
		s, st := newServer(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: failing(tt.err)}})
		got := web(t, s, `{"__ow_method":"post","n":1}`)
		if got.StatusCode != tt.status || got.Headers["retry-after"] != tt.retry || strings.Contains(string(got.Body), "secret") {
			t.Errorf("%v: got %d %v %s, want %d", tt.err, got.StatusCode, got.Headers, got.Body, tt.status)
		}
		wantSentinels(t, st, 1)
	}
	s, st := newServer(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: failing(context.Canceled)}})
	wantResponse(t, post(t, s, "/run", `{"value":{"__ow_method":"post"}}`), 503, `{"error":"the request was given up"}`+"\n")
	wantSentinels(t, st, 1)
	if page := string(get(t, s, "/metrics").body); !strings.Contains(page, `code="canceled"`) {
		t.Error("the failure is not counted")
	}
}

// The logs of the model are those of the activation, also of one that failed, and the
// metrics count one call.
func TestWebActionLogs(t *testing.T) {
	lines := []actions.LogLine{{Stream: actions.Stdout, Text: "hello"}}
	for _, fails := range []bool{false, true} {
		inv := &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
			if fails {
				return actions.Response{}, &actions.Error{Code: actions.Failed, Msg: "no", Logs: lines}
			}
			return actions.Response{ContentType: jsonType, Data: []byte("{}"), Logs: lines, Timing: actions.Timing{Cold: true}}, nil
		}}
		s, st := newServer(t, Config{Model: "echo", Invoker: inv})
		web(t, s, `{"__ow_method":"post"}`)
		if got := st.out.String(); got != "hello\n"+sentinel+"\n" {
			t.Errorf("fails %v: got %q", fails, got)
		}
		resp, err := s.Activate(t.Context(), actions.Activation{Model: "echo", ID: "a1", Value: json.RawMessage(`{"__ow_method":"post"}`)})
		if err != nil || len(resp.Logs) != 1 || resp.Timing.Cold == fails || !strings.HasPrefix(string(resp.Data), `{"statusCode":`) {
			t.Errorf("fails %v: got %+v, %v", fails, resp, err)
		}
		if got := inv.lastRequest().ID; got != "a1" {
			t.Errorf("got the id %q", got)
		}
		if inv.calls() != 2 {
			t.Errorf("got %d calls", inv.calls())
		}
	}
}

// An answer that OpenWhisk would not take is an error that says what to do.
func TestWebActionTooLarge(t *testing.T) {
	s, st := newServer(t, Config{Model: "echo", MaxPayload: 1000, Invoker: &fakeInvoker{answer: answering("image/png", strings.Repeat("x", 800))}})
	got := web(t, s, `{"__ow_method":"post"}`)
	if text := string(got.Body); got.StatusCode != 413 || !strings.Contains(text, "limit is 1000") || !strings.Contains(text, "result_to") {
		t.Errorf("got %d %s", got.StatusCode, text)
	}
	wantSentinels(t, st, 1)
}

// functionInfo is what the launcher reports of main(args).
const functionInfo = `{"predict":{"parameters":[],"open":true},"train":null,"function":true}`

// A plain function gets the arguments as they are, a module does not. Who is not loaded yet
// is asked what it is.
func TestWebActionOfFunction(t *testing.T) {
	const value = `{"__ow_method": "get", "__ow_path": "/x", "a": [1]}`
	for _, tt := range []struct {
		name    string
		runtime string
		info    string
		first   string // the description comes with the first call
		gets    bool
		calls   int
	}{
		{"function", actions.Python, functionInfo, "", true, 1},
		{"cold function", actions.Python, "", functionInfo, true, 2},
		{"module", actions.Python, `{"predict":{"parameters":[]}}`, "", false, 0},
		{"cold module", actions.Python, "", `{"predict":{"parameters":[]}}`, false, 1},
		{"executable", actions.Executable, "", "", true, 1},
		{"server", actions.HTTP, "", "", false, 0},
	} {
		inv := &fakeInvoker{info: json.RawMessage(tt.info)}
		inv.answer = func(_ context.Context, req actions.Request) (actions.Response, error) {
			inv.info = json.RawMessage(tt.first)
			if tt.first == "" {
				inv.info = json.RawMessage(tt.info)
			}
			return actions.Response{
				ContentType: jsonType, Data: []byte(`{"body":"mine"}`),
				Logs:   []actions.LogLine{{Stream: actions.Stdout, Text: string(req.Verb)}},
				Timing: actions.Timing{Cold: req.Verb == actions.Metadata, Start: 1},
			}, nil
		}
		s, st := newServer(t, Config{Model: "mod", Invoker: inv, Catalog: oneModel{actions.Model{Name: "mod", Runtime: tt.runtime}}})
		got := post(t, s, "/run", `{"value":`+value+`}`)
		if is := string(got.body) == `{"body":"mine"}`; got.status != 200 || is != tt.gets {
			t.Errorf("%s: got %d %s", tt.name, got.status, got.body)
		}
		if last := inv.lastRequest(); tt.gets && string(last.Args) != value {
			t.Errorf("%s: got arguments %s", tt.name, last.Args)
		}
		if inv.calls() != tt.calls {
			t.Errorf("%s: got %d calls, want %d", tt.name, inv.calls(), tt.calls)
		}
		if out := st.out.String(); tt.first != "" && !strings.HasPrefix(out, "metadata\n") {
			t.Errorf("%s: what was printed at the start is missing: %q", tt.name, out)
		}
		wantSentinels(t, st, 1)
	}
}

// A model that cannot be started fails the activation.
func TestWebActionOfNoModel(t *testing.T) {
	s, st := newServer(t, Config{Model: "mod", Catalog: module(), Invoker: &fakeInvoker{answer: failing(actions.Errorf(actions.Unavailable, "it does not start"))}})
	wantResponse(t, post(t, s, "/run", `{"value":{"__ow_method":"get"}}`), 200, `{"error":"it does not start"}`+"\n")
	wantSentinels(t, st, 1)
}

// FuzzWebAction gives a web action whatever a gateway may: the answer is a result that the
// platform takes.
func FuzzWebAction(f *testing.F) {
	f.Add(`{"__ow_method":"post","n":1}`)
	f.Add(`{"__ow_method":"get","__ow_path":"/v2/models/echo/","__ow_headers":{"accept":"*/*","x-forwarded-url":"https://a/b/v2/models/echo/"}}`)
	f.Add(`{"__ow_method":"post","__ow_query":"n=1&text=%20","__ow_headers":{"content-type":"multipart/form-data; boundary=b"},"__ow_body":"LS1iDQo="}`)
	f.Add(`{"__ow_method":"post","__ow_headers":{"content-type":"application/json"},"__ow_body":[1,null]}`)
	f.Add(`{"__ow_method":"put","__ow_path":"/v2/%2e%2e/../","__ow_headers":null,"__ow_body":"\ud800"}`)
	f.Add(`{"__ow_method":"post","__ow_headers":{"content-type":"application/x-www-form-urlencoded"},"text":["a",1,{}],"n":null}`)
	f.Fuzz(func(t *testing.T, value string) {
		for _, c := range []struct {
			model   string
			catalog Catalog
		}{{"echo", fakeCatalog{}}, {"mod", module()}} {
			s, st := newServer(t, Config{
				Model: c.model, Catalog: c.catalog, MaxPayload: 1 << 20,
				Invoker: &fakeInvoker{info: json.RawMessage(`{"predict":{"parameters":[]}}`)},
			})
			got := post(t, s, "/run", fmt.Sprintf(`{"action_name":"/guest/a","value":%s}`, value))
			if got.status != 200 && got.status != 404 || !json.Valid(got.body) {
				t.Fatalf("got %d %q", got.status, got.body)
			}
			var reply webReply
			if json.Unmarshal(got.body, &reply) == nil && reply.StatusCode != 0 {
				if reply.StatusCode < 200 || reply.StatusCode > 599 {
					t.Errorf("got status %d", reply.StatusCode)
				}
				reply.text(t)
			}
			wantSentinels(t, st, 1)
		}
	})
}
