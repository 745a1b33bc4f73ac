package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// batchOf is a request that is a batch of events, of which these are the members beside
// specversion, source and type.
func batchOf(events []string, pairs ...string) *request {
	var b strings.Builder
	for i, e := range events {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"specversion":"1.0","source":"/s","type":"t",%s}`, e)
	}
	return eventRequest("/", "["+b.String()+"]", append(pairs, "Content-Type", cloudevent.BatchType)...)
}

// repliesOf reads the batch that a response is: of each the causation and the data.
func repliesOf(tb testing.TB, resp response) []string {
	tb.Helper()
	events, wrong, err := cloudevent.ParseBatch(resp.body)
	if resp.status != 200 || resp.contentType != cloudevent.BatchType || err != nil || wrong != nil {
		tb.Fatalf("got %d %s (%s), %v, %v; want a batch", resp.status, resp.body, resp.contentType, wrong, err)
	}
	texts := []string{}
	for i := range events {
		texts = append(texts, events[i].Extension("causationid")+" "+strings.TrimPrefix(events[i].Type, "dev.deepfn.")+" "+string(events[i].Data))
	}
	return texts
}

// rowsInvoker answers calls of many rows as a Python model does, with the arguments of each.
// What says "fail" in them fails with that code.
func rowsInvoker(info string) *fakeInvoker {
	inv := &fakeInvoker{info: json.RawMessage(info)}
	fails := func(args []byte) actions.Code {
		var in struct{ Fail actions.Code }
		_ = json.Unmarshal(args, &in)
		return in.Fail
	}
	inv.answer = func(_ context.Context, req actions.Request) (actions.Response, error) {
		timing := actions.Timing{From: actions.TierWarm, Run: time.Millisecond}
		if req.Verb != actions.PredictMany {
			if code := fails(req.Args); code != "" {
				return actions.Response{}, actions.Errorf(code, "it is %s", code)
			}
			data := string(req.Args)
			if len(req.Files) > 0 {
				data = `"` + req.Files[0].Name + ":" + string(req.Files[0].Data) + `"`
			}
			return actions.Response{ContentType: jsonType, Data: []byte(data), Timing: timing}, nil
		}
		var rows []json.RawMessage
		if err := json.Unmarshal(req.Args, &rows); err != nil {
			return actions.Response{}, err
		}
		answers := make([]map[string]any, len(rows))
		for i, row := range rows {
			if code := fails(row); code != "" {
				answers[i] = map[string]any{"error": "it is " + code, "code": code}
			} else {
				answers[i] = map[string]any{"value": row}
			}
		}
		return actions.Response{ContentType: jsonType, Data: jsonResponse(0, answers).body, Timing: timing}, nil
	}
	return inv
}

func TestEventBatch(t *testing.T) {
	const (
		one, two, three = `"id":"1","data":{"n":1}`, `"id":"2","data":{"n":2}`, `"id":"3","data":{"n":3}`
		bad             = `"id":"b","data":{"fail":"failed"}`
		busy            = `"id":"y","data":{"fail":"busy"}`
		none            = `"subject":"x"`
	)
	for _, tt := range []struct {
		name    string
		events  []string
		pairs   []string
		sink    *fakeSink
		status  int
		replies []string // or, of another status than 200, the body's beginning
		calls   int
		sent    []string
	}{
		{name: "together", events: []string{one, two, three}, status: 200, calls: 1, replies: []string{`1 prediction {"n":1}`, `2 prediction {"n":2}`, `3 prediction {"n":3}`}},
		{name: "empty", status: 200, replies: []string{}},
		{name: "empty, to a sink", sink: &fakeSink{}, status: 204},
		{name: "empty, to nobody", pairs: []string{"Prefer", "return=minimal"}, status: 204},
		{name: "one fails", events: []string{one, bad, three}, status: 200, calls: 1, replies: []string{`1 prediction {"n":1}`, `b failure {"error":"it is failed","code":"failed"}`, `3 prediction {"n":3}`}},
		{name: "one is none", events: []string{one, none, three}, status: 200, calls: 1, replies: []string{`1 prediction {"n":1}`, ` failure {"error":"the event has no id: it needs one that is not empty","code":"invalid"}`, `3 prediction {"n":3}`}},
		{name: "one is busy", events: []string{one, busy}, status: 200, calls: 1, replies: []string{`1 prediction {"n":1}`, `y failure {"error":"it is busy","code":"busy"}`}},
		{name: "all are busy", events: []string{busy, strings.Replace(busy, "y", "z", 1)}, status: 429, calls: 1, replies: []string{`{"error":"it is busy","code":"busy"}`}},
		{name: "twice the same", events: []string{one, one, two}, status: 200, calls: 1, replies: []string{`1 prediction {"n":1}`, `1 prediction {"n":1}`, `2 prediction {"n":2}`}},
		{name: "mixed data", events: []string{one, `"id":"f","datacontenttype":"image/png","data_base64":"cGl4"`, `"id":"l","datacontenttype":"application/x-ndjson","data":"{\"n\":1}\n{\"n\":2}\n"`, `"id":"o","datacontenttype":"` + formType + `","data":"n=5"`, `"id":"0"`}, status: 200, calls: 4, replies: []string{`1 prediction {"n":1}`, `f prediction "data:pix"`, "l prediction {\"n\":1}\n{\"n\":2}\n", `o prediction null`, `0 prediction {}`}},
		{name: "scalar", events: []string{one, `"id":"s","data":5`}, status: 200, calls: 2, replies: []string{`1 prediction {"n":1}`, `s prediction "data:5"`}},
		{name: "to nobody", events: []string{one, two}, pairs: []string{"Prefer", "return=minimal"}, status: 204, calls: 1},
		{name: "to nobody, for it takes no batch", events: []string{one, two}, pairs: []string{"Accept", jsonType}, status: 204, calls: 1},
		{name: "to nobody, and one fails", events: []string{one, bad}, pairs: []string{"Prefer", "return=minimal"}, status: 400, calls: 1, replies: []string{`{"errors":[{"id":"b","error":"it is failed","code":"failed"}]}`}},
		{name: "to nobody, and one is busy", events: []string{one, busy, bad}, pairs: []string{"Prefer", "return=minimal"}, status: 429, calls: 1, replies: []string{`{"error":"it is busy","code":"busy"}`}},
		{name: "to a sink", events: []string{one, two}, sink: &fakeSink{}, status: 204, calls: 1, sent: []string{`1 prediction {"n":1}`, `2 prediction {"n":2}`}},
		{name: "to a sink, and one fails", events: []string{one, bad, none}, sink: &fakeSink{}, status: 204, calls: 1, sent: []string{`1 prediction {"n":1}`, `b failure {"error":"it is failed","code":"failed"}`, ` failure {"error":"the event has no id: it needs one that is not empty","code":"invalid"}`}},
		{name: "to a sink, and one is busy", events: []string{one, busy}, sink: &fakeSink{}, status: 429, calls: 1, replies: []string{`{"error":"it is busy","code":"busy"}`}, sent: []string{`1 prediction {"n":1}`}},
		{name: "to the sender, who has a sink", events: []string{one}, pairs: []string{"Prefer", "reply"}, sink: &fakeSink{}, status: 200, calls: 1, replies: []string{`1 prediction {"n":1}`}},
		{name: "one elsewhere", events: []string{one, `"id":"2","replyto":"https://example.com/","data":{}`}, sink: &fakeSink{none: true}, status: 200, calls: 1, replies: []string{`1 prediction {"n":1}`}, sent: []string{`2 prediction {}`}},
		{name: "one elsewhere, where nothing is sent", events: []string{one, `"id":"2","replyto":"https://example.com/","data":{}`}, status: 200, calls: 1, replies: []string{`1 prediction {"n":1}`, `2 failure {"error":"the event names replyto, and this server sends no events","code":"invalid"}`}},
		{name: "later", events: []string{one, two}, pairs: []string{"Prefer", "respond-async"}, sink: &fakeSink{}, status: 202, calls: 1, sent: []string{`1 prediction {"n":1}`, `2 prediction {"n":2}`}},
		{name: "later, to nobody", events: []string{one}, pairs: []string{"Prefer", "respond-async"}, status: 400, replies: []string{`{"error":"Prefer: respond-async needs a place`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := rowsInvoker(bytesInfo)
			cfg := Config{Model: "mod", Catalog: module(), Invoker: inv}
			if tt.sink != nil {
				cfg.Sink = tt.sink
			}
			s, _ := newServer(t, cfg)
			resp := s.handle(t.Context(), batchOf(tt.events, tt.pairs...))
			s.background.wait(time.Minute)
			wantEventual(t, resp)
			if resp.status != tt.status || inv.calls() != tt.calls {
				t.Errorf("got %d %s and %d calls, want %d and %d", resp.status, resp.body, inv.calls(), tt.status, tt.calls)
			}
			switch {
			case resp.status == 200:
				if diff := cmp.Diff(tt.replies, repliesOf(t, resp)); diff != "" {
					t.Error(diff)
				}
			case !strings.HasPrefix(string(resp.body), strings.Join(tt.replies, "")), len(tt.replies) == 0 && len(resp.body) > 0:
				t.Errorf("got %s, want %s", resp.body, tt.replies)
			}
			if tt.sink != nil {
				wantSent(t, tt.sink, tt.sent)
			}
		})
	}
}

