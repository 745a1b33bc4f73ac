package storage

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// posted posts a body to a URL through its Poster and returns the status of the answer.
func posted(t *testing.T, s *Storage, url string) (int, error) {
	t.Helper()
	p, err := s.Poster(url)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1:1/elsewhere", strings.NewReader("event"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func TestPoster(t *testing.T) {
	var got []string
	o := newOutside(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.Host+r.URL.String()+" "+string(body)) // one request after the other
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	status, err := posted(t, o.Storage, "https://Example.com/in?key=1")
	if err != nil || status != http.StatusTemporaryRedirect {
		t.Fatalf("got %d, %v, want the redirect itself", status, err)
	}
	if len(got) != 1 || got[0] != "POST example.com/in?key=1 event" {
		t.Errorf("got the requests %q, want one to the URL that was named", got)
	}
}

func TestPosterRefuses(t *testing.T) {
	o := newOutside(t, Config{}, answer("no"))
	for _, text := range notPublic() {
		host := text
		if strings.Contains(text, ":") {
			host = "[" + text + "]"
		}
		_, err := posted(t, o.Storage, "https://"+host+"/?token=secret")
		wantError(t, err, actions.Forbidden, "no public address")
		o.network.names.answers["named.test"] = [][]netip.Addr{addrs(text)}
		_, err = posted(t, o.Storage, "https://named.test/")
		wantError(t, err, actions.Forbidden, "no public address")
	}
	for url, want := range map[string]struct {
		code actions.Code
		says string
	}{
		"":                        {actions.Invalid, "has no scheme"},
		"http://example.com/":     {actions.Forbidden, "--allow-url http://example.com/"},
		"ftp://example.com/":      {actions.Invalid, "https"},
		"https://unknown.test/":   {actions.Unavailable, "no address"},
		"https://a:b@example.com": {actions.Invalid, "name or password"},
	} {
		_, err := posted(t, o.Storage, url)
		wantError(t, err, want.code, want.says)
	}
	s := newStorage(t, Config{Allow: []string{"s3://bucket/"}})
	_, err := s.Poster("s3://bucket/key")
	wantError(t, err, actions.Invalid, "no https URL")
	if got := o.network.dials(); len(got) > 0 {
		t.Errorf("dialled %q", got)
	}
}

func TestPosterAllowed(t *testing.T) {
	srv := httptest.NewServer(answer("inside"))
	defer srv.Close()
	s := newStorage(t, Config{Allow: []string{srv.URL + "/broker/"}})
	if status, err := posted(t, s, srv.URL+"/broker/default"); err != nil || status != http.StatusOK {
		t.Errorf("got %d, %v, want an answer", status, err)
	}
	_, err := posted(t, s, srv.URL+"/other")
	wantError(t, err, actions.Forbidden, "not https")
}
