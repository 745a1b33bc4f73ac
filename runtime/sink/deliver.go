package sink

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

const (
	// maxAnswer is how many bytes of an answer are read, so that its connection can be used
	// again; that may take drainTime.
	maxAnswer = 64 << 10
	drainTime = time.Second
	// maxErrorData is how many characters of an answer a dead letter has, in base64.
	maxErrorData = 1024
	// noAnswer is the code of a dead letter whose place did not answer.
	noAnswer = -1
)

// A failure is why a place has not taken an event.
type failure struct {
	status int    // of the answer, or noAnswer
	answer []byte // its beginning, or what went wrong
	err    *actions.Error
	tries  int
	final  bool // it would be the same again
}

// deliver sends an event until it is taken, or as often as may help.
func (s *Sink) deliver(ctx context.Context, d destination, e *cloudevent.Event) *failure {
	for try := 1; ; try++ {
		f := s.try(ctx, d, e)
		if f == nil {
			return nil
		}
		f.tries = try
		if f.final || try > s.cfg.Retries || !s.pause(ctx, try, f.err.RetryAfter) {
			return s.ended(ctx, d, f)
		}
	}
}

// pause waits before another try. It returns false if ctx ends before that.
func (s *Sink) pause(ctx context.Context, try int, asked time.Duration) bool {
	wait := s.cfg.MaxBackoff
	if shift := try - 1; shift < 30 {
		wait = min(wait, s.cfg.Backoff<<shift)
	}
	wait -= rand.N(wait/2 + 1) //nolint:gosec // it has only to differ between servers
	wait = max(wait, min(asked, s.cfg.MaxBackoff))
	if at, ok := ctx.Deadline(); ok && time.Until(at) <= wait {
		return false // the rest of the time is for the dead-letter sink
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ended is the failure of all tries.
func (s *Sink) ended(ctx context.Context, d destination, f *failure) *failure {
	if err := ctx.Err(); err != nil {
		e := &actions.Error{Code: actions.Canceled, Msg: d.shown() + ": the event was given up", Err: err}
		switch {
		case errors.Is(context.Cause(ctx), errClosing):
			e.Code, e.Msg = actions.Unavailable, d.shown()+" did not take the event before the server had to end"
		case errors.Is(err, context.DeadlineExceeded):
			e.Code, e.Msg = actions.Deadline, d.shown()+" did not take the event in time"
		}
		f.err = e
	}
	return f
}

// try sends an event once.
func (s *Sink) try(ctx context.Context, d destination, e *cloudevent.Event) *failure {
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-ctx.Done():
		return noResponse(d, ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	p := payload{data: e.Data}
	defer p.open.Wait() // a transport may read on after it has returned, until
	defer cancel()      // this
	req, err := request(ctx, d, e, &p)
	if err != nil {
		return noResponse(d, err)
	}
	resp, err := d.transport.RoundTrip(req)
	if err != nil {
		return noResponse(d, err)
	}
	defer func() { _ = resp.Body.Close() }()
	defer time.AfterFunc(drainTime, cancel).Stop()
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
		return nil
	}
	return refused(d, resp)
}

// noResponse is the failure of a try without an answer.
func noResponse(d destination, err error) *failure {
	f := &failure{status: noAnswer, answer: []byte(err.Error())}
	f.err = &actions.Error{Code: actions.Unavailable, Msg: d.shown() + " did not answer", Err: err}
	if e, ok := errors.AsType[*actions.Error](err); ok { // of the transport of a named place
		f.err.Msg = e.Msg
		if e.Code == actions.Forbidden || e.Code == actions.Invalid {
			f.err.Code, f.final = e.Code, true
		}
	}
	return f
}

// refused is the failure of a try with an answer that is no success.
func refused(d destination, resp *http.Response) *failure {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	f := &failure{status: resp.StatusCode, answer: data[:min(len(data), maxErrorData)], final: !mayHelp(resp.StatusCode)}
	f.err = actions.Errorf(actions.Unavailable, "%s answered %s", d.shown(), strings.TrimSpace(strconv.Itoa(resp.StatusCode)+" "+http.StatusText(resp.StatusCode)))
	f.err.Err = err
	if f.final {
		f.err.Code = actions.Invalid
	} else {
		f.err.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
	}
	return f
}

// mayHelp says whether an event is sent again that was answered with a status, the rule of
// Knative's senders.
func mayHelp(status int) bool {
	return status >= 500 || slices.Contains([]int{
		http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests,
	}, status)
}

// retryAfter reads the header of that name, a number of seconds or a date.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(max(0, min(seconds, 1<<30))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// deadLetter is an event with what its place said of it, in the extensions of Knative.
func deadLetter(e *cloudevent.Event, d destination, f *failure) cloudevent.Event {
	letter := *e
	text := base64.StdEncoding.EncodeToString(f.answer)
	letter.Extensions = slices.DeleteFunc(slices.Clone(e.Extensions), func(a cloudevent.Attribute) bool {
		return strings.HasPrefix(a.Name, "knativeerror") // of an earlier failure
	})
	letter.SetExtension("knativeerrordest", d.shown())
	letter.Extensions = append(letter.Extensions, cloudevent.Attribute{Name: "knativeerrorcode", Value: strconv.Itoa(f.status), Kind: cloudevent.Integer})
	if text != "" {
		letter.SetExtension("knativeerrordata", text[:min(len(text), maxErrorData)])
	}
	return letter
}
