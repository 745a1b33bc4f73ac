package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/deepfn/deepfn/actions/cloudevent"
)

// fakeSink keeps what it is sent, or fails as its knobs say.
type fakeSink struct {
	none   bool                                   // it has no URL of its own
	may    error                                  // of MaySend
	failed func(n int, e *cloudevent.Event) error // of the n-th Send, from 0

	mu   sync.Mutex // guards sent
	sent []sentEvent
	n    int
}

type sentEvent struct {
	to string
	cloudevent.Event
}

func (f *fakeSink) Configured() bool { return !f.none }

func (f *fakeSink) MaySend(string) error { return f.may }

func (f *fakeSink) Send(_ context.Context, to string, e *cloudevent.Event) error {
	kept := *e
	kept.Data, kept.Extensions = slices.Clone(e.Data), slices.Clone(e.Extensions)
	f.mu.Lock()
	n := f.n
	f.n++
	f.mu.Unlock()
	if f.failed != nil {
		if err := f.failed(n, e); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = append(f.sent, sentEvent{to, kept})
	return kept.Validate()
}

func (f *fakeSink) all() []sentEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.sent)
}

// eventHeaders is what a request's header is of pairs of names and values.
func eventHeaders(pairs []string) func(string, func(name, value string)) {
	return func(name string, each func(name, value string)) {
		for i := 0; i < len(pairs); i += 2 {
			if name == "" || strings.EqualFold(name, pairs[i]) {
				each(pairs[i], pairs[i+1])
			}
		}
	}
}

// eventRequest is a request with a header and a body.
func eventRequest(path, body string, pairs ...string) *request {
	r := &request{method: "POST", path: path, id: "id-1", body: []byte(body), header: eventHeaders(pairs)}
	r.header("Content-Type", func(_, value string) { r.contentType = value })
	r.header("Accept", func(_, value string) { r.accept = value })
	return r
}

// binaryEvent is a request that is an event in binary mode; pairs are further headers.
func binaryEvent(id, contentType, body string, pairs ...string) *request {
	pairs = append([]string{"Ce-Specversion", "1.0", "Ce-Id", id, "Ce-Source", "/s", "Ce-Type", "t"}, pairs...)
	if contentType != "" {
		pairs = append(pairs, "Content-Type", contentType)
	}
	return eventRequest("/", body, pairs...)
}

// structured is a request that is an event in structured mode, with further members.
func structured(id, members string, pairs ...string) *request {
	body := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/s","type":"t"%s}`, id, members)
	return eventRequest("/", body, append(pairs, "Content-Type", cloudevent.StructuredType+"; charset=utf-8")...)
}

// replyOf reads the event that a response is, in whichever mode.
func replyOf(tb testing.TB, resp response) cloudevent.Event {
	tb.Helper()
	var e cloudevent.Event
	var err error
	if resp.event != nil {
		e, err = cloudevent.ParseBinary(resp.contentType, resp.event.BinaryHeader, resp.body)
	} else {
		e, err = cloudevent.ParseStructured(resp.body)
	}
	if resp.status != 200 || err != nil {
		tb.Fatalf("got %d %s (%s), %v; want an event", resp.status, resp.body, resp.contentType, err)
	}
	return e
}

// What a success is empty or an event: what Knative's senders take for an error is neither.
func wantEventual(tb testing.TB, resp response) {
	tb.Helper()
	switch {
	case resp.status/100 != 2, len(resp.body) == 0, resp.event != nil,
		resp.contentType == cloudevent.StructuredType, resp.contentType == cloudevent.BatchType:
	default:
		tb.Errorf("got %d %s (%s), which is neither empty nor an event", resp.status, resp.body, resp.contentType)
	}
}
