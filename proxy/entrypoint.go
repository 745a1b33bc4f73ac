package proxy

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

// An Entry says how the single entrypoint at / works (apache/openwhisk,
// docs/single_entrypoint_proxy_contract.md). The zero value takes POST, and is
// initialized by its first request.
type Entry struct {
	// Methods are the methods that run the action, in upper case. The default is POST.
	Methods []string
	// Raw gives the function the body as it came, in __ow_body, and not its members.
	Raw bool
	// Code is the code of the function, which then needs no initialization, as /init has
	// it; Binary says that it is base64. Name and Main may be empty.
	Code, Name, Main string
	Binary           bool
	// Public lets pages of other sites run the function. The default refuses what a browser
	// sends for them, as /run does.
	Public bool
}

// specialized is what upstream says of an init that a function with code of its own gets.
const specialized = "internal error during request processing."

// entryRoute is that of the single entrypoint. It is at the root, whatever the base path
// of DEEPaaS is; there GET answers with documents unless it is a method of the entrypoint.
func (s *Server) entryRoute() route {
	rt := route{path: "/", all: s.entry, anySize: true}
	switch {
	case s.takes(http.MethodGet):
	case s.base == "":
		rt.get = s.versionsPage
	case s.cfg.Controller != nil:
		rt.get = s.whiskInfo
	}
	return rt
}

// takes says whether the single entrypoint takes a method.
func (s *Server) takes(method string) bool {
	if len(s.cfg.Entry.Methods) == 0 {
		return method == http.MethodPost
	}
	return slices.Contains(s.cfg.Entry.Methods, method)
}

// An entryBody is the body of a request to the single entrypoint.
type entryBody struct {
	init, activation, value json.RawMessage // nil without one
}

// entry answers a request to the single entrypoint: it initializes the function, runs it,
// or does both, as the members of the body say.
func (s *Server) entry(ctx context.Context, r *request) response {
	switch {
	case r.method == http.MethodPost && isEvent(r): // whose contract is another one
		return s.entryEvents(ctx, r, func(t *eventTarget) response { return s.events(ctx, r, t) })
	case !s.takes(r.method) && (r.method != http.MethodHead || !s.takes(http.MethodGet)):
		return s.entryMethods(r)
	case r.refused != nil:
		s.metrics.refused(string(r.refused.Code))
		return failure(r.refused)
	}
	body, bad := parseEntry(r.body)
	if bad != nil {
		return whiskText(http.StatusBadRequest, "Error unmarshaling request: "+bad.msg)
	}
	if body.init == nil && body.activation == nil && body.value == nil && r.method == http.MethodPost {
		if list, is := parseBucketNotice(r.body); is {
			return s.entryEvents(ctx, r, func(t *eventTarget) response { return s.notices(ctx, r, t, list) })
		}
	}
	// The request itself is asked, because it says less of itself than the POST to /init or
	// /run that becomes of it: a browser's GET may have no Origin.
	if (body.init != nil || !s.cfg.Entry.Public) && crossSite(r) {
		s.metrics.refused("cross_site")
		return whiskText(http.StatusForbidden, otherSite)
	}
	if body.init != nil {
		if resp := s.entryInit(ctx, r, body.init); resp.status != http.StatusOK || body.activation == nil {
			return resp
		}
	} else if resp := s.specialize(ctx, r); resp.status != http.StatusOK {
		return resp
	}
	return s.entryRun(ctx, r, &body)
}

// entryMethods answers a method that the single entrypoint does not take: OPTIONS with what
// it does take, as OpenWhisk's runtimes do. A browser asks so before a page of another site
// may send JSON, and is told of it where such pages may run the function.
func (s *Server) entryMethods(r *request) response {
	allow := s.cfg.Entry.Methods
	if len(allow) == 0 {
		allow = []string{http.MethodPost}
	}
	if s.entryRoute().get != nil {
		allow = append([]string{http.MethodGet, http.MethodHead}, allow...)
	}
	resp := methodNotAllowed(&route{}, r)
	resp.allow = strings.Join(allow, ", ")
	if r.method == http.MethodOptions {
		resp = response{status: http.StatusOK, contentType: "text/plain; charset=utf-8", body: []byte(resp.allow), allow: resp.allow}
		if s.cfg.Entry.Public {
			addCORS(&resp, r.headerText("Access-Control-Request-Headers"))
		}
		webHook(&resp, r)
	}
	return resp
}

