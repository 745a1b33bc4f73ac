package deploy

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	openwhisk "github.com/apache/openwhisk-client-go/whisk"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// defaultTimeout is longer than the 60 s after which OpenWhisk answers a blocking
// invocation at the latest.
const defaultTimeout = 75 * time.Second

// maxAnswer bounds what is read of one answer: an action may have 48 MiB of code.
const maxAnswer = 128 << 20

// Config says which OpenWhisk, and who asks.
type Config struct {
	// Host is the platform's URL, such as https://openwhisk.example.org. Without a scheme
	// it is https.
	Host string
	// Auth is the key, UUID:KEY.
	Auth string
	// Insecure takes any certificate.
	Insecure bool
	// Release is the version of deepfn, for the annotation and the User-Agent.
	Release string
	// Timeout bounds one request. The default is 75 s.
	Timeout time.Duration
	// Poll is how long Follow and Invoke wait before they ask again. The default is 1 s.
	Poll time.Duration
}

// A Client talks to the caller's namespace of one OpenWhisk. Many may use it at the same
// time. A nil Client is one of an OpenWhisk where there is nothing yet: Plan takes it.
type Client struct {
	cfg       Config
	base      *url.URL
	api       *openwhisk.Client
	http      *http.Client
	namespace string
}

// Connect makes a Client and asks the platform for the name of the caller's namespace.
// The error is Invalid for a host or a key that cannot be one, Unauthorized for a wrong
// key, and Unavailable for a host that does not answer or is no OpenWhisk.
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	base, err := parseHost(cfg.Host)
	if err != nil {
		return nil, err
	}
	if id, key, ok := strings.Cut(cfg.Auth, ":"); !ok || id == "" || key == "" {
		return nil, actions.Errorf(actions.Invalid, "the key of an OpenWhisk is UUID:KEY; this one has no ':' between two parts")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Poll == 0 {
		cfg.Poll = time.Second
	}
	c := &Client{cfg: cfg, base: base, http: httpClient(cfg)}
	c.api, err = openwhisk.NewClient(c.http, &openwhisk.Config{
		// Insecure stays false: with it the library would replace our transport.
		Host: base.Host, BaseURL: base.JoinPath("api"), AuthToken: cfg.Auth, Namespace: whisk.Own,
		Version: "v1", UserAgent: "deepfn/" + cfg.Release,
	})
	if err != nil {
		return nil, actions.Errorf(actions.Invalid, "OpenWhisk at %s: %w", base, err)
	}
	var namespaces []string
	if err := c.call(ctx, request{what: "namespaces", path: "namespaces", bare: true}, &namespaces); err != nil {
		return nil, err
	}
	if len(namespaces) == 0 {
		return nil, actions.Errorf(actions.Forbidden, "the key has no namespace on %s", base)
	}
	c.namespace = namespaces[0]
	return c, nil
}

// Namespace is the name of the caller's namespace, "_" for a nil Client.
func (c *Client) Namespace() string {
	if c == nil {
		return whisk.Own
	}
	return c.namespace
}

// parseHost reads the URL of a platform.
func parseHost(host string) (*url.URL, error) {
	text := strings.TrimSuffix(strings.TrimSpace(host), "/")
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	base, err := url.Parse(text)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") || base.User != nil || base.RawQuery != "" {
		return nil, actions.Errorf(actions.Invalid, "%.200q is no host of an OpenWhisk: want http://HOST:PORT or https://HOST", host)
	}
	base.Path = strings.TrimSuffix(strings.TrimSuffix(base.Path, "/v1"), "/api")
	return base, nil
}

// Local says whether the platform is on this machine.
func (c *Client) Local() bool { return IsLocal(c.cfg.Host) }

// IsLocal says whether a host is this machine, whose server may have the key that
// everybody knows, [whisk.GuestAuth].
func IsLocal(host string) bool {
	base, err := parseHost(host)
	if err != nil {
		return false
	}
	ip := net.ParseIP(base.Hostname())
	return base.Hostname() == "localhost" || (ip != nil && ip.IsLoopback())
}

// httpClient makes the client that the library gets: no limit on the whole but that of the
// call's context, none of the redirects that would turn a PUT into a GET, and answers of a
// bounded size.
func httpClient(cfg Config) *http.Client {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		IdleConnTimeout:       30 * time.Second,
		ExpectContinueTimeout: time.Second,
		TLSClientConfig:       &tls.Config{InsecureSkipVerify: cfg.Insecure, MinVersion: tls.VersionTLS12}, //nolint:gosec // --insecure asks for it
	}
	return &http.Client{
		Transport:     bounded{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded refuses answers that nobody would send in good faith: the library reads them
// whole.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	return resp, nil
}

// A request is one call of the API.
type request struct {
	what   string // for errors: "action ocr-line"
	method string // GET when empty
	path   string // below the namespace, escaped
	bare   bool   // path is below /api/v1 itself
	body   any    // nil: none
}

// An answer is what came back: any status, the body read.
type answer struct {
	status int
	body   []byte
}

// send sends a request and returns the answer whatever its status. The error means that
// there was none, or not all of it.
func (c *Client) send(ctx context.Context, r request) (answer, error) {
	if r.method == "" {
		r.method = http.MethodGet
	}
	req, err := c.api.NewRequest(r.method, r.path, r.body, !r.bare)
	if err != nil {
		return answer{}, actions.Errorf(actions.Internal, "%s: %w", r.what, err)
	}
	callCtx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	resp, err := c.api.Do(req.WithContext(callCtx), nil, false)
	if resp != nil {
		defer func() { _ = resp.Body.Close() }() // the library has put memory there
	}
	if resp == nil || (err != nil && resp.StatusCode < http.StatusMultipleChoices) {
		return answer{}, c.noAnswer(ctx, err)
	}
	body, err := io.ReadAll(resp.Body) // of memory: the library has read it
	if err != nil {
		return answer{}, c.noAnswer(ctx, err)
	}
	return answer{resp.StatusCode, body}, nil
}

// call sends a request and decodes the answer. Every status but 2xx is an error.
func (c *Client) call(ctx context.Context, r request, into any) error {
	a, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	if a.status < 200 || a.status > 299 {
		return c.refused(r.what, a)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		return actions.Errorf(actions.Unavailable, "%s: %s answers %d with what is not OpenWhisk's: %w; is --apihost the host of an OpenWhisk?",
			r.what, c.base, a.status, err)
	}
	return nil
}

// lookup is call for an entity that need not be there.
func (c *Client) lookup(ctx context.Context, r request, into any) (found bool, err error) {
	err = c.call(ctx, r, into)
	if actions.CodeOf(err) == actions.NotFound {
		return false, nil
	}
	return err == nil, err
}

// info returns the document at the platform's root, which is public.
func (c *Client) info(ctx context.Context, into any) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.JoinPath("/").String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "deepfn/"+c.cfg.Release)
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	return errors.Join(err, json.Unmarshal(data, into))
}
