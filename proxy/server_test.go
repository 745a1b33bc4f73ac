package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A running server has an address; stop begins the drain, and done yields what Serve
// returned.
type running struct {
	*Server
	*streams
	addr string
	stop func()
	done <-chan error
}

// start serves a Config on a port of this machine until the test ends.
func start(tb testing.TB, cfg Config) *running {
	tb.Helper()
	s, st := newServer(tb, cfg)
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return serveOn(tb, s, st, ln)
}

// serveOn serves on a listener until the test ends.
func serveOn(tb testing.TB, s *Server, st *streams, ln net.Listener) *running {
	tb.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln); close(done) }()
	tb.Cleanup(func() {
		stop()
		<-done
	})
	return &running{Server: s, streams: st, addr: ln.Addr().String(), stop: stop, done: done}
}

// dial opens a connection for bytes as they are.
func (r *running) dial(tb testing.TB) net.Conn {
	tb.Helper()
	c, err := new(net.Dialer).DialContext(tb.Context(), "tcp", r.addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// An answer is what a client got, without the body.
type answer struct {
	Status     string
	StatusCode int
	Header     http.Header
	Close      bool
	Chunked    bool
}

// read reads one answer.
func read(tb testing.TB, r *bufio.Reader, method string) (answer, string) {
	tb.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return answer{resp.Status, resp.StatusCode, resp.Header, resp.Close, len(resp.TransferEncoding) > 0}, string(body)
}

func (r *running) do(tb testing.TB, method, path, body string, header ...string) (answer, string) {
	tb.Helper()
	c := r.dial(tb)
	_, _ = fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n%s",
		method, path, len(body), strings.Join(append(header, ""), "\r\n"), body)
	return read(tb, bufio.NewReader(c), method)
}

func TestContentLength(t *testing.T) {
	r := start(t, Config{Model: "echo"})
	large := strings.Repeat("a", 1048561)
	for _, tt := range []struct{ method, path, body string }{
		{"POST", "/init", `{}`},
		{"POST", "/init", `{}`},
		{"POST", "/run", `{}`},
		{"POST", "/run", `x`},
		{"POST", "/run", `{"value":{"text":"` + large + `"}}`},
		{"POST", predictPath, `{"text":"` + large + `"}`},
		{"POST", predictPath, `[`},
		{"POST", "/v2", ``},
		{"GET", "/", ""},
		{"GET", "/v2/models/", ""},
		{"GET", "/nope", ""},
		{"GET", "/run", ""},
		{"PUT", "/run", "x"},
		{"GET", "/healthz", ""},
		{"GET", "/readyz", ""},
		{"GET", "/metrics", ""},
		{"HEAD", "/healthz", ""},
		{"HEAD", "/v2/models/", ""},
		{"HEAD", "/nope", ""},
	} {
		resp, body := r.do(t, tt.method, tt.path, tt.body)
		length, err := strconv.Atoi(resp.Header.Get("Content-Length"))
		if err != nil || resp.Chunked || length == 0 {
			t.Errorf("%s %s: got Content-Length %q", tt.method, tt.path, resp.Header.Get("Content-Length"))
		}
		if (tt.method == "HEAD") != (body == "") || body != "" && len(body) != length {
			t.Errorf("%s %s: got %d bytes, Content-Length %d", tt.method, tt.path, len(body), length)
		}
		if resp.Header.Get("X-Request-Id") == "" || resp.Header.Get("Server") != "" {
			t.Errorf("%s %s: got header %v", tt.method, tt.path, resp.Header)
		}
	}
}

func TestHeaders(t *testing.T) {
	r := start(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: answering("text/html", "<b>")}})
	resp, _ := r.do(t, "POST", "/run", `{}`, "X-Request-Id: abc-1")
	if got := resp.Header.Get("X-Request-Id"); got != "abc-1" || !strings.Contains(r.streams.log.String(), "request_id=abc-1") {
		t.Errorf("got request id %q and log %s", got, r.streams.log.String())
	}
	for _, bad := range []string{strings.Repeat("a", 129), "a b", `a"b`, "é"} {
		resp, _ := r.do(t, "POST", "/run", `{}`, "X-Request-Id: "+bad)
		if got := resp.Header.Get("X-Request-Id"); got == bad || got == "" {
			t.Errorf("got request id %q", got)
		}
	}
	resp, body := r.do(t, "POST", predictPath+"?n=1", ``, "Accept: text/*")
	if resp.Header.Get("Content-Type") != "text/html" || body != "<b>" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("got %v %q", resp.Header, body)
	}
	if resp, _ := r.do(t, "GET", "/run", ""); resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
		t.Errorf("got %d, Allow %q", resp.StatusCode, resp.Header.Get("Allow"))
	}
	if resp, _ := r.do(t, "POST", "/v2/models/echo/predict?n=1", ""); resp.StatusCode != 308 || resp.Header.Get("Location") != predictPath+"?n=1" {
		t.Errorf("got %d, Location %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if resp, _ := r.do(t, "GET", "//healthz", ""); resp.StatusCode != 200 {
		t.Errorf("got %d for a path to clean", resp.StatusCode)
	}
}

