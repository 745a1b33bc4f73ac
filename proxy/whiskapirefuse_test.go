package proxy

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// What is wrong is refused in the API's words, and the controller is not asked.
func TestAPIRefuses(t *testing.T) {
	tests := []struct {
		method, target, body string
		status               int
		want                 string // of the error; its beginning if it ends in …
	}{
		{"GET", own + "/actions?limit=201", "", 400, "The query parameter 'limit' was malformed:\nThe value '201' is not in the range of 0 to 200 for actions."},
		{"GET", own + "/activations?limit=-1", "", 400, "The query parameter 'limit' was malformed:\nThe value '-1' is not in the range of 0 to 200 for activations."},
		{"GET", own + "/actions?limit=ten", "", 400, "The query parameter 'limit' was malformed:\nThe value 'ten' is not an integer for actions."},
		{"GET", own + "/actions?limit=99999999999", "", 400, "The query parameter 'limit' was malformed:\nThe value '99999999999' is not an integer for actions."},
		{"GET", own + "/triggers?skip=-1", "", 400, "The query parameter 'skip' was malformed:\nThe value '-1' is not greater than or equal to 0 for triggers."},
		{"GET", own + "/rules?count=maybe", "", 400, "The query parameter 'count' was malformed:\n'maybe' is not a valid Boolean value"},
		{"GET", own + "/activations?count=true&docs=true", "", 400, "The parameter 'docs' is not permitted with 'count'."},
		{"GET", own + "/activations?name=a/b/c", "", 400, "The query parameter 'name' was malformed:\nParameter may be a 'simple' name or 'package-name/simple' name: a/b/c"},
		{"GET", own + "/activations?since=now", "", 400, "The query parameter 'since' was malformed:\nParameter is not a valid value for epoch seconds: now"},
		{"GET", own + "/actions?limit=%zz", "", 400, "…"},
		{"POST", own + "/actions/a?timeout=60001", "", 400, "The query parameter 'timeout' was malformed:\nTimeout must be number of milliseconds up to 60000."},
		{"POST", own + "/actions/a?timeout=0", "", 400, "…"},
		{"POST", own + "/actions/a", "{", 400, "The request content was malformed:\nunexpected end of JSON input…"},
		{"POST", own + "/actions/a", "[1]", 400, "The request content was malformed:\nJSON object expected"},
		{"POST", own + "/actions/a", "{} {}", 400, "The request content was malformed:\n…"},
		{"POST", own + "/actions/a", "{\"a\":\"\xff\"}", 400, "The request content was malformed:\nthe body is not UTF-8"},
		{"POST", own + "/actions/a", strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000), 400, "The request content was malformed:\n…"},
		{"PUT", own + "/actions/a", "", 400, "The request content was malformed:\nthe body is empty, it has to be a JSON object"},
		{"PUT", own + "/actions/a?overwrite=2", "{}", 400, "The query parameter 'overwrite' was malformed:\n…"},
		{"DELETE", own + "/packages/a?force=2", "", 400, "The query parameter 'force' was malformed:\n…"},
		{"GET", own + "/actions/a?code=2", "", 400, "The query parameter 'code' was malformed:\n…"},
		{"POST", own + "/rules/r", `{"status":"paused"}`, 400, "The request content was malformed:\nthe status of a rule is 'active' or 'inactive'"},
		{"POST", own + "/rules/r", "", 400, "The request content was malformed:\n…"},
		{"GET", own + "/actions/a%2Fb", "", 400, "The name of the entity contains illegal characters."},
		{"GET", own + "/actions/ a", "", 400, "The name of the entity contains illegal characters."},
		{"GET", own + "/actions/" + strings.Repeat("a", 257), "", 400, "Name segement longer than allowed: 257 > 256."},
		{"GET", "/api/v1/namespaces/a$b/actions", "", 400, "The namespace contains illegal characters."},
		{"GET", own + "/activations/abc", "", 400, "Activation id length is 3 but must be 32."},
		{"GET", own + "/activations/" + strings.Repeat("g", 32), "", 400, "The activation id is not valid."},
		{"GET", own, "", 404, "The requested resource could not be found."},
		{"GET", own + "/", "", 404, "The requested resource could not be found."},
		{"GET", own + "/feeds", "", 404, "The requested resource could not be found."},
		{"GET", "/api/v1/actions", "", 404, "The requested resource could not be found."},
		{"GET", own + "/actions/a/b/c", "", 404, "The requested resource could not be found."},
		{"GET", own + "/actions/a/b/", "", 404, "The requested resource could not be found."},
		{"GET", own + "/rules/a/", "", 404, "The requested resource could not be found."},
		{"GET", own + "/triggers/a/b", "", 404, "The requested resource could not be found."},
		{"GET", own + "/limits/a", "", 404, "The requested resource could not be found."},
		{"GET", own + "/activations/" + strings.Repeat("a", 32) + "/log", "", 404, "The requested resource could not be found."},
		{"POST", own + "/actions", "{}", 405, "HTTP method not allowed, supported methods: GET, HEAD"},
		{"PATCH", own + "/actions/a", "{}", 405, "HTTP method not allowed, supported methods: GET, HEAD, PUT, POST, DELETE"},
		{"POST", own + "/packages/a", "{}", 405, "HTTP method not allowed, supported methods: GET, HEAD, PUT, DELETE"},
		{"OPTIONS", own + "/actions/a", "", 405, "…"},
		{"DELETE", own + "/activations/" + strings.Repeat("a", 32), "", 405, "HTTP method not allowed, supported methods: GET, HEAD"},
		{"POST", "/api/v1", "", 405, "HTTP method not allowed, supported methods: GET, HEAD"},
		{"GET", "/api/v1/namespaces/other/limits", "", 403, "The supplied authentication is not authorized to access 'other/limits'."},
		{"GET", "/api/v1/namespaces/other/activations", "", 403, "The supplied authentication is not authorized to access 'other/activations'."},
		{"GET", "/api/v1/namespaces/other/activations/" + strings.Repeat("a", 32), "", 403, "…"},
		{"POST", own + "/triggers/t", strings.Repeat(" ", 101), 413, "Request larger than allowed: 101 > 100 bytes."},
		{"POST", own + "/actions/a", strings.Repeat(" ", 101), 413, "Request larger than allowed: 101 > 100 bytes."},
	}
	for _, tt := range tests {
		f := &fakeController{}
		payload := int64(100)
		if tt.status != 413 {
			payload = 0
		}
		s, _ := newServer(t, Config{Controller: f, MaxPayload: payload})
		wantAPIError(t, tt.method+" "+tt.target, ask(t, s, tt.method, tt.target, tt.body), tt.status, tt.want)
		if op := f.called().Op; op != "" {
			t.Errorf("%s %s: the controller was asked to %s", tt.method, tt.target, op)
		}
	}
}