// wantSent compares what a sink has got, in any order.
func wantSent(tb testing.TB, sink *fakeSink, want []string) {
	tb.Helper()
	got := map[string]int{}
	for _, e := range sink.all() {
		got[e.Extension("causationid")+" "+strings.TrimPrefix(e.Type, "dev.deepfn.")+" "+string(e.Data)]++
	}
	wanted := map[string]int{}
	for _, text := range want {
		wanted[text]++
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		tb.Error(diff)
	}
}

// What was done when a batch comes again is not done again, and told once.
func TestEventBatchAgain(t *testing.T) {
	fails := true
	sink := &fakeSink{failed: func(_ int, e *cloudevent.Event) error {
		if fails && (e.Extension("causationid") == "2" || e.Type == cloudevent.Failure) {
			return errors.New("gone")
		}
		return nil
	}}
	inv := rowsInvoker(bytesInfo)
	s, _ := newServer(t, Config{Model: "mod", Catalog: module(), Invoker: inv, Sink: sink})
	events := []string{`"id":"1","data":{}`, `"id":"2","data":{}`, `"id":"3","data":{"fail":"failed"}`}
	if resp := s.handle(t.Context(), batchOf(events)); resp.status != 503 || resp.retryAfter == 0 {
		t.Errorf("got %d %s", resp.status, resp.body)
	}
	wantSent(t, sink, []string{"1 prediction {}"})
	fails = false
	for range 2 {
		if resp := s.handle(t.Context(), batchOf(events)); resp.status != 204 {
			t.Errorf("again: got %d %s", resp.status, resp.body)
		}
	}
	wantSent(t, sink, []string{"1 prediction {}", "2 prediction {}", `3 failure {"error":"it is failed","code":"failed"}`})
	if inv.calls() != 1 {
		t.Errorf("got %d calls, want one", inv.calls())
	}
}

