package storage

import (
	"net/http"

	"github.com/deepfn/deepfn/actions"
)

// Poster returns what sends requests to a URL that a caller has named, under the rule of all
// such URLs: only to public addresses over https, and to where the operator allows more. It
// follows no redirects, and sends every request to that URL. Its errors are *actions.Error:
// Forbidden for an address that is not allowed, Deadline, and Unavailable. The error here is
// Invalid for a URL that nobody can post to, or Forbidden.
func (s *Storage) Poster(url string) (http.RoundTripper, error) {
	l, f, err := s.locate(url)
	if err != nil {
		return nil, err
	}
	w, ok := f.(*web)
	if !ok {
		return nil, actions.Errorf(actions.Invalid, "%s is no https URL", l)
	}
	return &poster{web: w, to: l}, nil
}

// A poster sends requests to one URL.
type poster struct {
	web *web
	to  location
}

// RoundTrip sends a request to the URL, whatever it says itself.
func (p *poster) RoundTrip(req *http.Request) (*http.Response, error) {
	own := req.WithContext(req.Context())
	own.URL, own.Host = p.to.url, ""
	resp, err := p.web.send(p.to, own)
	if err != nil {
		return nil, unreachable(req.Context(), p.to, err)
	}
	return resp, nil
}
