package proxy

import (
	"fmt"
	"testing"

	"github.com/deepfn/deepfn/actions/cloudevent"
)

// comesBack is the request that an answer is as an event, in a mode.
func comesBack(answer *cloudevent.Event, mode cloudevent.Mode) *request {
	switch mode {
	case cloudevent.Structured:
		return eventRequest("/", string(answer.AppendJSON(nil)), "Content-Type", cloudevent.StructuredType)
	case cloudevent.Batched:
		return eventRequest("/", string(cloudevent.AppendBatch(nil, []cloudevent.Event{*answer})), "Content-Type", cloudevent.BatchType)
	default:
	}
	pairs := []string{"Content-Type", answer.DataContentType}
	answer.BinaryHeader(func(name, value string) { pairs = append(pairs, name, value) })
	return eventRequest("/", string(answer.Data), pairs...)
}

// An answer that comes back as an event, because its sink leads here, does not do so for ever; one
// that a few models handle after each other does arrive.
func TestEventLoop(t *testing.T) {
	for _, mode := range []cloudevent.Mode{cloudevent.Binary, cloudevent.Structured, cloudevent.Batched} {
		inv, sink := &fakeInvoker{}, &fakeSink{}
		s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Sink: sink})
		if resp := s.handle(t.Context(), binaryEvent("1", jsonType, `{"n":1}`)); resp.status != 202 {
			t.Fatalf("got %d %s", resp.status, resp.body)
		}
		for n := range maxHops {
			got := sink.all()
			answer := got[len(got)-1].Event
			if want := map[bool]string{true: "", false: fmt.Sprint(n)}[n == 0]; answer.Extension(hops) != want {
				t.Errorf("got %+v after %d, want %s", answer, n, want)
			}
			if resp := s.handle(t.Context(), comesBack(&answer, mode)); resp.status/100 != 2 {
				t.Errorf("the answer number %d: got %d %s", n, resp.status, resp.body)
			}
		}
		last := sink.all()[maxHops].Event
		resp := s.handle(t.Context(), comesBack(&last, mode))
		batch := mode == cloudevent.Batched // which has the failure for its sender
		if n := len(sink.all()); !batch && resp.status != 400 || inv.calls() != maxHops+1 || n != maxHops+1 {
			t.Errorf("got %d %s after %d calls and %d answers, want no more than %d", resp.status, resp.body, inv.calls(), n, maxHops+1)
		}
	}
}

// The answer to an event with all the extensions that one may have can be read, and sent.
func TestEventExtensions(t *testing.T) {
	pairs := []string{"Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Tracestate", "a=b"}
	for i := range maxExtensions {
		pairs = append(pairs, fmt.Sprintf("Ce-X%d", i), "v")
	}
	sink := &fakeSink{}
	s, _ := newServer(t, Config{Model: "echo", Sink: sink})
	resp := s.handle(t.Context(), binaryEvent("1", jsonType, `{}`, pairs...))
	if got := sink.all(); resp.status != 202 || len(got) != 1 || len(got[0].Extensions) < maxExtensions+2 {
		t.Errorf("got %d %s, and %+v in the sink", resp.status, resp.body, got)
	}
	if resp = s.handle(t.Context(), binaryEvent("2", jsonType, `{}`, append(pairs, "Ce-Another", "v")...)); resp.status != 400 {
		t.Errorf("one more: got %d %s", resp.status, resp.body)
	}
}
