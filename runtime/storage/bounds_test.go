package storage

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

func TestStatuses(t *testing.T) {
	o := newOutside(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "the page of an error")
	})
	for status, want := range map[int]actions.Code{
		201: actions.Invalid, 204: actions.Invalid, 206: actions.Invalid, 300: actions.Invalid, 304: actions.Invalid, 302: actions.Invalid,
		400: actions.Invalid, 401: actions.Forbidden, 403: actions.Forbidden, 404: actions.NotFound, 405: actions.Invalid,
		408: actions.Unavailable, 410: actions.NotFound, 413: actions.TooLarge, 418: actions.Invalid, 429: actions.Unavailable,
		500: actions.Unavailable, 503: actions.Unavailable, 599: actions.Unavailable,
	} {
		_, err := o.Fetch(t.Context(), fmt.Sprintf("https://example.com/%d?key=secret", status), io.Discard)
		wantError(t, err, want, fmt.Sprintf("https://example.com/%d answered %d", status, status))
		if e, _ := errors.AsType[*actions.Error](err); status == 503 && (e == nil || e.RetryAfter != 7*time.Second) {
			t.Errorf("503: got %v, want the time to try again", err)
		}
	}
}

// zipped are n zeros, compressed.
func zipped(n int) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(make([]byte, n))
	_ = z.Close()
	return b.Bytes()
}

// TestBodies shows the bounds of what is fetched.
func TestBodies(t *testing.T) {
	o := newOutside(t, Config{MaxBytes: 10_000}, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch r.URL.Path {
		case "/empty":
		case "/exact":
			_, _ = w.Write(make([]byte, 10_000))
		case "/one-more":
			_, _ = w.Write(make([]byte, 10_001))
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return
				}
			}
		case "/claim":
			h.Set("Content-Length", strconv.Itoa(2<<30))
		case "/short":
			h.Set("Content-Length", "100")
			_, _ = w.Write(make([]byte, 99))
		case "/broken":
			_, _ = w.Write(make([]byte, 99))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/zipped":
			h.Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped(10_000))
		case "/bomb":
			h.Set("Content-Encoding", "GZip")
			_, _ = w.Write(zipped(5_000_000))
		case "/half":
			h.Set("Content-Encoding", "gzip")
			z := zipped(5_000)
			_, _ = w.Write(z[:len(z)-9])
		case "/no-gzip":
			h.Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("plain text"))
		case "/nothing-zipped":
			h.Set("Content-Encoding", "gzip")
		case "/brotli":
			h.Set("Content-Encoding", "br")
		case "/header":
			h.Set("X-Long", strings.Repeat("a", 100_000))
		}
	})
	for name, tt := range map[string]struct {
		n    int
		code actions.Code
		says string
	}{
		"empty": {0, "", ""}, "exact": {10_000, "", ""}, "zipped": {10_000, "", ""},
		"one-more":       {-1, actions.TooLarge, "10000 bytes"},
		"endless":        {-1, actions.TooLarge, "--max-body"},
		"claim":          {-1, actions.TooLarge, "10000 bytes"},
		"bomb":           {-1, actions.TooLarge, "10000 bytes"},
		"short":          {-1, actions.Unavailable, "ended before it was complete"},
		"broken":         {-1, actions.Unavailable, "broke"},
		"half":           {-1, actions.Unavailable, "ended before"},
		"no-gzip":        {-1, actions.Unavailable, "broke off"},
		"nothing-zipped": {-1, actions.Unavailable, "ended before"},
		"brotli":         {-1, actions.Invalid, `"br"`},
		"header":         {-1, actions.Unavailable, "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			_, err := o.Fetch(t.Context(), "https://example.com/"+name, &b)
			if tt.code != "" {
				if name == "broken" && strings.Contains(err.Error(), "ended before") {
					tt.says = "ended before" // over HTTP/1
				}
				wantError(t, err, tt.code, tt.says)
			} else if err != nil || b.Len() != tt.n {
				t.Errorf("got %d bytes, %v, want %d", b.Len(), err, tt.n)
			}
			if b.Len() > 10_001 {
				t.Errorf("%d bytes were written", b.Len())
			}
		})
	}
}

// TestUnreachable shows what is said of servers that do not answer.
func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a port that nobody listens on
	if err != nil {
		t.Fatal(err)
	}
	closed := ln.Addr().String()
	_ = ln.Close()
	plain := httptest.NewServer(answer("plain"))
	defer plain.Close()
	untrusted := httptest.NewUnstartedServer(answer("untrusted"))
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	untrusted.StartTLS()
	defer untrusted.Close()
	at := plain.Listener.Addr().String()
	s := newStorage(t, Config{
		Allow:    []string{"https://" + closed, "https://" + at, untrusted.URL, "https://nowhere.invalid", "https://broken.test"},
		Resolver: &names{},
	})
	for url, says := range map[string]string{
		"https://" + closed + "/?key=secret":  "the connection is refused",
		"https://" + at + "/?key=secret":      "does not speak TLS",
		untrusted.URL + "/?key=secret":        "certificate is not trusted",
		"https://nowhere.invalid/?key=secret": "there is no address of nowhere.invalid",
		"https://broken.test/?key=secret":     "the address of broken.test cannot be looked up",
	} {
		_, err := s.Fetch(t.Context(), url, io.Discard)
		wantError(t, err, actions.Unavailable, says)
		noSecret(t, err)
	}
}

// noSecret wants no query in an error and its causes.
func noSecret(tb testing.TB, err error) {
	tb.Helper()
	for ; err != nil; err = errors.Unwrap(err) {
		if strings.Contains(err.Error(), "secret") {
			tb.Errorf("%v tells the query", err)
		}
	}
}

