package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deepfn/deepfn/actions"
)

const (
	headerTimeout = 15 * time.Second // from a request's first byte to the end of its header
	writeTimeout  = 2 * time.Minute
	// idleTimeout is longer than clients keep connections (net/http: 90 s), so that no
	// request meets a connection that is being closed.
	idleTimeout = 3 * time.Minute
	// readBuffer bounds the header of a request, too.
	readBuffer = 16 << 10
)

// A Server answers the protocols for one invoker. Make it with New. Its methods may be
// called by many at once, Serve once only.
type Server struct {
	cfg         Config
	log         *slog.Logger
	metrics     *metrics
	table       []route
	activations activationLog
	buffers     buffers   // for bodies
	answers     buffers   // for answers, until they are sent
	chunks      sync.Pool // of *[]byte, for bodies on their way to the disk
	bodies      *budget
	conns       *connections
	// What the runtimes reported of models.
	descriptions descriptions
	printed      printed // by models, for Config.Debug
	idPrefix     string
	base         string // of all routes of DEEPaaS
	ids          atomic.Uint64

	loopback    atomic.Bool // only this machine reaches the listener
	draining    atomic.Bool
	initialized atomic.Bool            // an /init has succeeded or is being tried
	action      atomic.Pointer[action] // what /run runs; nil before /init

	record     *eventRecord // of events; nil records nothing
	background background   // work for requests that have been answered
	service    string       // the beginning of the sources of events

	specializing chan struct{} // has room for the one who initializes with Config.Entry
	entryRaw     atomic.Bool   // the function at / takes the body as it is
}

// New makes a server. It does nothing before Serve is called.
func New(cfg Config) *Server {
	cfg = cfg.withDefaults()
	bodies := newBudget(cfg.MaxBodies)
	s := &Server{
		cfg: cfg, log: cfg.Log, bodies: bodies,
		metrics:      newMetrics(cfg.Invoker.Stats, cfg.Devices, cfg.Version),
		conns:        newConnections(bodies.collect),
		specializing: make(chan struct{}, 1),
		idPrefix:     strconv.FormatInt(time.Now().UnixNano(), 36) + "-",
	}
	s.activations.out, s.activations.err = cfg.Stdout, cfg.Stderr
	s.activations.failed, s.activations.log = s.metrics.logFailed, cfg.Log
	s.record, s.service = newEventRecord(&cfg), eventService(cfg.Service)
	if base := path.Clean("/" + cfg.BasePath); base != "/" {
		s.base = base
	}
	s.table = s.routes()
	s.entryRaw.Store(cfg.Entry.Raw)
	if cfg.Model != "" {
		s.action.Store(&action{model: cfg.Model, verb: actions.Predict})
	}
	return s
}

// Serve answers requests on ln until ctx ends. Then it drains: /readyz says no, new
// requests get 503, and those in flight may finish within Config.Grace. It returns nil
// when that is done, or an error when the listener breaks before. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	// Requests end with giveUp and not with ctx, whose end only begins the drain.
	requests, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	watching.Go(func() { s.conns.watch(requests) })
	watching.Go(func() { s.begin(requests) })
	defer watching.Wait()
	defer giveUp()
	defer s.activations.flush(lastWords)
	defer s.conns.end()
	s.loopback.Store(isLoopback(ln.Addr()))
	ln = newListener(ln, s.conns, s.cfg.MaxConns, s.log, func() { s.metrics.refused("connections") })
	fs := s.http(requests)
	served := make(chan error, 1)
	go func() { served <- fs.Serve(ln) }() // ends when ln is closed
	select {
	case err := <-served:
		_ = ln.Close()
		if err == nil {
			err = net.ErrClosed
		}
		return fmt.Errorf("proxy: serve: %w", err)
	case <-ctx.Done():
		s.drain(ctx, ln, giveUp)
		if err := <-served; err != nil {
			s.log.WarnContext(ctx, "listener broke while draining", "error", err.Error())
		}
		return nil
	}
}

// http makes the HTTP server; its requests end with ctx.
func (s *Server) http(ctx context.Context) *fasthttp.Server {
	deepaas := []byte(s.base + "/v2/")
	return &fasthttp.Server{
		Handler: func(fc *fasthttp.RequestCtx) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			if c, ok := fc.Conn().(*connection); ok {
				s.conns.begin(c, cancel, bytes.HasPrefix(fc.Path(), deepaas))
			}
			s.serve(ctx, fc)
		},
		ErrorHandler: s.malformed,
		HeaderReceived: func(*fasthttp.RequestHeader) fasthttp.RequestConfig {
			return fasthttp.RequestConfig{ReadTimeout: slowTime} // for the first bytes of a body
		},
		ConnState:                    s.connState,
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		MaxRequestBodySize:           int(s.cfg.MaxBody),
		Concurrency:                  s.cfg.MaxConns + maxConns, // the listener counts
		ReadBufferSize:               readBuffer,
		ReadTimeout:                  headerTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
		Logger:                       httpLog{s.log},
	}
}

