package proxy

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// The same event may be sent by one who takes the answer and by one who does not: nobody who was
// told that a sink has it was told wrong, and nobody gets an empty one in its place.
func TestEventDuplicatesElsewhere(t *testing.T) {
	reply := []string{"Prefer", "reply"}
	for _, tt := range []struct {
		name          string
		first, second []string
		joined        bool // the second comes while the first is answered
		firsts, then  int
		sent          int
	}{
		{"sender, then sink", reply, nil, false, 200, 202, 1},
		{"sender, and sink meanwhile", reply, nil, true, 200, 202, 1},
		{"sink, then sender", nil, reply, false, 202, 202, 1},
		{"sink, and sender meanwhile", nil, reply, true, 202, 202, 1},
		{"sink twice", nil, nil, true, 202, 202, 1},
		{"sender twice", reply, reply, true, 200, 200, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inv := &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
					time.Sleep(time.Second)
					return actions.Response{ContentType: jsonType, Data: []byte(`{"n":1}`)}, nil
				}}
				sink := &fakeSink{}
				s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Sink: sink})
				send := func(want int, pairs []string) {
					resp := s.handle(t.Context(), binaryEvent("1", jsonType, `{}`, pairs...))
					wantEventual(t, resp)
					if text := string(resp.body); resp.status != want || (text != "") != (want == 200) {
						t.Errorf("got %d %s, want %d", resp.status, resp.body, want)
					}
				}
				var wg sync.WaitGroup
				wg.Go(func() { send(tt.firsts, tt.first) })
				if synctest.Wait(); !tt.joined {
					wg.Wait()
				}
				wg.Go(func() { send(tt.then, tt.second) })
				wg.Wait()
				if got := sink.all(); len(got) != tt.sent || inv.calls() != 1 {
					t.Errorf("got %+v in the sink of %d calls, want %d events of one", got, inv.calls(), tt.sent)
				}
				batch := batchOf([]string{`"id":"1"`}, tt.second...)
				if resp := s.handle(t.Context(), batch); resp.status != map[bool]int{true: 200, false: 204}[tt.sent == 0] {
					t.Errorf("in a batch: got %d %s", resp.status, resp.body)
				}
			})
		})
	}
}

// Errors are in the bounds of the record like answers.
func TestEventRecordErrors(t *testing.T) {
	inv := &fakeInvoker{answer: failing(actions.Errorf(actions.Failed, "%s", strings.Repeat("x", 4096)))}
	s, _ := newServer(t, Config{Model: "echo", Invoker: inv, EventRecordBytes: 64 << 10})
	for i := range 100 {
		s.handle(t.Context(), structured(fmt.Sprint(i), ``))
	}
	if n := s.record.count; n > 16 || n == 0 {
		t.Errorf("got %d errors of 4 KiB in a record of 64 KiB", n)
	}
}

// What is not there, or not allowed, may be later: the event that comes again is not told what
// the first was.
func TestEventRecordObjects(t *testing.T) {
	storage := newFakeStorage()
	inv := &fakeInvoker{}
	s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Storage: storage})
	body := s3Records("aws:s3", "ObjectCreated:Put", "a")
	if resp := post(t, s, "/", body); resp.status != 400 {
		t.Fatalf("got %d %s for an object that is not there", resp.status, resp.body)
	}
	storage.has["s3://in/a"] = actions.File{Data: []byte("x")}
	if resp := post(t, s, "/", body); resp.status != 200 {
		t.Errorf("got %d %s for an object that is there", resp.status, resp.body)
	}
	sink := &fakeSink{}
	s, _ = newServer(t, Config{Model: "echo", Storage: newFakeStorage(), Sink: sink})
	for range 2 { // of which the sink is told once
		if resp := post(t, s, "/", s3Records("aws:s3", "ObjectCreated:Put", "a", "b")); resp.status != 204 {
			t.Errorf("got %d %s", resp.status, resp.body)
		}
	}
	if n := len(sink.all()); n != 2 {
		t.Errorf("got %d failures of two events in the sink", n)
	}
}

