package proxy

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// webPrefix begins the names of the arguments that make an activation the HTTP request of
// a web action (apache/openwhisk, docs/webactions.md).
const webPrefix = "__ow_"

// A webCall is the request of a web action on its way through the routes.
type webCall struct {
	base  string // of the action in its caller's URLs, escaped, without a slash at the end
	model string // the only one that the action serves
	outer *call  // the activation, which takes what the call of the model answered
}

// at is the path that the routes of DEEPaaS are below, for the caller of a request.
func (s *Server) at(r *request) string {
	if r.web != nil {
		return r.web.base
	}
	return s.base
}

// models are the models that a request may see.
func (s *Server) models(ctx context.Context, r *request) ([]actions.Model, error) {
	if r.web == nil {
		return s.cfg.Catalog.Models(ctx)
	}
	m, err := s.model(ctx, r.web.model)
	return []actions.Model{m}, err
}

// webAction answers an activation that is the HTTP request of a web action: the request is
// made again, one of the routes of DEEPaaS answers it, and its answer is the result, as
// OpenWhisk makes an HTTP answer of it. handled is false for every other activation, and
// for a plain function, which gets its arguments as they are and answers what it likes.
func (s *Server) webAction(ctx context.Context, c *call, a *activation, m actions.Model) (resp response, handled bool, err error) {
	if a.kind != '{' || jsonText(a.values[webPrefix+"method"]) == "" {
		return response{}, false, nil
	}
	function, err := s.isFunction(ctx, c, m)
	if function || err != nil {
		return response{}, err != nil, err
	}
	if a.many {
		return response{}, true, actions.Errorf(actions.Invalid, "Error unmarshaling request: %s", errTooMany())
	}
	inner, err := webRequest(a, m)
	if err != nil {
		return response{}, true, err
	}
	inner.id, inner.bodies = c.request.ID, s.bodies
	if inner.trace = c.request.Trace; inner.trace.Parent == "" {
		inner.trace = inner.traceContext()
	}
	inner.web = &webCall{base: webBase(a, &inner), model: m.Name, outer: c}
	defer func() { s.bodies.give(inner.taken) }()
	if err := inner.take(int64(len(inner.body))); err != nil {
		return response{}, true, err
	}
	answer := s.webRoute(ctx, &inner, c.request.Verb)
	if e := c.answered; e != nil && e.Code == actions.Canceled {
		return response{}, true, e // which is for the platform and not for the caller
	}
	if inner.method == http.MethodHead {
		answer.body = nil
	}
	return s.webAnswer(c, &answer), true, nil
}

// isFunction says whether a model is a function that takes all of its arguments at once, as
// OpenWhisk calls it. Only the model's own program knows that, so it is started if need be.
func (s *Server) isFunction(ctx context.Context, c *call, m actions.Model) (bool, error) {
	switch m.Runtime {
	case actions.Executable:
		return true, nil
	case actions.Python:
	default:
		return false, nil
	}
	if d := s.description(m); d != nil {
		return d.Function, nil
	}
	begun, err := s.cfg.Invoker.Invoke(ctx, preparing(ctx, m.Name, c.request.ID, c.request.Trace))
	d := s.description(m)
	if d == nil {
		return false, err
	}
	c.begun.Logs, c.begun.Timing = begun.Logs, begun.Timing
	c.response = c.begun // if no other call follows
	c.returned = s.traceTime()
	return d.Function, nil
}

// webRoute answers the request of a web action, whose path is the rest of the URL behind
// the action's name. Without one the action is its model: POST asks it, a browser gets its
// page, every other GET the document of versions.
func (s *Server) webRoute(ctx context.Context, r *request, verb actions.Verb) response {
	model := "/v2/models/" + r.web.model + "/"
	ask := map[actions.Verb]string{actions.Train: "train/", actions.Metadata: ""}
	reads := r.method == http.MethodGet || r.method == http.MethodHead
	switch root := r.path == "" || r.path == "/"; {
	case root && r.method == http.MethodPost && verb != actions.Metadata:
		rest, ok := ask[verb]
		if !ok {
			rest = "predict/"
		}
		r.path = model + rest
	case root && verb == actions.Metadata:
		r.path, r.method = model, http.MethodGet
	case root && reads && !s.cfg.NoDocs && strings.Contains(r.accept, "text/html"):
		return s.redirectPage(http.StatusFound)(ctx, r)
	case root && reads:
		return s.versionsPage(ctx, r)
	case root:
		return methodNotAllowed(&route{get: s.versionsPage, post: s.predict}, r)
	}
	rt := s.webMatch(r)
	if rt == nil {
		return failure(actions.Errorf(actions.NotFound, "the web action has nothing at %s", short(r.path)))
	}
	h := rt.handler(r.method)
	switch {
	case r.model != "" && r.model != r.web.model:
		return failure(actions.Errorf(actions.NotFound, "this web action serves the model %s alone, not %q",
			r.web.model, short(r.model)))
	case h == nil:
		return methodNotAllowed(rt, r)
	}
	return h(ctx, r)
}

// webMatch finds the route of DEEPaaS for the request of a web action. A slash may be
// missing at the end: a redirect would cost its caller another activation.
func (s *Server) webMatch(r *request) *route {
	sent := r.path
	for _, path := range []string{sent, sent + "/"} {
		r.path = s.base + path
		if rt, ok := s.match(r); ok && rt.web {
			return rt
		}
	}
	r.path = sent
	return nil
}

// ended ends the call of a model behind a DEEPaaS route. That of a web action is part of
// an activation, which is the one that is counted, and whose logs are these.
func (s *Server) ended(ctx context.Context, r *request, c *call, err error) *actions.Error {
	if r.web == nil {
		return s.observe(ctx, c, err)
	}
	outer := r.web.outer
	outer.response.Logs, outer.response.Timing = c.response.Logs, c.response.Timing
	outer.returned = c.returned
	if err != nil {
		outer.answered = asError(err, c.requestID)
		if len(outer.response.Logs) == 0 {
			outer.response.Logs = outer.answered.Logs
		}
	}
	_ = outer.addBegun(nil)
	return outer.answered
}

// webBase is the path of the web action in the URLs of its caller: that of the URL in the
// header that API gateways set, less what is behind the action's name, else the one that
// OpenWhisk has for the action's name. It is empty when neither is known.
func webBase(a *activation, r *request) string {
	base := ""
	r.header("X-Forwarded-Url", func(_, value string) {
		u, err := url.Parse(value)
		if err != nil {
			return
		}
		sent := strings.TrimSuffix(u.EscapedPath(), "/")
		if rest, ok := strings.CutSuffix(sent, strings.TrimSuffix(jsonText(a.values[webPrefix+"path"]), "/")); ok {
			base = strings.TrimSuffix(rest, "/")
		}
	})
	if strings.HasPrefix(base, "/") && !strings.HasPrefix(base, "//") {
		return base
	}
	parts := strings.Split(strings.TrimPrefix(a.actionName(), "/"), "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	switch len(parts) {
	case 2:
		return webPath + parts[0] + "/default/" + parts[1]
	case 3:
		return webPath + strings.Join(parts, "/")
	}
	return ""
}

// actionName is the full name of the action that is run, as the platform says it.
func (a *activation) actionName() string {
	for _, m := range a.others {
		if string(m.key) == "action_name" {
			return jsonText(m.raw)
		}
	}
	for _, t := range a.context {
		if t.Name == "__OW_ACTION_NAME" {
			return t.Value
		}
	}
	return ""
}
