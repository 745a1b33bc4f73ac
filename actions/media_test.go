package actions

import "testing"

func TestIsJSON(t *testing.T) {
	for contentType, want := range map[string]bool{
		"application/json":                   true,
		" Application/JSON ; charset=utf-8 ": true,
		"application/json; charset":          true,
		"application/problem+json":           true,
		"application/geo+json;v=1":           true,
		"application/jsonl":                  false,
		"text/json-like":                     false,
		"text/plain; x=+json":                false,
		"image/png":                          false,
		"+json/":                             false,
		"":                                   false,
	} {
		if got := IsJSON(contentType); got != want {
			t.Errorf("%q: got %v, want %v", contentType, got, want)
		}
	}
}