// connState notes what the HTTP server says of a connection.
func (s *Server) connState(nc net.Conn, state fasthttp.ConnState) {
	c, ok := nc.(*connection)
	if !ok {
		return
	}
	switch state {
	case fasthttp.StateNew: // the listener knows
	case fasthttp.StateActive:
		s.conns.awake(c)
	case fasthttp.StateIdle:
		s.sent(c)
		s.conns.set(c, idle)
	case fasthttp.StateHijacked, fasthttp.StateClosed:
		s.sent(c)
		s.conns.remove(c)
		if c.large {
			go s.bodies.collect() // ends when it is done
		}
	}
}

// serve answers one request.
func (s *Server) serve(ctx context.Context, fc *fasthttp.RequestCtx) {
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	var r request
	defer func() { s.bodies.give(r.taken) }()
	defer s.survive(ctx, fc)
	s.request(fc, &r)
	if expect := fc.Request.Header.Peek("Expect"); len(expect) > 0 && !strings.EqualFold(string(expect), "100-continue") {
		s.send(fc, r.id, jsonResponse(http.StatusExpectationFailed, errorBody{
			Error: fmt.Sprintf("the server does not know Expect: %s", short(string(expect))), Code: actions.Unsupported,
		}))
		fc.SetConnectionClose()
		return
	}
	if h := &fc.Request.Header; h.ContentLength() == chunkedBody && hasHeader(h.RawHeaders(), "Content-Length") {
		fc.SetConnectionClose() // RFC 9112, 6.1: whoever forwarded this may have seen another end of the body
	}
	buf := s.buffers.take()
	r.answer = s.answers.take()
	body, sp, err := s.readBody(fc, *buf, &r)
	if refused, ok := errors.AsType[*actions.Error](err); ok {
		r.refused = refused
		if refused.Err != nil {
			s.log.WarnContext(ctx, "request body refused", "request_id", r.id, "error", refused.Err.Error())
		}
	} else if err != nil {
		s.malformed(fc, err)
		return
	}
	r.body = body
	if sp != nil {
		defer sp.close() // also after a panic: a file without a name is seen by nobody
		r.body, r.forget = sp.data, sp.forget
	}
	resp := s.handle(ctx, &r)
	s.send(fc, r.id, resp)
	if r.body == nil {
		return // a panic: of memory the collector knows who still uses it
	}
	if c, ok := fc.Conn().(*connection); ok {
		grow(r.answer, len(resp.body)+len(envelopeHead)+len(envelopeTail))
		c.large = len(resp.body) > inMemory || resp.stream != nil
		c.answer = r.answer // which is sent after this has returned
	}
	*buf = body[:0]
	s.buffers.keep(buf)
}

