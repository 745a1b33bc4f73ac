package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A Tracer records spans. Many may call it at the same time, and it holds up nobody.
type Tracer interface {
	// Begin begins a span below parent, which may be empty: then it is the first one of a
	// trace. entry says that the span is what this process does for a request from outside,
	// else it is a step of that. Begin returns the context for what is below the span, and
	// end, which is called once at most: failure is what went wrong, empty for nothing, and
	// attributes are texts, ints and bools by name; nil is none.
	Begin(name string, entry bool, parent actions.Trace, start time.Time) (
		own actions.Trace, end func(at time.Time, failure string, attributes map[string]any))
}

// traceTime is the time for a span, zero when there will be none.
func (s *Server) traceTime() time.Time {
	if s.cfg.Tracer == nil {
		return time.Time{}
	}
	return time.Now()
}

// otherMethod is what the semantic conventions call a method that HTTP does not have.
const otherMethod = "_OTHER"

// beginSpan reads the trace context of a request, and begins its span if there is a tracer.
// The function it returns ends the span, and is nil without one. Names are those of
// OpenTelemetry's semantic conventions.
func (s *Server) beginSpan(r *request, rt *route) func(status int) {
	if rt != nil && rt.probe {
		return nil
	}
	r.trace = r.traceContext()
	r.remote = r.trace.Parent != ""
	if s.cfg.Tracer == nil {
		return nil
	}
	method, name := spanMethod(r.method), "HTTP"
	if method != otherMethod {
		name = method
	}
	if rt != nil {
		name += " " + rt.template()
	}
	if r.arrived.IsZero() {
		r.arrived = time.Now()
	}
	own, end := s.cfg.Tracer.Begin(name, true, r.trace, r.arrived)
	r.trace = own
	path := short(r.path) // which the handler may change
	return func(status int) {
		attributes, failure := r.account.attributes()
		attributes["http.request.method"], attributes["http.response.status_code"] = method, status
		attributes["url.scheme"], attributes["url.path"] = "http", path
		if rt != nil {
			attributes["http.route"] = rt.template()
		}
		if failure == "" && status >= http.StatusInternalServerError {
			failure = http.StatusText(status)
		}
		s.steps(own, r.arrived, &r.account)
		end(time.Now(), failure, attributes)
	}
}

// attributes are those of an invocation. Its failure is empty when there was none, or the
// caller was at fault.
func (a *account) attributes() (attributes map[string]any, failure string) {
	attributes = make(map[string]any, 8)
	for name, value := range map[string]string{"deepfn.model": a.model, "deepfn.activation_id": a.activation} {
		if value != "" {
			attributes[name] = value
		}
	}
	if a.code == "" || a.code == "ok" {
		return attributes, ""
	}
	attributes["error.type"] = a.code
	if outputLevel(&actions.Error{Code: actions.Code(a.code)}) == slog.LevelWarn {
		failure = a.code
	}
	return attributes, failure
}

// steps records where the time of an invocation went, as spans below parent, which began at
// start: the call of the model ended when it returned, and the others were before it.
func (s *Server) steps(parent actions.Trace, start time.Time, a *account) {
	t := &a.timing
	if a.returned.IsZero() || *t == (actions.Timing{}) {
		return
	}
	began := a.returned.Add(-t.Run)
	ready := began.Add(-t.Start)
	for _, step := range []struct {
		name       string
		from, to   time.Time
		attributes map[string]any
	}{
		{"queue", ready.Add(-t.Queue), ready, nil},
		{"start", ready, began, map[string]any{"deepfn.from": string(t.From), "deepfn.cold": t.Cold}},
		{"run", began, a.returned, nil},
	} {
		if step.from.Before(start) { // by what is between two looks at the clock
			step.from = start
		}
		if !step.to.After(step.from) {
			continue
		}
		_, end := s.cfg.Tracer.Begin(step.name, false, parent, step.from)
		end(step.to, "", step.attributes)
	}
}

// beginActivation begins the span of an activation that Config.Controller runs, below the
// request that ctx is for. The function it returns ends the activation's part in both.
func (s *Server) beginActivation(ctx context.Context, c *call) func(*actions.Error) {
	of, _ := ctx.Value(errandKey{}).(*errand)
	if of != nil {
		c.request.Trace = of.trace
	}
	end := func(time.Time, string, map[string]any) {}
	if s.cfg.Tracer != nil {
		c.request.Trace, end = s.cfg.Tracer.Begin("activation", false, c.request.Trace, c.start)
	}
	return func(e *actions.Error) {
		var r request
		r.note(c, e)
		if of != nil {
			of.add(r.account.timing)
		}
		if s.cfg.Tracer == nil {
			return
		}
		attributes, failure := r.account.attributes()
		s.steps(c.request.Trace, c.start, &r.account)
		end(time.Now(), failure, attributes)
	}
}

// spanMethod is the method of a request as an attribute has it: callers can make up any.
func spanMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace, http.MethodPatch:
		return method
	}
	return otherMethod
}
