package proxy

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/deepfn/deepfn/actions/cloudevent"
)

// BenchmarkEvent is one event through the handler, with a model that answers at once.
func BenchmarkEvent(b *testing.B) {
	s := benchServer()
	var h fasthttp.RequestHeader
	for name, value := range map[string]string{
		"Host": "localhost", "Content-Type": jsonType, "Ce-Specversion": "1.0", "Ce-Source": "/sensors/1",
		"Ce-Type": "com.example.reading", "Ce-Time": "2026-11-30T01:02:03Z", "User-Agent": "Go-http-client/1.1",
	} {
		h.Set(name, value)
	}
	ctx, data, n := b.Context(), []byte(`{"n":41}`), 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		h.Set("Ce-Id", strconv.Itoa(n))
		r := request{method: "POST", path: "/", contentType: jsonType, id: "1", body: data, peek: &h}
		r.header = func(name string, each func(name, value string)) {
			for _, value := range h.PeekAll(name) {
				each(name, string(value))
			}
		}
		if resp := s.handle(ctx, &r); resp.status != 200 || resp.event == nil {
			b.Fatalf("got %d %s", resp.status, resp.body)
		}
	}
}

// More attributes than there is room for, among other headers, have their own values each.
func TestCollectAttributes(t *testing.T) {
	var h fasthttp.RequestHeader
	want := map[string]string{}
	for i := range 40 {
		name, value := fmt.Sprintf("Ce-X%d", i), strings.Repeat(strconv.Itoa(i), i)
		h.Set(name, value)
		h.Set("X-"+name, "other")
		want[name] = value
	}
	room := make([]byte, 0, 100)
	r := request{peek: &h, answer: &room}
	for range 2 {
		r.collectAttributes()
	}
	if len(r.collection) != len(want) {
		t.Errorf("got %d attributes, want %d", len(r.collection), len(want))
	}
	for _, a := range r.collection {
		if want[a.Name] != a.Value {
			t.Errorf("%s: got %q, want %q", a.Name, a.Value, want[a.Name])
		}
	}
}

// BenchmarkEventBatch is a batch of a thousand events through the handler.
func BenchmarkEventBatch(b *testing.B) {
	s, _ := newServer(b, Config{Model: "mod", Catalog: module(), Invoker: rowsInvoker(""), EventRecord: 20_000})
	ctx, answer := b.Context(), new([]byte)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		var body strings.Builder
		b.StopTimer()
		for i := range 1000 {
			n++
			body.WriteByte("[,"[min(i, 1)])
			fmt.Fprintf(&body, `{"specversion":"1.0","id":"%d","source":"/sensors/1","type":"com.example.reading","time":"2026-11-30T01:02:03Z","datacontenttype":"application/json","data":{"n":41}}`, n)
		}
		body.WriteByte(']')
		data := []byte(body.String())
		b.StartTimer()
		r := request{method: "POST", path: "/", contentType: cloudevent.BatchType, id: "1", body: data, answer: answer}
		resp := s.handle(ctx, &r)
		if resp.status != 200 {
			b.Fatalf("got %d %s", resp.status, resp.body)
		}
		grow(answer, len(resp.body))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/event")
}