// survive answers a request whose handling panicked outside of handle, and closes its
// connection, because nobody knows what has been read of it.
func (s *Server) survive(ctx context.Context, fc *fasthttp.RequestCtx) {
	v := recover()
	if v == nil {
		return
	}
	id := s.newID()
	s.metrics.panics.Inc()
	s.log.ErrorContext(ctx, "request panicked", "path", short(string(fc.Path())), "request_id", id,
		"panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	fc.Response.Reset()
	s.send(fc, id, failure(internalError(id)))
	fc.SetConnectionClose()
}

// request makes a request of what the header says.
func (s *Server) request(fc *fasthttp.RequestCtx, r *request) {
	h := &fc.Request.Header
	*r = request{
		bodies: s.bodies,
		method: intern(fc.Method()), path: pathOf(fc.URI().PathOriginal(), fc.URI().Path()),
		query:       string(fc.URI().QueryString()),
		contentType: intern(h.ContentType()),
		accept:      intern(h.Peek("Accept")),
		id:          cleanID(string(h.Peek("X-Request-Id"))),
		peek:        h,
		loopback:    s.loopback.Load(),
		arrived:     s.traceTime(),
	}
	if r.id == "" {
		r.id = s.newID()
	}
	if strings.HasPrefix(r.path, webPath) {
		r.sent = string(fc.URI().PathOriginal())
	}
	r.header = func(name string, each func(name, value string)) {
		if name != "" {
			for _, value := range h.PeekAll(name) {
				each(name, string(value))
			}
			return
		}
		for name, value := range h.All() {
			each(string(name), string(value))
		}
	}
}

// readBody reads the body into buf, which it may replace, or onto the disk, and takes
// the memory for it. A body over a limit is thrown away; the error is an *actions.Error.
func (s *Server) readBody(fc *fasthttp.RequestCtx, buf []byte, r *request) ([]byte, *spool, error) {
	stream := fc.RequestBodyStream()
	length := int64(fc.Request.Header.ContentLength()) // negative when it is chunked
	if stream == nil {
		return buf[:0], nil, nil
	}
	if r.take(int64(cap(buf))) != nil {
		buf = nil // of which there is none to take
	}
	body, sp, err := buf[:0], (*spool)(nil), error(nil)
	if length > s.cfg.MaxBody {
		err = s.tooLargeError()
	} else {
		steady := &steadyReader{from: stream, limit: fc.Conn().SetReadDeadline, end: time.Now().Add(bodyTime)}
		body, sp, err = s.readAll(steady, length, body, r)
	}
	if _, refused := errors.AsType[*actions.Error](err); refused {
		discard(fc, stream)
		return body[:0], nil, err
	}
	if err != nil {
		return body, nil, err
	}
	got := int64(len(body))
	if sp != nil {
		got = sp.size
	}
	if length >= 0 && got != length {
		if sp != nil {
			sp.close()
		}
		return body, nil, io.ErrUnexpectedEOF
	}
	return body, sp, nil
}

// discard throws away what is left of a refused body. If that is too much, the
// connection closes after the answer.
func discard(fc *fasthttp.RequestCtx, stream io.Reader) {
	_ = fc.Conn().SetReadDeadline(time.Now().Add(drainTime))
	_, err := io.CopyN(io.Discard, stream, drainBytes)
	if !errors.Is(err, io.EOF) {
		fc.SetConnectionClose()
	}
}

// send answers with a response.
func (s *Server) send(fc *fasthttp.RequestCtx, id string, resp response) {
	h := &fc.Response.Header
	fc.SetStatusCode(resp.status)
	h.SetContentType(resp.contentType)
	h.Set("X-Request-Id", id)
	for _, header := range []struct{ name, value string }{
		{"Allow", resp.allow},
		{"Location", resp.location},
		{"Content-Disposition", resp.disposition},
		{"Content-Security-Policy", resp.policy},
	} {
		if header.value != "" {
			h.Set(header.name, header.value)
		}
	}
	if resp.event != nil {
		resp.event.BinaryHeader(h.Set)
	}
	for name, values := range resp.header {
		for _, value := range values {
			h.Add(name, value)
		}
	}
	if resp.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(resp.retryAfter))
	}
	sendTiming(h, &resp.timing)
	if resp.contentType != jsonType {
		h.Set("X-Content-Type-Options", "nosniff") // a model's file runs in nobody's browser
	}
	if s.draining.Load() {
		fc.SetConnectionClose()
	}
	if resp.stream != nil {
		fc.Response.SetBodyStream(resp.stream, -1)
		return
	}
	fc.Response.SetBodyRaw(resp.body)
}

// sendTiming writes what an invocation took into the header of its answer.
func sendTiming(h *fasthttp.ResponseHeader, t *actions.Timing) {
	if t.From != "" {
		h.Set("Deepfn-Start", string(t.From))
	}
	if text := appendServerTiming(make([]byte, 0, 96), t); len(text) > 0 {
		h.SetBytesV("Server-Timing", text)
	}
}

// malformed answers a request that could not be read, and closes the connection.
func (s *Server) malformed(fc *fasthttp.RequestCtx, err error) {
	reason, _, _ := strings.Cut(err.Error(), ": buffer size=") // the HTTP library's own affair
	status, text := http.StatusBadRequest, "the HTTP request could not be read: "+short(reason)
	if nerr, ok := errors.AsType[net.Error](err); ok && nerr.Timeout() {
		status, text = http.StatusRequestTimeout, "the request did not arrive in time"
	} else if _, ok := errors.AsType[*fasthttp.ErrSmallBuffer](err); ok {
		status, text = http.StatusRequestHeaderFieldsTooLarge,
			fmt.Sprintf("the header of the request is over the limit of %d bytes", readBuffer)
	}
	s.metrics.refused("malformed")
	s.send(fc, s.newID(),
		jsonResponse(status, errorBody{Error: text, Code: actions.Invalid}))
	fc.SetConnectionClose()
}

// httpLog is the HTTP server's own log: connections that broke.
type httpLog struct{ log *slog.Logger }

// Printf implements fasthttp.Logger.
func (l httpLog) Printf(format string, args ...any) {
	l.log.Debug("http", "message", string(bytes.TrimSpace(fmt.Appendf(nil, format, args...))))
}
