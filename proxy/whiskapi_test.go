package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions/whisk"
)

// ask makes a request of the API, with the key of the namespace guest unless headers say
// otherwise.
func ask(tb testing.TB, s *Server, method, target, body string, headers ...string) response {
	tb.Helper()
	path, query, _ := strings.Cut(target, "?")
	all := [][2]string{{"Host", "127.0.0.1:8080"}}
	key := [2]string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("u:p:p"))}
	for i := 0; i < len(headers); i += 2 {
		all = append(all, [2]string{headers[i], headers[i+1]})
		if headers[i] == "Authorization" {
			key[1] = ""
		}
	}
	if key[1] != "" {
		all = append(all, key)
	}
	r := &request{method: method, path: path, query: query, contentType: jsonType, id: "id-1", body: []byte(body)}
	r.header = func(name string, each func(name, value string)) {
		for _, h := range all {
			if name == "" || strings.EqualFold(name, h[0]) {
				each(h[0], h[1])
			}
		}
	}
	return s.handle(tb.Context(), r)
}

const own = "/api/v1/namespaces/_"

// Each call of the API is one call of the controller, with what the path, the query and
// the body say.
func TestAPICalls(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 2)
	page := whisk.Page{Limit: 30}
	guest := func(pkg, entity string) whisk.Name {
		return whisk.Name{Namespace: "guest", Package: pkg, Entity: entity}
	}
	tests := []struct {
		method, target, body string
		want                 controllerCall
	}{
		{"GET", own + "/actions", "", controllerCall{Op: "list", Collection: whisk.Actions, Name: guest("", ""), Page: page}},
		{"GET", own + "/actions/", "", controllerCall{Op: "list", Collection: whisk.Actions, Name: guest("", ""), Page: page}},
		{"GET", own + "/actions?limit=0&skip=3", "", controllerCall{Op: "list", Collection: whisk.Actions, Name: guest("", ""), Page: whisk.Page{Limit: 200, Skip: 3}}},
		{"GET", own + "/actions?limit=200&count=true", "", controllerCall{Op: "list", Collection: whisk.Actions, Name: guest("", ""), Page: whisk.Page{Limit: 200, Count: true}}},
		{"GET", own + "/actions/pkg/", "", controllerCall{Op: "list", Collection: whisk.Actions, Name: guest("pkg", ""), Page: page}},
		{"HEAD", own + "/rules", "", controllerCall{Op: "list", Collection: whisk.Rules, Name: guest("", ""), Page: page}},
		{"GET", "/api/v1/namespaces/whisk.system/packages", "", controllerCall{Op: "list", Collection: whisk.Packages, Name: whisk.Name{Namespace: "whisk.system"}, Page: page}},
		{"GET", own + "/actions/hello", "", controllerCall{Op: "entity", Collection: whisk.Actions, Name: guest("", "hello"), Flag: true}},
		{"GET", own + "/actions/hello?code=false", "", controllerCall{Op: "entity", Collection: whisk.Actions, Name: guest("", "hello")}},
		{"GET", own + "/actions/pkg/Grüße an alle", "", controllerCall{Op: "entity", Collection: whisk.Actions, Name: guest("pkg", "Grüße an alle"), Flag: true}},
		{"GET", own + "/triggers/t", "", controllerCall{Op: "entity", Collection: whisk.Triggers, Name: guest("", "t"), Flag: true}},
		{"PUT", own + "/actions/hello", `{"exec":{}}` + "\n", controllerCall{Op: "put", Collection: whisk.Actions, Name: guest("", "hello"), Body: `{"exec":{}}`}},
		{"PUT", own + "/actions/pkg/hello?overwrite=true", `{}`, controllerCall{Op: "put", Collection: whisk.Actions, Name: guest("pkg", "hello"), Body: `{}`, Flag: true}},
		{"PUT", own + "/packages/pkg?overwrite=false", `{}`, controllerCall{Op: "put", Collection: whisk.Packages, Name: guest("", "pkg"), Body: `{}`}},
		{"DELETE", own + "/packages/pkg?force=true", "", controllerCall{Op: "delete", Collection: whisk.Packages, Name: guest("", "pkg"), Flag: true}},
		{"DELETE", own + "/rules/r", "", controllerCall{Op: "delete", Collection: whisk.Rules, Name: guest("", "r")}},
		{"POST", own + "/rules/r", `{"status":"inactive","trigger":null,"action":null}`, controllerCall{Op: "rule", Name: guest("", "r"), Status: "inactive"}},
		{"POST", own + "/actions/hello", "", controllerCall{Op: "invoke", Name: guest("", "hello"), Invocation: whisk.Invocation{Transaction: "id-1"}}},
		{"POST", own + "/actions/hello?blocking=TRUE&result=yes&timeout=60000", "{}\n", controllerCall{
			Op: "invoke", Name: guest("", "hello"), Body: "{}",
			Invocation: whisk.Invocation{Args: json.RawMessage("{}"), Blocking: true, Wait: time.Minute, Transaction: "id-1"},
		}},
		{"POST", "/api/v1/namespaces/whisk.system/actions/models/ocr", `{"a":1}`, controllerCall{
			Op: "invoke", Name: whisk.Name{Namespace: "whisk.system", Package: "models", Entity: "ocr"}, Body: `{"a":1}`,
			Invocation: whisk.Invocation{Args: json.RawMessage(`{"a":1}`), Transaction: "id-1"},
		}},
		{"POST", own + "/triggers/t", `{"k":"v"}`, controllerCall{Op: "fire", Name: guest("", "t"), Body: `{"__ow_headers":{"host":"127.0.0.1:8080"},"k":"v"}`}},
		{"POST", own + "/triggers/t", "", controllerCall{Op: "fire", Name: guest("", "t"), Body: `{"__ow_headers":{"host":"127.0.0.1:8080"}}`}},
		{"POST", own + "/triggers/t", `{"__ow_headers":1}`, controllerCall{Op: "fire", Name: guest("", "t"), Body: `{"__ow_headers":1}`}},
		{"GET", own + "/activations", "", controllerCall{Op: "activations", Query: whisk.ActivationQuery{Page: page}}},
		{"GET", own + "/activations?name=/pkg/hello&since=1700000000000&upto=1900000000000&limit=5&skip=2&docs=true", "", controllerCall{
			Op: "activations", Query: whisk.ActivationQuery{
				Page: whisk.Page{Limit: 5, Skip: 2}, Name: "pkg/hello", Since: 1700000000000, Upto: 1900000000000, Docs: true,
			},
		}},
		{"GET", own + "/activations?name=%20&since=-5", "", controllerCall{Op: "activations", Query: whisk.ActivationQuery{Page: page}}},
		{"GET", own + "/activations/" + id, "", controllerCall{Op: "activation", ID: id}},
		{"GET", own + "/activations/" + id + "/", "", controllerCall{Op: "activation", ID: id}},
		{"GET", own + "/activations/" + id + "/logs", "", controllerCall{Op: "activation", ID: id}},
		{"GET", own + "/activations/" + id + "/result", "", controllerCall{Op: "activation", ID: id}},
	}
	for _, tt := range tests {
		f := &fakeController{}
		s, _ := newServer(t, Config{Controller: f})
		resp := ask(t, s, tt.method, tt.target, tt.body)
		tt.want.Caller = "guest"
		if diff := cmp.Diff(tt.want, f.called()); diff != "" || resp.status >= 300 {
			t.Errorf("%s %s: got %d %s, want\n%s", tt.method, tt.target, resp.status, resp.body, diff)
		}
	}
}

