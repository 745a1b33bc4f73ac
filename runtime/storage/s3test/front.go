package s3test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A Fault is what happens to requests on their way to the server.
type Fault struct {
	// Match says which requests; nil means all.
	Match func(*http.Request) bool
	// Times is to how many of them; 0 means all.
	Times int
	// Status is answered instead of the server's answer, Code is S3's word for it.
	Status int
	Code   string
	// Hang has the request wait for ever, or until Clear.
	Hang bool
	// Rate is how many bytes of each body come through in a second.
	Rate int
	// Cut breaks the connection after so many bytes of a body. It is not 0.
	Cut int64
	// Then is called when the fault begins, as Kill.
	Then func()
}

// A front stands before the server, at an address that stays.
type front struct {
	tb        testing.TB
	address   string
	reserved  int // a socket that holds the address while nobody listens
	server    *http.Server
	transport *http.Transport
	to        atomic.Pointer[httputil.ReverseProxy]

	mu      sync.Mutex // guards what follows
	faults  []*Fault
	cleared chan struct{}
}

func newFront(tb testing.TB) *front {
	tb.Helper()
	f := &front{tb: tb, address: "127.0.0.1:0", cleared: make(chan struct{})}
	f.transport = &http.Transport{DisableCompression: true}
	f.listen()
	f.reserve()
	return f
}

// listen takes connections at the address.
func (f *front) listen() {
	f.tb.Helper()
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if cerr := raw.Control(func(fd uintptr) { err = share(int(fd)) }); cerr != nil {
			return cerr
		}
		return err
	}}
	ln, err := config.Listen(f.tb.Context(), "tcp", f.address)
	if err != nil {
		f.tb.Fatal(err)
	}
	f.address = ln.Addr().String()
	f.server = &http.Server{Handler: f, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), ReadHeaderTimeout: time.Minute}
	go func(server *http.Server) { _ = server.Serve(ln) }(f.server) // until close
}

// share lets several sockets have one address.
func share(fd int) error {
	const reusePort = 15 // SO_REUSEPORT, which package syscall lacks
	return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, reusePort, 1)
}

// reserve has nobody else get the address while nobody listens at it: connections to it are
// refused then.
func (f *front) reserve() {
	f.tb.Helper()
	at := netip.MustParseAddrPort(f.address)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(share(fd), syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}))
	}
	if err != nil {
		f.tb.Fatalf("the address %s cannot be held: %v", f.address, err)
	}
	f.reserved = fd
}

func (f *front) release() { _ = syscall.Close(f.reserved) }

// close breaks all connections.
func (f *front) close() {
	_ = f.server.Close()
	f.transport.CloseIdleConnections()
	f.Clear()
}

// Fault adds a fault; of several that match a request the first is what happens.
func (f *front) Fault(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, &fault)
}

// Clear takes all faults away and lets go of the requests that hang: they break.
func (f *front) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
	close(f.cleared)
	f.cleared = make(chan struct{})
}

// next is what happens to a request.
func (f *front) next(r *http.Request) (Fault, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, fault := range f.faults {
		if fault.Match != nil && !fault.Match(r) {
			continue
		}
		if fault.Times--; fault.Times == 0 {
			f.faults = append(f.faults[:i:i], f.faults[i+1:]...)
		}
		return *fault, f.cleared
	}
	return Fault{}, f.cleared
}

// ServeHTTP passes a request on, or has the fault happen.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault, cleared := f.next(r)
	if fault.Then != nil {
		go fault.Then() // which may close this connection, and waits for nobody here
	}
	switch {
	case fault.Hang:
		select {
		case <-cleared:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case fault.Status != 0:
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(fault.Status)
		_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>a fault</Message></Error>", fault.Code)
		return
	}
	if r.Body != http.NoBody {
		r.Body = &faulty{Reader: r.Body, Closer: r.Body, fault: fault, left: fault.Cut}
	}
	f.to.Load().ServeHTTP(&faultyWriter{ResponseWriter: w, fault: fault, left: fault.Cut}, r)
}

// broken answers when the server breaks off: with nothing.
func broken(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }

// A faulty is the body of a request.
type faulty struct {
	io.Reader
	io.Closer
	fault Fault
	left  int64
}

func (b *faulty) Read(p []byte) (int, error) {
	p = p[:piece(b.fault, len(p))]
	n, err := b.Reader.Read(p)
	slow(b.fault, n)
	if b.left -= int64(n); b.fault.Cut > 0 && b.left < 0 {
		return 0, http.ErrAbortHandler
	}
	return n, err
}

// A faultyWriter is the answer to a request.
type faultyWriter struct {
	http.ResponseWriter
	fault Fault
	left  int64
}

// Unwrap is for http.ResponseController, which flushes.
func (w *faultyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *faultyWriter) Write(p []byte) (int, error) {
	for all := len(p); ; {
		n, err := w.ResponseWriter.Write(p[:piece(w.fault, len(p))])
		if err != nil {
			return 0, err
		}
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		slow(w.fault, n)
		if w.left -= int64(n); w.fault.Cut > 0 && w.left < 0 {
			panic(http.ErrAbortHandler)
		}
		if p = p[n:]; len(p) == 0 {
			return all, nil
		}
	}
}

// piece is how many bytes go through at once.
func piece(fault Fault, n int) int {
	if fault.Rate > 0 {
		return min(n, max(fault.Rate/20, 1))
	}
	return n
}

// slow takes the time that so many bytes take.
func slow(fault Fault, n int) {
	if fault.Rate > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(fault.Rate))
	}
}

// Lines keep what the server prints, for the error of one that ends.
type lines struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
