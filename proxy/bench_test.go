package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/deepfn/deepfn/actions"
)

// benchServer answers at once with a small document, and logs to nowhere.
func benchServer() *Server {
	answer := actions.Response{
		ContentType: jsonType, Data: []byte(`{"text":"hello"}`),
		Timing: actions.Timing{From: actions.TierWarm, Queue: 12345, Run: 1234567}, // which the headers say
	}
	return New(Config{
		Model: "echo", Catalog: benchCatalog{echoModel("echo")}, Log: slog.New(slog.DiscardHandler),
		Invoker: benchInvoker{answer},
	})
}

type benchInvoker struct{ answer actions.Response }

func (b benchInvoker) Invoke(context.Context, actions.Request) (actions.Response, error) {
	return b.answer, nil
}
func (benchInvoker) Info(string) json.RawMessage { return nil }
func (benchInvoker) Stats() []actions.PoolStats  { return nil }

type benchCatalog struct{ model actions.Model }

func (b benchCatalog) Models(context.Context) ([]actions.Model, error)      { return nil, nil }
func (b benchCatalog) Model(context.Context, string) (actions.Model, error) { return b.model, nil }

func (b benchCatalog) Import(context.Context, actions.Source) (actions.Model, error) {
	return b.model, nil
}

// runBody is a /run with a text of n bytes.
func runBody(n int) string {
	deadline := time.Now().Add(5 * time.Minute).UnixMilli()
	return fmt.Sprintf(`{"activation_id":"44e1c24aa47f4a16a1c24aa47f6a16d5","action_name":"/guest/echo","deadline":"%d","value":{"text":"%s"}}`,
		deadline, strings.Repeat("a", n))
}

func BenchmarkRun(b *testing.B) {
	for _, size := range []int{100, 100 << 10, 1 << 20} {
		body := runBody(size)
		b.Run(fmt.Sprintf("handler/%dB", size), func(b *testing.B) {
			s := benchServer()
			ctx, data := b.Context(), []byte(body)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r := request{method: "POST", path: "/run", contentType: jsonType, id: "1", body: data}
				if resp := s.handle(ctx, &r); resp.status != 200 || resp.body[2] != 't' {
					b.Fatalf("got %d %s", resp.status, resp.body)
				}
			}
		})
		b.Run(fmt.Sprintf("tcp/%dB", size), func(b *testing.B) {
			ln, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			dial := func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) } //nolint:noctx // a benchmark's own server
			benchServe(b, benchServer(), ln, dial, body)
		})
		b.Run(fmt.Sprintf("memory/%dB", size), func(b *testing.B) {
			ln := fasthttputil.NewInmemoryListener()
			benchServe(b, benchServer(), ln, ln.Dial, body)
		})
	}
}

// BenchmarkNoop is the HTTP server alone, with the same requests as BenchmarkRun.
func BenchmarkNoop(b *testing.B) {
	ln, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	noop := &fasthttp.Server{Handler: func(fc *fasthttp.RequestCtx) {
		fc.SetContentType(jsonType)
		fc.SetBodyString(`{"text":"hello"}`)
	}}
	go func() { _ = noop.Serve(ln) }()
	defer func() { _ = ln.Close() }()
	benchClient(b, func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }, runBody(100)) //nolint:noctx // as above
}

func benchServe(b *testing.B, s *Server, ln net.Listener, dial func() (net.Conn, error), body string) {
	b.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	benchClient(b, dial, body)
	stop()
	if err := <-done; err != nil {
		b.Error(err)
	}
}

// benchClient sends one request after the other on one connection, with next to no
// work of its own.
func benchClient(b *testing.B, dial func() (net.Conn, error), body string) {
	b.Helper()
	c, err := dial()
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	sent := fmt.Appendf(nil, "POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	br := bufio.NewReader(c)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(sent); err != nil {
			b.Fatal(err)
		}
		for length := 16; ; { // the answer's, {"text":"hello"}
			line, err := br.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if len(line) > 2 {
				continue
			}
			if _, err := io.CopyN(io.Discard, br, int64(length)); err != nil {
				b.Fatal(err)
			}
			break
		}
	}
}
