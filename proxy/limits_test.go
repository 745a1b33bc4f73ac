package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// A client that writes all of its body before it reads gets the answer, whether the
// server can know the size before or not, and the body is not kept.
func TestTooLarge(t *testing.T) {
	const size = 32 << 20
	r := start(t, Config{Model: "echo", MaxBody: 1 << 20})
	tests := []struct {
		path, status string
		want         string
	}{
		{"/run", "200 OK", `{"error":"the request body is over the limit of 1048576 bytes; send less, give large arguments as {\"url\": \"https://…\"}, or raise the limit of the server"}` + "\n"},
		{"/init", "413 Request Entity Too Large", `{"error":"the request body is over the limit of 1048576 bytes; send less, give large arguments as {\"url\": \"https://…\"}, or raise the limit of the server","code":"too_large"}` + "\n"},
		{predictPath, "413 Request Entity Too Large", `{"error":"the request body is over…`},
	}
	chunk := bytes.Repeat([]byte("a"), 1<<20)
	for _, tt := range tests {
		for _, chunked := range []bool{false, true} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			c := r.dial(t)
			if chunked {
				_, _ = io.WriteString(c, "POST "+tt.path+" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
			} else {
				_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", tt.path, size)
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
			_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
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
	// Not all of it comes: the server does not wait for it.
	_, _ = fmt.Fprintf(c, "POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", int64(drainBytes)+1, make([]byte, 1<<20))
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
		"long header":   {"POST /run HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("y", 2*readBuffer) + "\r\n\r\n", 431},
		"bad length":    {"POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400},
		"bad chunk":     {"POST /run HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
		"cut-off chunk": {"POST /run HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 400},
		"cut-off body":  {"POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{}", 400},
		"cut-off large": {"POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat(" ", 50000), 400},
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial(t)
			_, _ = io.WriteString(c, tt.sent)
			_ = c.(*net.TCPConn).CloseWrite()
			resp, body := read(t, bufio.NewReader(c), "POST")
			if resp.StatusCode != tt.status || !strings.HasPrefix(body, `{"error":"`) || strings.Contains(body, "buffer size") || !resp.Close {
				t.Errorf("got %s %s, close %v, want %d", resp.Status, body, resp.Close, tt.status)
			}
		})
	}
	if _, body := r.do(t, "GET", "/metrics", ""); !strings.Contains(body, `deepfn_requests_refused_total{reason="malformed"} 7`) {
		t.Error("the refused requests are not counted")
	}
	wantSentinels(t, r.streams, 0)
}

// A request that says its length in two ways is answered, and the connection is closed: what
// follows may be meant as a part of it.
func TestTwoLengths(t *testing.T) {
	r := start(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: answering(jsonType, `{"ok":true}`)}})
	const body = "2\r\n{}\r\n0\r\n\r\n"
	for header, closed := range map[string]bool{
		"Transfer-Encoding: chunked": false,
		"X-Content-Length: 9\r\nTransfer-Encoding: chunked\r\nX: Content-Length: 9": false,
		"Content-Length: 9\r\nTransfer-Encoding: chunked":                           true,
		"Transfer-Encoding: chunked\r\ncontent-length: 9":                           true,
	} {
		c := r.dial(t)
		_, _ = io.WriteString(c, "POST /run HTTP/1.1\r\nHost: localhost\r\n"+header+"\r\n\r\n"+body)
		from := bufio.NewReader(c)
		resp, got := read(t, from, "POST")
		if resp.StatusCode != 200 || resp.Close != closed {
			t.Errorf("%q: got %s %s, close %t, want 200 and %t", header, resp.Status, got, resp.Close, closed)
		}
		if closed {
			if _, err := from.ReadByte(); err == nil {
				t.Errorf("%q: the connection is open", header)
			}
		}
	}
}

func TestExpect(t *testing.T) {
	r := start(t, Config{Model: "echo"})
	if resp, body := r.do(t, "POST", "/run", "", "Expect: foo"); resp.StatusCode != 417 || !resp.Close || !strings.Contains(body, "Expect: foo") {
		t.Errorf("got %s %s", resp.Status, body)
	}
}

func TestMalformedTimeout(t *testing.T) {
	s, _ := newServer(t, Config{})
	var fc fasthttp.RequestCtx
	s.malformed(&fc, fmt.Errorf("read: %w", os.ErrDeadlineExceeded))
	if got, body := fc.Response.StatusCode(), string(fc.Response.Body()); got != 408 || body != `{"error":"the request did not arrive in time","code":"invalid"}`+"\n" {
		t.Errorf("got %d %s", got, body)
	}
}
