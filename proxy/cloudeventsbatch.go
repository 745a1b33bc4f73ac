package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
	"github.com/deepfn/deepfn/actions/many"
)

// eventsAtOnce is how many events of a batch are answered at one time that are no rows, and
// how many answers are on their way to a sink.
const eventsAtOnce = 8

// eventBatch answers a request that is a batch of events. Each of them is on its own; those
// that can be are predicted together.
func (s *Server) eventBatch(ctx context.Context, r *request, t *eventTarget, w wish) response {
	events, faults, err := cloudevent.ParseBatch(r.body)
	if err != nil {
		return s.rejectEvent(ctx, r, t, err)
	}
	if err := r.takeData(events); err != nil {
		return s.rejectEvent(ctx, r, t, err)
	}
	if t.err != nil && !slices.ContainsFunc(events, func(e cloudevent.Event) bool { return isWork(e.Type) }) {
		return s.rejectEvent(ctx, r, t, t.err)
	}
	if !t.model.ParsesArguments() {
		if err := r.takeDecoded(); err != nil {
			return s.rejectEvent(ctx, r, t, err)
		}
	}
	ds := make([]delivery, 0, len(events))
	for i := range events {
		if faults != nil && faults[i] != nil {
			ds = append(ds, delivery{event: events[i], of: t, outcome: eventOutcome{err: asError(faults[i], r.id), at: time.Now()}})
			continue
		}
		if ds = s.unfold(ctx, r, ds, t, &events[i]); len(ds) > cloudevent.MaxBatch {
			return s.rejectEvent(ctx, r, t, actions.Errorf(actions.TooLarge, "the batch tells of more than %d objects: send it in parts", cloudevent.MaxBatch))
		}
	}
	return s.manyEvents(ctx, r, w, ds)
}

// isWork says whether a type of events asks for something that no model of the request is for.
func isWork(kind string) bool {
	return kind == cloudevent.BatchRequested || kind == cloudevent.BatchChunk
}

// unfold adds the deliveries of an event: one, or one for each object that it tells of.
func (s *Server) unfold(ctx context.Context, r *request, ds []delivery, t *eventTarget, e *cloudevent.Event) []delivery {
	urls, notice := noticeOf(e)
	switch {
	case !notice:
		return append(ds, delivery{event: *e, of: t})
	case len(urls) == 0:
		s.ignore(ctx, r, e)
	}
	for _, url := range urls {
		ds = append(ds, delivery{event: *e, of: t, url: url})
	}
	return ds
}

// manyEvents answers a request that is several events.
func (s *Server) manyEvents(ctx context.Context, r *request, w wish, ds []delivery) response {
	var wrong *actions.Error
	for i := range ds {
		d := &ds[i]
		err := s.address(r, w, d)
		switch {
		case d.outcome.err != nil: // it is none, and so like no other
			d.key = sha256.Sum256(fmt.Appendf(nil, "%s %d", r.id, i))
		case err != nil:
			d.outcome = eventOutcome{err: asError(err, r.id), at: time.Now()}
			wrong = d.outcome.err
		}
	}
	switch {
	case w.async && wrong != nil:
		return eventFailure(wrong)
	case w.async:
		return s.later(ctx, r, func(ctx context.Context, r *request) { s.settleLater(ctx, r, ds) })
	}
	s.settleAll(ctx, r, ds)
	return s.batchResponse(r, w, ds)
}

