package storage

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
)

const (
	maxRedirects = 5
	// dialTime is how long one address has to take a connection.
	dialTime = 10 * time.Second
	// maxAddresses is how many addresses of a host are tried.
	maxAddresses = 8
	// maxHeader is how long the header of an answer may be, maxAnswer what is read of an
	// answer's body that nobody needs, so that its connection can be used again.
	maxHeader = 64 << 10
	maxAnswer = 64 << 10
	// maxFilename is how long a name may be on disks.
	maxFilename = 255
)

// A web fetches and stores over HTTP.
type web struct {
	cfg       Config
	allow     []prefix
	addresses addressRule
	// public has connections to public addresses, free those under the prefixes of the
	// operator. A connection of one is never used for a URL of the other.
	public, free *http.Transport
}

func newWeb(cfg Config, allow []prefix) *web {
	w := &web{cfg: cfg, allow: allow, addresses: newAddressRule()}
	w.public = w.transport(dialer{resolver: cfg.Resolver, dial: w.dialer(true), may: w.mayDial})
	w.free = w.transport(dialer{resolver: cfg.Resolver, dial: w.dialer(false), may: everyAddress})
	return w
}

func (w *web) transport(d dialer) *http.Transport {
	return &http.Transport{
		DialContext:            d.connect,
		TLSClientConfig:        w.cfg.TLS.Clone(), // nil stays nil
		TLSHandshakeTimeout:    dialTime,
		DisableCompression:     true, // what comes compressed is bounded by its real size
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConns:           64,
		IdleConnTimeout:        30 * time.Second,
	}
}

// dialer connects to an address. If it is checked, the socket itself looks at the address
// that it connects to.
func (w *web) dialer(checked bool) func(ctx context.Context, network, address string) (net.Conn, error) {
	if w.cfg.Dial != nil {
		return w.cfg.Dial
	}
	d := &net.Dialer{}
	if checked {
		d.ControlContext = w.control
	}
	return d.DialContext
}

func everyAddress(context.Context, string, netip.Addr) error { return nil }

// mayDial says why an address of a host may not be dialled.
func (w *web) mayDial(ctx context.Context, host string, addr netip.Addr) error {
	if w.addresses.public(addr) {
		return nil
	}
	w.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "reference refused",
		slog.String("host", cut(host)), slog.String("address", addr.String()))
	if w.addresses.local(addr) {
		return errLocal
	}
	return errRefused
}

// control refuses to connect a socket to an address that is not public.
func (w *web) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !w.addresses.public(at.Addr()) {
		return errRefused
	}
	return nil
}

// A dialer connects to the addresses of a host that may be.
type dialer struct {
	resolver Resolver
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	may      func(ctx context.Context, host string, addr netip.Addr) error
}

// connect is an http.Transport's DialContext.
func (d dialer) connect(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addrs, err := d.lookUp(ctx, host)
	if err != nil {
		return nil, err
	}
	err = errRefused
	for i, addr := range addrs {
		if i == maxAddresses {
			break
		}
		addr = addr.Unmap()
		if refused := d.may(ctx, host, addr); refused != nil {
			err = refused
			continue
		}
		conn, derr := d.try(ctx, network, net.JoinHostPort(addr.String(), port))
		if derr == nil {
			return conn, nil
		}
		err = derr
	}
	return nil, err
}

// lookUp returns the addresses of a host, or what it is itself.
func (d dialer) lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	addrs, err := d.resolver.LookupNetIP(ctx, "ip", host)
	if err == nil && len(addrs) == 0 {
		err = &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	return addrs, err // which are the resolver's
}

func (d dialer) try(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	return d.dial(ctx, network, address)
}

// check refuses what no connection is needed for to know: http, and addresses that stand
// in the URL.
func (w *web) check(l location) error {
	if l.allowed {
		return nil
	}
	host := hostOf(l.url)
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && w.addresses.local(addr):
		return refusedAddress(l, errLocal)
	case l.url.Scheme != "https":
		return actions.Errorf(actions.Forbidden, "%s is not https; the server's operator may allow it with --allow-url %s://%s/",
			l, l.url.Scheme, cut(l.url.Host))
	case err == nil && !w.addresses.public(addr), host == "localhost", strings.HasSuffix(host, ".localhost"):
		return refusedAddress(l, errRefused)
	}
	return nil
}

// fetch asks for what is at a URL.
func (w *web) fetch(ctx context.Context, l location) (object, error) {
	resp, l, err := w.follow(ctx, l, func(u *url.URL) (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	})
	if err != nil {
		return object{}, err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNonAuthoritativeInfo {
		discard(resp)
		return object{}, statusError(l, resp)
	}
	o := object{body: resp.Body, size: resp.ContentLength}
	if err := o.decode(l, resp.Header.Get("Content-Encoding")); err != nil {
		return object{}, err
	}
	o.contentType = mediaType(resp.Header.Get("Content-Type"))
	o.filename = filename(resp.Header.Get("Content-Disposition"), l.url)
	return o, nil
}

// store puts a file at a URL.
func (w *web) store(ctx context.Context, l location, f actions.File) error {
	sending, cancel := context.WithCancel(ctx)
	defer cancel()
	up := upload{data: f.Data}
	resp, l, err := w.follow(ctx, l, func(u *url.URL) (*http.Request, error) {
		req, err := up.request(sending, u)
		if err == nil {
			req.Header.Set("Content-Type", f.ContentType)
		}
		return req, err
	})
	if err != nil {
		up.wait(cancel)
		return err
	}
	discard(resp)
	complete := up.wait(cancel)
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return statusError(l, resp)
	case !complete:
		return actions.Errorf(actions.Unavailable, "%s answered %s and did not take all of it", l, statusText(resp.StatusCode))
	}
	return nil
}

