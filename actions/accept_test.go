package actions

import "testing"

func TestAcceptQuality(t *testing.T) {
	for _, tt := range []struct {
		header, answer string
		want           float64
	}{
		{"", "image/png", 1},
		{" ", "image/png", 1},
		{"*/*", "image/png", 1},
		{"*", "image/png", 1},
		{"application/json", "application/json", 1},
		{"application/json", "application/json; charset=utf-8", 1},
		{"APPLICATION/JSON", "application/json", 1},
		{"application/json;q=0.5", "application/json", 0.5},
		{"application/json;q=5", "application/json", 1},
		{"application/json; q", "application/json", 1},
		{"application/json;q=1.0000001", "application/json", 1},
		{"application/json", "image/png", 0},
		{"image/*", "image/png", 1},
		{"image/*", "application/json", 0},
		{"image/png;q=0, image/*", "image/png", 0},
		{"image/png;q=0, image/*", "image/jpeg", 1},
		{"image/*;q=0, */*;q=0.1", "image/png", 0},
		{"image/*;q=0, */*;q=0.1", "text/plain", 0.1},
		{"text/html, image/gif, *; q=.2, */*; q=.2", "application/json", 0.2},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json", 0.8},
		{"nonsense, application/json", "application/json", 1},
		{"application/json;q=nan", "application/json", 0},
		{"application/json;q=-1", "application/json", 0},
		{"*/*;q=0", "application/json", 0},
		{"application/json", "", 0},
	} {
		accept, err := ParseAccept(tt.header)
		if err != nil {
			t.Errorf("%q: %v", tt.header, err)
		}
		if got := accept.Quality(tt.answer); got != tt.want {
			t.Errorf("%q wants %q: got %v, want %v", tt.header, tt.answer, got, tt.want)
		}
	}
}

func TestAcceptInvalid(t *testing.T) {
	for _, header := range []string{"json", "*/png", ",", "/", "application/json;q=one", "a/b/c"} {
		if accept, err := ParseAccept(header); CodeOf(err) != Invalid {
			t.Errorf("%q: got %v, %v, want Invalid", header, accept, err)
		}
	}
}

func TestAcceptChoose(t *testing.T) {
	for _, tt := range []struct{ header, want string }{
		{"", "application/json"},
		{"*/*", "application/json"},
		{"image/*, application/json;q=0.9", "image/png"},
		{"image/*;q=0.2, application/*;q=0.3", "application/json"},
		{"text/plain", ""},
	} {
		accept, err := ParseAccept(tt.header)
		if err != nil {
			t.Fatal(err)
		}
		if got := accept.Choose("application/json", "image/png"); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.header, got, tt.want)
		}
	}
}
