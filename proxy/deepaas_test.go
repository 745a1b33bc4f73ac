package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

const predictPath = "/v2/models/echo/predict/"

func TestDeepaasPages(t *testing.T) {
	const echo = `{"id": "echo", "name": "echo", "links": [{"rel": "self", "href": "/v2/models/echo"}], "title": "Echo", ` +
		`"description": "Answers what it is given.", "version": "1.2", "author": "A. Person", "license": "MIT", ` +
		`"arguments": [{"name": "text", "type": "string"}, {"name": "n", "type": "integer"}, {"name": "numbers", "type": "array"}, ` +
		`{"name": "object", "type": "object"}, {"name": "image", "type": "file"}], "runtime": {"provider": "CPU"}}`
	const other = `{"id": "other", "name": "other", "links": [{"rel": "self", "href": "/v2/models/other"}], "arguments": [], "runtime": {"provider": "CPU"}}`
	tests := []struct {
		path   string
		status int
		want   string
	}{
		// What the published server sends, byte for byte.
		{"/", 200, `{"versions": [{"version": "stable", "id": "v2", "links": [{"rel": "self", "type": "application/json", "href": "/v2/"}]}], ` +
			`"links": [{"rel": "help", "type": "text/html", "href": "/api"}, {"rel": "describedby", "type": "application/json", "href": "/swagger.json"}]}`},
		{"/v2/", 200, `{"version": "stable", "id": "v2", "links": [{"rel": "self", "type": "application/json", "href": "/v2/"}]}`},
		{"/v2/models/", 200, `{"models": [` + echo + `, ` + other + `]}`},
		{"/v2/models/echo/", 200, echo},
		{"/v2/models/nope/", 404, `{"error":"there is no model \"nope\"; there are echo, other","code":"not_found"}` + "\n"},
		{"/v2/models/a/b/", 404, `{"error":"there is nothing at /v2/models/a/b/","code":"not_found"}` + "\n"},
		{"/v2/models//", 404, `{"error":"there is nothing at /v2/models//","code":"not_found"}` + "\n"},
		{"/nope", 404, `{"error":"there is nothing at /nope","code":"not_found"}` + "\n"},
	}
	s, _ := newServer(t, Config{Invoker: &fakeInvoker{info: json.RawMessage(`{"provider":"CPU"}`)}})
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) { wantResponse(t, get(t, s, tt.path), tt.status, tt.want) })
	}
	s, st := newServer(t, Config{Catalog: fakeCatalog{err: errors.New("disk secret")}})
	for _, path := range []string{"/v2/models/", "/v2/models/echo/"} {
		wantResponse(t, get(t, s, path), 500, `{"error":"internal error; the log has its cause under request id id-1","code":"internal"}`+"\n")
	}
	if !strings.Contains(st.log.String(), "disk secret") {
		t.Error("the log does not have the cause")
	}
	s, _ = newServer(t, Config{})
	wantResponse(t, get(t, s, "/v2/models/other/"), 200, `{"id": "other", "name": "other", "links": [{"rel": "self", "href": "/v2/models/other"}], "arguments": [], "runtime": null}`)
	s, _ = newServer(t, Config{Invoker: &fakeInvoker{info: json.RawMessage(`{`)}})
	wantResponse(t, get(t, s, "/v2/models/other/"), 500, `{"error":"the answer is not valid JSON"…`)
}

func TestRedirects(t *testing.T) {
	s, _ := newServer(t, Config{})
	for path, want := range map[string]string{
		"/v2": "/v2/", "/v2/models": "/v2/models/", "/v2/models/echo": "/v2/models/echo/",
		"/v2/models/echo/predict": predictPath, "/v2/models/echo/train": "/v2/models/echo/train/",
		"/v2/models/a\r\nX: y": "/v2/models/a%0D%0AX:%20y/",
	} {
		for _, query := range []string{"", "n=1&text=a%20b"} {
			method := http.MethodGet
			if strings.HasSuffix(path, "predict") || strings.HasSuffix(path, "train") {
				method = http.MethodPost
			}
			got := s.handle(t.Context(), &request{method: method, path: path, query: query})
			if query != "" {
				want += "?" + query
			}
			if got.status != 308 || got.location != want {
				t.Errorf("%s: got %d %q, want 308 %q", path, got.status, got.location, want)
			}
		}
	}
}

