package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
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
	_, _ = fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s",
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
	if resp, _ := r.do(t, "GET", "//v2/../healthz", ""); resp.StatusCode != 200 {
		t.Errorf("got %d for a path to clean", resp.StatusCode)
	}
}

// A client that writes all of its body before it reads gets the answer, whether the
// server can know the size before or not, and the body is not kept.
func TestTooLarge(t *testing.T) {
	const size = 32 << 20
	r := start(t, Config{Model: "echo", MaxBody: 1 << 20})
	tests := []struct {
		path, status string
		want         string
	}{
		{"/run", "200 OK", `{"error":"the request body is over the limit of 1048576 bytes; send less, or raise the limit of the server"}` + "\n"},
		{"/init", "413 Request Entity Too Large", `{"error":"the request body is over the limit of 1048576 bytes; send less, or raise the limit of the server","code":"too_large"}` + "\n"},
		{predictPath, "413 Request Entity Too Large", `{"error":"the request body is over…`},
	}
	chunk := bytes.Repeat([]byte("a"), 1<<20)
	for _, tt := range tests {
		for _, chunked := range []bool{false, true} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			c := r.dial(t)
			if chunked {
				_, _ = io.WriteString(c, "POST "+tt.path+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
			} else {
				_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", tt.path, size)
			}
			for range size / len(chunk) {
				if chunked {
					_, _ = fmt.Fprintf(c, "%x\r\n", len(chunk))
				}
				if _, err := c.Write(chunk); err != nil {
					t.Fatal(err)
				}
				if chunked {
					_, _ = io.WriteString(c, "\r\n")
				}
			}
			if chunked {
				_, _ = io.WriteString(c, "0\r\n\r\n")
			}
			br := bufio.NewReader(c)
			resp, body := read(t, br, "POST")
			if want, ok := strings.CutSuffix(tt.want, "…"); resp.Status != tt.status || !strings.HasPrefix(body, want) || !ok && body != want {
				t.Errorf("%s chunked %v: got %s %s, want %s %s", tt.path, chunked, resp.Status, body, tt.status, tt.want)
			}
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
				t.Errorf("%s chunked %v: %d bytes were allocated for a refused body", tt.path, chunked, got)
			}
			// The whole body was thrown away, so the connection still works.
			_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
			if resp, _ := read(t, br, "GET"); resp.StatusCode != 200 {
				t.Errorf("got %s after a refused body", resp.Status)
			}
		}
	}
	wantSentinels(t, r.streams, 2)
}

