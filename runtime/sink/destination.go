package sink

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// A destination is a place that takes events.
type destination struct {
	url       string
	transport http.RoundTripper
	token     string        // the path of the file with it
	slots     chan struct{} // has a token of each try
}

// operators is a destination that the operator has named. Empty is none.
func operators(at, name string, cfg Config) (destination, error) {
	if at == "" {
		return destination{}, nil
	}
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" { // the error repeats what may be a key
		return destination{}, fmt.Errorf("sink: the URL of %s is no http or https URL", name)
	}
	return destination{url: at, transport: cfg.Transport, slots: make(chan struct{}, cfg.MaxInFlight)}, nil
}

// destination finds how to send to a URL, and whether that may be.
func (s *Sink) destination(to string) (destination, error) {
	switch {
	case to == "" && s.own.url == "":
		return destination{}, actions.Errorf(actions.Invalid, "there is no sink: name one with --sink or K_SINK")
	case to == "" || to == s.own.url:
		return s.own, nil
	case s.cfg.Named == nil:
		return destination{}, actions.Errorf(actions.Forbidden, "events go to no place that their sender names")
	}
	transport, err := s.cfg.Named(to)
	return destination{url: to, transport: transport, slots: s.named}, err
}

// shown is the URL without what may be a key.
func (d destination) shown() string {
	u, err := url.Parse(d.url)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// newTransport makes what sends to the places of the operator.
func newTransport(caCerts string, conns int) (*http.Transport, error) {
	t := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    conns,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
	if caCerts == "" {
		return t, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM([]byte(caCerts)) {
		return nil, errors.New("sink: K_CA_CERTS has no certificate in PEM")
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return t, nil
}

// parseOverrides reads the extensions of K_CE_OVERRIDES, in the order of their names.
func parseOverrides(text string) ([]cloudevent.Attribute, error) {
	if text == "" {
		return nil, nil
	}
	var overrides struct {
		Extensions map[string]string `json:"extensions"`
	}
	if err := json.Unmarshal([]byte(text), &overrides); err != nil {
		return nil, fmt.Errorf(`sink: K_CE_OVERRIDES: want {"extensions": {"name": "value"}}: %w`, err)
	}
	extensions, err := cloudevent.Overrides(overrides.Extensions)
	if err != nil {
		return nil, fmt.Errorf("sink: K_CE_OVERRIDES: %w", err)
	}
	return extensions, nil
}

// withOverrides are the extensions of an event with others in the place of those of their name.
func withOverrides(extensions, overrides []cloudevent.Attribute) []cloudevent.Attribute {
	e := cloudevent.Event{Extensions: slices.Clone(extensions)}
	for _, a := range overrides {
		e.SetExtension(a.Name, a.Value)
	}
	return e.Extensions
}