// A method that the route with the slash does not take is refused, not sent there.
func TestRedirectMethods(t *testing.T) {
	s, _ := newServer(t, Config{})
	for path, allow := range map[string]string{"/v2": "GET, HEAD", "/v2/models/echo": "GET, HEAD", "/v2/models/echo/predict": "POST"} {
		for _, method := range []string{"DELETE", "PUT", "PATCH"} {
			got := s.handle(t.Context(), &request{method: method, path: path})
			if got.status != 405 || got.allow != allow {
				t.Errorf("%s %s: got %d, Allow %q, want 405, %q", method, path, got.status, got.allow, allow)
			}
		}
	}
}

func TestMethods(t *testing.T) {
	s, _ := newServer(t, Config{Model: "echo"})
	for path, want := range map[string]string{
		"/run": "POST", "/init": "POST", predictPath: "POST", "/v2/models/echo/train/": "GET, HEAD, POST",
		"/v2/models/echo/train/a": "GET, HEAD, DELETE", "/v2/models/echo/train/a/logs": "GET, HEAD", "/v2/debug/": "GET, HEAD",
		"/": "GET, HEAD, POST", "/v2/models/echo/": "GET, HEAD", "/healthz": "GET, HEAD", "/metrics": "GET, HEAD",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get"} {
			got := s.handle(t.Context(), &request{method: method, path: path, body: []byte("{}")})
			refused := got.status == http.StatusMethodNotAllowed
			// The single entrypoint answers OPTIONS, for browsers.
			if allowed := strings.Contains(want, method) || path == "/" && method == "OPTIONS"; allowed == refused {
				t.Errorf("%s %s: got %d", method, path, got.status)
			}
			if refused && got.allow != want {
				t.Errorf("%s %s: got Allow %q, want %q", method, path, got.allow, want)
			}
		}
	}
}

