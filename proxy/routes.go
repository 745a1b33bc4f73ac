package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// A request is one HTTP request. Its body is valid until the handler returns.
type request struct {
	method      string
	path        string // decoded and cleaned
	query       string // as it was sent, without '?'
	contentType string
	accept      string
	// header calls each for every header of that name, or of any name when it is empty;
	// nil without headers.
	header      func(name string, each func(name, value string))
	peek        peeker         // of the same header; nil without one
	loopback    bool           // only this machine reaches the server
	id          string         // what the caller called it, or a new one
	model, uuid string         // the {model} and {uuid} of the route
	sent        string         // the path as it was sent, of web actions alone
	body        []byte         // nil when its memory must not be used again
	refused     *actions.Error // why the body was not taken; body is empty
	// forget gives back the memory that shows a part of a body on disk; nil when the
	// body is in memory.
	forget func(part []byte)
	bodies *budget // has memory for parts of the request; nil has any
	taken  int64   // of bodies
	// answer is memory for the answer, which is used again when that is sent; nil when
	// there is none.
	answer *[]byte
	// web is the web action that the request is of; nil when it came over HTTP.
	web *webCall
	// outer is the request that this one was made of; nil when it came over HTTP.
	outer   *request
	arrived time.Time     // zero when nobody has looked at the clock
	trace   actions.Trace // of the request's own span, or of the caller's
	remote  bool          // the caller has said the trace
	// collection are the attributes of an event in the header, once they are collected.
	collection []cloudevent.Attribute
	collected  bool
	kept       int64 // of taken, for a body that outlives the answer
	account    account
}

func (s *Server) newID() string { return s.idPrefix + strconv.FormatUint(s.ids.Add(1), 36) }

// pathOf returns the path of a route: decoded and cleaned. One that would become another by
// that, with dot segments or encoded slashes, is left as it was sent, which is no route's:
// whoever lets only a part of the paths through, in front of this server, has not decoded it
// either.
func pathOf(sent, cleaned []byte) string {
	if bytes.Contains(sent, []byte("/.")) || bytes.IndexByte(sent, '%') >= 0 {
		plain := strings.NewReplacer("%2e", ".", "%2E", ".", "%2f", "/../", "%2F", "/../", "%5c", "/../", "%5C", "/../")
		for segment := range strings.SplitSeq(plain.Replace(string(sent)), "/") {
			if segment == "." || segment == ".." {
				return string(sent)
			}
		}
	}
	return intern(cleaned)
}

// intern makes a string of b, without memory for the usual ones.
func intern(b []byte) string {
	switch string(b) {
	case "POST":
		return "POST"
	case "GET":
		return "GET"
	case "/run":
		return "/run"
	case jsonType:
		return jsonType
	case "*/*":
		return "*/*"
	}
	return string(b)
}

// A peeker returns the first value of a header, nil when there is none.
type peeker interface{ Peek(name string) []byte }

// A response is the answer to a request.
type response struct {
	status      int
	contentType string
	body        []byte
	// stream, unless it is nil, is there in the place of body, of a length that nobody knows.
	// It is closed when it was sent, or cannot be.
	stream io.ReadCloser

	allow       string      // header Allow
	location    string      // header Location
	disposition string      // header Content-Disposition
	policy      string      // header Content-Security-Policy
	retryAfter  int         // header Retry-After in seconds, 0 for none
	header      http.Header // all others, nil for none
	// event is the event whose attributes are headers too, nil for none.
	event *cloudevent.Event
	// timing is what the headers Server-Timing and Deepfn-Start say; zero without them.
	timing actions.Timing
}

// A handler answers one kind of request.
type handler func(ctx context.Context, r *request) response

// A route says which handlers answer a path. A segment of it may be {model} or {uuid}.
type route struct {
	path           string
	get, post, del handler
	// all answers every method that has no handler of its own.
	all handler
	// prefix says that the route is for all paths that begin with path, which has no
	// segment in braces. It comes behind the routes that are for one of these.
	prefix bool
	// web says that a web action has the route, too.
	web bool
	// always says that the route answers also while the server is draining.
	always bool
	// anySize says that the handler answers to bodies that are too large.
	anySize bool
	// probe says that programs ask for it all the time: such requests have no span.
	probe bool
}

// handler returns what answers a method, nil when nothing does.
func (rt *route) handler(method string) handler {
	var h handler
	switch method {
	case http.MethodGet, http.MethodHead:
		h = rt.get
	case http.MethodPost:
		h = rt.post
	case http.MethodDelete:
		h = rt.del
	}
	if h == nil {
		return rt.all
	}
	return h
}

