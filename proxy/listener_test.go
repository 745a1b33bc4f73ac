package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const runEmpty = "POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"

// until waits until a server's connections are as many in a state as wanted.
func (r *running) until(state connState, n int) {
	for r.conns.count(state) != n {
		runtime.Gosched()
	}
}

// gone waits until a connection is closed by the server without a word.
func wantGone(tb testing.TB, name string, r io.Reader) {
	tb.Helper()
	if n, err := r.Read(make([]byte, 1)); err == nil {
		tb.Errorf("%s: got %d bytes, want the end", name, n)
	}
}

// A failingListener fails with the errors, then accepts.
type failingListener struct {
	net.Listener
	errs []error
}

func (f *failingListener) Accept() (net.Conn, error) {
	if len(f.errs) == 0 {
		return f.Listener.Accept()
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
}

// A lack of files and the like does not end the server.
func TestServeAcceptErrors(t *testing.T) {
	s, st := newServer(t, Config{Model: "echo"})
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := serveOn(t, s, st, &failingListener{ln, []error{syscall.EMFILE, syscall.ECONNABORTED, syscall.ENFILE}})
	if resp, _ := r.do(t, "POST", "/run", "{}"); resp.StatusCode != 200 {
		t.Errorf("got %s", resp.Status)
	}
	if got := strings.Count(st.log.String(), "connections cannot be accepted"); got != 1 {
		t.Errorf("got %d lines of log, want 1: %s", got, st.log.String())
	}
}

type memoryListener struct{ conns chan net.Conn }

func (m memoryListener) Accept() (net.Conn, error) {
	if c, ok := <-m.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (m memoryListener) Close() error   { close(m.conns); return nil }
func (m memoryListener) Addr() net.Addr { return nil }

// The pauses are those of net/http, and Close ends one.
func TestAcceptPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := memoryListener{make(chan net.Conn, 1)}
		ours, theirs := net.Pipe()
		inner.conns <- ours
		failing := &failingListener{Listener: inner}
		for range 10 {
			failing.errs = append(failing.errs, syscall.EMFILE)
		}
		cs := newConnections(func() {})
		quiet, other := net.Pipe()
		cs.add(quiet)
		l := newListener(failing, cs, 10, slog.New(slog.DiscardHandler), func() {})
		start := time.Now()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := time.Since(start), 1275*time.Millisecond+2*time.Second; got != want {
			t.Errorf("got a connection after %v, want %v", got, want)
		}
		wantGone(t, "idle", other)
		failing.errs = []error{syscall.EMFILE}
		go func() { _ = l.Close() }()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want net.ErrClosed", err)
		}
		_, _ = c.Close(), theirs.Close()
	})
}

// At the limit the oldest connection without a request makes way, an idle one first.
func TestMaxConns(t *testing.T) {
	release := make(chan struct{})
	begun, answer := blocking(release)
	r := start(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: answer}, MaxConns: 3})
	silent := r.dial(t)
	r.until(fresh, 1)
	var kept []*bufio.Reader
	for i := range 2 {
		c := r.dial(t)
		_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		kept = append(kept, bufio.NewReader(c))
		read(t, kept[i], "GET")
		r.until(idle, i+1)
	}
	var working []net.Conn
	for i, last := range []io.Reader{kept[0], kept[1], silent} {
		c := r.dial(t)
		_, _ = io.WriteString(c, runEmpty)
		<-begun
		wantGone(t, fmt.Sprint("connection ", i), last)
		working = append(working, c)
	}
	resp, body := r.do(t, "POST", "/run", "{}")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || !resp.Close || !strings.Contains(body, "too many connections") {
		t.Errorf("got %s %v %s over the limit", resp.Status, resp.Header, body)
	}
	close(release)
	for _, c := range working {
		if resp, _ := read(t, bufio.NewReader(c), "POST"); resp.StatusCode != 200 {
			t.Errorf("got %s for a request in progress", resp.Status)
		}
	}
	if _, body := r.do(t, "GET", "/metrics", ""); !strings.Contains(body, `deepfn_requests_refused_total{reason="connections"} 1`) {
		t.Error("the refused connection is not counted")
	}
}

// A request that meets the closing of its connection is given up at once.
func TestShedMeetsRequest(t *testing.T) {
	cs := newConnections(func() {})
	ours, theirs := net.Pipe()
	c := cs.add(ours)
	if got := cs.shed(2); got != 1 {
		t.Errorf("got %d closed, want 1", got)
	}
	wantGone(t, "shed", theirs)
	given := false
	cs.set(c, busy)
	cs.begin(c, func() { given = true }, false)
	cs.remove(c)
	if !given || cs.count(fresh, busy, idle) != 0 {
		t.Errorf("given up %v, got %d connections", given, cs.count(fresh, busy, idle))
	}
}

func TestConnsOf(t *testing.T) {
	for files, want := range map[uint64]int{0: 64, 256: 64, 320: 64, 1024: 768, 1 << 20: 65536, ^uint64(0): 65536} {
		if got := connsOf(files); got != want {
			t.Errorf("%d files: got %d connections, want %d", files, got, want)
		}
	}
}