func TestPredict(t *testing.T) {
	const urlencoded, mixed = "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
	part := func(name, value string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	}
	ok := func(args string) string { return `{"status": "OK", "predictions": ` + args + "}" }
	tests := []struct {
		name, query, contentType, accept, body string
		status                                 int
		want                                   string
	}{
		{"JSON", "", jsonType, "", `{"text":"hello","numbers":[1, 2]}`, 200, ok(`{"text":"hello","numbers":[1, 2]}`)},
		{"JSON of another type", "", "application/vnd.api+json", "", `{"n":1}`, 200, ok(`{"n":1}`)},
		{"JSON with charset", "", "Application/JSON; charset=utf-8", "", `{"n":1}`, 200, ok(`{"n":1}`)},
		{"JSON without a type", "", "", "", `{"n":1}`, 200, ok(`{"n":1}`)},
		{"no body", "", jsonType, "", ``, 200, ok(`{}`)},
		{"query", "n=1&text=a+b%21", "", "", ``, 200, ok(`{"text":"a b!","n":1}`)},
		{"form", "", urlencoded, "", `n=1&text=a+b`, 200, ok(`{"text":"a b","n":1}`)},
		{"list in a form", "", urlencoded, "", `numbers=1&numbers=2`, 200, ok(`{"numbers":[1,2]}`)},
		{"multipart", "", mixed, "", part("n", "1") + part("text", "a b") + "--b--", 200, ok(`{"text":"a b","n":1}`)},
		{"query before form", "n=1", urlencoded, "", `n=2&text=x`, 200, ok(`{"text":"x","n":1}`)},
		{"query before JSON", "n=1", jsonType, "", `{"n":2,"text":"x"}`, 200, ok(`{"text":"x","n":1}`)},
		{"Accept", "", jsonType, "application/json", `{}`, 200, ok(`{}`)},
		{"Accept of a browser", "", jsonType, "text/html,application/xml;q=0.9,*/*;q=0.8", `{}`, 200, ok(`{}`)},
		{"Accept that the model cannot", "", jsonType, "image/png", `{}`, 406, `{"error":"echo answers application/json, which the request does not accept: \"image/png\"","code":"unsupported"}` + "\n"},
		{"argument accept wins", "accept=application/json", jsonType, "image/png", `{}`, 200, ok(`{}`)},
		{"argument accept in JSON", "", jsonType, "", `{"accept":"image/png"}`, 406, `{"error":"echo answers…`},
		{"accept is no type", "accept=json", jsonType, "", `{}`, 422, `{"accept":["is not a media type: \"json\""]}` + "\n"},
		{"JSON called a form", "", formType, "", ` {"text":"a=b&c","n":1}`, 200, ok(`{"text":"a=b&c","n":1}`)},
		{"form that begins with a brace", "", formType, "", `{n=1`, 422, `{"{n":["is unknown…`},
		{"unknown argument", "txt=1", "", "", ``, 422, `{"txt":["is unknown: the model takes text, n, numbers, object, image; did you mean \"text\"?"]}` + "\n"},
		{"wrong type", "n=a", "", "", ``, 422, `{"n":["must be an integer, not \"a\""]}` + "\n"},
		{"bad base64", "", jsonType, "", `{"image":"%"}`, 422, `{"image":["is not base64…`},
		{"not UTF-8 in a query", "text=%ff", "", "", ``, 422, `{"text":["is not UTF-8"]}` + "\n"},
		{"not UTF-8 in a form", "", mixed, "", part("numbers", "[\"\xff\"]") + "--b--", 422, `{"numbers":["is not UTF-8"]}` + "\n"},
		{"not JSON", "", jsonType, "", `{"n":1,}`, 400, `{"json":["Invalid JSON body.","invalid character '}' looking for beginning of object key string, at byte 8"]}` + "\n"},
		{"not UTF-8", "", jsonType, "", "{\"text\":\"\xff\"}", 400, `{"json":["Invalid JSON body.","the body is not UTF-8"]}` + "\n"},
		{"JSON array", "", jsonType, "", `[1]`, 422, `{"json":["Invalid input type."]}` + "\n"},
		{"not multipart", "", mixed, "", `hello`, 400, `{"error":"the multipart form is wrong: a boundary is missing; is the body complete?","code":"invalid"}` + "\n"},
		{"multipart without boundary", "", "multipart/form-data", "", `hello`, 400, `{"error":"the multipart form is wrong: the boundary…`},
		{"bad query", "text=%zz", "", "", ``, 400, `{"error":"the arguments are not URL-encoded: invalid URL escape \"%zz\"","code":"invalid"}` + "\n"},
		{"many arguments", strings.Repeat("a=1&", 1000), "", "", ``, 400, `{"error":"there are more than 1000 arguments","code":"invalid"}` + "\n"},
		{"another type", "", "image/png", "", `x`, 400, `{"error":"Content-Type image/png is not read; send…`},
		{"no type at all", "", ";;", "", `x`, 400, `{"error":"Content-Type \";;\" is not a media type; send application/json, multipart/form-data or application/x-www-form-urlencoded","code":"invalid"}` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, st := newServer(t, Config{})
			got := s.handle(t.Context(), &request{
				method: http.MethodPost, path: predictPath, query: tt.query, contentType: tt.contentType,
				accept: tt.accept, body: []byte(tt.body), id: "id-1",
			})
			wantResponse(t, got, tt.status, tt.want)
			wantSentinels(t, st, 0)
			if n := strings.Count(st.log.String(), "msg=invocation"); n != 1 {
				t.Errorf("got %d log lines, want 1", n)
			}
		})
	}
}