// parseEntry takes a body apart. An empty one is an empty object.
func parseEntry(data []byte) (b entryBody, bad *jsonError) {
	if len(bytes.TrimSpace(data)) == 0 {
		return b, nil
	}
	bad = scanObject(data, func(s *jsonscan.Scanner, key []byte) bool {
		raw, ok := s.Raw()
		if string(raw) == "null" {
			return ok
		}
		switch string(key) {
		case "init":
			b.init = raw
		case "activation":
			b.activation = raw
		case "value":
			b.value = raw
		}
		return ok
	})
	switch {
	case bad != nil:
	case b.init != nil && b.init[0] != '{':
		bad = &jsonError{msg: "init is not an object"}
	case b.activation != nil && b.activation[0] != '{':
		bad = &jsonError{msg: "activation is not an object"}
	}
	return b, bad
}

// entryInit initializes the function as /init does, unless it has its code from the start.
func (s *Server) entryInit(ctx context.Context, r *request, init json.RawMessage) response {
	if s.cfg.Entry.Code != "" || s.cfg.Model != "" {
		return whiskText(http.StatusInternalServerError, specialized)
	}
	if err := r.take(int64(len(init))); err != nil {
		return failure(busyError())
	}
	inner := s.inner(r, slices.Concat([]byte(`{"value":`), init, []byte(`}`)))
	defer func() { r.taken += inner.taken }()
	resp := s.init(ctx, inner)
	if resp.status == http.StatusOK {
		s.entryRaw.Store(string(memberOf(init, "raw")) == "true")
	}
	return resp
}

// inner is a request for the same caller with another body. It has no headers, by which it
// would be refused: entry has looked at them.
func (s *Server) inner(r *request, body []byte) *request {
	return &request{
		method: http.MethodPost, id: r.id, contentType: jsonType, accept: r.accept,
		body: body, bodies: r.bodies, answer: r.answer, outer: r, trace: r.trace,
	}
}

// specialize initializes the function with its own code, if it has some, once. It answers
// 200 when that is done, and as /init otherwise; the next request tries again.
func (s *Server) specialize(ctx context.Context, r *request) response {
	done := response{status: http.StatusOK}
	entry := s.cfg.Entry
	if entry.Code == "" || s.action.Load() != nil {
		return done
	}
	select {
	case s.specializing <- struct{}{}:
		defer func() { <-s.specializing }()
	case <-ctx.Done():
		return failure(asError(ctx.Err(), r.id))
	}
	if s.action.Load() != nil {
		return done
	}
	inner := s.inner(r, jsonResponse(0, map[string]any{"value": map[string]any{
		"code": entry.Code, "name": entry.Name, "main": entry.Main, "binary": entry.Binary,
	}}).body)
	defer func() { r.taken += inner.taken }()
	return s.init(ctx, inner)
}