// settleAll settles events that came together, as settle does one.
func (s *Server) settleAll(ctx context.Context, r *request, ds []delivery) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	run := &eventRun{waiting: 1, cancel: cancel}
	entries := make([]*eventEntry, len(ds))
	defer s.unfinished(entries, r.id)
	first, send := make([]int, 0, len(ds)), make([]int, 0, len(ds))
	var waits map[int]*eventWait
	for i := range ds {
		d := &ds[i]
		how := isFirst
		switch {
		case d.outcome.err != nil: // it was none from the beginning
			how = isUnsent
		case s.record != nil:
			var wait *eventWait
			if entries[i], how, d.outcome, wait = s.record.join(d.key, run, d.goes == toSink); wait != nil {
				if waits == nil {
					waits = make(map[int]*eventWait)
				}
				waits[i] = wait
			}
		}
		switch how {
		case isFirst:
			first, send = append(first, i), append(send, i)
		case isUnsent:
			send = append(send, i)
		case isJoined, isKnown:
			entries[i] = nil // another's
		}
	}
	if s.record != nil {
		defer context.AfterFunc(ctx, func() { s.record.leave(run) })()
	} else {
		defer context.AfterFunc(ctx, cancel)()
	}
	s.answerAll(work, r, ds, first)
	s.finishAll(work, ds, send, entries)
	for i, wait := range waits {
		var err error
		if ds[i].outcome, err = s.record.await(ctx, wait, run); err != nil {
			ds[i].outcome = eventOutcome{err: asError(err, r.id), at: time.Now()}
		} else if !ds[i].outcome.passes() {
			s.deliver(ctx, &ds[i])
		}
	}
}

// finishAll sends the answers to events and ends their runs.
func (s *Server) finishAll(ctx context.Context, ds []delivery, send []int, entries []*eventEntry) {
	finish := func(i int) {
		d := &ds[i]
		kept := d.outcome
		if !kept.passes() {
			s.deliver(ctx, d)
		}
		if e := entries[i]; e != nil {
			entries[i] = nil
			s.finish(e, d, &kept)
		}
	}
	if !slices.ContainsFunc(send, func(i int) bool { return ds[i].goes == toSink }) {
		for _, i := range send {
			finish(i)
		}
		return
	}
	inParallel(len(send), eventsAtOnce, func(n int) { finish(send[n]) })
}

// inParallel calls do for each number below n, some at a time, and returns when all have
// returned.
func inParallel(n, atOnce int, do func(i int)) {
	places := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range n {
		places <- struct{}{}
		wg.Go(func() { // ends with do
			defer func() { <-places }()
			do(i)
		})
	}
	wg.Wait()
}

// answerAll does what events ask for, those that are rows with as few calls as it takes.
func (s *Server) answerAll(ctx context.Context, r *request, ds []delivery, first []int) {
	rows, at := make([]many.Row, 0, len(first)), make([]int, 0, len(first))
	var apart []int
	var files fileName
	for _, i := range first {
		if row, ok := s.rowOf(ctx, r, &ds[i], &files); ok {
			rows, at = append(rows, row), append(at, i)
		} else {
			apart = append(apart, i)
		}
	}
	r.spend(files.begun)
	if len(rows) > 0 {
		s.answerRows(ctx, r, ds, rows, at)
	}
	inParallel(len(apart), eventsAtOnce, func(n int) {
		d := &ds[apart[n]]
		_, err := s.guarded(ctx, &call{requestID: r.id}, func() (response, error) {
			s.answerEvent(ctx, r, d)
			return response{}, nil
		})
		if err != nil {
			d.outcome = eventOutcome{err: asError(err, r.id), at: time.Now()}
		}
	})
	for _, i := range apart {
		a := &ds[i].account
		r.account.timing = longest(r.account.timing, a.timing)
		r.account.model, r.account.code, r.account.returned = a.model, a.code, a.returned
	}
}

// A fileName is the argument of a model that is a file, once somebody has asked for it.
type fileName struct {
	asked bool
	name  string
	err   error
	begun actions.Timing // of asking
}

// rowOf makes a row of an event, if it can be predicted together with others: when its data
// are an object of arguments without references, a file, or nothing.
func (s *Server) rowOf(ctx context.Context, r *request, d *delivery, file *fileName) (row many.Row, ok bool) {
	e := &d.event
	switch {
	case d.of.err != nil, d.url != "", isWork(e.Type), isLines(e.DataContentType):
		return row, false
	case len(e.Data) == 0:
		return row, true
	case e.IsJSON():
		return many.Row{Args: e.Data}, e.Data[0] == '{' && isPlain(e.Data)
	}
	if media := mediaOf(e.DataContentType); media == "multipart/form-data" || media == formType {
		return row, false
	}
	if !file.asked {
		c := s.eventCall(r, d.of)
		file.name, file.err = s.fileArgument(ctx, &c, d.of.model, "")
		file.asked, file.begun = true, c.begun.Timing
	}
	row.Files = []actions.File{{Name: file.name, Filename: baseName(e.Subject), ContentType: e.DataContentType, Data: e.Data}}
	return row, file.err == nil
}

