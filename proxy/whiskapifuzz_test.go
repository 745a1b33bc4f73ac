package proxy

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// FuzzAPI sends any call: the answer is JSON, and an error in the API's shape.
func FuzzAPI(f *testing.F) {
	for _, seed := range [][3]string{
		{"GET", "namespaces/_/actions?limit=30&skip=0", ""},
		{"GET", "namespaces/_/actions/pkg/?count=true", ""},
		{"PUT", "namespaces/guest/actions/pkg/hello?overwrite=true", `{"exec":{"kind":"python:3","code":"x"}}`},
		{"POST", "namespaces/_/actions/hello?blocking=true&result=true&timeout=5", "{}\n"},
		{"POST", "namespaces/_/triggers/t", `{"a":[1,{"b":null}]}`},
		{"POST", "namespaces/_/rules/r", `{"status":"active"}`},
		{"GET", "namespaces/_/activations?name=a/b&since=1&upto=2&docs=true", ""},
		{"GET", "namespaces/_/activations/00000000000000000000000000000000/logs", ""},
		{"DELETE", "namespaces/_/packages/p?force=true", ""},
		{"HEAD", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	s, _ := newServer(f, Config{Controller: &fakeController{fired: strings.Repeat("a", 32)}, MaxPayload: 1 << 10})
	f.Fuzz(func(t *testing.T, method, target, body string) {
		path, _, _ := strings.Cut(target, "?")
		if strings.HasPrefix(path, "web/") {
			return // answers what an action likes
		}
		got := ask(t, s, method, apiPath+target, body)
		var doc any
		switch err := json.Unmarshal(got.body, &doc); {
		case got.status == http.StatusNoContent || got.status == http.StatusOK && len(got.body) == 0: // a rule was set
		case err != nil || got.contentType != jsonType:
			t.Errorf("got %d %s %q: %v", got.status, got.contentType, got.body, err)
		case got.status >= 500:
			t.Errorf("got %d %s", got.status, got.body)
		case got.status >= 400:
			wantAPIError(t, target, got, got.status, "…")
		}
	})
}
