package proxy

import (
	"net/http"
	"strings"
	"testing"
)

func TestMatchPath(t *testing.T) {
	for _, tt := range []struct {
		pattern, path string
		ok            bool
		model, uuid   string
	}{
		{"/run", "/run", true, "", ""},
		{"/run", "/run/", false, "", ""},
		{"/m/{model}/", "/m/a/", true, "a", ""},
		{"/m/{model}/", "/m/a", false, "", ""},
		{"/m/{model}/", "/m//", false, "", ""},
		{"/m/{model}/", "/m/a/b/", false, "", ""},
		{"/m/{model}/t/{uuid}", "/m/a/t/b", true, "a", "b"},
		{"/m/{model}/t/{uuid}", "/m/a/t/", false, "", ""},
		{"/m/{model}/t/{uuid}", "/m/a/t/b/", false, "", ""},
		{"/m/{model}/t/{uuid}/logs", "/m/a/t/b/logs", true, "a", "b"},
		{"/m/{model}/t/", "/m/a/t/", true, "a", ""},
		{"/m/{model}/t/", "/m/{model}/t/", true, "{model}", ""},
		{"/m/{model}/", "", false, "", ""},
	} {
		var r request
		if ok := matchPath(tt.pattern, tt.path, &r); ok != tt.ok || r.model != tt.model || r.uuid != tt.uuid {
			t.Errorf("%s %s: got %v %q %q", tt.pattern, tt.path, ok, r.model, r.uuid)
		}
	}
}

// Below a base path stands all of DEEPaaS, and its links say so; what a platform calls
// stays at the root.
func TestBasePath(t *testing.T) {
	for _, base := range []string{"/a/b", "a/b/", "//a/./b//"} {
		s, _ := newServer(t, Config{Model: "echo", BasePath: base})
		for _, path := range []string{"/healthz", "/readyz", "/metrics", "/a/b", "/a/b/", "/a/b/v2/", "/a/b/v2/models/", "/a/b/v2/models/echo/", "/a/b/v2/models/echo/train/"} {
			got := get(t, s, path)
			if got.status != 200 || strings.Contains(string(got.body), `"/v2/`) || strings.Contains(string(got.body), `"/api"`) {
				t.Errorf("%s: got %d %s", path, got.status, got.body)
			}
		}
		for _, path := range []string{"/v2/", "/v2/models/", "/swagger.json", "/a", "/a/b/healthz", "/a/bc/v2/", "/api", "/a/b/run"} {
			if got := get(t, s, path); got.status != 404 {
				t.Errorf("%s: got %d", path, got.status)
			}
		}
		wantResponse(t, get(t, s, "/a/b/v2/models/other/"), 200, `{"id": "other", "name": "other", "links": [{"rel": "self", "href": "/a/b/v2/models/other"}], "arguments": [], "runtime": null}`)
		wantResponse(t, get(t, s, "/a/b/v2/"), 200, `{"version": "stable", "id": "v2", "links": [{"rel": "self", "type": "application/json", "href": "/a/b/v2/"}]}`)
		wantResponse(t, post(t, s, "/a/b"+predictPath, `{"n":1}`), 200, `{"status": "OK", "predictions": {"n":1}}`)
		wantResponse(t, post(t, s, "/run", `{}`), 200, `{}`)
		wantResponse(t, post(t, s, "/init", `{}`), 200, initOK)
		for path, want := range map[string]string{"/a/b/v2": "/a/b/v2/", "/a/b/v2/models/echo/predict": "/a/b" + predictPath} {
			method := http.MethodGet
			if strings.HasSuffix(path, "predict") {
				method = http.MethodPost
			}
			got := s.handle(t.Context(), &request{method: method, path: path, query: "n=1"})
			if got.status != 308 || got.location != want+"?n=1" || string(got.body) != "308: Permanent Redirect" {
				t.Errorf("%s: got %d %s", path, got.status, got.location)
			}
		}
	}
	for _, base := range []string{"", "/", ".", "//"} {
		s, _ := newServer(t, Config{BasePath: base})
		wantResponse(t, get(t, s, "/v2/"), 200, `{"version": "stable"…`)
	}
}

// A 204 has no body on the wire, and the connection goes on.
func TestNoContent(t *testing.T) {
	r := start(t, Config{BasePath: "/a"})
	if resp, body := r.do(t, "GET", "/a/v2/debug/", ""); resp.StatusCode != 204 || body != "" {
		t.Errorf("got %s %q", resp.Status, body)
	}
}
