package deploy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/deploy"
)

func TestConnect(t *testing.T) {
	p := newPlatform(t)
	secure := httptest.NewTLSServer(p)
	defer secure.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>hello</html>") }))
	defer page.Close()
	moved := httptest.NewServer(http.RedirectHandler("https://elsewhere.example", http.StatusMovedPermanently))
	defer moved.Close()
	missing := httptest.NewServer(http.NotFoundHandler())
	defer missing.Close()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().String()
	_ = ln.Close()
	bare := strings.TrimPrefix(p.url, "http://")
	for _, test := range []struct {
		name string
		cfg  deploy.Config
		code actions.Code
		text string
	}{
		{"right", deploy.Config{Host: p.url, Auth: testKey}, "", ""},
		{"with a path", deploy.Config{Host: p.url + "/api/v1/", Auth: testKey}, "", ""},
		{"wrong key", deploy.Config{Host: p.url, Auth: "a:b"}, actions.Unauthorized, "does not know the key; name another with --auth"},
		{"no key", deploy.Config{Host: p.url}, actions.Invalid, "UUID:KEY"},
		{"half a key", deploy.Config{Host: p.url, Auth: "abc"}, actions.Invalid, "UUID:KEY"},
		{"no host", deploy.Config{Auth: testKey}, actions.Invalid, "no host of an OpenWhisk"},
		{"not a host", deploy.Config{Host: "ftp://x", Auth: testKey}, actions.Invalid, "no host of an OpenWhisk"},
		{"a key in the host", deploy.Config{Host: "http://a:b@x", Auth: testKey}, actions.Invalid, "no host of an OpenWhisk"},
		{"HTTP behind https", deploy.Config{Host: bare, Auth: testKey}, actions.Unavailable, "write --apihost http://" + bare},
		{"HTTPS behind http", deploy.Config{Host: strings.Replace(secure.URL, "https", "http", 1), Auth: testKey}, actions.Unavailable, "is --apihost the host of one"},
		{"nobody's certificate", deploy.Config{Host: secure.URL, Auth: testKey}, actions.Unavailable, "--insecure takes a certificate"},
		{"any certificate", deploy.Config{Host: secure.URL, Auth: testKey, Insecure: true}, "", ""},
		{"nobody listens", deploy.Config{Host: "http://" + nobody, Auth: testKey}, actions.Unavailable, "nobody listens there"},
		{"a page", deploy.Config{Host: page.URL, Auth: testKey}, actions.Unavailable, "is --apihost the host of an OpenWhisk?"},
		{"a redirect", deploy.Config{Host: moved.URL, Auth: testKey}, actions.Unavailable, "not as an OpenWhisk does"},
		{"another server", deploy.Config{Host: missing.URL, Auth: testKey}, actions.Unavailable, "not as an OpenWhisk does"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := deploy.Connect(t.Context(), test.cfg)
			if test.code == "" {
				if err != nil || c.Namespace() != "guest" || !c.Local() {
					t.Errorf("got %v, want the namespace guest", err)
				}
				return
			}
			if actions.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %q %v, want %q with %q", actions.CodeOf(err), err, test.code, test.text)
			}
			if err != nil && test.cfg.Auth != "" && strings.Contains(err.Error(), test.cfg.Auth) {
				t.Errorf("the key is in the error: %v", err)
			}
		})
	}
}

func TestStatuses(t *testing.T) {
	const put = "PUT /api/v1/namespaces/_/actions/m"
	document := func(text string) string { return `{"code":"tid","error":"` + text + `"}` }
	for _, test := range []struct {
		status int
		body   string
		code   actions.Code
		text   string
	}{
		{400, document("The request content was malformed:\\nx"), actions.Invalid, "malformed"},
		{401, "", actions.Unauthorized, "--auth"},
		{403, document("The supplied authentication is not authorized to access this resource."), actions.Forbidden, "the key may not do that"},
		{404, document("The requested resource does not exist."), actions.NotFound, "does not exist"},
		{409, document("resource already exists"), actions.Conflict, "run it again"},
		{413, "", actions.TooLarge, "put the model into the image"},
		{413, document("too large"), actions.TooLarge, "whisk.exec-size-limit"},
		{429, document("Too many requests in the last minute (count: 61, allowed: 60)."), actions.Busy, "wait a minute"},
		{500, document("There was an internal server error."), actions.Unavailable, "run it again"},
		{502, "<html>bad gateway</html>", actions.Unavailable, "not as an OpenWhisk does"},
		{503, document("System is overloaded, try again later."), actions.Unavailable, "run it again"},
		{418, document("{}"), actions.Unavailable, "{}"},
		{400, `{"error":{"why":"odd"}}`, actions.Invalid, `{"why":"odd"}`},
		{404, "nothing here", actions.Unavailable, "not as an OpenWhisk does"},
	} {
		t.Run(http.StatusText(test.status), func(t *testing.T) {
			p := newPlatform(t)
			c := p.connect()
			plan, err := c.Plan(t.Context(), deployment(function("m")))
			if err != nil {
				t.Fatal(err)
			}
			p.fail[put] = fault{test.status, test.body}
			err = c.Apply(t.Context(), plan, func(deploy.Step) { t.Error("reported as done") })
			if actions.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.text) || !strings.Contains(err.Error(), "action m") {
				t.Errorf("got %q %v, want %q with %q", actions.CodeOf(err), err, test.code, test.text)
			}
		})
	}
}

// An error of the platform is no sign that there is nothing: nothing is sent then.
func TestLookupErrors(t *testing.T) {
	for _, path := range []string{"packages/models", "actions/models/m"} {
		p := newPlatform(t)
		c := p.connect()
		p.fail["GET /api/v1/namespaces/_/"+path] = fault{500, `{"error":"oops","code":"x"}`}
		d := deployment(function("m"))
		d.Package = "models"
		if _, err := c.Plan(t.Context(), d); actions.CodeOf(err) != actions.Unavailable {
			t.Errorf("%s: got %v, want Unavailable", path, err)
		}
	}
}

func TestTime(t *testing.T) {
	p := newPlatform(t)
	c := p.connect()
	ctx, cancel := context.WithCancel(t.Context())
	p.hook = func(*http.Request) { cancel() }
	if _, err := c.Plan(ctx, deployment(function("m"))); actions.CodeOf(err) != actions.Canceled {
		t.Errorf("a caller who leaves: got %v, want Canceled", err)
	}
	p.hook = nil
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer slow.Close()
	_, err := deploy.Connect(t.Context(), deploy.Config{Host: slow.URL, Auth: testKey, Timeout: 1})
	if actions.CodeOf(err) != actions.Deadline || !strings.Contains(err.Error(), "has not answered within") {
		t.Errorf("no answer: got %v, want Deadline", err)
	}
}

// An answer that ends too early is no answer.
func TestCutAnswer(t *testing.T) {
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `["guest"]`)
	}))
	defer cut.Close()
	_, err := deploy.Connect(t.Context(), deploy.Config{Host: cut.URL, Auth: testKey})
	if actions.CodeOf(err) != actions.Unavailable || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("got %v, want Unavailable", err)
	}
	var e *actions.Error
	if !errors.As(err, &e) || e.Err == nil {
		t.Errorf("got %#v, want the cause in it", err)
	}
}