// routes is the table of all routes, the most used first.
func (s *Server) routes() []route {
	table := []route{
		{path: "/run", post: s.run, always: true, anySize: true},
		{path: s.base + "/v2/models/{model}/predict/", post: s.predict, web: true},
		s.entryRoute(),
		{path: s.base + "/v2/models/{model}/events/", post: s.modelEvents, all: s.eventMethods, anySize: true},
		{path: "/healthz", get: s.healthz, always: true, probe: true},
		{path: "/readyz", get: s.readyz, always: true, probe: true},
		{path: "/metrics", get: s.metricsPage, always: true, probe: true},
		{path: "/stats", get: s.statsPage, always: true, probe: true},
		{path: "/init", post: s.init},
	}
	below := []route{
		{path: "/v2/models/{model}/train/", get: s.trainings, post: s.train},
		{path: "/v2/models/{model}/train/{uuid}", get: s.training, del: s.cancelTraining},
		{path: "/v2/models/{model}/train/{uuid}/", get: s.training, del: s.cancelTraining},
		{path: "/v2/models/{model}/train/{uuid}/logs", get: s.trainingLogs},
		{path: "/v2/models/{model}/train/{uuid}/logs/", get: s.trainingLogs},
		{path: "/v2/models/{model}/batch/", get: s.batches, post: s.submitBatch},
		{path: "/v2/models/{model}/batch/{uuid}", get: s.batchStatus, del: s.cancelBatch},
		{path: "/v2/models/{model}/batch/{uuid}/", get: s.batchStatus, del: s.cancelBatch},
		{path: "/v2/models/{model}/batch/{uuid}/logs", get: s.batchLogs},
		{path: "/v2/models/{model}/batch/{uuid}/logs/", get: s.batchLogs},
		{path: "/v2/models/{model}/", get: s.modelPage},
		{path: "/v2/models/", get: s.modelsPage},
		{path: "/v2/debug/", get: s.debugPage},
		{path: "/v2/", get: s.versionPage},
		{path: "/swagger.json", get: s.swaggerPage},
	}
	for _, rt := range append(below, s.pageRoutes()...) {
		rt.path, rt.web = s.base+rt.path, true
		table = append(table, rt)
	}
	if s.base != "" {
		table = append(table, route{path: s.base, get: s.versionsPage}, route{path: s.base + "/", get: s.versionsPage})
	}
	return append(table, s.apiRoutes()...)
}

// template is the path of a route for people: one for many paths ends in a star.
func (rt *route) template() string {
	if rt.prefix {
		return rt.path + "*"
	}
	return rt.path
}

// handle answers a request, with the time that its invocation took.
func (s *Server) handle(ctx context.Context, r *request) response {
	rt, _ := s.match(r)
	end := s.beginSpan(r, rt)
	resp := s.answer(ctx, r, rt)
	resp.timing = r.account.timing
	if end != nil {
		end(resp.status)
	}
	return resp
}

// answer answers a request by its route, which may be nil. A panic of a handler becomes a
// 500.
func (s *Server) answer(ctx context.Context, r *request, rt *route) (resp response) {
	defer func() {
		if v := recover(); v != nil {
			s.metrics.panics.Inc()
			s.log.ErrorContext(ctx, "handler panicked", "path", short(r.path), "request_id", r.id,
				"panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			resp = failure(internalError(r.id))
			r.body = nil // who panicked may have left somebody who reads it
		}
	}()
	if rt == nil {
		return s.unknown(r)
	}
	h := rt.handler(r.method)
	switch {
	case h == nil:
		return methodNotAllowed(rt, r)
	case !rt.always && s.draining.Load():
		s.metrics.refused("draining")
		return failure(drainingError())
	case r.refused != nil:
		s.metrics.refused(string(r.refused.Code))
		if !rt.anySize {
			return failure(r.refused)
		}
	}
	return h(ctx, r)
}

// match finds the route of a request and sets the parts of its path.
func (s *Server) match(r *request) (*route, bool) {
	for i := range s.table {
		rt := &s.table[i]
		if rt.prefix && strings.HasPrefix(r.path, rt.path) || !rt.prefix && matchPath(rt.path, r.path, r) {
			return rt, true
		}
	}
	return nil, false
}

// matchPath matches a path, segment by segment, and notes what stands for {model} and
// {uuid}.
func matchPath(pattern, path string, r *request) bool {
	if !strings.Contains(pattern, "{") {
		return pattern == path
	}
	model, uuid := "", ""
	for pattern != "" || path != "" {
		want, moreWant, slash := strings.Cut(pattern, "/")
		got, more, slashed := strings.Cut(path, "/")
		switch {
		case slash != slashed:
			return false
		case want == "{model}" && got != "":
			model = got
		case want == "{uuid}" && got != "":
			uuid = got
		case want != got:
			return false
		}
		pattern, path = moreWant, more
	}
	r.model, r.uuid = model, uuid
	return true
}

// unknown answers a request for which there is no route: if there is one with a slash
// at the end, as DEEPaaS has them, with a redirect to it that keeps method and body.
func (s *Server) unknown(r *request) response {
	slashed := *r
	slashed.path += "/"
	if rt, ok := s.match(&slashed); ok {
		if rt.handler(r.method) == nil {
			return methodNotAllowed(rt, r)
		}
		resp := plainStatus(http.StatusPermanentRedirect)
		resp.location = (&url.URL{Path: slashed.path, RawQuery: r.query}).String()
		return resp
	}
	return failure(actions.Errorf(actions.NotFound, "there is nothing at %s", short(r.path)))
}

// methodNotAllowed answers a method that a route does not know.
func methodNotAllowed(rt *route, r *request) response {
	var allow []string
	if rt.get != nil {
		allow = append(allow, http.MethodGet, http.MethodHead)
	}
	if rt.post != nil {
		allow = append(allow, http.MethodPost)
	}
	if rt.del != nil {
		allow = append(allow, http.MethodDelete)
	}
	resp := jsonResponse(http.StatusMethodNotAllowed, errorBody{
		Error: fmt.Sprintf("%s does not take %s", short(r.path), short(r.method)), Code: actions.Unsupported,
	})
	resp.allow = strings.Join(allow, ", ")
	return resp
}
