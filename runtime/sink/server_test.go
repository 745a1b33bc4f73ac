package sink

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

func writeToken(t *testing.T, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server
}

func TestCertificateAndToken(t *testing.T) {
	var tokens []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		tokens = append(tokens, r.Header.Get("Authorization")) // one request after the other
	}))
	defer server.Close()
	path := writeToken(t, "first")
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	s := newSink(t, Config{URL: server.URL, CACerts: authority, Token: path})
	if err := s.Send(t.Context(), "", event()); err != nil {
		t.Fatal(err)
	}
	// Kubernetes puts a new file into the place of the old one.
	if err := os.Rename(writeToken(t, "second"), path); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), "", event()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), "", event()); err != nil {
		t.Fatal(err)
	}
	if len(tokens) != 3 || tokens[0] != "Bearer first" || tokens[1] != "Bearer second" || tokens[2] != "" {
		t.Errorf("got the tokens %q, want the first, the second and none", tokens)
	}
	stranger := newSink(t, Config{URL: server.URL, Retries: -1})
	if err := stranger.Send(t.Context(), "", event()); actions.CodeOf(err) != actions.Unavailable {
		t.Errorf("without the certificate: got %v, want Unavailable", err)
	}
}

// A sink that dies in the middle of requests, and comes back.
func TestKilled(t *testing.T) {
	var tries, taken atomic.Int32
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) <= 3 {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Close()
			return
		}
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != `{"a":1}` {
			t.Errorf("got %q, %v", body, err)
		}
		taken.Add(1)
	})
	s := newSink(t, Config{URL: server.URL, Backoff: time.Millisecond})
	if err := s.Send(t.Context(), "", event()); err != nil || taken.Load() != 1 {
		t.Errorf("got %v, %d taken after %d tries, want one", err, taken.Load(), tries.Load())
	}
	server.Close()
	gone := newSink(t, Config{URL: server.URL, Backoff: time.Millisecond, Retries: 2})
	if err := gone.Send(t.Context(), "", event()); actions.CodeOf(err) != actions.Unavailable {
		t.Errorf("a sink that is gone: got %v, want Unavailable", err)
	}
}

// A server may answer before it has read all; the data are the caller's again all the same,
// which the race detector sees.
func TestAnswerBeforeTheEnd(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	s := newSink(t, Config{URL: server.URL, Retries: -1})
	e := event()
	e.DataContentType, e.Data = "application/octet-stream", make([]byte, 8<<20)
	err := s.Send(t.Context(), "", e)
	clear(e.Data)
	if err == nil {
		t.Error("got nil, want an error")
	}
}

// What a sink says beside its yes is nobody's: an endless body, or one that never comes.
func TestAnswerIsDiscarded(t *testing.T) {
	release := make(chan struct{})
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		if r.URL.Path == "/endless" {
			for { // until the connection is closed
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	defer close(release)
	for _, path := range []string{"/endless", "/never"} {
		s := newSink(t, Config{URL: server.URL + path, Retries: -1})
		if err := s.Send(t.Context(), "", event()); err != nil {
			t.Errorf("%s: got %v, want nil", path, err)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var elsewhere atomic.Int32
	other := serve(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	s := newSink(t, Config{URL: server.URL})
	if err := s.Send(t.Context(), "", event()); actions.CodeOf(err) != actions.Invalid || elsewhere.Load() != 0 {
		t.Errorf("got %v, %d requests elsewhere, want Invalid and none", err, elsewhere.Load())
	}
}
