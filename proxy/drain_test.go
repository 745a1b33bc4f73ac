package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

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

	working, open := r.dial(t), r.dial(t)
	openReader := bufio.NewReader(open)
	_, _ = io.WriteString(open, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if resp, _ := read(t, openReader, "GET"); resp.StatusCode != 200 {
		t.Errorf("got %d before the drain", resp.StatusCode)
	}
	_, _ = io.WriteString(working, runEmpty)
	<-begun
	r.stop()
	for !r.draining.Load() {
		runtime.Gosched()
	}
	_, _ = io.WriteString(open, runEmpty)
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
	r := start(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: answer}, Grace: -1})
	c := r.dial(t)
	_, _ = io.WriteString(c, runEmpty)
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
	_, _ = io.WriteString(kept, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
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

// What has come of a request counts as a request: the rest is waited for and answered.
func TestDrainPartial(t *testing.T) {
	for name, first := range map[string]string{
		"first byte of the header": runEmpty[:1], "first byte of the body": runEmpty[:len(runEmpty)-1],
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, Config{Model: "echo", Grace: time.Hour})
			c := r.dial(t)
			_, _ = io.WriteString(c, first)
			r.until(busy, 1)
			r.stop()
			for !r.draining.Load() {
				runtime.Gosched()
			}
			if r.conns.wait(0, busy) {
				t.Error("the drain does not wait for the request")
			}
			_, _ = io.WriteString(c, runEmpty[len(first):])
			if resp, body := read(t, bufio.NewReader(c), "POST"); resp.StatusCode != 503 || !strings.Contains(body, "shutting down") {
				t.Errorf("got %s %s", resp.Status, body)
			}
			if err := <-r.done; err != nil {
				t.Errorf("got %v from Serve", err)
			}
		})
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
