package proxy

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	cetest "github.com/cloudevents/sdk-go/v2/test"

	"github.com/deepfn/deepfn/actions/cloudevent"
)

// sdkEvents are the test events of the SDK, in all versions, and with an object of arguments.
func sdkEvents(tb testing.TB) []event.Event {
	tb.Helper()
	events := []event.Event{cetest.FullEvent(), cetest.MinEvent()}
	for _, e := range []event.Event{cetest.FullEvent(), cetest.MinEvent()} {
		e.SetID("object-" + e.ID())
		if err := e.SetData(event.ApplicationJSON, map[string]any{"text": "hi"}); err != nil {
			tb.Fatal(err)
		}
		events = append(events, e)
	}
	return cetest.AllVersions(events)
}

// wantAnswerTo wants the answer to an event as the SDK reads it.
func wantAnswerTo(t *testing.T, e event.Event, got *event.Event) {
	t.Helper()
	const want = cloudevent.Prediction
	if got.Type() != want || got.Extensions()["causationid"] != e.ID() || got.SpecVersion() != e.SpecVersion() {
		t.Errorf("got %s, want a %s of the version %s", got, want, e.SpecVersion())
	}
	for name := range e.Extensions() {
		if got.Extensions()[name] == nil {
			t.Errorf("the answer has lost the extension %s", name)
		}
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the SDK finds fault with the answer: %v", err)
	}
}

// What the SDK sends is answered, in each encoding, with what the SDK reads as an event.
func TestSDKEvents(t *testing.T) {
	for name, encode := range map[string]func(context.Context) context.Context{
		"binary": binding.WithForceBinary, "structured": binding.WithForceStructured,
	} {
		for _, e := range sdkEvents(t) {
			t.Run(name+" "+e.SpecVersion()+" "+e.ID(), func(t *testing.T) {
				r, _ := conformanceServer(t)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.addr+"/", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				if err := cehttp.WriteRequest(encode(t.Context()), binding.ToMessage(&e), req); err != nil {
					t.Fatal(err)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = resp.Body.Close() }()
				got, err := cehttp.NewEventFromHTTPResponse(resp)
				if resp.StatusCode != http.StatusOK || err != nil {
					t.Fatalf("got %s, %v", resp.Status, err)
				}
				wantAnswerTo(t, e, got)
			})
		}
	}
}

// A batch, to which the SDK's own receiver answers 500, is answered with a batch.
func TestSDKBatch(t *testing.T) {
	events := sdkEvents(t)
	r, _ := conformanceServer(t)
	req, err := cehttp.NewHTTPRequestFromEvents(t.Context(), "http://"+r.addr+"/", events)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", cloudevent.BatchType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var got []event.Event
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != http.StatusOK || len(got) != len(events) {
		t.Fatalf("got %s, %d answers, %v; want %d", resp.Status, len(got), err, len(events))
	}
	for i := range events {
		wantAnswerTo(t, events[i], &got[i])
	}
}
