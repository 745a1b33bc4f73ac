package catalog

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A site serves files over TLS, well and badly.
type site struct {
	*httptest.Server
	requests atomic.Int64
	// halfway is told when half of a file was sent by /slow, which then waits for
	// resume or for the client to leave.
	halfway, resume chan struct{}
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{halfway: make(chan struct{}, 8), resume: make(chan struct{})}
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	mux := http.NewServeMux()
	mux.HandleFunc("/a.onnx", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "weights") })
	mux.Handle("/", http.RedirectHandler("/a.onnx", http.StatusFound))
	mux.Handle("/missing", http.NotFoundHandler())
	mux.Handle("/http", http.RedirectHandler(plain.URL+"/a.onnx", http.StatusFound))
	mux.HandleFunc("/hops/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.PathValue("n"))
		to := fmt.Sprintf("/hops/%d", n-1)
		if n == 1 {
			to = "/a.onnx"
		}
		http.Redirect(w, r, to, http.StatusFound)
	})
	mux.HandleFunc("/truncated", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "weights")
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for range 16 << 20 {
			if _, err := io.WriteString(w, "more "); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "wei")
		_ = http.NewResponseController(w).Flush()
		s.halfway <- struct{}{}
		select {
		case <-s.resume:
			_, _ = io.WriteString(w, "ghts")
		case <-r.Context().Done():
		}
	})
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// at is the file "weights" at a path of the site.
func (s *site) at(path string) actions.Model {
	return one(actions.ModelFile{URL: s.URL + path, SHA256: hashOf("weights")})
}

// catalog is one that trusts the site.
func (s *site) catalog(cache string) *Catalog {
	return New(Config{CacheDir: cache, HTTPClient: s.Client()})
}

// TestFetchURL shows a download, its redirects, and the cache that makes a second one
// unnecessary.
func TestFetchURL(t *testing.T) {
	s := newSite(t)
	for path, base := range map[string]string{
		"/a.onnx": "a.onnx", "/hops/5": "5", "/?a=../b": "file", "/x/%2e%2e": "file", "/a%2Fb": "b",
	} {
		cache := t.TempDir()
		want := filepath.Join(cache, "sha256", hashOf("weights"), base)
		for _, offline := range []bool{false, true} {
			c := New(Config{CacheDir: cache, HTTPClient: s.Client(), Offline: offline})
			paths, err := c.Fetch(t.Context(), s.at(path))
			if err != nil || paths["weights"] != want {
				t.Fatalf("%s: got %v, %v, want %s", path, paths, err, want)
			}
			wantFile(t, want, "weights")
		}
		wantClean(t, cache, want)
	}
}

// TestFetchURLErrors shows what a user reads when a URL does not give the file, and
// that nothing of it stays.
func TestFetchURLErrors(t *testing.T) {
	s := newSite(t)
	closed := httptest.NewTLSServer(http.NotFoundHandler())
	closed.Close()
	tests := map[string]struct {
		url  string
		cfg  Config
		want []string
	}{
		"missing":     {s.URL + "/missing", Config{}, []string{"cats: file weights: GET " + s.URL + "/missing: 404 Not Found"}},
		"http":        {s.URL + "/http", Config{}, []string{"refused a redirect to http://", "not https"}},
		"redirects":   {s.URL + "/hops/6", Config{}, []string{"more than 5 redirects"}},
		"large":       {s.URL + "/a.onnx", Config{MaxFile: 6}, []string{"has 7 bytes; at most 6 are fetched"}},
		"endless":     {s.URL + "/endless", Config{MaxFile: 1 << 20}, []string{"has more than 1048576 bytes"}},
		"truncated":   {s.URL + "/truncated", Config{}, []string{"/truncated: unexpected EOF"}},
		"closed":      {closed.URL, Config{}, []string{"connection refused"}},
		"certificate": {s.URL + "/a.onnx", Config{HTTPClient: &http.Client{}}, []string{"certificate"}},
		"offline":     {s.URL + "/a.onnx", Config{Offline: true}, []string{"switched off (offline)", "put a.onnx"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.cfg.CacheDir = t.TempDir()
			if tt.cfg.HTTPClient == nil {
				tt.cfg.HTTPClient = s.Client()
			}
			_, err := New(tt.cfg).Fetch(t.Context(), one(actions.ModelFile{URL: tt.url, SHA256: hashOf("weights")}))
			wantError(t, err, actions.Unavailable, tt.want...)
			wantClean(t, tt.cfg.CacheDir)
		})
	}
	_, err := s.catalog(t.TempDir()).Fetch(t.Context(), one(actions.ModelFile{URL: s.URL + "/a.onnx", SHA256: someHash}))
	wantError(t, err, actions.Unavailable, hashOf("weights"), someHash, s.URL)
}

// TestFetchStalled gives up on a server that says no more.
func TestFetchStalled(t *testing.T) {
	s := newSite(t)
	cache := t.TempDir()
	c := s.catalog(cache)
	c.stallTime = 10 * time.Millisecond
	_, err := c.Fetch(t.Context(), s.at("/slow"))
	wantError(t, err, actions.Unavailable, "nothing came for 10ms")
	wantClean(t, cache)
}

// TestFetchCanceled shows that a context that ends halfway leaves nothing, and that
// what a killed process left is cleared away.
func TestFetchCanceled(t *testing.T) {
	s := newSite(t)
	cache := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-s.halfway
		cancel()
	}()
	_, err := s.catalog(cache).Fetch(ctx, s.at("/slow"))
	wantError(t, err, actions.Canceled)
	wantClean(t, cache)

	locks, err := filepath.Glob(filepath.Join(cache, "work", "*.lock"))
	if err != nil || len(locks) != 1 {
		t.Fatalf("got %q, %v, want one lock", locks, err)
	}
	write(t, strings.TrimSuffix(locks[0], ".lock"), ".left.part", "half a file")
	close(s.resume)
	paths, err := s.catalog(cache).Fetch(t.Context(), s.at("/slow"))
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, paths["weights"], "weights")
	wantClean(t, cache, paths["weights"])
}

// TestFetchTogether shows that of many who want the same file one fetches it, and that
// a deadline ends the wait of the others.
func TestFetchTogether(t *testing.T) {
	s := newSite(t)
	cache := t.TempDir()
	var wg sync.WaitGroup
	fetch := func() {
		paths, err := s.catalog(cache).Fetch(t.Context(), s.at("/slow"))
		if err != nil {
			t.Error(err)
			return
		}
		wantFile(t, paths["weights"], "weights")
	}
	wg.Go(fetch)
	<-s.halfway
	for range 4 {
		wg.Go(fetch)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := s.catalog(cache).Fetch(ctx, s.at("/slow"))
	wantError(t, err, actions.Deadline)
	close(s.resume)
	wg.Wait()
	if n := s.requests.Load(); n != 1 {
		t.Errorf("got %d requests, want one", n)
	}
}

// BenchmarkFetch hashes a file of 10 MB that is in the cache.
func BenchmarkFetch(b *testing.B) {
	content := strings.Repeat("weights...", 1<<20)
	cache := b.TempDir()
	m := one(actions.ModelFile{URL: "https://example.com/a.onnx", SHA256: hashOf(content)})
	c := New(Config{CacheDir: cache, Offline: true})
	p, err := c.piece("a", m.Files["weights"])
	if err != nil {
		b.Fatal(err)
	}
	if err := c.store(p, "here", cache, strings.NewReader(content)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		if _, err := c.Fetch(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
}