func TestAPIDocuments(t *testing.T) {
	s, _ := newServer(t, Config{Controller: &fakeController{}, Version: "1.2.3"})
	const version = `{"description":"OpenWhisk API","api_version":"1.0.0","api_version_path":"v1","build":"deepfn 1.2.3","buildno":"1.2.3"}` + "\n"
	for _, path := range []string{"/api/v1", "/api/v1/"} {
		wantResponse(t, ask(t, s, "GET", path, "", "Authorization", ""), 200, version)
	}
	wantResponse(t, ask(t, s, "GET", "/api/v1/namespaces/", ""), 200, `["guest"]`+"\n")
	wantResponse(t, ask(t, s, "GET", own+"/limits", ""), 200, `{"concurrentInvocations":30}`+"\n")
	wantResponse(t, ask(t, s, "POST", own+"/packages/refresh", ""), 200, `{"added":[],"deleted":[],"updated":[]}`+"\n")
	const versions = `{"versions": [{"version": "stable", "id": "v2", "links": [{"rel": "self", "type": "application/json", "href": "/v2/"}]}], ` +
		`"links": [{"rel": "help", "type": "text/html", "href": "/api"}, {"rel": "describedby", "type": "application/json", "href": "/swagger.json"}]`
	wantResponse(t, get(t, s, "/"), 200, versions+`, "api_paths": ["/api/v1"]}`)

	none, _ := newServer(t, Config{})
	wantResponse(t, get(t, none, "/"), 200, versions+`}`)
	wantAPIError(t, "no API", ask(t, none, "GET", own+"/actions", ""), 404, "there is no OpenWhisk API here: 'deepfn serve'…")
	wantAPIError(t, "no API", ask(t, none, "GET", "/api/v1", ""), 404, "there is no OpenWhisk API here: 'deepfn serve'…")

	below, _ := newServer(t, Config{Controller: &fakeController{}, BasePath: "/pets"})
	wantResponse(t, get(t, below, "/"), 200, `{"api_paths":["/api/v1"]}`+"\n")
	wantResponse(t, ask(t, below, "GET", "/api/v1/namespaces", ""), 200, `["guest"]`+"\n")
	if body := string(get(t, below, "/pets/").body); strings.Contains(body, "api_paths") {
		t.Errorf("got %s", body)
	}
}

