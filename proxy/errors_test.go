package proxy

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
)

func TestShort(t *testing.T) {
	long := strings.Repeat("é", 200)
	for _, text := range []string{"", "a", long[:200], long, "a" + long, "ab" + long, strings.Repeat("\x80", 300)} {
		got := short(text)
		if len(got) > maxShown || len(text) <= maxShown && got != text || utf8.ValidString(text) && !utf8.ValidString(got) {
			t.Errorf("got %q (%d bytes) for %d bytes", got, len(got), len(text))
		}
	}
}

// What a caller sends does not come back in full.
func TestMessagesAreShort(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	s, st := newServer(t, Config{})
	form := "--b\r\nContent-Disposition: form-data; name=" + long[:5000] + "\r\n\r\n1\r\n--b--"
	for name, r := range map[string]request{
		"path":             {method: "GET", path: "/" + long},
		"method":           {method: long, path: "/run"},
		"model":            {method: "GET", path: "/v2/models/" + long + "/"},
		"model to predict": {method: "POST", path: "/v2/models/" + long + "/predict/"},
		"content type":     {method: "POST", path: predictPath, contentType: "a/" + long, body: []byte("x")},
		"no content type":  {method: "POST", path: predictPath, contentType: ";" + long, body: []byte("x")},
		"name in a form":   {method: "POST", path: predictPath, contentType: formType, body: []byte(long + "=1")},
		"name in a part":   {method: "POST", path: predictPath, contentType: "multipart/form-data; boundary=b", body: []byte(form)},
		"name not UTF-8":   {method: "POST", path: predictPath, contentType: formType, body: []byte("%ff" + long + "=1")},
		"name in JSON":     {method: "POST", path: predictPath, contentType: jsonType, body: []byte(`{"` + long + `":1}`)},
		"value":            {method: "POST", path: predictPath, contentType: formType, body: []byte("n=" + long)},
		"accept":           {method: "POST", path: predictPath, contentType: formType, body: []byte("accept=" + long)},
		"init main":        {method: "POST", path: "/init", body: []byte(`{"value":{"main":"` + long + `"}}`)},
		"init env":         {method: "POST", path: "/init", body: []byte(`{"value":{"env":{"DEEPFN_MODEL":"` + long + `"}}}`)},
		"init code":        {method: "POST", path: "/init", body: []byte(`{"value":{"code":"{\"model\":\"` + long[:50_000] + `\"}"}}`)},
	} {
		got := s.handle(t.Context(), &r)
		if got.status < 400 || strings.Count(string(got.body), "x") > maxShown+20 || len(got.body) > 600 {
			t.Errorf("%s: got %d with %d bytes: %.100s", name, got.status, len(got.body), got.body)
		}
	}
	if got := len(st.log.String()); got > 10_000 {
		t.Errorf("got %d bytes of log", got)
	}
}

func TestShortNames(t *testing.T) {
	long := strings.Repeat("x", 300)
	got := shortNames(map[string][]string{long: {"a"}, long + "y": {"b"}, "n": {"c"}})
	if len(got) != 2 || len(got[short(long)]) != 2 || got["n"][0] != "c" {
		t.Errorf("got %v", got)
	}
	if resp := failure(&actions.Error{Code: actions.Invalid, Fields: got}); resp.status != http.StatusUnprocessableEntity {
		t.Errorf("got %d", resp.status)
	}
}