// isPlain says whether arguments can go to a model as they are: nothing in them is for this
// server.
func isPlain(args []byte) bool {
	for _, word := range [...]string{`"url"`, `"` + resultTo + `"`, `"accept"`} {
		if bytes.Contains(args, []byte(word)) {
			return false
		}
	}
	return true
}

// answerRows predicts events that are rows.
func (s *Server) answerRows(ctx context.Context, r *request, ds []delivery, rows []many.Row, at []int) {
	t := ds[at[0]].of
	c := s.eventCall(r, t)
	c.known, c.accept = true, ds[at[0]].accept
	results := s.predictRows(ctx, &c, t.model, rows)
	now := time.Now()
	codes := map[string]int{}
	var failed error
	for n, i := range at {
		if err := results[n].Err; err != nil {
			e := rowError(err, r.id)
			ds[i].outcome = eventOutcome{err: e, at: now}
			codes[string(e.Code)]++
			failed = err
			continue
		}
		codes["ok"]++
		ds[i].outcome = predicted(&results[n].Response)
		ds[i].outcome.at = now
	}
	if codes["ok"] > 0 {
		failed = nil
	}
	if failed != nil {
		failed = rowError(failed, r.id)
	}
	e := s.observe(ctx, &c, failed)
	r.note(&c, e)
	if counted := "ok"; e == nil || codes[string(e.Code)] > 0 {
		if e != nil {
			counted = string(e.Code)
		}
		codes[counted]-- // by observe
	}
	for code, n := range codes {
		s.metrics.events(t.name, code, n)
	}
}

// A batchFailure is an event of a batch that has no answer.
type batchFailure struct {
	ID    string       `json:"id,omitempty"`
	Error string       `json:"error"`
	Code  actions.Code `json:"code"`
}

// batchResponse answers a request that was several events: with a batch of answers in their
// order if the sender gets them, else with what became of them all.
func (s *Server) batchResponse(r *request, w wish, ds []delivery) response {
	takes, mine, passed := w.takesBatch(), false, 0
	var passing *actions.Error
	var failed []batchFailure
	for i := range ds {
		d, e := &ds[i], ds[i].outcome.err
		mine = mine || takes && d.isReply()
		switch {
		case e == nil:
		case d.outcome.passes():
			passed++
			if passing == nil || e.RetryAfter > passing.RetryAfter {
				passing = e
			}
		case !d.outcome.sent:
			failed = append(failed, batchFailure{d.event.ID, message(e), e.Code})
		}
	}
	switch {
	case passing != nil && (passed == len(ds) || !mine):
		return eventFailure(passing)
	case mine || len(ds) == 0 && takes && (w.reply || s.cfg.Sink == nil || !s.cfg.Sink.Configured()):
		return s.batchOfAnswers(r, ds)
	case len(failed) > 0:
		return jsonResponse(http.StatusBadRequest, map[string]any{"errors": failed})
	}
	return response{status: http.StatusNoContent}
}

// isReply says whether the sender gets what became of an event: not where a sink has got the
// answer, of another who sent the event, because it is not kept.
func (d *delivery) isReply() bool {
	return d.goes == toSender && (d.outcome.err != nil || !d.outcome.sent)
}

// batchOfAnswers has all answers that go to the sender, and what it has to send again.
func (s *Server) batchOfAnswers(r *request, ds []delivery) response {
	answers := make([]cloudevent.Event, 0, len(ds))
	for i := range ds {
		d := &ds[i]
		if d.outcome.passes() || d.isReply() && (d.outcome.err != nil || d.outcome.kind != "") {
			answers = append(answers, s.reply(d))
		}
	}
	return response{status: http.StatusOK, contentType: cloudevent.BatchType, body: cloudevent.AppendBatch(r.answerRoom(), answers)}
}