func TestPipelineAndContinue(t *testing.T) {
	r := start(t, Config{Model: "echo"})
	c := r.dial(t)
	br := bufio.NewReader(c)
	one := "POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17\r\n\r\n"
	_, _ = io.WriteString(c, one+`{"value":{"n":1}}`+one+`{"value":{"n":2}}`)
	for _, want := range []string{`{"n":1}`, `{"n":2}`} {
		if _, body := read(t, br, "POST"); body != want {
			t.Errorf("got %s, want %s", body, want)
		}
	}
	_, _ = io.WriteString(c, strings.Replace(one, "Host", "Expect: 100-continue\r\nHost", 1))
	if resp, _ := read(t, br, "POST"); resp.StatusCode != 100 {
		t.Fatalf("got %s, want 100", resp.Status)
	}
	_, _ = io.WriteString(c, `{"value":{"n":3}}`)
	if _, body := read(t, br, "POST"); body != `{"n":3}` {
		t.Errorf("got %s", body)
	}
}

// Every client gets its own answer.
func TestAnswersAreNotMixed(t *testing.T) {
	const clients, requests = 32, 20
	r := start(t, Config{Model: "echo"})
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			c := r.dial(t)
			br := bufio.NewReader(c)
			for i := range requests {
				args := fmt.Sprintf(`{"text":"%d-%d-%s"}`, client, i, strings.Repeat("x", (client*i*97)%20000))
				path, body, want := "/run", `{"value":`+args+`}`, args
				if i%2 == 1 {
					path, body, want = predictPath, args, `{"status": "OK", "predictions": `+args+"}"
				}
				_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Error(err)
					return
				}
				got, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if string(got) != want {
					t.Errorf("client %d got %.40s, want %.40s", client, got, want)
				}
			}
		})
	}
	wg.Wait()
	wantSentinels(t, r.streams, clients*requests/2)
}

// TestPathsThatBecomeOthers: a path is not another one by what was encoded in it.
func TestPathsThatBecomeOthers(t *testing.T) {
	r := start(t, Config{Model: "echo", BasePath: "/m/cats"})
	for path, want := range map[string]int{
		"/m/cats/v2/":                 200,
		"/healthz":                    200,
		"/m/cats/%2e%2e/%2e%2e/run":   404,
		"/m/cats/../../run":           404,
		"/m/cats/..%2f..%2frun":       404,
		"/m%2fcats/v2/":               404,
		"/./healthz":                  404,
		"/m/cats/v2/models/ec%68o/":   200,
		"/m/cats/v2/models/echo%2f":   308, // to a model called so, which there is not
		"/m/cats/v2/models/%2E%2E/":   404,
		"/m/cats/v2/models/echo%5c..": 308,
	} {
		c := r.dial(t)
		_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path)
		if resp, body := read(t, bufio.NewReader(c), "GET"); resp.StatusCode != want {
			t.Errorf("%s: got %s %s, want %d", path, resp.Status, body, want)
		}
	}
}
