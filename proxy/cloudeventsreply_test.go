package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

const (
	someParent  = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	otherParent = "00-11111111111111111111111111111111-2222222222222222-01"
)

// The answer says what it is the answer to, in every attribute.
func TestEventReply(t *testing.T) {
	inv := &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
		return actions.Response{
			ContentType: jsonType, Data: []byte(`{"label":"cat"}`),
			Timing: actions.Timing{From: actions.TierHost, Start: 2 * time.Millisecond, Run: 1500 * time.Microsecond},
		}, nil
	}}
	s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Service: "my svc"})
	before := time.Now()
	resp := s.handle(t.Context(), binaryEvent("A%20234", jsonType, `{}`,
		"ce-subject", "a.png", "ce-partitionkey", "p1", "ce-knativeerrordest", "x", "ce-knativeerrorcode", "500",
		"ce-traceparent", otherParent, "traceparent", someParent, "tracestate", "a=b", "ce-dataref", "https://example.com/x"))
	got := replyOf(t, resp)
	hash := sha256.New()
	for _, part := range []string{"/s", "A 234", "echo", "1.2", ""} {
		hash.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		hash.Write([]byte(part))
	}
	at, err := time.Parse(time.RFC3339Nano, got.Time)
	if err != nil || at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
		t.Errorf("got time %q", got.Time)
	}
	got.Time = ""
	want := cloudevent.Event{
		SpecVersion: "1.0", ID: hex.EncodeToString(hash.Sum(nil)), Source: "/services/my%20svc/models/echo",
		Type: cloudevent.Prediction, Subject: "a.png", DataContentType: jsonType, Data: []byte(`{"label":"cat"}`),
		Extensions: []cloudevent.Attribute{
			{Name: "partitionkey", Value: "p1"},
			{Name: "causationid", Value: "A 234"},
			{Name: "correlationid", Value: "A 234"},
			{Name: "traceparent", Value: someParent},
			{Name: "tracestate", Value: "a=b"},
			{Name: "deepfnstart", Value: "host"},
			{Name: "deepfntiming", Value: `start;dur=2;desc="host", run;dur=1.500`},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if resp.timing.From != actions.TierHost || resp.contentType != jsonType {
		t.Errorf("got timing %v, %s", resp.timing, resp.contentType)
	}
	if got := inv.lastRequest(); got.Trace.Parent != someParent || got.Trace.State != "a=b" {
		t.Errorf("the model got the trace %v", got.Trace)
	}
}

// What stands in one version comes back in it, with the types that extensions have in JSON.
func TestEventReplyVersions(t *testing.T) {
	s, _ := newServer(t, Config{Model: "echo"})
	body := `{"specversion":"0.3","id":"1","source":"/s","type":"t","correlationid":"c","n":7,"b":true,"traceparent":"` + otherParent + `","data":{"n":1}}`
	resp := s.handle(t.Context(), eventRequest("/", body, "Content-Type", cloudevent.StructuredType, "Accept", cloudevent.StructuredType))
	got := replyOf(t, resp)
	if got.SpecVersion != "0.3" || got.Source != "/models/echo" || got.Subject != "1" || got.Extension("correlationid") != "c" || got.Extension("traceparent") != otherParent {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(string(resp.body), `"n":7,"b":true`) || !strings.Contains(string(resp.body), `"data":{"n":1}`) {
		t.Errorf("got %s", resp.body)
	}
}

func TestEventForms(t *testing.T) {
	const both = cloudevent.StructuredType + ", image/png"
	for _, tt := range []struct {
		name, accept, answer string
		form                 cloudevent.Mode
		asked                string // of the model
	}{
		{"nothing said", "", jsonType, cloudevent.Binary, ""},
		{"anything", "*/*", "image/png", cloudevent.Binary, ""},
		{"an event in JSON", cloudevent.StructuredType, jsonType, cloudevent.Structured, ""},
		{"an event in JSON, with parameters", "Application/CloudEvents+JSON; charset=utf-8", "image/png", cloudevent.Structured, ""},
		{"an event in JSON, else anything", cloudevent.StructuredType + ", */*;q=0.1", jsonType, cloudevent.Structured, "*/*;q=0.1"},
		{"rather its data", cloudevent.StructuredType + ";q=0.5, application/json", jsonType, cloudevent.Binary, "application/json"},
		{"both", both, "image/png", cloudevent.Binary, "image/png"},
		{"only its data", "image/*", "image/png", cloudevent.Binary, "image/*"},
		{"nothing there is", cloudevent.BatchType, jsonType, cloudevent.None, ""},
		{"nothing at all", "*/*;q=0", jsonType, cloudevent.None, "*/*;q=0"},
		{"no media type", "x", jsonType, cloudevent.Binary, "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := &fakeInvoker{answer: answering(tt.answer, `1`), info: []byte(`{"predict":{"parameters":[]}}`)}
			s, _ := newServer(t, Config{Model: "mod", Catalog: module(), Invoker: inv})
			resp := s.handle(t.Context(), binaryEvent("1", jsonType, `{}`, "Accept", tt.accept))
			got := cloudevent.None
			switch {
			case resp.event != nil:
				got = cloudevent.Binary
			case resp.contentType == cloudevent.StructuredType:
				got = cloudevent.Structured
			case resp.status != 204 || len(resp.body) > 0:
				t.Errorf("got %d %s", resp.status, resp.body)
			}
			if asked := inv.lastRequest().Accept; got != tt.form || asked != tt.asked {
				t.Errorf("got form %d and asked for %q, want %d and %q", got, asked, tt.form, tt.asked)
			}
		})
	}
}

// A model's answer is the data as it is, whatever it is.
func TestEventAnswers(t *testing.T) {
	for _, tt := range []struct{ contentType, data, wantType, want string }{
		{jsonType, `[1,2]`, jsonType, `[1,2]`},
		{jsonType, ``, jsonType, `null`},
		{"image/png", "\x89PNG", "image/png", "\x89PNG"},
		{"broken", "x", "application/octet-stream", "x"},
		{"text/html", "<b>", "text/html", "<b>"},
	} {
		s, _ := newServer(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: answering(tt.contentType, tt.data)}})
		for _, accept := range []string{"", cloudevent.StructuredType} {
			resp := s.handle(t.Context(), binaryEvent("1", jsonType, `{}`, "Accept", accept))
			got := replyOf(t, resp)
			if got.DataContentType != tt.wantType || string(got.Data) != tt.want {
				t.Errorf("%s: got %s %q", tt.contentType, got.DataContentType, got.Data)
			}
			if accept == "" && tt.wantType != jsonType && resp.policy != answerPolicy {
				t.Errorf("%s: got policy %q", tt.contentType, resp.policy)
			}
		}
	}
}

