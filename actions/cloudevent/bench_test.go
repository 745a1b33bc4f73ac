package cloudevent_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/deepfn/deepfn/actions/cloudevent"
)

// readings are n small events from one source, of 164 bytes each in a batch.
func readings(n int) []cloudevent.Event {
	var events []cloudevent.Event
	for i := range n {
		events = append(events, cloudevent.Event{
			SpecVersion: cloudevent.V1, ID: fmt.Sprintf("reading-%06d", i), Source: "/sensors/7", Type: "com.example.reading",
			DataContentType: "application/json", Data: fmt.Appendf(nil, `{"id": %d, "x": [0.25, 1.5, -3]}`, i),
		})
	}
	return events
}

// message is an event in binary mode.
func message(e cloudevent.Event) (http.Header, []byte) {
	h := http.Header{"Content-Type": {e.DataContentType}, "Host": {"example.com"}, "User-Agent": {"bench"}}
	e.BinaryHeader(func(name, value string) { h.Set(name, value) })
	return h, e.Data
}

func TestAllocations(t *testing.T) {
	h, body := message(readings(1)[0])
	each := headerOf(h)
	var list []cloudevent.Attribute
	each(func(name, value string) { list = append(list, cloudevent.Attribute{Name: name, Value: value}) })
	structured := readings(1)[0].AppendJSON(nil)
	batch := cloudevent.AppendBatch(nil, readings(1000))
	for _, test := range []struct {
		name string
		call func() error
		most float64
	}{
		{"binary", func() error { _, err := cloudevent.ParseBinary("application/json", each, body); return err }, 2},
		{"binary, as a list", func() error { _, err := cloudevent.ParseAttributes("application/json", list, body); return err }, 0},
		{"structured", func() error { _, err := cloudevent.ParseStructured(structured); return err }, 6},
		{"batch of 1000", func() error { _, _, err := cloudevent.ParseBatch(batch); return err }, 1100},
	} {
		got := testing.AllocsPerRun(100, func() {
			if err := test.call(); err != nil {
				t.Error(err)
			}
		})
		if got > test.most {
			t.Errorf("%s: got %.0f allocations, want at most %.0f", test.name, got, test.most)
		}
	}
}

func BenchmarkBinary(b *testing.B) {
	h, body := message(readings(1)[0])
	b.Run("deepfn", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := cloudevent.ParseBinary("application/json", headerOf(h), body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("sdk-go", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := binding.ToEvent(b.Context(), cehttp.NewMessage(h, io.NopCloser(bytes.NewReader(body)))); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkStructured(b *testing.B) {
	body := readings(1)[0].AppendJSON(nil)
	h := http.Header{"Content-Type": {cloudevent.StructuredType}}
	b.Run("deepfn", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := cloudevent.ParseStructured(body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("sdk-go", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := binding.ToEvent(b.Context(), cehttp.NewMessage(h, io.NopCloser(bytes.NewReader(body)))); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A batch of 1,000 events.
func BenchmarkBatch(b *testing.B) {
	body := cloudevent.AppendBatch(nil, readings(1000))
	b.Run("deepfn", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			if events, wrong, err := cloudevent.ParseBatch(body); err != nil || wrong != nil || len(events) != 1000 {
				b.Fatal(len(events), wrong, err)
			}
		}
	})
	b.Run("sdk-go", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://example.com/", bytes.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			req.Header.Set("Content-Type", cloudevent.BatchType)
			if events, err := cehttp.NewEventsFromHTTPRequest(req); err != nil || len(events) != 1000 {
				b.Fatal(len(events), err)
			}
		}
	})
}

func BenchmarkAppendBatch(b *testing.B) {
	events := readings(1000)
	var body []byte
	b.ReportAllocs()
	for b.Loop() {
		body = cloudevent.AppendBatch(body[:0], events)
	}
	b.SetBytes(int64(len(body)))
}