func TestTooLargeToDrain(t *testing.T) {
	r := start(t, Config{Model: "echo", MaxBody: 1 << 20})
	c := r.dial(t)
	_, _ = fmt.Fprintf(c, "POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 1<<30)
	chunk := make([]byte, 1<<20)
	for range drainBytes / len(chunk) {
		if _, err := c.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	br := bufio.NewReader(c)
	if resp, body := read(t, br, "POST"); resp.StatusCode != 200 || !strings.Contains(body, "over the limit") || !resp.Close {
		t.Errorf("got %s %s, close %v", resp.Status, body, resp.Close)
	}
	if _, err := br.ReadByte(); err == nil {
		t.Error("the connection is still open")
	}
}

func TestBodyAtTheLimit(t *testing.T) {
	body := `{"value":{"text":"` + strings.Repeat("a", 3000) + `"}}`
	for limit, want := range map[int64]bool{int64(len(body)): true, int64(len(body)) - 1: false} {
		r := start(t, Config{Model: "echo", MaxBody: limit})
		for _, chunked := range []bool{false, true} {
			var b io.Reader = strings.NewReader(body)
			if chunked {
				b = io.MultiReader(b) // whose length net/http does not know
			}
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+r.addr+"/run", b)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if ok := bytes.HasPrefix(got, []byte(`{"text"`)); ok != want {
				t.Errorf("limit %d, chunked %v: got %.60s", limit, chunked, got)
			}
		}
		http.DefaultClient.CloseIdleConnections()
	}
}

func TestMalformed(t *testing.T) {
	r := start(t, Config{Model: "echo"})
	for name, tt := range map[string]struct {
		sent   string
		status int
	}{
		"garbage":       {"hello\r\n\r\n", 400},
		"long header":   {"POST /run HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 2*readBuffer) + "\r\n\r\n", 431},
		"bad length":    {"POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400},
		"bad chunk":     {"POST /run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
		"cut-off chunk": {"POST /run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 400},
		"cut-off body":  {"POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{}", 400},
		"cut-off large": {"POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat(" ", 50000), 400},
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial(t)
			_, _ = io.WriteString(c, tt.sent)
			_ = c.(*net.TCPConn).CloseWrite()
			resp, body := read(t, bufio.NewReader(c), "POST")
			if resp.StatusCode != tt.status || !strings.HasPrefix(body, `{"error":"`) || !resp.Close {
				t.Errorf("got %s %s, close %v, want %d", resp.Status, body, resp.Close, tt.status)
			}
		})
	}
	if _, body := r.do(t, "GET", "/metrics", ""); !strings.Contains(body, `deepfn_requests_refused_total{reason="malformed"} 7`) {
		t.Error("the refused requests are not counted")
	}
	wantSentinels(t, r.streams, 0)
}

func TestPipelineAndContinue(t *testing.T) {
	r := start(t, Config{Model: "echo"})
	c := r.dial(t)
	br := bufio.NewReader(c)
	one := "POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n"
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
					path, body, want = predictPath, args, `{"status":"OK","predictions":`+args+"}\n"
				}
				_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
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

// blocking makes an answer that comes when release is closed; each call is announced.
func blocking(release <-chan struct{}) (begun chan struct{}, answer func(context.Context, actions.Request) (actions.Response, error)) {
	begun = make(chan struct{}, 10)
	return begun, func(ctx context.Context, _ actions.Request) (actions.Response, error) {
		begun <- struct{}{}
		select {
		case <-release:
			return actions.Response{ContentType: jsonType, Data: []byte(`{"done":true}`)}, nil
		case <-ctx.Done():
			return actions.Response{}, ctx.Err()
		}
	}
}

func TestDrain(t *testing.T) {
	release := make(chan struct{})
	begun, answer := blocking(release)
	r := start(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: answer}, Grace: time.Minute})
	const run = "POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"

	working, open := r.dial(t), r.dial(t)
	openReader := bufio.NewReader(open)
	_, _ = io.WriteString(open, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, _ := read(t, openReader, "GET"); resp.StatusCode != 200 {
		t.Errorf("got %d before the drain", resp.StatusCode)
	}
	_, _ = io.WriteString(working, run)
	<-begun
	r.stop()
	for !r.draining.Load() {
		runtime.Gosched()
	}
	_, _ = io.WriteString(open, run)
	resp, body := read(t, openReader, "POST")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || !resp.Close || !strings.HasPrefix(body, `{"error":`) {
		t.Errorf("got %s %v %s on an open connection", resp.Status, resp.Header, body)
	}
	if resp, _ := r.do(t, "POST", "/run", "{}"); resp.StatusCode != 503 || !resp.Close {
		t.Errorf("got %s on a new connection", resp.Status)
	}
	if resp, _ := r.do(t, "GET", "/readyz", ""); resp.StatusCode != 503 {
		t.Errorf("got %s for /readyz", resp.Status)
	}
	if resp, _ := r.do(t, "GET", "/healthz", ""); resp.StatusCode != 200 {
		t.Errorf("got %s for /healthz", resp.Status)
	}
	select {
	case err := <-r.done:
		t.Fatalf("Serve returned %v with a request in flight", err)
	default:
	}
	close(release)
	if resp, body := read(t, bufio.NewReader(working), "POST"); resp.StatusCode != 200 || body != `{"done":true}` || !resp.Close {
		t.Errorf("got %s %s for the request in flight", resp.Status, body)
	}
	if err := <-r.done; err != nil {
		t.Errorf("got %v from Serve", err)
	}
	if c, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.addr); err == nil {
		_ = c.Close()
		t.Error("the listener is still open")
	}
}

func TestDrainGrace(t *testing.T) {
	begun, answer := blocking(nil)
	r := start(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: answer}, Grace: time.Millisecond})
	c := r.dial(t)
	_, _ = io.WriteString(c, "POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	<-begun
	r.stop()
	if resp, body := read(t, bufio.NewReader(c), "POST"); resp.StatusCode != 503 || body != `{"error":"the request was given up"}`+"\n" {
		t.Errorf("got %s %s, want 503", resp.Status, body)
	}
	if err := <-r.done; err != nil {
		t.Errorf("got %v from Serve", err)
	}
	wantSentinels(t, r.streams, 1)
}

// A connection on which nothing comes does not hold up the end, and is closed.
func TestDrainIdle(t *testing.T) {
	r := start(t, Config{Model: "echo", Grace: time.Hour})
	silent, kept := r.dial(t), r.dial(t)
	_, _ = io.WriteString(kept, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	br := bufio.NewReader(kept)
	read(t, br, "GET")
	r.stop()
	if err := <-r.done; err != nil {
		t.Errorf("got %v from Serve", err)
	}
	for name, c := range map[string]io.Reader{"silent": silent, "kept": br} {
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: got %d bytes, want the end", name, n)
		}
	}
}

// A model does not go on working for a client that has gone.
func TestClientGone(t *testing.T) {
	gone := make(chan error, 1)
	begun := make(chan struct{})
	inv := &fakeInvoker{answer: func(ctx context.Context, _ actions.Request) (actions.Response, error) {
		close(begun)
		<-ctx.Done()
		gone <- ctx.Err()
		return actions.Response{}, ctx.Err()
	}}
	r := start(t, Config{Model: "echo", Invoker: inv})
	c := r.dial(t)
	_, _ = io.WriteString(c, "POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	<-begun
	_ = c.Close()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// A client that waits is not taken for one that has gone.
func TestClientWaits(t *testing.T) {
	checked := make(chan struct{})
	inv := &fakeInvoker{answer: func(ctx context.Context, _ actions.Request) (actions.Response, error) {
		select {
		case <-ctx.Done():
			return actions.Response{}, ctx.Err()
		case <-checked:
			return actions.Response{ContentType: jsonType, Data: []byte(`{}`)}, nil
		}
	}}
	r := start(t, Config{Model: "echo", Invoker: inv})
	time.AfterFunc(5*clientCheck/2, func() { close(checked) })
	if resp, body := r.do(t, "POST", "/run", `{}`); resp.StatusCode != 200 || body != `{}` {
		t.Errorf("got %s %s", resp.Status, body)
	}
}

type brokenListener struct{ net.Listener }

func (brokenListener) Accept() (net.Conn, error) { return nil, errors.New("broken") }

func TestServeBrokenListener(t *testing.T) {
	s, _ := newServer(t, Config{})
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context(), brokenListener{ln}); err == nil || !strings.Contains(err.Error(), "proxy: serve: broken") {
		t.Errorf("got %v", err)
	}
	ln, err = new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	if err := s.Serve(t.Context(), ln); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
}