// begin initializes the function with its own code before the first request.
func (s *Server) begin(ctx context.Context) {
	if s.cfg.Entry.Code == "" {
		return
	}
	r := &request{id: s.newID(), bodies: s.bodies}
	defer func() { s.bodies.give(r.taken) }()
	defer func() {
		if v := recover(); v != nil {
			s.metrics.panics.Inc()
			s.log.ErrorContext(ctx, "initialization panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	resp := s.specialize(ctx, r)
	if resp.status != http.StatusOK && ctx.Err() == nil {
		s.log.WarnContext(ctx, "not initialized, the first request tries again",
			"status", resp.status, "error", cut(string(bytes.TrimSpace(resp.body)), maxLine))
	}
}

// entryRun runs the function and answers with its result as a web action's.
func (s *Server) entryRun(ctx context.Context, r *request, b *entryBody) response {
	value, err := s.entryValue(ctx, r, b)
	if err != nil {
		return failure(asError(err, r.id))
	}
	body := []byte{'{'}
	if b.activation != nil {
		if inside := bytes.TrimSpace(b.activation[1 : len(b.activation)-1]); len(inside) > 0 {
			body = append(append(body, inside...), ',')
		}
	}
	body = append(append(append(body, `"value":`...), value...), '}')
	inner := s.inner(r, body)
	defer func() { r.taken += inner.taken }()
	resp := s.run(ctx, inner)
	if resp.status == http.StatusOK {
		resp = entryAnswer(resp)
	}
	asked := ""
	if r.header != nil {
		r.header("Access-Control-Request-Headers", func(_, value string) { asked = value })
	}
	addCORS(&resp, asked)
	return resp
}

// entryAnswer makes an answer of a result: of the members that web actions have, or of the
// whole of it.
func entryAnswer(resp response) response {
	parts, wrong := parseWebResult(resp.body)
	switch {
	case wrong != "" && isContainer(bytes.TrimSpace(resp.body)) && bytes.TrimSpace(resp.body)[0] == '[':
		return resp
	case wrong != "":
		return whiskText(http.StatusBadGateway, wrong)
	case parts.body == nil && parts.status == 0 && parts.header == nil:
		return resp
	case parts.body == nil && parts.others:
		parts.body = withoutParts(resp.body)
	}
	if parts.empty() && parts.status == http.StatusOK {
		parts.status = 0 // 204
	}
	answer, wrong := parts.httpAnswer()
	if wrong != "" {
		return whiskText(http.StatusBadGateway, wrong)
	}
	return answer
}

// withoutParts is a result without its status and headers.
func withoutParts(result []byte) json.RawMessage {
	var rest []byte
	_ = scanMembers(result, -1, func(s *jsonscan.Scanner, key []byte) bool {
		raw, ok := s.Raw()
		if name := string(key); ok && name != "statusCode" && name != "headers" {
			rest = appendPair(rest, name, raw)
		}
		return ok
	})
	return append(rest, '}')
}

// entryValue makes the arguments of a function: value, and the HTTP context when there is
// an activation. A raw function gets value in the context alone. Models that are no plain
// functions get value as it is: their routes are served beside.
func (s *Server) entryValue(ctx context.Context, r *request, b *entryBody) (json.RawMessage, error) {
	value := b.value
	if value == nil {
		value = json.RawMessage("{}")
	}
	raw := s.entryRaw.Load()
	if b.activation == nil && !raw || value[0] != '{' && !raw {
		return value, nil
	}
	a := s.action.Load()
	if a == nil {
		return value, nil
	}
	m, err := s.model(ctx, a.model)
	if err != nil {
		return value, nil //nolint:nilerr // the run says so
	}
	c := call{protocol: openwhisk, requestID: r.id, request: actions.Request{Model: a.model, ID: r.id, Trace: r.trace}}
	function, err := s.isFunction(ctx, &c, m)
	r.spend(c.begun.Timing)
	if err != nil || !function {
		return value, err
	}
	return s.entryContext(r, b, value, raw), nil
}

// entryContext adds the HTTP context to the arguments.
func (s *Server) entryContext(r *request, b *entryBody, value json.RawMessage, raw bool) json.RawMessage {
	var object []byte
	if !raw {
		_ = scanMembers(value, -1, func(s *jsonscan.Scanner, key []byte) bool {
			member, ok := s.Raw()
			if ok && !isContext(string(key)) {
				object = appendPair(object, string(key), member)
			}
			return ok
		})
	}
	add := func(name string, value any) {
		object = appendPair(object, webPrefix+name, bytes.TrimSpace(jsonResponse(0, value).body))
	}
	if raw {
		add("body", entryRawBody(value))
		add("query", entryQuery(r.query))
	}
	add("user", jsonText(memberOf(b.activation, "namespace")))
	add("method", r.method)
	header := map[string]string{}
	if r.header != nil {
		r.header("", func(name, value string) {
			header[strings.ToLower(name)] = strings.ToValidUTF8(value, "\uFFFD")
		})
	}
	add("headers", header)
	add("path", "")
	return append(object, '}')
}

// entryRawBody is value as a raw function gets it: a text as it is, other JSON in base64.
func entryRawBody(value json.RawMessage) string {
	if value[0] == '"' {
		return jsonText(value)
	}
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		b.Write(value)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// entryQuery is a query string as an object: a text for a name, or an array of them.
func entryQuery(query string) map[string]any {
	values, _ := url.ParseQuery(query) // what cannot be decoded is left out
	object := make(map[string]any, len(values))
	for name, texts := range values {
		if object[name] = texts; len(texts) == 1 {
			object[name] = texts[0]
		}
	}
	return object
}