// wantAPIError wants an error with the id of the transaction as its code.
func wantAPIError(tb testing.TB, name string, got response, status int, text string) {
	tb.Helper()
	var doc map[string]string
	if err := json.Unmarshal(got.body, &doc); err != nil || len(doc) != 2 || doc["code"] != "id-1" || got.contentType != jsonType {
		tb.Errorf("%s: got %s %s, want an object with error and code", name, got.contentType, got.body)
	}
	begin, cut := strings.CutSuffix(text, "…")
	if got.status != status || doc["error"] != text && (!cut || !strings.HasPrefix(doc["error"], begin)) {
		tb.Errorf("%s: got %d %q, want %d %q", name, got.status, doc["error"], status, text)
	}
}

func TestAPIByReferenceIsNamed(t *testing.T) {
	s, _ := newServer(t, Config{Controller: &fakeController{}, MaxPayload: 10, Storage: noStorage{}})
	wantAPIError(t, "too large", ask(t, s, "POST", own+"/actions/a", strings.Repeat(" ", 11)), 413,
		`Request larger than allowed: 11 > 10 bytes. Give what is large by reference, as {"url"…`)
}

type noStorage struct{ Storage }

// The code of an error decides the status, and so wsk's exit code.
func TestAPIErrors(t *testing.T) {
	for code, status := range map[actions.Code]int{
		actions.Invalid: 400, actions.Unsupported: 400, actions.Unauthorized: 401, actions.Forbidden: 403,
		actions.NotFound: 404, actions.Conflict: 409, actions.TooLarge: 413, actions.Busy: 429,
		actions.Unavailable: 503, actions.Canceled: 503, actions.Deadline: 504, actions.Failed: 502,
	} {
		s, _ := newServer(t, Config{Controller: &fakeController{err: actions.Errorf(code, "it is %s", code)}})
		for _, call := range [][2]string{
			{"GET", "/actions"},
			{"GET", "/actions/a"},
			{"PUT", "/actions/a"},
			{"DELETE", "/actions/a"},
			{"POST", "/actions/a"},
			{"POST", "/triggers/a"},
			{"POST", "/rules/a"},
			{"GET", "/activations"},
			{"GET", "/activations/" + strings.Repeat("a", 32)},
		} {
			got := ask(t, s, call[0], own+call[1], `{"status":"active"}`)
			wantAPIError(t, call[0]+call[1], got, status, "it is "+string(code))
			if later := got.retryAfter > 0; later != (status == 429 || status == 503) {
				t.Errorf("%d: Retry-After: %d", status, got.retryAfter)
			}
		}
	}
	s, st := newServer(t, Config{Controller: &fakeController{err: errors.New("the disk burns")}})
	wantAPIError(t, "internal", ask(t, s, "GET", own+"/actions", ""), 500, "internal error; the log has its cause under request id id-1")
	if log := st.log.String(); !strings.Contains(log, "the disk burns") {
		t.Errorf("the log has %q", log)
	}
}

