package storage

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/deepfn/deepfn/actions"
)

// early returns the Dial to a server that answers before it reads the body, and what it
// reads of that when the test says so.
func early(answer string) (dial func(context.Context, string, string) (net.Conn, error), read func() []byte) {
	more, got := make(chan struct{}), make(chan []byte)
	dial = func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() { // ends when the client has closed its side
			from := bufio.NewReaderSize(server, 512)
			if _, err := http.ReadRequest(from); err != nil {
				return
			}
			_, _ = io.WriteString(server, answer)
			<-more
			body, _ := io.ReadAll(from)
			got <- body
		}()
		return client, nil
	}
	return dial, func() []byte {
		close(more)
		return <-got
	}
}

// A server that answers before it has the object does not have it, and the bytes are the
// caller's when Store returns.
func TestStoreAnsweredEarly(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		code         actions.Code
		says         string
	}{
		{"created", "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", actions.Unavailable, "answered 201 Created and did not take all of it"},
		{"created, with a long answer", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + string(make([]byte, 100_000)), actions.Unavailable, "did not take all of it"},
		{"refused", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", actions.Forbidden, "answered 403 Forbidden"},
		{"no HTTP", "SSH-2.0\r\n\r\n", actions.Unavailable, "cannot be reached"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dial, read := early(tt.answer)
				n := &names{answers: map[string][][]netip.Addr{"example.com": {addrs(publicAddr)}}}
				s := newStorage(t, Config{Allow: []string{"http://example.com/"}, Resolver: n, Dial: dial})
				data := bytes.Repeat([]byte("a"), 1<<20)
				wantError(t, s.Store(t.Context(), "http://example.com/x", actions.File{Data: data}), tt.code, tt.says)
				clear(data)
				if got := read(); bytes.IndexByte(got, 0) >= 0 || len(got) == len(data) {
					t.Errorf("the server got %d bytes, %d of them after Store had returned", len(got), bytes.Count(got, []byte{0}))
				}
			})
		})
	}
}

// The same with HTTP/2, whose server gives back streams that it has not read.
func TestStoreAnsweredEarlyHTTP2(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/whole" {
			n, err := io.Copy(io.Discard, r.Body)
			w.Header().Set("X", fmt.Sprint(n, err))
		}
		w.WriteHeader(http.StatusCreated)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	n := &network{
		names:  &names{answers: map[string][][]netip.Addr{"example.com": {addrs(publicAddr)}}},
		server: srv.Listener.Addr().String(),
	}
	s := newStorage(t, Config{Resolver: n.names, Dial: n.dial, TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}})
	data := make([]byte, 32<<20)
	for range 3 {
		err := s.Store(t.Context(), "https://example.com/early", actions.File{Data: data})
		wantError(t, err, actions.Unavailable, "did not take all of it")
		clear(data) // which the race detector sees
		if err := s.Store(t.Context(), "https://example.com/whole", actions.File{Data: data}); err != nil {
			t.Error(err)
		}
		clear(data)
	}
}
