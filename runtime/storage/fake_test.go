package storage

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// publicAddr is an address that no test connects to.
const publicAddr = "93.184.216.34"

// A names is a resolver: each lookup of a host takes the next of its answers, and the last
// one for ever.
type names struct {
	mu      sync.Mutex // guards answers
	answers map[string][][]netip.Addr
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.answers[host]
	if host == "broken.test" {
		return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
	}
	if len(list) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(list) > 1 {
		n.answers[host] = list[1:]
	}
	return list[0], nil
}

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

// A network leads the public address to a server of the test, and counts who dials what.
type network struct {
	names  *names
	server string // where publicAddr is, "host:port"

	mu      sync.Mutex // guards dialled
	dialled []string
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dialled = append(n.dialled, address)
	n.mu.Unlock()
	if host, _, _ := net.SplitHostPort(address); host != publicAddr {
		return nil, errors.New("the test has no such address: " + address)
	}
	return new(net.Dialer).DialContext(ctx, network, n.server)
}

func (n *network) dials() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.dialled...)
}

// An outside is a world in which example.com has a public address and answers as a handler
// says.
type outside struct {
	*Storage
	network *network
	log     *bytes.Buffer
}

func newOutside(tb testing.TB, cfg Config, answer http.HandlerFunc) *outside {
	tb.Helper()
	srv := httptest.NewTLSServer(answer)
	tb.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	n := &network{
		names:  &names{answers: map[string][][]netip.Addr{"example.com": {addrs(publicAddr)}}},
		server: srv.Listener.Addr().String(),
	}
	log := new(bytes.Buffer)
	cfg.Resolver, cfg.Dial, cfg.TLS = n.names, n.dial, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	return &outside{Storage: newStorage(tb, cfg), network: n, log: log}
}

func newStorage(tb testing.TB, cfg Config) *Storage {
	tb.Helper()
	s, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// wantError wants an error of a code that says something.
func wantError(tb testing.TB, err error, code actions.Code, says string) {
	tb.Helper()
	e, ok := errors.AsType[*actions.Error](err)
	if !ok || e.Code != code || !strings.Contains(e.Msg, says) {
		tb.Errorf("got error %v (%s), want %s and %q", err, actions.CodeOf(err), code, says)
	}
}

// answer answers with a text.
func answer(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

func (o *outside) web() *web {
	w, _ := o.forms["https"].(*web)
	return w
}

// piped is a Dial to servers that are functions, called when a request has come.
func piped(serve func(net.Conn)) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() { // ends when the client has closed its side
			requests := bufio.NewReader(server)
			if _, err := http.ReadRequest(requests); err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, requests) }()
			serve(server)
		}()
		return client, nil
	}
}