func TestPredictRequest(t *testing.T) {
	body := form(
		"--b", `Content-Disposition: form-data; name="image"; filename="cat.png"`, "Content-Type: image/png", "", "\x89PNG\r\n",
		"--b", `Content-Disposition: form-data; name="n"`, "", "7", "--b--")
	send := func(query string) actions.Request {
		inv := &fakeInvoker{}
		s, _ := newServer(t, Config{Invoker: inv})
		s.handle(t.Context(), &request{
			method: http.MethodPost, path: predictPath, query: query, id: "id-1", accept: "application/*",
			contentType: "multipart/form-data; boundary=b", body: []byte(body),
		})
		return inv.lastRequest()
	}
	want := actions.Request{
		Model: "echo", Verb: actions.Predict, ID: "id-1", Args: []byte(`{"n":7}`), Accept: "application/*",
		Files: []actions.File{{Name: "image", Filename: "cat.png", ContentType: "image/png", Data: []byte("\x89PNG\r\n")}},
	}
	if diff := cmp.Diff(want, send("")); diff != "" {
		t.Error(diff)
	}
	want.Files = []actions.File{{Name: "image", Data: []byte{0, 1}}}
	if diff := cmp.Diff(want, send("image="+url.QueryEscape("AAE="))); diff != "" {
		t.Errorf("the query does not win over the file: %s", diff)
	}
}