// A function that ends its process does so each time, other models may not.
func TestEventExits(t *testing.T) {
	died := &actions.Error{Code: actions.Unavailable, Msg: "exit status 3", Err: actions.ErrDied}
	for _, tt := range []struct {
		info, contentType, body string
		status                  int
		text                    string
	}{
		{`{"predict":{"parameters":[],"open":true},"function":true}`, jsonType, `{}`, 422, `"exited"`},
		{`{"predict":{"parameters":[],"open":true},"function":true}`, ndjsonType, `{"url":1}`, 200, `"exited"`},
		{`{"predict":{"parameters":[],"open":true}}`, jsonType, `{}`, 502, `"unavailable"`},
	} {
		s, _ := newServer(t, Config{Model: "mod", Catalog: module(), Invoker: &fakeInvoker{info: []byte(tt.info), answer: failing(died)}})
		resp := s.handle(t.Context(), binaryEvent("1", tt.contentType, tt.body))
		if resp.status != tt.status || !strings.Contains(string(resp.body), tt.text) {
			t.Errorf("%s: got %d %s, want %d with %s", tt.info, resp.status, resp.body, tt.status, tt.text)
		}
	}
}

// A sink that asks for a day does not get it: the event is in memory meanwhile.
func TestEventLaterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{failed: func(n int, _ *cloudevent.Event) error {
			if n < 3 {
				return &actions.Error{Code: actions.Unavailable, Msg: "m", RetryAfter: 24 * time.Hour}
			}
			return nil
		}}
		s, _ := newServer(t, Config{Model: "echo", Sink: sink})
		s.handle(t.Context(), binaryEvent("1", jsonType, `{}`, "Prefer", "respond-async"))
		if began := time.Now(); !s.background.wait(time.Hour) || time.Since(began) != 3*maxLaterWait || len(sink.all()) != 1 {
			t.Errorf("got %d events after %v", len(sink.all()), time.Since(began))
		}
	})
}

// What is wrong in a batch is told by its id, as far as it has one, and no two answers to wrong
// events are the same event, nor that to the right one that comes afterwards.
func TestEventBatchWrong(t *testing.T) {
	s, _ := newServer(t, Config{Model: "echo"})
	body := `[1,2,{},{"id":"a","source":"/s","specversion":"9"},{"id":"a","source":"/s","type":"t","specversion":"1.0"}]`
	resp := s.handle(t.Context(), eventRequest("/", body, "Content-Type", cloudevent.BatchType))
	events, wrong, err := cloudevent.ParseBatch(resp.body)
	if err != nil || wrong != nil || len(events) != 5 {
		t.Fatalf("got %d %s, %v, %v", resp.status, resp.body, wrong, err)
	}
	ids := map[string]bool{}
	for i := range events {
		ids[events[i].ID] = true
	}
	if len(ids) != 5 || events[3].Extension(cause) != "a" || events[4].Type != cloudevent.Prediction {
		t.Errorf("got %s", resp.body)
	}
	resp = s.handle(t.Context(), eventRequest("/", body, "Content-Type", cloudevent.BatchType, "Prefer", "return=minimal"))
	if resp.status != 400 || strings.Count(string(resp.body), `"error"`) != 4 || !strings.Contains(string(resp.body), `{"id":"a",`) {
		t.Errorf("got %d %s", resp.status, resp.body)
	}
}

// A batch is no way around the most that one request may ask for.
func TestEventBatchObjects(t *testing.T) {
	keys := make([]string, maxNotices)
	for i := range keys {
		keys[i] = fmt.Sprint(i)
	}
	records := s3Records("aws:s3", "ObjectCreated:Put", keys...)
	var events []string
	for i := range 11 {
		events = append(events, fmt.Sprintf(`"id":"%d","data":%s`, i, records))
	}
	inv := &fakeInvoker{}
	s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Storage: newFakeStorage()})
	if resp := s.handle(t.Context(), batchOf(events)); resp.status != 413 || inv.calls() != 0 {
		t.Errorf("got %d %.200s and %d calls", resp.status, resp.body, inv.calls())
	}
}