// TestNoSecrets shows that the query of a URL stays out of all that is said and logged.
func TestNoSecrets(t *testing.T) {
	o := newOutside(t, Config{Allow: []string{"s3://bucket/"}}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/elsewhere":
			http.Redirect(w, r, "https://127.0.0.1/?X-Amz-Signature=secret", http.StatusTemporaryRedirect)
		case "/round":
			http.Redirect(w, r, "/round?X-Amz-Signature=secret", http.StatusTemporaryRedirect)
		case "/odd":
			w.Header().Set("Location", "https://exa mple.com/?X-Amz-Signature=secret")
			w.WriteHeader(http.StatusTemporaryRedirect)
		case "/gone":
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(http.StatusForbidden)
		}
	})
	for _, url := range []string{
		"https://example.com/", "https://example.com/elsewhere", "https://example.com/round", "https://example.com/odd",
		"https://example.com/gone", "https://nowhere.test/", "https://10.0.0.1/", "http://example.com/", "s3://bucket/key",
		"ftp://example.com/", "https://exa mple/", "https://u:secret@example.com/", "https://example.com/../",
	} {
		url += "?X-Amz-Signature=secret"
		_, err := o.Fetch(t.Context(), url, io.Discard)
		if err == nil {
			t.Errorf("%s: got no error", url)
		}
		noSecret(t, err)
		if err = o.Store(t.Context(), url, actions.File{Data: []byte("x")}); err == nil {
			t.Errorf("%s: got no error", url)
		}
		noSecret(t, err)
	}
	if strings.Contains(o.log.String(), "secret") {
		t.Errorf("the log tells the query: %s", o.log)
	}
}

// fullDisk takes some bytes.
type fullDisk struct{ room int }

func (f *fullDisk) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errNoSpace
	}
	return len(p), nil
}

var errNoSpace = errors.New("no space")

func TestWriterError(t *testing.T) {
	o := newOutside(t, Config{}, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 100_000)) })
	_, err := o.Fetch(t.Context(), "https://example.com/", &fullDisk{room: 1000})
	if err != errNoSpace { //nolint:errorlint // as it is
		t.Errorf("got %v, want the writer's own error", err)
	}
}

// TestSlow shows that time is bounded, with servers that do not answer, that send nothing
// more, and that send a little for ever.
func TestSlow(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
	drip := func(conn net.Conn) {
		for {
			if _, err := conn.Write([]byte("a")); err != nil {
				return
			}
			time.Sleep(time.Second) // of the bubble's time
		}
	}
	for name, serve := range map[string]func(net.Conn){
		"silent":  func(net.Conn) {},
		"stalled": func(conn net.Conn) { _, _ = conn.Write([]byte(head + "abc")) },
		"a header for ever": func(conn net.Conn) {
			_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nX: "))
			drip(conn)
		},
		"a body for ever": func(conn net.Conn) { _, _ = conn.Write([]byte(head)); drip(conn) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStorage(t, Config{Allow: []string{"http://slow.test/"}, Dial: piped(serve), Resolver: &names{
					answers: map[string][][]netip.Addr{"slow.test": {addrs("10.0.0.1")}},
				}})
				defer s.forms["http"].(*web).free.CloseIdleConnections()
				start := time.Now()
				_, err := s.Fetch(t.Context(), "http://slow.test/?key=secret", io.Discard)
				wantError(t, err, actions.Deadline, "took more than 1m0s")
				noSecret(t, err)
				if d := time.Since(start); d != time.Minute {
					t.Errorf("it took %s, want a minute", d)
				}
				time.Sleep(2 * time.Second) // of the bubble's time: the server notices
			})
		})
	}
}

// TestGivenUp shows that a request's own time bounds a fetch and a store, and its end too.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage(t, Config{Allow: []string{"http://slow.test/"}, Dial: piped(func(net.Conn) {}), Resolver: &names{
			answers: map[string][][]netip.Addr{"slow.test": {addrs("10.0.0.1")}},
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		_, err := s.Fetch(ctx, "http://slow.test/", io.Discard)
		wantError(t, err, actions.Deadline, "the time of the request was over")
		wantError(t, s.Store(ctx, "http://slow.test/", actions.File{}), actions.Deadline, "the time of the request was over")
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("it took %s, want 5 s", d)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err = s.Fetch(ctx, "http://slow.test/", io.Discard)
		wantError(t, err, actions.Canceled, "given up")
	})
}

// TestConcurrent shows that each of many callers gets and stores what is his own.
func TestConcurrent(t *testing.T) {
	var mu sync.Mutex
	stored := map[string]string{}
	o := newOutside(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodPut {
			stored[r.URL.Path] = string(body)
		}
		_, _ = io.WriteString(w, strings.Repeat(r.URL.Path, 1000))
	})
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			for j := range 10 {
				path := fmt.Sprintf("/%d-%d", i, j)
				var b bytes.Buffer
				if _, err := o.Fetch(t.Context(), "https://example.com"+path, &b); err != nil || b.String() != strings.Repeat(path, 1000) {
					t.Errorf("%s: got %.20q, %v", path, b.String(), err)
				}
				if err := o.Store(t.Context(), "https://example.com"+path, actions.File{Data: []byte(path)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	for path, body := range stored {
		if path != body {
			t.Errorf("%s has %q", path, body)
		}
	}
	if len(stored) != 160 {
		t.Errorf("got %d, want 160", len(stored))
	}
}