func TestAPILists(t *testing.T) {
	f := &fakeController{list: whisk.Listing{Count: 7}}
	s, _ := newServer(t, Config{Controller: f})
	for _, c := range []string{"actions", "triggers", "rules", "packages", "activations"} {
		wantResponse(t, ask(t, s, "GET", own+"/"+c, ""), 200, "[]\n")
		wantResponse(t, ask(t, s, "GET", own+"/"+c+"?count=true", ""), 200, `{"`+c+`":7}`+"\n")
	}
	f.list.Items = []any{map[string]int{"a": 1}}
	wantResponse(t, ask(t, s, "GET", own+"/rules", ""), 200, `[{"a":1}]`+"\n")
}

// What has become of an invocation decides the status, as clients need it.
func TestAPIOutcomes(t *testing.T) {
	id := strings.Repeat("a", 32)
	ended := func(code int, result string) whisk.Outcome {
		return whisk.Outcome{Done: true, Activation: whisk.Activation{ID: id, Name: "a", Response: whisk.Response{Code: code, Result: json.RawMessage(result)}}}
	}
	record := func(result, status string, success bool) string {
		doc, _ := json.Marshal(map[string]any{"result": json.RawMessage(result), "size": len(result), "status": status, "success": success})
		return string(doc)
	}
	tests := []struct {
		name, query string
		outcome     whisk.Outcome
		status      int
		want        string // the whole body, or of an activation its response
	}{
		{"not blocking", "", whisk.Outcome{Activation: whisk.Activation{ID: id}}, 202, `{"activationId":"` + id + `"}`},
		{"wait is over", "?blocking=true&result=true", whisk.Outcome{Activation: whisk.Activation{ID: id}}, 202, `{"activationId":"` + id + `"}`},
		{"success", "?blocking=true", ended(whisk.Success, `{"a":1}`), 200, record(`{"a":1}`, "success", true)},
		{"success, result", "?blocking=true&result=true", ended(whisk.Success, `{"a":"<ü>"}`), 200, `{"a":"<ü>"}`},
		{"no result", "?blocking=true&result=true", ended(whisk.Success, ``), 200, `{}`},
		{"null", "?blocking=true&result=true", ended(whisk.Success, ` null `), 200, `{}`},
		{"array", "?blocking=true", ended(whisk.Success, ` [1,{"a":2}]`), 200, `[1,{"a":2}]`},
		{"array, result", "?blocking=true&result=true", ended(whisk.Success, `[]`), 200, `[]`},
		{"application error", "?blocking=true", ended(whisk.ApplicationError, `{"error":"x"}`), 502, record(`{"error":"x"}`, "application error", false)},
		{"application error, result", "?blocking=true&result=true", ended(whisk.ApplicationError, `{"error":"x"}`), 502, `{"error":"x"}`},
		{"developer error", "?blocking=true", ended(whisk.DeveloperError, `{"error":"x"}`), 502, record(`{"error":"x"}`, "action developer error", false)},
		{"whisk error", "?blocking=true", ended(whisk.WhiskError, `{"error":"x"}`), 500, record(`{"error":"x"}`, "whisk internal error", false)},
		{"whisk error, result", "?blocking=true&result=true", ended(whisk.WhiskError, `{"error":"x"}`), 500, `{"error":"x","code":"id-1"}`},
		{"whisk error without a text", "?blocking=true&result=true", ended(whisk.WhiskError, `{"error":{}}`), 500, `{"error":"whisk internal error","code":"id-1"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := newServer(t, Config{Controller: &fakeController{outcome: tt.outcome}})
			got := ask(t, s, "POST", own+"/actions/a"+tt.query, "{}")
			if got.header.Get(activationHeader) != id {
				t.Errorf("got the header %v", got.header)
			}
			var doc map[string]json.RawMessage
			if json.Unmarshal(got.body, &doc); doc["activationId"] != nil && doc["response"] != nil {
				if string(doc["logs"]) != "[]" || string(doc["annotations"]) != "[]" {
					t.Errorf("got %s, want lists of logs and annotations", got.body)
				}
				if tt.status == 500 && (string(doc["code"]) != `"id-1"` || string(doc["error"]) != `"x"`) {
					t.Errorf("got %s, want error and code", got.body)
				}
				got.body = append(doc["response"], '\n')
			}
			wantResponse(t, got, tt.status, tt.want+"\n")
		})
	}
}

func TestAPIRecords(t *testing.T) {
	id := strings.Repeat("a", 32)
	f := &fakeController{record: whisk.Activation{
		ID: id, Response: whisk.Response{Code: whisk.ApplicationError, Result: json.RawMessage(`{"error":"x"}`)}, Logs: []string{"2026 stdout: a"},
	}}
	s, _ := newServer(t, Config{Controller: f})
	path := own + "/activations/" + id
	const result = `{"result":{"error":"x"},"size":13,"status":"application error","success":false}`
	wantResponse(t, ask(t, s, "GET", path+"/result", ""), 200, result+"\n")
	wantResponse(t, ask(t, s, "GET", path+"/logs", ""), 200, `{"logs":["2026 stdout: a"]}`+"\n")
	if got := ask(t, s, "GET", path, ""); !bytes.Contains(got.body, []byte(`"response":`+result)) || got.status != 200 {
		t.Errorf("got %d %s", got.status, got.body)
	}
	f.record.Logs = nil
	wantResponse(t, ask(t, s, "GET", path+"/logs", ""), 200, `{"logs":[]}`+"\n")
}

func TestAPIFire(t *testing.T) {
	f := &fakeController{}
	s, _ := newServer(t, Config{Controller: f})
	if got := ask(t, s, "POST", own+"/triggers/t", ""); got.status != 204 || len(got.body) > 0 {
		t.Errorf("no rule: got %d %s", got.status, got.body)
	}
	f.fired = strings.Repeat("b", 32)
	got := ask(t, s, "POST", own+"/triggers/t", "{}")
	wantResponse(t, got, 202, `{"activationId":"`+f.fired+`"}`+"\n")
	if got.header.Get(activationHeader) != f.fired {
		t.Errorf("got the header %v", got.header)
	}
}

// A page of another site makes no calls, whatever key its browser sends.
func TestAPICrossSite(t *testing.T) {
	s, _ := newServer(t, Config{Controller: &fakeController{}})
	for _, headers := range [][]string{
		{"Origin", "http://evil.example"},
		{"Origin", "http://127.0.0.1:3000"},
		{"Origin", "null"},
		{"Origin", "://"},
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
	} {
		for _, path := range []string{"/api/v1", own + "/actions/a"} {
			wantAPIError(t, strings.Join(headers, ": "), ask(t, s, "POST", path, "{}", headers...), 403, otherSite)
		}
	}
	for _, headers := range [][]string{
		{"Origin", "http://127.0.0.1:8080", "Sec-Fetch-Site", "same-origin"},
		{"Sec-Fetch-Site", "none"},
	} {
		if got := ask(t, s, "POST", own+"/actions/a", "{}", headers...); got.status != 202 || got.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%v: got %d %v", headers, got.status, got.header)
		}
	}
}

func TestAPIDrains(t *testing.T) {
	f := &fakeController{}
	s, _ := newServer(t, Config{Controller: f})
	s.draining.Store(true)
	got := ask(t, s, "POST", own+"/actions/a", "{}")
	wantAPIError(t, "draining", got, 503, drainingError().Msg)
	if f.called().Op != "" {
		t.Error("the controller was called")
	}
}

func TestAPITooLargeBody(t *testing.T) {
	s, _ := newServer(t, Config{Controller: &fakeController{}, MaxBody: 100})
	refused := func(method, path string) response {
		r := &request{method: method, path: path, id: "id-1", refused: s.tooLargeError()}
		r.header = func(name string, each func(name, value string)) {
			if name == "Authorization" {
				each(name, "Basic "+base64.StdEncoding.EncodeToString([]byte("u:p:p")))
			}
		}
		return s.handle(t.Context(), r)
	}
	wantAPIError(t, "body", refused("PUT", own+"/actions/a"), 413, s.tooLargeError().Msg)
	wantAPIError(t, "method", refused("PATCH", own+"/actions/a"), 405, "…")
}

// Over HTTP: the headers that clients read, and a body longer than what is kept in memory.
func TestAPIOverHTTP(t *testing.T) {
	f := &fakeController{fired: strings.Repeat("c", 32), doc: map[string]string{"name": "a"}}
	r := start(t, Config{Controller: f})
	key := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("u:p:p"))
	call := func(method, path, body string) (answer, string) {
		return r.do(t, method, path, body, key, "X-Request-Id: tx-9")
	}
	resp, body := call("POST", own+"/triggers/t", "{}\n")
	if resp.StatusCode != 202 || resp.Header.Get("X-Openwhisk-Activation-Id") != f.fired || resp.Header.Get("X-Request-Id") != "tx-9" {
		t.Errorf("got %s %v %s", resp.Status, resp.Header, body)
	}
	resp, body = call("GET", own+"/actions/a?limit=x&code=x", "")
	if resp.StatusCode != 400 || !strings.HasSuffix(body, `"code":"tx-9"}`+"\n") {
		t.Errorf("got %s %s", resp.Status, body)
	}
	code := `{"exec":{"kind":"python:3","code":"` + strings.Repeat("QUJD", 10<<20/4) + `"}}`
	if resp, body = call("PUT", own+"/actions/a%20b", code); resp.StatusCode != 200 || body != `{"name":"a"}`+"\n" {
		t.Errorf("got %s %s", resp.Status, body)
	}
	if got := f.called(); got.Body != code || got.Name.Entity != "a b" {
		t.Errorf("the controller got %d bytes for %s", len(got.Body), got.Name)
	}
	for _, path := range []string{own + "/actions/a%2Fb", own + "/actions/%2e%2e/triggers", own + "/actions/a%00"} {
		if resp, body = call("GET", path, ""); resp.StatusCode != 400 && resp.StatusCode != 404 {
			t.Errorf("%s: got %s %s", path, resp.Status, body)
		}
	}
	if resp, body = call("HEAD", own+"/actions/a", ""); resp.StatusCode != 200 || body != "" {
		t.Errorf("HEAD: got %s %q", resp.Status, body)
	}
	if resp, body = call("POST", own+"/rules/r", `{"status":"active"}`); resp.StatusCode != 200 || body != "" {
		t.Errorf("rule: got %s %q", resp.Status, body)
	}
}
