package proxy

import (
	"cmp"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

const (
	// replyTo is the attribute by which an event names the URL that its answer is sent to.
	replyTo = "replyto"
	// startCost and startTiming are the attributes that say of an answer what Deepfn-Start
	// and Server-Timing say of a response.
	startCost   = "deepfnstart"
	startTiming = "deepfntiming"
	// cause and correlation are those of the correlation extension of CloudEvents.
	cause       = "causationid"
	correlation = "correlationid"
	// ndjsonType is the media type of an answer to rows.
	ndjsonType = "application/x-ndjson"
	octetType  = "application/octet-stream"
)

// A wish is what the sender of events wants to get for them.
type wish struct {
	// reply says that the answer is to be in the response, also where there is a sink;
	// minimal that it is not wanted, and async that nobody waits for it.
	reply, minimal, async bool
	// accept is what the model is asked for: the sender's Accept without the forms of events.
	accept string
	// accepts is the whole of it; nil takes everything.
	accepts actions.Accept
}

// wishes reads what a sender wants from the headers Prefer (RFC 7240) and Accept.
func (r *request) wishes() wish {
	var w wish
	if r.accept != "" && r.accept != "*/*" {
		// What is no media type is as good as none: an event is not refused for it.
		w.accepts, _ = actions.ParseAccept(r.accept)
		w.accept = withoutEvents(r.accept)
	}
	if r.header == nil || r.peek != nil && r.peek.Peek("Prefer") == nil {
		return w
	}
	return r.preferences(w)
}

// preferences adds what the header Prefer says to a wish.
func (r *request) preferences(w wish) wish {
	r.header("Prefer", func(_, value string) { w.prefer(value) })
	return w
}

// prefer reads the value of a header Prefer.
func (w *wish) prefer(value string) {
	for preference := range strings.SplitSeq(value, ",") {
		preference, _, _ = strings.Cut(preference, ";")
		name, argument, _ := strings.Cut(preference, "=")
		switch name = strings.ToLower(strings.TrimSpace(name)); {
		case name == "reply":
			w.reply = true
		case name == "respond-async":
			w.async = true
		case name == "return" && strings.EqualFold(strings.Trim(argument, ` "`), "minimal"):
			w.minimal = true
		}
	}
}

// withoutEvents is an Accept less the forms of events, about which a model knows nothing.
func withoutEvents(accept string) string {
	if !strings.Contains(strings.ToLower(accept), "application/cloudevents") {
		return accept
	}
	var kept []string
	for element := range strings.SplitSeq(accept, ",") {
		if element = strings.TrimSpace(element); !strings.HasPrefix(strings.ToLower(element), "application/cloudevents") {
			kept = append(kept, element)
		}
	}
	return strings.Join(kept, ", ")
}

// form is the mode of a reply whose data have a media type: binary, unless the sender would
// rather have it structured, and none when it takes neither.
func (w *wish) form(contentType string) cloudevent.Mode {
	if w.accepts == nil {
		return cloudevent.Binary
	}
	binary, structured := w.accepts.Quality(contentType), w.accepts.Quality(cloudevent.StructuredType)
	switch {
	case structured > binary, structured == binary && binary > 0 && w.accept == "":
		return cloudevent.Structured
	case binary > 0:
		return cloudevent.Binary
	}
	return cloudevent.None
}

// takesBatch says whether a sender takes a batch for its batch.
func (w *wish) takesBatch() bool {
	return !w.minimal && w.accepts.Quality(cloudevent.BatchType) > 0
}

// answerRoom is memory for an answer that is made of others.
func (r *request) answerRoom() []byte {
	if r.answer == nil {
		return nil
	}
	return (*r.answer)[:0]
}

// reply makes the event that is the answer to an event, or says why there is none. It has the
// strings of the event.
func (s *Server) reply(d *delivery) cloudevent.Event {
	e, o := &d.event, &d.outcome
	answer := cloudevent.Event{
		SpecVersion: e.SpecVersion,
		ID:          d.key.text(),
		Source:      d.of.source,
		Type:        o.kind,
		Subject:     cmp.Or(o.subject, e.Subject, e.ID),
		Time:        o.at.UTC().Format(time.RFC3339Nano),
	}
	if o.err != nil {
		body := jsonResponse(0, errorBody{Error: message(o.err), Code: o.err.Code}).body
		answer.Type, answer.DataContentType, answer.Data = cloudevent.Failure, jsonType, body[:len(body)-1]
	} else {
		answer.DataContentType, answer.Data = o.contentType, o.data
	}
	answer.Extensions = s.extensions(d)
	return answer
}

// extensions are those of an answer: the event's own, what it was caused by, the trace that it
// belongs to, and what it has cost.
func (s *Server) extensions(d *delivery) []cloudevent.Attribute {
	e := &d.event
	list := make([]cloudevent.Attribute, 0, len(e.Extensions)+7)
	correlated := ""
	for _, a := range e.Extensions {
		switch {
		case a.Name == correlation:
			correlated = a.Value
		case ofDelivery(a.Name):
		default:
			list = append(list, a)
		}
	}
	add := func(name, value string) {
		if value != "" {
			list = append(list, cloudevent.Attribute{Name: name, Value: value})
		}
	}
	add(cause, e.ID)
	add(correlation, cmp.Or(correlated, e.ID))
	add("traceparent", d.trace.Parent)
	if d.trace.Parent != "" {
		add("tracestate", d.trace.State)
	}
	if n := hopsOf(e); n > 0 {
		list = append(list, cloudevent.Attribute{Name: hops, Value: strconv.Itoa(n), Kind: cloudevent.Integer})
	}
	t := &d.outcome.timing
	add(startCost, string(t.From))
	if *t != (actions.Timing{}) {
		add(startTiming, string(appendServerTiming(make([]byte, 0, 96), t)))
	}
	return list
}

// ofDelivery says whether an extension is about one event and its way, and so not about the
// answer to it.
func ofDelivery(name string) bool {
	switch name {
	case replyTo, "dataref", cause, hops, startCost, startTiming, "traceparent", "tracestate":
		return true
	}
	return strings.HasPrefix(name, "knativeerror")
}

// eventSource is the source of the answers of a model, a reference of the form
// "/services/SERVICE/models/NAME".
func (s *Server) eventSource(model string) string {
	source := s.service
	if model != "" {
		source += "/models/" + url.PathEscape(model)
	}
	return cmp.Or(source, "/")
}

// eventService is the beginning of all sources of a server.
func eventService(name string) string {
	if name == "" {
		return ""
	}
	return "/services/" + url.PathEscape(name)
}
