package proxy

import "testing"

func TestAccept(t *testing.T) {
	tests := []struct {
		header, answer string
		want           bool
	}{
		{"", "image/png", true},
		{"*/*", "image/png", true},
		{"*", "image/png", true},
		{"application/json", "application/json", true},
		{"application/json", "application/json; charset=utf-8", true},
		{"APPLICATION/JSON", "application/json", true},
		{"application/json", "image/png", false},
		{"image/*", "image/png", true},
		{"image/*", "application/json", false},
		{"image/png;q=0, image/*", "image/png", false},
		{"image/png;q=0, image/*", "image/jpeg", true},
		{"image/*;q=0, */*;q=0.1", "image/png", false},
		{"image/*;q=0, */*;q=0.1", "text/plain", true},
		{"text/html, image/gif, *; q=.2, */*; q=.2", "application/json", true},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json", true},
		{"nonsense, application/json", "application/json", true},
		{"application/json;q=nan", "application/json", false},
		{"*/*;q=0", "application/json", false},
		{"application/json", "", false},
	}
	for _, tt := range tests {
		ranges, err := parseAccept(tt.header)
		if err != nil {
			t.Errorf("%q: %v", tt.header, err)
		}
		if got := ranges.accept(tt.answer); got != tt.want {
			t.Errorf("%q accepts %q: got %v, want %v", tt.header, tt.answer, got, tt.want)
		}
	}
	for _, header := range []string{"json", "*/png", ",", "/", "application/json;q=one", "a/b/c"} {
		if ranges, err := parseAccept(header); err == nil {
			t.Errorf("%q: got %v, want an error", header, ranges)
		}
	}
}
