package proxy

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// settle answers an event that came alone, or finds the answer that it has got before, and
// sends it if it goes to a sink. What is under way goes on as long as anybody waits for it:
// a sender that leaves takes nothing from one that has sent the same event.
func (s *Server) settle(ctx context.Context, r *request, d *delivery) {
	if s.record == nil {
		s.answerEvent(ctx, r, d)
		s.deliver(ctx, d)
		return
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	run := &eventRun{waiting: 1, cancel: cancel}
	e, how, kept, wait := s.record.join(d.key, run, d.goes == toSink)
	switch how {
	case isKnown:
		d.outcome = kept
		return
	case isJoined:
		var err error
		if d.outcome, err = s.record.await(ctx, wait, run); err != nil {
			d.outcome = eventOutcome{err: asError(err, r.id)}
		} else if d.outcome.err == nil {
			s.deliver(ctx, d) // the other sender may have got the answer itself
		}
		return
	case isUnsent:
		d.outcome = kept
	case isFirst:
	}
	left := context.AfterFunc(ctx, func() { s.record.leave(run) })
	defer left()
	entry := [1]*eventEntry{e}
	defer s.unfinished(entry[:], r.id)
	if how == isFirst {
		s.answerEvent(work, r, d)
	}
	kept = d.outcome
	if kept.err == nil {
		s.deliver(work, d)
	}
	entry[0] = nil
	s.finish(e, d, &kept)
}

// finish ends the run of an event whose outcome was kept before it was sent.
func (s *Server) finish(e *eventEntry, d *delivery, kept *eventOutcome) {
	if kept.passes() || !d.outcome.sent && kept.mayChange(d.url) {
		kept = nil
	} else if d.outcome.sent {
		kept.sent = true
	}
	s.record.finish(e, d.outcome, kept)
}

// unfinished ends what a panic has left.
func (s *Server) unfinished(entries []*eventEntry, id string) {
	for _, e := range entries {
		if e != nil {
			s.record.finish(e, eventOutcome{err: internalError(id)}, nil)
		}
	}
}

// deliver sends the answer to an event, or why there is none, if that goes to a sink.
func (s *Server) deliver(ctx context.Context, d *delivery) {
	if d.goes != toSink || d.outcome.sent || d.outcome.err == nil && d.outcome.kind == "" {
		return
	}
	answer := s.reply(d)
	if err := s.cfg.Sink.Send(ctx, d.to, &answer); err != nil {
		d.outcome = eventOutcome{err: undelivered(err)}
		return
	}
	d.outcome.sent = true
}

// undelivered says that nobody has the answer to an event. The sender may try again, unless
// the place for it can never have it.
func undelivered(err error) *actions.Error {
	e := &actions.Error{Code: actions.Unavailable, Msg: "the answer was not delivered: the sink does not take it at the moment", Err: err}
	if cause, ok := errors.AsType[*actions.Error](err); ok && cause.Code != actions.Internal {
		e.Msg, e.RetryAfter = "the answer was not delivered: "+message(cause), cause.RetryAfter
		if cause.Code == actions.Invalid || cause.Code == actions.Forbidden {
			e.Code = cause.Code
		}
	}
	return e
}

// answerEvent does what an event asks for.
func (s *Server) answerEvent(ctx context.Context, r *request, d *delivery) {
	in := &request{id: r.id, bodies: s.bodies, trace: d.trace, accept: d.accept}
	defer func() { s.bodies.give(in.taken) }()
	if s.cfg.Tracer != nil && d.trace != r.trace { // the request's own span is of another trace
		own, end := s.cfg.Tracer.Begin("event", true, d.trace, time.Now())
		in.trace, d.trace = own, own
		defer func() {
			attributes, failure := in.account.attributes()
			end(time.Now(), failure, attributes)
		}()
	}
	switch d.event.Type {
	case cloudevent.BatchRequested:
		s.requestBatch(ctx, in, d)
	case cloudevent.BatchChunk:
		s.doChunk(ctx, in, d)
	default:
		s.predictEvent(ctx, in, d)
	}
	d.account = in.account
	d.outcome.at = time.Now()
}

// predictEvent predicts on what one event has or tells of.
func (s *Server) predictEvent(ctx context.Context, in *request, d *delivery) {
	c := s.eventCall(in, d.of)
	c.event, c.known = d.event.ID, d.of.err == nil
	err := d.of.err
	if err == nil {
		err = s.predictData(ctx, &c, d, in)
	}
	e := s.observe(ctx, &c, err)
	in.note(&c, e)
	if e != nil {
		d.outcome = eventOutcome{err: e}
	}
	d.outcome.timing = in.account.timing
}

// predictData makes arguments of the data of an event and predicts with them.
func (s *Server) predictData(ctx context.Context, c *call, d *delivery, in *request) error {
	if d.url == "" && isLines(d.event.DataContentType) {
		return s.predictLines(ctx, c, d, in)
	}
	if err := s.eventArguments(ctx, c, d, in); err != nil {
		return c.addBegun(err)
	}
	if err := s.invoke(ctx, c, d.of.model); err != nil {
		return s.exited(d.of.model, err)
	}
	d.outcome = predicted(&c.response)
	return nil
}

// predicted is the outcome of an event that has an answer.
func predicted(a *actions.Response) eventOutcome {
	o := eventOutcome{kind: cloudevent.Prediction, contentType: a.ContentType, data: a.Data, timing: a.Timing}
	switch {
	case isJSON(o.contentType) && len(o.data) == 0:
		o.data = []byte("null")
	case mediaOf(o.contentType) == "":
		o.contentType = octetType
	}
	return o
}

// eventFailed is the outcome of an event that is no prediction, and its one line in the log.
func (s *Server) eventFailed(ctx context.Context, in *request, d *delivery, err error) {
	e := asError(err, in.id)
	s.log.WarnContext(ctx, "event refused", "request_id", in.id, "event_id", short(d.event.ID),
		"event_type", short(d.event.Type), "code", string(e.Code), "error", err.Error())
	d.outcome = eventOutcome{err: e}
}

// requestBatch begins the batch prediction that an event asks for, of the model of the request
// unless it names one.
func (s *Server) requestBatch(ctx context.Context, in *request, d *delivery) {
	b, err := actions.Batch{}, s.noBatches()
	if err == nil {
		b, err = actions.ParseBatch(d.event.Data)
	}
	var job actions.Job
	if err == nil {
		b.Model = cmp.Or(b.Model, d.of.name)
		job, err = s.cfg.Batches.Submit(ctx, b)
	}
	if err != nil {
		s.eventFailed(ctx, in, d, err)
		return
	}
	s.log.InfoContext(ctx, "batch requested", "request_id", in.id, "event_id", short(d.event.ID), "model", short(b.Model), "job", job.ID)
	body := jsonResponse(0, job).body
	d.outcome = eventOutcome{kind: cloudevent.BatchAccepted, subject: job.ID, contentType: jsonType, data: bytes.TrimSuffix(body, []byte("\n"))}
}

// doChunk does the part of a batch prediction that an event hands out. There is no answer.
func (s *Server) doChunk(ctx context.Context, in *request, d *delivery) {
	var chunk actions.Chunk
	err := s.noBatches()
	if err == nil {
		if bad := json.Unmarshal(d.event.Data, &chunk); bad != nil {
			err = actions.Errorf(actions.Invalid, "the data of the event are no chunk of a batch: %w", bad)
		} else {
			err = s.cfg.Batches.Do(ctx, chunk)
		}
	}
	if err != nil {
		s.eventFailed(ctx, in, d, err)
		return
	}
	s.log.InfoContext(ctx, "chunk done", "request_id", in.id, "job", short(chunk.Job), "chunk", chunk.Index)
}

// noBatches says why there are no batch predictions, if that is so.
func (s *Server) noBatches() error {
	switch {
	case s.cfg.Batches != nil:
		return nil
	case s.cfg.Elsewhere != "":
		return actions.Errorf(actions.Unsupported, "there are no batch predictions here: %s", s.cfg.Elsewhere)
	}
	return actions.Errorf(actions.Unsupported, "this server runs no batch predictions")
}

// mediaOf is a media type in lower case, without its parameters.
func mediaOf(contentType string) string {
	if contentType == jsonType {
		return jsonType
	}
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	if !strings.Contains(media, "/") {
		return ""
	}
	return media
}

// isLines says whether a media type is that of JSON in lines.
func isLines(contentType string) bool {
	return contentType != jsonType &&
		slices.Contains([]string{ndjsonType, "application/ndjson", "application/jsonl", "application/jsonlines", "application/x-jsonlines"}, mediaOf(contentType))
}