func TestPredictAnswers(t *testing.T) {
	tests := []struct {
		name        string
		answer      actions.Response
		contentType string
		body        string
		disposition string
	}{
		{"JSON string", actions.Response{ContentType: jsonType, Data: []byte(`"a"`)}, jsonType, `{"status": "OK", "predictions": "a"}`, ""},
		{"nothing", actions.Response{ContentType: jsonType}, jsonType, `{"status": "OK", "predictions": null}`, ""},
		{"image", actions.Response{ContentType: "image/png", Data: []byte("\x89PNG")}, "image/png", "\x89PNG", ""},
		{"file", actions.Response{ContentType: "application/zip", Filename: "a b.zip", Data: []byte("PK")}, "application/zip", "PK", `attachment; filename="a b.zip"`},
		{"file name of more than ASCII", actions.Response{ContentType: "text/plain; charset=utf-8", Filename: "é\r\n.txt", Data: nil}, "text/plain; charset=utf-8", "", "attachment; filename*=utf-8''%C3%A9%0D%0A.txt"},
		{"page", actions.Response{ContentType: "text/html", Data: []byte("<script>")}, "text/html", "<script>", ""},
		{"bad type", actions.Response{ContentType: "x\r\ny", Data: []byte("x")}, "application/octet-stream", "x", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := newServer(t, Config{Invoker: &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
				return tt.answer, nil
			}}})
			got := post(t, s, predictPath, `{}`)
			want := response{status: 200, contentType: tt.contentType, disposition: tt.disposition}
			if tt.contentType != jsonType {
				want.policy = "sandbox"
			}
			if string(got.body) != tt.body {
				t.Errorf("got body %q, want %q", got.body, tt.body)
			}
			got.body = nil
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(response{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPredictErrors(t *testing.T) {
	tests := []struct {
		err        error
		status     int
		want       string
		retryAfter int
	}{
		{actions.Errorf(actions.Invalid, "bad image"), 400, `{"error":"bad image","code":"invalid"}`, 0},
		{&actions.Error{Code: actions.Invalid, Fields: map[string][]string{"n": {"too big"}}}, 422, `{"n":["too big"]}`, 0},
		{actions.Errorf(actions.NotFound, "no file"), 404, `{"error":"no file","code":"not_found"}`, 0},
		{actions.Errorf(actions.Unsupported, "cannot"), 501, `{"error":"cannot","code":"unsupported"}`, 0},
		{actions.Errorf(actions.TooLarge, "too large"), 413, `{"error":"too large","code":"too_large"}`, 0},
		{actions.Errorf(actions.Conflict, "no"), 409, `{"error":"no","code":"conflict"}`, 0},
		{actions.Errorf(actions.Busy, "full"), 429, `{"error":"full","code":"busy"}`, 1},
		{&actions.Error{Code: actions.Busy, Msg: "full", RetryAfter: 2100 * time.Millisecond}, 429, `{"error":"full","code":"busy"}`, 3},
		{actions.Errorf(actions.Unavailable, "died"), 503, `{"error":"died","code":"unavailable"}`, 1},
		{context.DeadlineExceeded, 504, `{"error":"the model did not answer before the deadline","code":"deadline"}`, 0},
		{context.Canceled, 503, `{"error":"the request was given up","code":"canceled"}`, 1},
		{actions.Errorf(actions.Failed, "ValueError: x"), 500, `{"error":"ValueError: x","code":"failed"}`, 0},
		{errors.New("secret"), 500, `{"error":"internal error; the log has its cause under request id id-1","code":"internal"}`, 0},
		{&actions.Error{Code: "new code", Msg: "x"}, 500, `{"error":"x","code":"new code"}`, 0},
	}
	for _, tt := range tests {
		s, _ := newServer(t, Config{Invoker: &fakeInvoker{answer: failing(tt.err)}})
		got := post(t, s, predictPath, `{}`)
		wantResponse(t, got, tt.status, tt.want+"\n")
		if got.retryAfter != tt.retryAfter {
			t.Errorf("%v: got Retry-After %d, want %d", tt.err, got.retryAfter, tt.retryAfter)
		}
	}
	s, _ := newServer(t, Config{Invoker: &fakeInvoker{answer: failing(actions.Errorf(actions.Unsupported, "only PNG"))}})
	got := s.handle(t.Context(), &request{method: http.MethodPost, path: predictPath, accept: "image/gif"})
	wantResponse(t, got, 406, `{"error":"only PNG","code":"unsupported"}`+"\n")
	wantResponse(t, post(t, s, "/v2/models/nope/predict/", `{}`), 404, `{"error":"there is no model…`)
}

func TestTrain(t *testing.T) {
	inv := &fakeInvoker{answer: failing(actions.Errorf(actions.Unsupported, "echo cannot be trained"))}
	s, _ := newServer(t, Config{Invoker: inv})
	got := s.handle(t.Context(), &request{
		method: http.MethodPost, path: "/v2/models/echo/train/", query: "epochs=3&tag=a&tag=b", accept: "application/json",
		contentType: jsonType, body: []byte(`{"rate":0.5,"epochs":4}`),
	})
	wantResponse(t, got, 501, `{"error":"echo cannot be trained","code":"unsupported"}`+"\n")
	last := inv.lastRequest()
	if last.Verb != actions.Train || string(last.Args) != `{"epochs":"3","rate":0.5,"tag":["a","b"]}` {
		t.Errorf("got %s with %s", last.Verb, last.Args)
	}
}

func TestPredictPanic(t *testing.T) {
	inv := &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) { panic("oops") }}
	s, st := newServer(t, Config{Invoker: inv})
	wantResponse(t, post(t, s, predictPath, `{}`), 500, `{"error":"internal error; the log has its cause under request id id-1","code":"internal"}`+"\n")
	if !strings.Contains(st.log.String(), "oops") {
		t.Error("the log does not have the panic")
	}
}

func FuzzPredict(f *testing.F) {
	f.Add(`{"n":1}`, jsonType, "text=a", "*/*")
	f.Add("--b\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n1\r\n--b--", "multipart/form-data; boundary=b", "", "")
	f.Add("n=1&text=%20", "application/x-www-form-urlencoded", "n=2", "image/*;q=0.5")
	f.Fuzz(func(t *testing.T, body, contentType, query, accept string) {
		s, _ := newServer(t, Config{})
		got := s.handle(t.Context(), &request{
			method: http.MethodPost, path: predictPath, query: query, contentType: contentType, accept: accept, body: []byte(body),
		})
		switch got.status {
		case 200, 400, 406, 422:
		default:
			t.Errorf("got status %d: %s", got.status, got.body)
		}
		wantJSONObject(t, got)
	})
}
