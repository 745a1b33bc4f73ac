package proxy

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

func TestWebBase(t *testing.T) {
	for _, tt := range []struct{ name, path, forwarded, want string }{
		{"/guest/ocr", "", "", "/api/v1/web/guest/default/ocr"},
		{"/guest/pkg/ocr", "/v2/", "", "/api/v1/web/guest/pkg/ocr"},
		{"guest/ocr", "", "", "/api/v1/web/guest/default/ocr"},
		{"/a b/p%/é", "", "", "/api/v1/web/a%20b/p%25/%C3%A9"},
		{"", "", "", ""},
		{"ocr", "", "", ""},
		{"/guest/ocr", "/v2/models/", "https://gw.example/my/api/v2/models/", "/my/api"},
		{"/guest/ocr", "/v2/models", "https://gw.example/my/api/v2/models/?a=b", "/my/api"},
		{"/guest/ocr", "", "https://gw.example/my/api", "/my/api"},
		{"/guest/ocr", "", "https://gw.example/my/api/", "/my/api"},
		{"/guest/ocr", "/v2/", "https://gw.example/elsewhere", "/api/v1/web/guest/default/ocr"},
		{"/guest/ocr", "", "https://gw.example//evil.example/x", "/api/v1/web/guest/default/ocr"},
		{"/guest/ocr", "", "::", "/api/v1/web/guest/default/ocr"},
		{"/guest/ocr", "", "javascript:alert(1)", "/api/v1/web/guest/default/ocr"},
	} {
		a := activation{
			values:  map[string]json.RawMessage{"__ow_path": quoted(tt.path)},
			context: []actions.Text{{Origin: actions.FromContext, Name: "__OW_ACTION_NAME", Value: tt.name}},
		}
		header := http.Header{}
		if tt.forwarded != "" {
			header.Set("X-Forwarded-Url", tt.forwarded)
		}
		r := request{header: func(name string, each func(name, value string)) {
			for _, value := range header.Values(name) {
				each(name, value)
			}
		}}
		if got := webBase(&a, &r); got != tt.want {
			t.Errorf("%+v: got %q", tt, got)
		}
	}
}

// The document of the API is of the one model, and of its place.
func TestWebActionSwagger(t *testing.T) {
	for _, base := range []string{"", "/a/b"} {
		s, _ := newServer(t, Config{Model: "echo", BasePath: base})
		got := web(t, s, `{"__ow_method":"get","__ow_path":"/swagger.json"}`)
		var doc struct{ Paths map[string]any }
		if err := json.Unmarshal(got.Body, &doc); err != nil || got.StatusCode != 200 {
			t.Fatalf("got %d %s, %v", got.StatusCode, got.Body, err)
		}
		for path := range doc.Paths {
			if !strings.HasPrefix(path, "/api/v1/web/guest/my%20pkg/ocr/") || strings.Contains(path, "other") {
				t.Errorf("got the path %s", path)
			}
		}
		if want := "/api/v1/web/guest/my%20pkg/ocr/v2/models/echo/predict/"; doc.Paths[want] == nil {
			t.Errorf("there is no %s: %s", want, got.Body)
		}
	}
}