// follow sends a request, and again where it is redirected to. It returns the answer and
// where it comes from.
func (w *web) follow(ctx context.Context, l location, make func(*url.URL) (*http.Request, error)) (*http.Response, location, error) {
	for redirects := 0; ; redirects++ {
		req, err := make(l.url)
		if err != nil {
			return nil, l, actions.Errorf(actions.Invalid, "%s is a URL that cannot be asked for", l)
		}
		req.Header.Set("Accept-Encoding", "identity")
		req.Header.Set("User-Agent", "deepfn")
		resp, err := w.send(l, req)
		if err != nil {
			return nil, l, unreachable(ctx, l, err)
		}
		if !redirected(resp) {
			return resp, l, nil
		}
		discard(resp)
		if redirects == maxRedirects {
			return nil, l, actions.Errorf(actions.Invalid, "%s redirects more than %d times", l, maxRedirects)
		}
		if l, err = w.next(l, resp); err != nil {
			return nil, l, err
		}
	}
}

// send sends one request over a connection that its URL may use.
func (w *web) send(l location, req *http.Request) (*http.Response, error) {
	if l.allowed {
		return w.free.RoundTrip(req)
	}
	return w.public.RoundTrip(req)
}

// redirected says whether an answer sends the request elsewhere. Only 307 and 308 keep
// what is being stored.
func redirected(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		return resp.Request.Method == http.MethodGet && resp.Header.Get("Location") != ""
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return resp.Header.Get("Location") != ""
	}
	return false
}

// next is where an answer redirects to, if a caller may go there.
func (w *web) next(l location, resp *http.Response) (location, error) {
	target, err := l.url.Parse(resp.Header.Get("Location"))
	if err != nil {
		return l, actions.Errorf(actions.Invalid, "%s redirects to what is no URL", l)
	}
	to, err := parse(target.String())
	if err != nil {
		return l, redirectError(l, err)
	}
	if to.url.Scheme != "https" && to.url.Scheme != "http" {
		return l, actions.Errorf(actions.Forbidden, "%s redirects to %s, which is not https", l, to)
	}
	to.allowed = allows(w.allow, to)
	if err := w.check(to); err != nil {
		return l, redirectError(l, err)
	}
	return to, nil
}

// redirectError says that it was a redirect that led there.
func redirectError(l location, err error) error {
	return actions.Errorf(actions.CodeOf(err), "%s redirects: %w", l, err)
}

// discard reads the rest of an answer, if it is short, and closes it.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	_ = resp.Body.Close()
}

// decode undoes the encoding that a body has although nobody asked for one, or refuses it.
func (o *object) decode(l location, encoding string) error {
	switch encoding = strings.ToLower(strings.TrimSpace(encoding)); encoding {
	case "", "identity":
		return nil
	case "gzip", "x-gzip":
		o.body, o.size = &unzipped{from: o.body}, -1
		return nil
	}
	_ = o.body.Close()
	return actions.Errorf(actions.Invalid, "%s is encoded as %q, which the server did not ask for and does not read", l, cut(encoding))
}

// An unzipped is a body without its compression.
type unzipped struct {
	from io.ReadCloser
	zip  *gzip.Reader
}

func (u *unzipped) Read(p []byte) (int, error) {
	if u.zip == nil {
		zip, err := gzip.NewReader(u.from)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // an empty body is no gzip
			}
			return 0, err
		}
		u.zip = zip
	}
	return u.zip.Read(p)
}

func (u *unzipped) Close() error { return u.from.Close() }

// mediaType is a media type as it was sent, "" if it is none.
func mediaType(text string) string {
	if kind, _, err := mime.ParseMediaType(text); err != nil || !strings.Contains(kind, "/") {
		return ""
	}
	return text
}

// filename is the name that an answer has, or its URL.
func filename(disposition string, u *url.URL) string {
	if _, params, err := mime.ParseMediaType(disposition); err == nil {
		if name := baseName(params["filename"]); name != "" {
			return name
		}
	}
	return baseName(u.Path)
}

// baseName is the last part of a path, "" if that is no name of a file.
func baseName(name string) string {
	if strings.HasSuffix(name, "/") {
		return ""
	}
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	if name == "." || name == ".." || name == "/" || len(name) > maxFilename || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, unicode.IsControl) {
		return ""
	}
	return name
}

// retryAfter reads the header of that name, in seconds.
func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 3600)) * time.Second
}

// statusText is a status with its name: "404 Not Found".
func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}
