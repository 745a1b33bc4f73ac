package storage

import (
	"net/netip"
	"net/url"
	"path"
	"strings"
	"testing"
)

func TestAllow(t *testing.T) {
	for _, tt := range []struct {
		prefix, url string
		want        bool
	}{
		{"https://a.test", "https://a.test/", true},
		{"https://a.test", "https://a.test", true},
		{"https://a.test/", "https://a.test", true},
		{"https://a.test/", "https://A.TEST:443/x", true},
		{"https://A.test:443/", "https://a.test./x", true},
		{"https://a.test/", "https://a.test:444/x", false},
		{"https://a.test/", "http://a.test/x", false},
		{"https://a.test/", "http://a.test:443/x", false},
		{"https://a.test/", "https://a.test.evil.test/x", false},
		{"https://a.test/", "https://evil.test/https://a.test/", false},
		{"https://a.test", "https://xa.test/", false},
		{"http://10.0.0.1:9000/in", "http://10.0.0.1:9000/in", true},
		{"http://10.0.0.1:9000/in", "http://10.0.0.1:9000/in/", true},
		{"http://10.0.0.1:9000/in", "http://10.0.0.1:9000/in/x?q", true},
		{"http://10.0.0.1:9000/in", "http://10.0.0.1:9000/inside", false},
		{"http://10.0.0.1:9000/in/", "http://10.0.0.1:9000/in", false},
		{"http://10.0.0.1:9000/in/", "http://10.0.0.1:9000/in/", true},
		{"http://10.0.0.1:9000/in/", "http://10.0.0.1:9000/in/x/y", true},
		{"http://10.0.0.1:9000/in/", "http://10.0.0.1:9000/in%2fx", false},
		{"http://10.0.0.1:9000/in/", "http://10.0.0.1:9000/%69n/x", true},
		{"http://10.0.0.1:9000/in/", "http://10.0.0.1:9000//in/x", false},
		{"http://10.0.0.1:9000/in/", "http://10.0.0.1:9000/In/x", false},
		{"http://[::1]:9000/", "http://[::1]:9000/x", true},
		{"http://[::1]:9000/", "http://[::2]:9000/x", false},
		{"s3://", "s3://bucket/key", true},
		{"S3://", "s3://bucket/key", true},
		{"s3://bucket", "s3://bucket/key", true},
		{"s3://bucket/", "s3://bucket2/key", false},
		{"s3://bucket/", "s3://Bucket/key", false},
		{"s3://bucket/in/", "s3://bucket/in/key", true},
		{"s3://bucket/in/", "s3://bucket/input/key", false},
		{"s3://bucket/in/", "https://bucket/in/key", false},
		{"gs://", "gs://bucket/key", true},
		{"gs://", "s3://bucket/key", false},
		{"azblob://container/", "azblob://container/key", true},
		{"file:///data/", "file:///data/in/x", true},
		{"file:///data", "file:///data/in/x", true},
		{"file:///data/", "file:///data", false},
		{"file:///data/", "file:///database/x", false},
		{"file:///data/", "file:///Data/x", false},
		{"file:///data/", "file:///data%2fx", false},
		{"file:///", "file:///x", true},
	} {
		p, err := parsePrefix(tt.prefix)
		if err != nil {
			t.Fatal(err)
		}
		l, err := parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := allows([]prefix{p}, l); got != tt.want {
			t.Errorf("%s under %s: got %v, want %v", tt.url, tt.prefix, got, tt.want)
		}
	}
}

func TestWrongAllow(t *testing.T) {
	for entry, says := range map[string]string{
		"":                       "scheme",
		"example.com":            "scheme",
		"https://":               "no host",
		"http://":                "no host",
		"ftp://host/":            "is not https, http, s3, gs, azblob or file",
		"https://a:b@host/":      "name or password",
		"https://host/a/../b":    "dot segments",
		"https://host/?a=b":      "a query",
		"https://host/#a":        "a query or a fragment",
		"s3://bucket:80/":        "no port",
		"https://host:a/":        "none",
		"https://h/" + "\x00abc": "none",
		"file://host/data/":      "no file:///path",
		"file:data/":             "no file:///path",
		"file:///data//in/":      "not the path of a folder",
		"file:///data/?a":        "a query",
		"gs://bucket:80/":        "no port",
	} {
		if _, err := New(Config{Allow: []string{entry}}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want %q", entry, err, says)
		}
	}
}

// FuzzAllowed looks for URLs that get more than a prefix says, or that reach an address
// which stands in them.
func FuzzAllowed(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/in/a", "http://10.0.0.1:9000/in/a", "http://10.0.0.1:9000/in/../a", "http://10.0.0.1:9000/in/%2e%2e/a",
		"http://10.0.0.1:9000/in/..%2fa", `http://10.0.0.1:9000/in/..\a`, "http://10.0.0.1:9000@evil.test/in/", "https://127.0.0.1/",
		"https://[::ffff:127.0.0.1]/", "https://localhost", "s3://bucket/in/key", "s3://bucket/in/?endpoint=http://evil", "S3://BUCKET/in",
		"HTTP://10.0.0.1:9000/in/x#y", "https://0x7f.1/", "//x", "data:,x", "file:///data/in/x", "file:///data/in/../x", "file:/data/in/%2e%2e/x", "file:///data%2fin/x", "https://[fe80::1%25eth0]/",
	} {
		f.Add(seed)
	}
	s, err := New(Config{Allow: []string{"http://10.0.0.1:9000/in/", "s3://bucket/in/", "file:///data/in/"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, _, err := s.locate(text)
		if err != nil {
			return
		}
		u, err := url.Parse(l.url.String()) // as it is asked for
		if err != nil {
			t.Fatalf("%q was taken and is no URL: %v", text, err)
		}
		clean := path.Clean(strings.ReplaceAll(u.Path, `\`, "/"))
		switch {
		case u.User != nil:
			t.Errorf("%q has a name", text)
		case l.allowed && u.Scheme == "http" && (u.Host != "10.0.0.1:9000" || !strings.HasPrefix(clean+"/", "/in/")):
			t.Errorf("%q is allowed, and asks for %s", text, u)
		case l.allowed && u.Scheme == "s3" && (u.Host != "bucket" || !strings.HasPrefix(clean, "/in/") || u.RawQuery != ""):
			t.Errorf("%q is allowed, and asks for %s", text, u)
		case u.Scheme == "file" && (!l.allowed || u.Host != "" || !strings.HasPrefix(clean, "/data/in/") || u.RawQuery != ""):
			t.Errorf("%q is allowed, and names the file %s", text, u)
		case !l.allowed && u.Scheme != "https":
			t.Errorf("%q is taken without a prefix", text)
		}
		if addr, err := netip.ParseAddr(u.Hostname()); err == nil && !l.allowed && (addr.IsLoopback() || addr.Unmap().IsPrivate() || addr.IsLinkLocalUnicast()) {
			t.Errorf("%q is taken, and its address is not public", text)
		}
		if strings.ContainsAny(l.String(), "?#") {
			t.Errorf("%q is shown with its query: %s", text, l)
		}
	})
}
