package proxy

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

// The page comes whole from this server, and its policy lets nothing else in.
func TestPage(t *testing.T) {
	r := start(t, Config{BasePath: "/a"})
	for path, want := range map[string]string{
		"/a/api": "text/html; charset=utf-8", "/a/api/page.js": "text/javascript; charset=utf-8", "/a/api/page.css": "text/css; charset=utf-8",
	} {
		resp, body := r.do(t, "GET", path, "")
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != want || len(body) < 500 {
			t.Errorf("%s: got %s %s with %d bytes", path, resp.Status, resp.Header.Get("Content-Type"), len(body))
		}
		if policy := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'self';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: got policy %q", path, policy)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: got header %v", path, resp.Header)
		}
	}
	for path, status := range map[string]int{"/a/ui": 302, "/a/api/": 308} {
		if resp, _ := r.do(t, "GET", path, ""); resp.StatusCode != status || resp.Header.Get("Location") != "/a/api" {
			t.Errorf("%s: got %s to %q", path, resp.Status, resp.Header.Get("Location"))
		}
	}
	if resp, _ := r.do(t, "GET", "/a/api/page/index.html", ""); resp.StatusCode != 404 {
		t.Errorf("got %s", resp.Status)
	}
}

// What the page writes for a shell means to curl what it says, and what ends a training
// asks before.
func TestPageIsCareful(t *testing.T) {
	script, err := pageFiles.ReadFile("page/page.js")
	if err != nil {
		t.Fatal(err)
	}
	for what, pattern := range map[string]string{
		"a body that begins with @ is a body":          `words\.push\("--data-raw", quote\(body\)\)`,
		"the name of a file is quoted":                 "@\"\\$\\{file\\.name\\.replace",
		"a fragment that is not encoded is no failure": `try \{\s+name = decodeURIComponent\(name\);\s+\} catch`,
		"a training is removed when that is confirmed": `if \(!confirm\([^\n]+\) return;\s+cancel\.disabled = true;\s+await fetch\(at, \{ method: "DELETE" \}\)`,
	} {
		if !regexp.MustCompile(pattern).Match(script) {
			t.Errorf("page.js does not say that %s", what)
		}
	}
	if regexp.MustCompile(`"-d"|"--data"`).Match(script) {
		t.Error("page.js has curl read a file that a body names")
	}
}

func TestPageTurnedOff(t *testing.T) {
	s, _ := newServer(t, Config{NoDocs: true})
	for _, path := range []string{"/api", "/api/", "/ui", "/api/page.js", "/api/page.css"} {
		if got := get(t, s, path); got.status != 404 {
			t.Errorf("%s: got %d", path, got.status)
		}
	}
	wantResponse(t, get(t, s, "/swagger.json"), 200, `{"swagger": "2.0"…`)
}

// No file of the page names another host, and none makes HTML of texts.
func TestPageStandsAlone(t *testing.T) {
	elsewhere := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9]|@import|innerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|\bon[a-z]+="`)
	hrefs := regexp.MustCompile(`(?:src|href)="([^"]*)"`)
	err := fs.WalkDir(pageFiles, "page", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := pageFiles.ReadFile(path)
		if err != nil {
			return err
		}
		if found := elsewhere.Find(text); found != nil {
			t.Errorf("%s has %q", path, found)
		}
		for _, href := range hrefs.FindAllStringSubmatch(string(text), -1) {
			switch href[1] {
			case "#main", "data:,": // itself, nothing
			case "swagger.json", "v2/models/", "api/page.js", "api/page.css":
				// Beside /api, also below a base path.
				s, _ := newServer(t, Config{BasePath: "/x/y"})
				if got := get(t, s, "/x/y/"+href[1]); got.status != 200 {
					t.Errorf("%s links %s: got %d", path, href[1], got.status)
				}
			default:
				t.Errorf("%s links %q", path, href[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