// Two batches that have the same events in another order wait for each other's, and no event is
// predicted twice.
func TestEventBatchesCross(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := rowsInvoker(bytesInfo)
		answer := inv.answer
		var mu sync.Mutex
		seen := map[string]int{}
		inv.answer = func(ctx context.Context, req actions.Request) (actions.Response, error) {
			var rows []json.RawMessage
			_ = json.Unmarshal(req.Args, &rows)
			mu.Lock()
			for _, row := range rows {
				seen[string(row)]++
			}
			mu.Unlock()
			time.Sleep(time.Second)
			return answer(ctx, req)
		}
		s, _ := newServer(t, Config{Model: "mod", Catalog: module(), Invoker: inv})
		id := func(i int) string { return fmt.Sprintf(`"id":"%d","data":{"n":%d}`, i, i) }
		var wg sync.WaitGroup
		for _, events := range [][]string{
			{id(1), id(2), id(3)},
			{id(4), id(3), id(2), id(5)},
			{id(5), id(4), id(1), id(6), id(7)},
		} {
			wg.Go(func() {
				if got := repliesOf(t, s.handle(t.Context(), batchOf(events))); len(got) != len(events) || strings.Contains(fmt.Sprint(got), "failure") {
					t.Errorf("got %q", got)
				}
			})
		}
		wg.Wait()
		for row, n := range seen {
			if n != 1 {
				t.Errorf("%s was predicted %d times", row, n)
			}
		}
	})
}

// A batch is one line in the log, and its events are counted one by one.
func TestEventBatchCounts(t *testing.T) {
	s, st := newServer(t, Config{Model: "mod", Catalog: module(), Invoker: rowsInvoker(bytesInfo)})
	s.handle(t.Context(), batchOf([]string{`"id":"1","data":{}`, `"id":"2","data":{}`, `"id":"3","data":{"fail":"failed"}`}))
	s.handle(t.Context(), binaryEvent("e", jsonType, `{}`))
	log := st.log.String()
	if strings.Count(log, "msg=invocation") != 2 || !strings.Contains(log, "rows=3") || !strings.Contains(log, "event_id=e") || !strings.Contains(log, "protocol=cloudevents") {
		t.Errorf("got log %s", log)
	}
	page := string(get(t, s, "/metrics").body)
	for _, want := range []string{
		`deepfn_invocations_total{code="ok",model="mod",protocol="cloudevents"} 3`,
		`deepfn_invocations_total{code="failed",model="mod",protocol="cloudevents"} 1`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}
}