// The answer goes to one place.
func TestEventDestinations(t *testing.T) {
	const named = "https://example.com/in"
	sent := func(to ...string) []string { return to }
	for _, tt := range []struct {
		name   string
		sink   *fakeSink
		pairs  []string
		status int
		to     []string
	}{
		{"no sink", nil, nil, 200, nil},
		{"a sink that is not configured", &fakeSink{none: true}, nil, 200, nil},
		{"the sink", &fakeSink{}, nil, 202, sent("")},
		{"the sink, and a sender that takes a reply", &fakeSink{}, []string{"Prefer", "reply"}, 200, nil},
		{"a URL", &fakeSink{}, []string{"ce-replyto", named, "Prefer", "wait=10, Reply"}, 202, sent(named)},
		{"a URL where no sink is configured", &fakeSink{none: true}, []string{"ce-replyto", named}, 202, sent(named)},
		{"a URL where nothing is sent", nil, []string{"ce-replyto", named}, 400, nil},
		{"a URL that is not allowed", &fakeSink{may: actions.Errorf(actions.Forbidden, "not there")}, []string{"ce-replyto", named}, 403, nil},
		{"nobody", nil, []string{"Prefer", "return=minimal"}, 204, nil},
		{"the sink is told all the same", &fakeSink{}, []string{"Prefer", `return="minimal"`}, 202, sent("")},
		{"later, to nobody", nil, []string{"Prefer", "respond-async"}, 400, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Model: "echo"}
			if tt.sink != nil {
				cfg.Sink = tt.sink
			}
			inv := &fakeInvoker{}
			cfg.Invoker = inv
			s, _ := newServer(t, cfg)
			for range 2 { // the second is a duplicate, which is sent nowhere
				resp := s.handle(t.Context(), binaryEvent("1", jsonType, `{"n":1}`, tt.pairs...))
				wantEventual(t, resp)
				if resp.status != tt.status || (resp.status == 202 || resp.status == 204) && len(resp.body) > 0 {
					t.Errorf("got %d %s, want %d", resp.status, resp.body, tt.status)
				}
			}
			if want := map[bool]int{true: 0, false: 1}[tt.status/100 == 4]; inv.calls() != want {
				t.Errorf("got %d calls, want %d", inv.calls(), want)
			}
			var to []string
			if tt.sink != nil {
				for _, e := range tt.sink.all() {
					to = append(to, e.to)
					if e.Type != cloudevent.Prediction || string(e.Data) != `{"n":1}` || e.Extension("replyto") != "" {
						t.Errorf("got %+v", e)
					}
				}
			}
			if diff := cmp.Diff(tt.to, to); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An answer that no sink takes is not lost: the sender is told to send again, and the model is
// not asked again.
func TestEventSinkFails(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		status int
	}{
		{"for now", errors.New("secret"), 503},
		{"for now, it says", &actions.Error{Code: actions.Unavailable, Msg: "m", RetryAfter: 7 * time.Second}, 503},
		{"for good", actions.Errorf(actions.Forbidden, "m"), 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink := &fakeSink{failed: func(n int, _ *cloudevent.Event) error {
				if n == 0 {
					return tt.err
				}
				return nil
			}}
			inv := &fakeInvoker{}
			s, _ := newServer(t, Config{Model: "echo", Sink: sink, Invoker: inv})
			resp := s.handle(t.Context(), binaryEvent("1", jsonType, `{}`))
			if resp.status != tt.status || strings.Contains(string(resp.body), "secret") {
				t.Errorf("got %d %s, want %d", resp.status, resp.body, tt.status)
			}
			for range 2 {
				if resp = s.handle(t.Context(), binaryEvent("1", jsonType, `{}`)); resp.status != 202 {
					t.Errorf("again: got %d %s", resp.status, resp.body)
				}
			}
			if n := len(sink.all()); n != 1 || inv.calls() != 1 {
				t.Errorf("got %d events and %d calls, want one of each", n, inv.calls())
			}
		})
	}
}

