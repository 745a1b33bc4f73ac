package proxy

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestCrossSite(t *testing.T) {
	for _, tt := range []struct {
		name     string
		headers  string // Name: value, by lines
		method   string // POST by default
		loopback bool
		want     bool
	}{
		{name: "a program", headers: "Host: 10.0.0.7:8080"},
		{name: "no header at all"},
		{name: "no header at all, on this machine", loopback: true},
		{name: "this server's own page", headers: "Host: localhost:8080\nOrigin: http://localhost:8080\nSec-Fetch-Site: same-origin", loopback: true},
		{name: "an old browser's own page", headers: "Host: localhost:8080\nOrigin: http://LOCALHOST:8080", loopback: true},
		{name: "behind a proxy", headers: "Host: 10.0.0.7:8080\nOrigin: https://models.example.org\nSec-Fetch-Site: same-origin"},
		{name: "typed by hand", headers: "Host: localhost:8080\nSec-Fetch-Site: none", loopback: true},
		{name: "another site", headers: "Host: localhost:8080\nOrigin: https://evil.example\nSec-Fetch-Site: cross-site", loopback: true, want: true},
		{name: "another site, without Origin", headers: "Host: 10.0.0.7\nSec-Fetch-Site: cross-site", want: true},
		{name: "another site, in an old browser", headers: "Host: 10.0.0.7\nOrigin: https://evil.example", want: true},
		{name: "another port", headers: "Host: localhost:8080\nOrigin: http://localhost:8888", loopback: true, want: true},
		{name: "another port, as browsers call it", headers: "Host: localhost:8080\nSec-Fetch-Site: same-site", loopback: true, want: true},
		{name: "a file or a sandbox", headers: "Host: localhost:8080\nOrigin: null", loopback: true, want: true},
		{name: "no origin", headers: "Host: localhost:8080\nOrigin: %%%", loopback: true, want: true},
		{name: "a name that leads here", headers: "Host: evil.example:8080\nOrigin: http://evil.example:8080", loopback: true, want: true},
		{name: "a name that leads here, same origin", headers: "Host: evil.example:8080\nSec-Fetch-Site: same-origin", loopback: true, want: true},
		{name: "a name that begins with localhost", headers: "Host: localhost.evil.example\nOrigin: http://localhost.evil.example", loopback: true, want: true},
		{name: "a name that leads here, reading", method: "GET", headers: "Host: evil.example", loopback: true, want: true},
		{name: "a name that leads here, asking", method: "HEAD", headers: "Host: evil.example", loopback: true, want: true},
		{name: "a program that knows this machine by another name", headers: "Host: models.example.org", loopback: true},
		{name: "a name of a server for all", headers: "Host: models.example.org"},
		{name: "address", headers: "Host: 127.0.0.1:8080", loopback: true},
		{name: "address of version 6", headers: "Host: [::1]:8080", loopback: true},
		{name: "address of version 6 without port", headers: "Host: [::1]", loopback: true},
		{name: "name below localhost", headers: "Host: models.localhost.", loopback: true},
		{name: "capitals", headers: "Host: LocalHost", loopback: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var lines [][2]string
			for line := range strings.Lines(tt.headers) {
				name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
				lines = append(lines, [2]string{name, value})
			}
			r := &request{method: cmp.Or(tt.method, "POST"), loopback: tt.loopback, header: headers(lines...)}
			if got := crossSite(r); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// A page of another site neither gives a server code nor runs it, and is no activation.
func TestPagesOfOthers(t *testing.T) {
	inv := &fakeInvoker{}
	r := start(t, Config{Model: "echo", Invoker: inv})
	for _, path := range []string{"/init", "/run"} {
		for _, header := range []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Origin: null"} {
			got, body := r.do(t, "POST", path, `{"value":{}}`, header)
			if want := fmt.Sprintf("{\"error\":%q}\n", otherSite); got.StatusCode != http.StatusForbidden || body != want {
				t.Errorf("%s with %s: got %d %s, want 403 %s", path, header, got.StatusCode, body, want)
			}
		}
	}
	if r.initialized.Load() || inv.calls() != 0 {
		t.Errorf("initialized: %v, %d calls", r.initialized.Load(), inv.calls())
	}
	wantSentinels(t, r.streams, 0)
	for _, header := range []string{"Origin: http://localhost", "Sec-Fetch-Site: none", "X: y"} {
		if got, body := r.do(t, "POST", "/run", `{}`, header); got.StatusCode != http.StatusOK {
			t.Errorf("%s: got %d %s, want 200", header, got.StatusCode, body)
		}
	}
}