// Each line is the arguments of a prediction, and the answer has a line for each.
func TestEventLines(t *testing.T) {
	storage := newFakeStorage()
	for _, tt := range []struct {
		name, data string
		status     int
		want       string
	}{
		{"rows", "{\"n\":1}\n\n  {\"n\": 2}\r\n{\"n\":3}", 200, "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n"},
		{"a byte order mark", "\xef\xbb\xbf{\"n\":1}\n", 200, "{\"n\":1}\n"},
		{"one fails", "{\"n\":1}\n{\"fail\":\"failed\"}\n", 200, "{\"n\":1}\n" + `{"error":"it is failed","code":"failed"}` + "\n"},
		{"one is broken", "{\"n\":1}\n{\"n\":\n", 200, "{\"n\":1}\n{\"error\":"},
		{"one is busy", "{\"n\":1}\n{\"fail\":\"busy\"}\n", 429, `{"error":"it is busy","code":"busy"}`},
		{"none", "\n \n", 200, ""},
		{"a file by reference", `{"data":{"url":"` + place + `b"}}` + "\n{\"n\":2}\n", 200, "\"data:bytes\"\n{\"n\":2}\n"},
		{"too many", strings.Repeat("{}\n", maxLines+1), 413, `{"error":"the event has`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := newServer(t, Config{Model: "mod", Catalog: module(), Invoker: rowsInvoker(bytesInfo), Storage: storage})
			for _, contentType := range []string{"application/x-ndjson; charset=utf-8", "application/jsonl", "Application/JSONLines"} {
				resp := s.handle(t.Context(), binaryEvent(contentType, contentType, tt.data))
				if resp.status != tt.status || !strings.HasPrefix(string(resp.body), tt.want) || tt.name != "one is broken" && resp.status == 200 && string(resp.body) != tt.want {
					t.Errorf("got %d %q, want %d %q", resp.status, resp.body, tt.status, tt.want)
				}
				if resp.status == 200 && len(resp.body) > 0 && replyOf(t, resp).DataContentType != "application/x-ndjson" {
					t.Errorf("got %s", resp.contentType)
				}
			}
		})
	}
}

// Events that are about batch predictions go to those who do them.
func TestEventBatchPredictions(t *testing.T) {
	work := func(kind, data string) *request {
		return eventRequest("/", data, "Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", kind, "Content-Type", jsonType)
	}
	const asked = `{"input":"s3://in/a.csv","output":"s3://out/a/"}`
	for _, tt := range []struct {
		name    string
		r       *request
		batches *fakeBatches
		model   string
		status  int
		text    string
	}{
		{"a batch", work(cloudevent.BatchRequested, asked), &fakeBatches{}, "echo", 200, `"id":"` + batchID + `"`},
		{"a batch that names its model", work(cloudevent.BatchRequested, `{"model":"mod",`+asked[1:]), &fakeBatches{}, "", 200, `"model":"mod"`},
		{"a broken batch", work(cloudevent.BatchRequested, `{`), &fakeBatches{}, "echo", 400, `"code":"invalid"`},
		{"a batch that may not be", work(cloudevent.BatchRequested, asked), &fakeBatches{err: actions.Errorf(actions.Forbidden, "no")}, "echo", 403, `"code":"forbidden"`},
		{"no batches", work(cloudevent.BatchRequested, asked), nil, "echo", 422, `this server runs no batch predictions`},
		{"a chunk", work(cloudevent.BatchChunk, `{"job":"j","index":3}`), &fakeBatches{}, "", 204, ``},
		{"a broken chunk", work(cloudevent.BatchChunk, `[]`), &fakeBatches{}, "", 400, `the data of the event are no chunk of a batch`},
		{"a chunk that fails for now", work(cloudevent.BatchChunk, `{"job":"j"}`), &fakeBatches{err: actions.Errorf(actions.Unavailable, "m")}, "", 503, `"code":"unavailable"`},
		{"a chunk that fails for good", work(cloudevent.BatchChunk, `{"job":"j"}`), &fakeBatches{err: actions.Errorf(actions.Invalid, "m")}, "", 400, `"code":"invalid"`},
		{"a chunk where there are none", work(cloudevent.BatchChunk, `{"job":"j"}`), nil, "", 422, `"code":"unsupported"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Model: tt.model}
			if tt.batches != nil {
				cfg.Batches = tt.batches
			}
			s, _ := newServer(t, cfg)
			resp := s.handle(t.Context(), tt.r)
			if resp.status != tt.status || !strings.Contains(string(resp.body), tt.text) {
				t.Errorf("got %d %s, want %d …%s…", resp.status, resp.body, tt.status, tt.text)
			}
			if resp.status == 200 {
				got := replyOf(t, resp)
				if got.Type != cloudevent.BatchAccepted || got.Subject != batchID || tt.model != "" && tt.batches.submitted.Model != tt.model {
					t.Errorf("got %+v of %+v", got, tt.batches.submitted)
				}
			}
			if resp.status == 204 && tt.batches.done.Index != 3 {
				t.Errorf("got %+v", tt.batches.done)
			}
		})
	}
}
