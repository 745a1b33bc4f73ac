package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/deepfn/deepfn/actions/cloudevent"
)

// An eventSink is a sink of a test: it answers as it is told, and then with 202.
type eventSink struct {
	*httptest.Server
	mu       sync.Mutex // guards what follows
	statuses []int
	events   []cloudevent.Event // what it has taken
	refused  int
}

func newEventSink(t *testing.T, statuses ...int) *eventSink {
	t.Helper()
	c := &eventSink{statuses: statuses}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the sender is gone
		}
		e, err := cloudevent.ParseBinary(r.Header.Get("Content-Type"), func(each func(name, value string)) {
			for name := range r.Header {
				each(name, r.Header.Get(name))
			}
		}, body)
		if err != nil {
			t.Errorf("what the sink got: %v", err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.statuses) > 0 {
			w.WriteHeader(c.statuses[0])
			c.statuses = c.statuses[1:]
			c.refused++
			return
		}
		c.events = append(c.events, e)
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(c.Close)
	return c
}

// taken returns the events so far.
func (c *eventSink) taken() []cloudevent.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.events
}

// postEvent posts an event with arguments; pairs are further headers.
func (p *process) postEvent(id, body string, pairs ...string) reply {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.base+"/", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	pairs = append([]string{"Ce-Specversion", "1.0", "Ce-Id", id, "Ce-Source", "/test", "Ce-Type", "test", "Content-Type", "application/json"}, pairs...)
	for i := 0; i < len(pairs); i += 2 {
		req.Header.Set(pairs[i], pairs[i+1])
	}
	r, err := do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// wantAnswer wants that a sink has taken one event, the answer to one with an id, and
// returns it.
func wantAnswer(t *testing.T, c *eventSink, id string) cloudevent.Event {
	t.Helper()
	events := c.taken()
	if len(events) != 1 || events[0].Type != cloudevent.Prediction || events[0].Extension("causationid") != id || string(events[0].Data) != `{"hello": "you"}` {
		t.Fatalf("the sink got %+v, want the answer to %s", events, id)
	}
	return events[0]
}

const helloFunction = "def main(args):\n    return {'hello': args.get('name', 'world')}\n"

// serveHello serves a function with variables of the environment.
func serveHello(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, ended: make(chan struct{}), env: env}
	return p.serve(&p.stdout, append([]string{lay(t, "hello.py", helloFunction), "--python", current(t)}, args...)...)
}

// What Knative's SinkBinding gives is where answers go, with its extensions, as soon as the
// sink takes them.
func TestSinkBinding(t *testing.T) {
	sink := newEventSink(t, http.StatusServiceUnavailable, http.StatusTooManyRequests)
	p := serveHello(t, []string{"K_SINK=" + sink.URL, `K_CE_OVERRIDES={"extensions":{"cluster":"edge7"}}`})
	if r := p.postEvent("1", `{"name":"you"}`); r.status/100 != 2 || r.body != "" {
		t.Errorf("got %d %s, want that it is taken", r.status, r.body)
	}
	if e := wantAnswer(t, sink, "1"); e.Extension("cluster") != "edge7" || sink.refused != 2 {
		t.Errorf("got %+v after %d refusals, want the extension of the SinkBinding after 2", e, sink.refused)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("got exit code %d, want 0", code)
	}
}

func TestDeadLetterSink(t *testing.T) {
	sink, letters := newEventSink(t, http.StatusBadRequest), newEventSink(t)
	p := serveHello(t, []string{"DEEPFN_DEAD_LETTER_SINK=" + letters.URL}, "--sink", sink.URL+"/in")
	if r := p.postEvent("1", `{"name":"you"}`); r.status/100 != 2 {
		t.Errorf("got %d %s, want that it is taken", r.status, r.body)
	}
	e := wantAnswer(t, letters, "1")
	if len(sink.taken()) != 0 || e.Extension("knativeerrordest") != sink.URL+"/in" || e.Extension("knativeerrorcode") != "400" {
		t.Errorf("got %+v, want what the sink said", e)
	}
}

// An event that nobody waits for is delivered before the server ends.
func TestSinkAtTheEnd(t *testing.T) {
	sink := newEventSink(t, http.StatusServiceUnavailable, http.StatusServiceUnavailable, http.StatusServiceUnavailable)
	p := serveHello(t, []string{"K_SINK=" + sink.URL})
	if r := p.postEvent("1", `{"name":"you"}`, "Prefer", "respond-async"); r.status != http.StatusAccepted {
		t.Errorf("got %d %s, want 202", r.status, r.body)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("got exit code %d, want 0", code)
	}
	wantAnswer(t, sink, "1")
}

// The URLs that an event names are those that its sender may have fetched and stored to.
func TestEventNamesASink(t *testing.T) {
	theirs := newEventSink(t)
	p := serveHello(t, nil, "--allow-url", theirs.URL+"/in/")
	if r := p.postEvent("1", `{"name":"you"}`, "Ce-Replyto", theirs.URL+"/in/a"); r.status/100 != 2 {
		t.Errorf("got %d %s, want that it is taken", r.status, r.body)
	}
	wantAnswer(t, theirs, "1")
	for _, url := range []string{theirs.URL + "/other", "https://169.254.169.254/latest", "https://127.0.0.1/"} {
		if r := p.postEvent("2", `{"name":"you"}`, "Ce-Replyto", url); r.status != http.StatusForbidden {
			t.Errorf("%s: got %d %s, want 403", url, r.status, r.body)
		}
	}
}