// A body that is compressed is not taken for what it is when it is not.
func TestEventEncoded(t *testing.T) {
	for coding, want := range map[string]int{"gzip": 415, "br, gzip": 415, "identity": 200, "Identity": 200} {
		inv := &fakeInvoker{}
		s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Storage: newFakeStorage()})
		notice := eventRequest("/", s3Records("aws:s3", "ObjectCreated:Put", "a"), "Content-Type", jsonType, "Content-Encoding", coding)
		for _, r := range []*request{
			binaryEvent("1", "image/png", "\x1f\x8b", "Content-Encoding", coding),
			structured("2", `,"data":{}`, "Content-Encoding", coding),
			batchOf([]string{`"id":"3"`}, "Content-Encoding", coding),
			notice,
		} {
			resp := s.handle(t.Context(), r)
			if resp.status != want && (r != notice || want == 415) {
				t.Errorf("%s: got %d %s, want %d", coding, resp.status, resp.body, want)
			}
		}
		if want == 415 && inv.calls() != 0 {
			t.Errorf("%s: the model was asked", coding)
		}
	}
}

// Data that are decoded take of the memory for bodies, as long as somebody works on them.
func TestEventDataMemory(t *testing.T) {
	data := base64.StdEncoding.EncodeToString(make([]byte, 3<<20))
	for _, tt := range []struct {
		name string
		r    *request
		want int64
	}{
		{"base64", structured("1", `,"datacontenttype":"image/png","data_base64":"`+data+`"`), 3 << 20},
		{"base64 of 0.3", eventRequest("/", `{"specversion":"0.3","id":"1","source":"/s","type":"t","datacontenttype":"image/png","datacontentencoding":"base64","data":"`+data+`"}`,
			"Content-Type", cloudevent.StructuredType), 3 << 20},
		{"in a batch", batchOf([]string{`"id":"1","datacontenttype":"image/png","data_base64":"` + data + `"`}), 6 << 20},
		{"later", structured("1", `,"datacontenttype":"image/png","data_base64":"`+data+`"`, "Prefer", "respond-async"), 7 << 20},
		{"bytes in their place", binaryEvent("1", "image/png", data), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s *Server
				inv := &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
					if got := s.bodies.used.Load(); got/(1<<20) != tt.want/(1<<20) {
						t.Errorf("got %d bytes taken, want %d", got, tt.want)
					}
					return actions.Response{ContentType: jsonType, Data: []byte(`{}`)}, nil
				}}
				s, _ = newServer(t, Config{Model: "echo", Invoker: inv, Sink: &fakeSink{}})
				tt.r.bodies = s.bodies
				if resp := s.handle(t.Context(), tt.r); resp.status/100 != 2 {
					t.Errorf("got %d %s", resp.status, resp.body)
				}
				s.bodies.give(tt.r.taken)
				if !s.background.wait(time.Second) || s.bodies.used.Load() != 0 || inv.calls() != 1 {
					t.Errorf("got %d bytes that are not given back, %d calls", s.bodies.used.Load(), inv.calls())
				}
			})
		})
	}
	s, _ := newServer(t, Config{Model: "echo", MaxBody: 1 << 20, MaxBodies: 2 << 20})
	r := structured("1", `,"datacontenttype":"image/png","data_base64":"`+data+`"`)
	r.bodies = s.bodies
	if resp := s.handle(t.Context(), r); resp.status != 429 {
		t.Errorf("got %d %s where there is no memory", resp.status, resp.body)
	}
}

// An answer whose attributes no header has room for is structured, if the sender takes that, and
// so is one whose data are an event themselves.
func TestEventFits(t *testing.T) {
	long := strings.Repeat("é", 2048)
	for _, tt := range []struct {
		name, id, contentType, accept string
		structured                    bool
	}{
		{"short", "1", jsonType, "", false},
		{"long", long, jsonType, "", true},
		{"long, and JSON is wanted", long, jsonType, jsonType, false},
		{"an event", "1", cloudevent.StructuredType, "", true},
	} {
		inv := &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
			return actions.Response{ContentType: tt.contentType, Data: []byte(`{"n":1}`)}, nil
		}}
		s, _ := newServer(t, Config{Model: "echo", Invoker: inv})
		resp := s.handle(t.Context(), structured(tt.id, ``, "Accept", tt.accept))
		if got := resp.event == nil; got != tt.structured {
			t.Errorf("%s: got structured %v, want %v", tt.name, got, tt.structured)
		}
		if got := replyOf(t, resp); string(got.Data) != `{"n":1}` || got.Extension(cause) != tt.id || got.DataContentType != tt.contentType {
			t.Errorf("%s: got %+v", tt.name, got)
		}
	}
}
