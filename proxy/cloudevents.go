package proxy

import (
	"cmp"
	"context"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// notAnEvent is what a request gets that is none, where events are taken.
const notAnEvent = "this is no event: send a CloudEvent, in binary mode (headers ce-specversion, ce-id, ce-source, ce-type), " +
	"as " + cloudevent.StructuredType + " or as " + cloudevent.BatchType + ", or a notification of a bucket as JSON"

// noFunction is what an event gets that no model is for.
const noFunction = "this server has no model of its own: send the event to /v2/models/NAME/events/"

// A delivery is one event on its way: to the model, and its answer to where that goes.
type delivery struct {
	event   cloudevent.Event
	of      *eventTarget
	trace   actions.Trace
	key     eventKey
	to      string      // the URL that the event names for its answer
	goes    destination // where the answer goes
	url     string      // of the object that the event tells of, instead of its data
	accept  string      // what the model is asked for
	outcome eventOutcome
	account account // of the call that answered it, if one has
}

// A destination is where the answer to an event goes.
type destination uint8

const (
	toSender destination = iota
	toSink               // of delivery.to, or the server's own when that is empty
	toNobody
)

// An eventTarget is the model that the events of a request are for.
type eventTarget struct {
	name  string
	model actions.Model
	err   error // why there is none
	// source is that of its answers.
	source string
}

// An eventOutcome is what became of an event.
type eventOutcome struct {
	// err is why there is no answer; what follows is nothing then.
	err *actions.Error
	// kind is the type of the answer, empty when the event has none.
	kind string
	// subject is that of the answer, empty for the event's.
	subject string
	// contentType and data are the answer.
	contentType string
	data        []byte
	timing      actions.Timing
	at          time.Time
	// sent says that a sink has the answer.
	sent bool
}

// modelEvents answers POST /v2/models/{model}/events/.
func (s *Server) modelEvents(ctx context.Context, r *request) response {
	if crossSite(r) && !s.cfg.Entry.Public {
		s.metrics.refused("cross_site")
		return whiskText(http.StatusForbidden, otherSite)
	}
	t := s.target(ctx, r.model)
	if isEvent(r) {
		return s.events(ctx, r, t)
	}
	if list, is := parseBucketNotice(r.body); is {
		return s.notices(ctx, r, t, list)
	}
	return jsonResponse(http.StatusUnsupportedMediaType, errorBody{Error: notAnEvent, Code: actions.Unsupported})
}

// entryEvents answers an event at the single entrypoint, for the model that the function is.
func (s *Server) entryEvents(ctx context.Context, r *request, do func(t *eventTarget) response) response {
	if crossSite(r) && !s.cfg.Entry.Public {
		s.metrics.refused("cross_site")
		return whiskText(http.StatusForbidden, otherSite)
	}
	if resp := s.specialize(ctx, r); resp.status != http.StatusOK {
		return resp
	}
	a := s.action.Load()
	switch {
	case a == nil:
		return do(&eventTarget{source: s.eventSource(""), err: actions.Errorf(actions.Invalid, noFunction)})
	case a.verb != actions.Predict:
		return do(&eventTarget{name: a.model, source: s.eventSource(a.model), err: actions.Errorf(actions.Unsupported, "events are predictions, and this function is the %s of %s", a.verb, a.model)})
	}
	return do(s.target(ctx, a.model))
}

// target finds the model for events.
func (s *Server) target(ctx context.Context, name string) *eventTarget {
	t := &eventTarget{name: name, source: s.eventSource(name)}
	if t.model, t.err = s.model(ctx, name); t.err == nil && s.cfg.NoPredict {
		t.err = &actions.Error{Code: actions.Unsupported, Msg: "predictions are turned off here", Status: http.StatusPaymentRequired}
	}
	return t
}

// isEvent says whether a request is a CloudEvent, in any mode of its HTTP binding.
func isEvent(r *request) bool {
	const structured = "application/cloudevents"
	if len(r.contentType) >= len(structured) && strings.EqualFold(r.contentType[:len(structured)], structured) {
		return true
	}
	r.collectAttributes()
	return len(r.collection) > 0
}

// collectAttributes keeps the attributes in the header, once. It takes no memory for other headers,
// and one piece of it for the values of all attributes.
func (r *request) collectAttributes() {
	if r.collected {
		return
	}
	r.collected = true
	raw, ok := r.peek.(interface {
		All() iter.Seq2[[]byte, []byte]
	})
	if !ok {
		if r.header != nil {
			r.header("", func(name, value string) {
				if len(name) > 3 && strings.EqualFold(name[:3], "ce-") {
					r.collection = append(r.collection, cloudevent.Attribute{Name: name, Value: value})
				}
			})
		}
		return
	}
	found := attributeValues{text: r.answerRoom()} // which nobody uses yet
	for name, value := range raw.All() {
		if !isAttribute(name) {
			continue
		}
		if r.collection == nil {
			found.ends = found.endsRoom[:0]
			r.collection = make([]cloudevent.Attribute, 0, 8)
		}
		r.collection = append(r.collection, cloudevent.Attribute{Name: attributeName(name)})
		found.text = append(found.text, value...)
		found.ends = append(found.ends, len(found.text))
	}
	values, begin := string(found.text), 0 // the one piece
	for i, end := range found.ends {
		r.collection[i].Value = values[begin:end]
		begin = end
	}
}

// attributeValues are the values of attributes one after the other, and where each ends, with
// room for as many as most events have.
type attributeValues struct {
	text     []byte
	ends     []int
	endsRoom [12]int
}

// isAttribute says whether a header is an attribute of an event.
func isAttribute(name []byte) bool {
	return len(name) > 3 && name[0]|0x20 == 'c' && name[1]|0x20 == 'e' && name[2] == '-'
}

// attributeName is the name of a header, without memory for those that every event has.
func attributeName(b []byte) string {
	switch string(b) {
	case "Ce-Id":
		return "Ce-Id"
	case "Ce-Source":
		return "Ce-Source"
	case "Ce-Specversion":
		return "Ce-Specversion"
	case "Ce-Type":
		return "Ce-Type"
	case "Ce-Time":
		return "Ce-Time"
	case "Ce-Subject":
		return "Ce-Subject"
	}
	return string(b)
}

// events answers a request that is an event, or a batch of them.
func (s *Server) events(ctx context.Context, r *request, t *eventTarget) response {
	if r.refused != nil {
		return eventFailure(r.refused)
	}
	if err := r.isForeign(); err != nil {
		return s.rejectEvent(ctx, r, t, err)
	}
	w := r.wishes()
	if w.async {
		if err := r.keepBody(); err != nil {
			return eventFailure(asError(err, r.id))
		}
	}
	var e cloudevent.Event
	var err error
	switch cloudevent.ModeOfType(r.contentType) {
	case cloudevent.Batched:
		return s.eventBatch(ctx, r, t, w)
	case cloudevent.Structured:
		e, err = cloudevent.ParseStructured(r.body)
	default: // also an attribute alone, which is an event without the others
		r.collectAttributes()
		e, err = cloudevent.ParseAttributes(r.contentType, r.collection, r.body)
	}
	if err == nil && len(e.Data) != len(r.body) {
		err = r.takeData([]cloudevent.Event{e})
	}
	if err != nil {
		return s.rejectEvent(ctx, r, t, err)
	}
	urls, notice := noticeOf(&e)
	if len(urls) > 1 {
		return s.manyNotices(ctx, r, t, w, &e)
	}
	d := delivery{event: e, of: t}
	if len(urls) == 1 {
		d.url = urls[0]
	}
	return s.oneEvent(ctx, r, w, &d, notice && len(urls) == 0)
}

// oneEvent answers a request that is one event. An ignored one is done with that.
func (s *Server) oneEvent(ctx context.Context, r *request, w wish, d *delivery, ignored bool) response {
	if err := s.address(r, w, d); err != nil {
		return s.rejectEvent(ctx, r, d.of, err)
	}
	if ignored {
		s.ignore(ctx, r, &d.event)
		return response{status: http.StatusNoContent}
	}
	if w.async {
		one := []delivery{*d} // a copy, for d to stay on the stack of what does not come here
		return s.later(ctx, r, func(ctx context.Context, r *request) { s.settleLater(ctx, r, one) })
	}
	s.settle(ctx, r, d)
	if d.account.code != "" {
		r.account = d.account
	}
	return s.eventResponse(r, d, w)
}

// ignore notes an event that tells of nothing to predict on.
func (s *Server) ignore(ctx context.Context, r *request, e *cloudevent.Event) {
	s.log.InfoContext(ctx, "event ignored", "request_id", r.id, "event_id", short(e.ID), "event_type", short(e.Type))
}

// rejectEvent answers an event that no model is asked for.
func (s *Server) rejectEvent(ctx context.Context, r *request, t *eventTarget, err error) response {
	c := s.eventCall(r, t)
	c.known = t.err == nil
	e := s.observe(ctx, &c, err)
	r.note(&c, e)
	return eventFailure(e)
}

// eventCall is an invocation for an event.
func (s *Server) eventCall(r *request, t *eventTarget) call {
	return call{
		protocol: cloudevents, requestID: r.id, start: time.Now(),
		request: actions.Request{Model: t.name, Verb: actions.Predict, ID: r.id, Trace: r.trace},
	}
}

// address finds where the answer to an event goes, and who the event is.
func (s *Server) address(r *request, w wish, d *delivery) error {
	d.trace = r.eventTrace(&d.event)
	d.key = keyOf(d)
	d.goes, d.accept = toSender, w.accept
	if err := mayAnswer(&d.event); err != nil {
		return err
	}
	switch d.to = d.event.Extension(replyTo); {
	case d.to != "" && s.cfg.Sink == nil:
		return actions.Errorf(actions.Invalid, "the event names %s, and this server sends no events", replyTo)
	case d.to != "":
		d.goes = toSink
		return s.cfg.Sink.MaySend(d.to)
	case s.cfg.Sink != nil && s.cfg.Sink.Configured() && (!w.reply || w.async):
		d.goes = toSink
	case w.async:
		return actions.Errorf(actions.Invalid,
			"Prefer: respond-async needs a place for the answer: name it with the attribute %s, or give the server a sink", replyTo)
	case w.minimal:
		d.goes = toNobody
	}
	return nil
}

// eventTrace is the trace context of an event: that of the request, which wins, or of the
// distributed tracing extension.
func (r *request) eventTrace(e *cloudevent.Event) actions.Trace {
	if r.remote || len(e.Extensions) == 0 {
		return r.trace
	}
	parent, ok := parseParent(e.Extension("traceparent"))
	if !ok {
		return r.trace
	}
	return actions.Trace{Parent: parent, State: parseState(e.Extension("tracestate"))}
}

// eventResponse answers a request that was one event. What is a success is empty or an event:
// a sender takes anything else for an error.
func (s *Server) eventResponse(r *request, d *delivery, w wish) response {
	o := &d.outcome
	switch {
	case o.err != nil:
		return eventFailure(o.err)
	case o.kind == "", d.goes == toNobody:
		return response{status: http.StatusNoContent}
	case d.goes == toSink, o.sent: // what a sink has got, also of another who sent the event, is not kept
		return response{status: http.StatusAccepted}
	}
	form := w.form(o.contentType)
	if form == cloudevent.None {
		return response{status: http.StatusNoContent}
	}
	reply := s.reply(d)
	if form == cloudevent.Structured || !reply.FitsBinary() && w.accepts.Quality(cloudevent.StructuredType) > 0 {
		return response{status: http.StatusOK, contentType: cloudevent.StructuredType, body: reply.AppendJSON(r.answerRoom())}
	}
	return response{status: http.StatusOK, contentType: reply.DataContentType, body: reply.Data, event: &reply, policy: filePolicy(reply.DataContentType)}
}

// filePolicy keeps a browser from running an answer, as that of DEEPaaS does.
func filePolicy(contentType string) string {
	if isJSON(contentType) {
		return ""
	}
	return answerPolicy
}

// webHook answers OPTIONS of a sender that asks whether it may send events here, as the web
// hook specification of CloudEvents has it. Who may send is not this handshake's affair, so
// the answer is yes, at any rate.
func webHook(resp *response, r *request) {
	origin := r.headerText("WebHook-Request-Origin")
	if origin == "" || strings.ContainsAny(origin, "\r\n") {
		return
	}
	if resp.header == nil {
		resp.header = make(http.Header)
	}
	rate := r.headerText("WebHook-Request-Rate")
	if strings.Trim(rate, "0123456789") != "" {
		rate = ""
	}
	resp.header.Set("WebHook-Allowed-Origin", origin)
	resp.header.Set("WebHook-Allowed-Rate", cmp.Or(rate, "*"))
}

// eventMethods answers what is no POST on the route of a model's events.
func (s *Server) eventMethods(_ context.Context, r *request) response {
	resp := methodNotAllowed(&route{post: s.modelEvents}, r)
	if r.method == http.MethodOptions {
		resp = response{status: http.StatusOK, contentType: textType, body: []byte(resp.allow), allow: resp.allow}
		webHook(&resp, r)
	}
	return resp
}