func TestAPIKeys(t *testing.T) {
	basic := func(key string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(key)) }
	const missing = "The resource requires authentication, which was not supplied with the request"
	const wrong = "The supplied authentication is invalid"
	s, _ := newServer(t, Config{Controller: &fakeController{}})
	for _, tt := range []struct{ header, want string }{
		{"", missing},
		{basic("u:wrong"), wrong},
		{basic("nobody"), wrong},
		{basic(""), wrong},
		{"Basic", wrong},
		{"Basic %%%", wrong},
		{"Bearer abc", wrong},
	} {
		for _, path := range []string{"/api/v1/namespaces", own + "/limits", own + "/actions", own + "/activations", "/api/v1/nowhere"} {
			got := ask(t, s, "GET", path, "", "Authorization", tt.header)
			wantAPIError(t, tt.header, got, 401, tt.want)
			if got.header.Get("Www-Authenticate") != `Basic realm="OpenWhisk secure realm"` {
				t.Errorf("got the header %v", got.header)
			}
		}
	}
	for _, header := range []string{basic("u:p:p"), "basic  " + strings.TrimPrefix(basic("u:p:p"), "Basic ")} {
		wantResponse(t, ask(t, s, "GET", "/api/v1/namespaces", "", "Authorization", header), 200, `["guest"]`+"\n")
	}
	broken, _ := newServer(t, Config{Controller: &brokenKeys{}})
	wantAPIError(t, "broken", ask(t, broken, "GET", "/api/v1/namespaces", ""), 503, "no disk")
}

// brokenKeys cannot look a key up.
type brokenKeys struct{ fakeController }

func (*brokenKeys) Authenticate(string, string) (string, error) {
	return "", actions.Errorf(actions.Unavailable, "no disk")
}