// A sender may leave the event here. What may go away is tried again, and what is left is told
// to the sink.
func TestEventLater(t *testing.T) {
	busy := &actions.Error{Code: actions.Busy, Msg: "full", RetryAfter: 3 * time.Second}
	for _, tt := range []struct {
		name   string
		errs   []error // of the calls; then it answers
		kind   string
		calls  int
		after  time.Duration
		always error
	}{
		{"at once", nil, cloudevent.Prediction, 1, 0, nil},
		{"when it is no longer busy", []error{busy, busy}, cloudevent.Prediction, 3, 6 * time.Second, nil},
		{"it fails", []error{actions.Errorf(actions.Failed, "bad")}, cloudevent.Failure, 1, 0, nil},
		{"always busy", nil, cloudevent.Failure, laterTries, (3 + 3 + 4 + 8 + 16) * time.Second, busy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				inv := &fakeInvoker{}
				inv.answer = func(_ context.Context, req actions.Request) (actions.Response, error) {
					if n++; n <= len(tt.errs) {
						return actions.Response{}, tt.errs[n-1]
					}
					if tt.always != nil {
						return actions.Response{}, tt.always
					}
					return actions.Response{ContentType: jsonType, Data: []byte(string(req.Args))}, nil
				}
				sink, began := &fakeSink{}, time.Now()
				s, _ := newServer(t, Config{Model: "echo", Sink: sink, Invoker: inv})
				r := binaryEvent("1", jsonType, `{"n":1}`, "Prefer", "respond-async")
				body := r.body
				if resp := s.handle(t.Context(), r); resp.status != 202 || len(resp.body) > 0 {
					t.Errorf("got %d %s", resp.status, resp.body)
				}
				copy(body, `xxxxxxx`) // which is the next request's
				if !s.background.wait(time.Hour) {
					t.Fatal("it does not end")
				}
				got := sink.all()
				if len(got) != 1 || got[0].Type != tt.kind || n != tt.calls || time.Since(began) != tt.after {
					t.Errorf("got %+v after %v and %d calls, want %s after %v and %d", got, time.Since(began), n, tt.kind, tt.after, tt.calls)
				}
			})
		})
	}
}

// What was accepted and cannot be done before the server ends is told to the sink.
func TestEventLaterDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		inv := &fakeInvoker{answer: func(ctx context.Context, _ actions.Request) (actions.Response, error) {
			<-ctx.Done()
			return actions.Response{}, ctx.Err()
		}}
		s, _ := newServer(t, Config{Model: "echo", Sink: sink, Invoker: inv})
		for i := range maxLater + 1 {
			resp := s.handle(t.Context(), structured(strconv.Itoa(i), ``, "Prefer", "respond-async"))
			if want := map[bool]int{true: 202, false: 429}[i < maxLater]; resp.status != want {
				t.Fatalf("%d: got %d %s, want %d", i, resp.status, resp.body, want)
			}
		}
		if s.background.wait(time.Second) {
			t.Error("it ends by itself")
		}
		if n := s.background.giveUp(); n != maxLater || !s.background.wait(time.Second) {
			t.Errorf("got %d that were given up, or some that did not end", n)
		}
		if got := sink.all(); len(got) != maxLater || got[0].Type != cloudevent.Failure || !strings.Contains(string(got[0].Data), "unavailable") && !strings.Contains(string(got[0].Data), "canceled") {
			t.Errorf("got %d events, %+v", len(got), got[0])
		}
	})
}
