package cloudevent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/cloudevents/sdk-go/v2/binding"
	bindingtest "github.com/cloudevents/sdk-go/v2/binding/test"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	cetest "github.com/cloudevents/sdk-go/v2/test"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions/cloudevent"
)

// The tests in this file hold the package against the SDK of the specification's authors: what
// one writes the other has to read as the same event, both ways.

// sdkEvents are the SDK's own test events, and some with the data that models take, in all
// versions that both know.
func sdkEvents(t *testing.T) []event.Event {
	t.Helper()
	events := []event.Event{cetest.FullEvent(), cetest.MinEvent()}
	for contentType, data := range map[string]any{
		"application/json":                map[string]any{"text": "a \"b\"\n\u2028 ❄", "n": 1.5, "list": []int{1, 2}},
		"application/json; charset=utf-8": []string{"Hello", "🌎"},
		"text/plain; charset=utf-8":       "two\nlines, \"quotes\" and \\ ☃\x01",
		"application/xml":                 "<msg>Hello, 🌎!</msg>",
		"image/png":                       []byte("\x89PNG\r\n\x1a\n\x00\xff\xfe"),
		"application/octet-stream":        []byte{0, 1, 2, 255},
	} {
		e := cetest.MinEvent()
		e.SetID("data of " + contentType)
		e.SetSubject("line/1.png")
		var err error
		switch data := data.(type) {
		case []byte:
			err = e.SetData(contentType, data)
		case string:
			err = e.SetData(contentType, []byte(data))
		default:
			var text []byte
			if text, err = json.Marshal(data); err == nil {
				err = e.SetData(contentType, text)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		_, isBytes := data.([]byte)
		e.DataBase64 = isBytes
		events = append(events, e)
	}
	var all []event.Event
	for _, e := range cetest.AllVersions(events) {
		if e.DataBase64 && e.SpecVersion() == event.CloudEventsVersionV03 {
			e.SetDataContentEncoding(event.Base64)
		}
		all = append(all, withoutBytes(e))
	}
	return all
}

// withoutBytes makes what the SDK says in other words in each encoding the same in all: bytes
// of extensions are base64 texts, as on the wire.
func withoutBytes(e event.Event) event.Event {
	e = e.Clone()
	for name, value := range e.Extensions() {
		switch value.(type) {
		case bool, int32:
		default:
			text, err := types.Format(value)
			if err != nil {
				panic(err)
			}
			e.SetExtension(name, text)
		}
	}
	return e
}

// described is what an event says, in the SDK's words.
func described(e event.Event) map[string]string {
	d := map[string]string{
		"specversion": e.SpecVersion(), "id": e.ID(), "source": e.Source(), "type": e.Type(),
		"subject": e.Subject(), "datacontenttype": e.DataContentType(), "schema": e.DataSchema(), "data": string(e.Data()),
	}
	if !e.Time().IsZero() {
		d["time"] = types.FormatTime(e.Time())
	}
	for name, value := range e.Extensions() {
		if name == "datacontentencoding" {
			continue // it is how the data were written
		}
		d["ext "+name] = fmt.Sprint(value)
	}
	return d
}

// ours is what an event of this package says, in the same words.
func ours(e cloudevent.Event) map[string]string {
	d := map[string]string{
		"specversion": e.SpecVersion, "id": e.ID, "source": e.Source, "type": e.Type,
		"subject": e.Subject, "datacontenttype": e.DataContentType, "schema": e.DataSchema, "data": string(e.Data),
	}
	if e.Time != "" {
		d["time"] = e.Time
	}
	for _, a := range e.Extensions {
		d["ext "+a.Name] = a.Value
	}
	return d
}

func headerOf(h http.Header) cloudevent.Header {
	return func(each func(name, value string)) {
		for name, values := range h {
			for _, value := range values {
				each(name, value)
			}
		}
	}
}

// written is an event as the SDK's sender writes it.
func written(t *testing.T, encode func(context.Context) context.Context, e event.Event) (http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://example.com/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if err := cehttp.WriteRequest(encode(t.Context()), binding.ToMessage(&e), req); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatal(err)
	}
	return req.Header, body
}

func TestReadsWhatTheSDKWrites(t *testing.T) {
	for _, e := range sdkEvents(t) {
		t.Run("binary "+e.SpecVersion()+" "+e.ID(), func(t *testing.T) {
			h, body := written(t, binding.WithForceBinary, e)
			if got := cloudevent.ModeOf(h.Get("Content-Type"), headerOf(h)); got != cloudevent.Binary {
				t.Errorf("got mode %d, want Binary", got)
			}
			got, err := cloudevent.ParseBinary(h.Get("Content-Type"), headerOf(h), body)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(described(e), ours(got)); diff != "" {
				t.Errorf("(-SDK +ours)\n%s", diff)
			}
		})
		t.Run("structured "+e.SpecVersion()+" "+e.ID(), func(t *testing.T) {
			h, body := written(t, binding.WithForceStructured, e)
			if got := cloudevent.ModeOf(h.Get("Content-Type"), headerOf(h)); got != cloudevent.Structured {
				t.Errorf("got mode %d, want Structured", got)
			}
			got, err := cloudevent.ParseStructured(body)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(described(e), ours(got)); diff != "" {
				t.Errorf("(-SDK +ours)\n%s", diff)
			}
		})
	}
}

// The messages that the SDK tests its own transports with.
func TestReadsMessagesOfTheSDK(t *testing.T) {
	for _, e := range sdkEvents(t) {
		for name, message := range map[string]binding.Message{
			"binary": bindingtest.MustCreateMockBinaryMessage(e), "structured": bindingtest.MustCreateMockStructuredMessage(t, e),
		} {
			t.Run(name+" "+e.SpecVersion()+" "+e.ID(), func(t *testing.T) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://example.com/", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				if err := cehttp.WriteRequest(t.Context(), message, req); err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(req.Body)
				if err != nil {
					t.Fatal(err)
				}
				var got cloudevent.Event
				if contentType := req.Header.Get("Content-Type"); cloudevent.ModeOf(contentType, headerOf(req.Header)) == cloudevent.Structured {
					got, err = cloudevent.ParseStructured(body)
				} else {
					got, err = cloudevent.ParseBinary(contentType, headerOf(req.Header), body)
				}
				if diff := cmp.Diff(described(e), ours(got)); err != nil || diff != "" {
					t.Errorf("%v (-SDK +ours)\n%s", err, diff)
				}
			})
		}
	}
}

func TestReadsABatchOfTheSDK(t *testing.T) {
	events := sdkEvents(t)
	req, err := cehttp.NewHTTPRequestFromEvents(t.Context(), "http://example.com/", events)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := cloudevent.ModeOf(req.Header.Get("Content-Type"), headerOf(req.Header)); got != cloudevent.Batched {
		t.Errorf("got mode %d, want Batched", got)
	}
	got, wrong, err := cloudevent.ParseBatch(body)
	if err != nil || wrong != nil || len(got) != len(events) {
		t.Fatalf("got %d events, %v, %v, want %d", len(got), wrong, err, len(events))
	}
	for i := range events {
		if diff := cmp.Diff(described(events[i]), ours(got[i])); diff != "" {
			t.Errorf("event %d (-SDK +ours)\n%s", i, diff)
		}
	}
}

// read returns the events of this package that are those of the SDK.
func read(t *testing.T) []cloudevent.Event {
	t.Helper()
	var events []cloudevent.Event
	for _, e := range sdkEvents(t) {
		_, body := written(t, binding.WithForceStructured, e)
		got, err := cloudevent.ParseStructured(body)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, got)
	}
	return events
}

func TestTheSDKReadsWhatIsWritten(t *testing.T) {
	for _, e := range read(t) {
		t.Run("binary "+e.SpecVersion+" "+e.ID, func(t *testing.T) {
			h := http.Header{}
			e := e
			e.ID = e.ID[:3] // the SDK does not decode headers: no spaces
			e.BinaryHeader(func(name, value string) { h.Set(name, value) })
			if e.DataContentType != "" {
				h.Set("Content-Type", e.DataContentType)
			}
			got, err := binding.ToEvent(t.Context(), cehttp.NewMessage(h, io.NopCloser(bytes.NewReader(e.Data))))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(ours(e), described(*got)); diff != "" {
				t.Errorf("(-ours +SDK)\n%s", diff)
			}
		})
		t.Run("structured "+e.SpecVersion+" "+e.ID, func(t *testing.T) {
			var got event.Event
			if err := json.Unmarshal(e.AppendJSON(nil), &got); err != nil {
				t.Fatal(err)
			}
			if err := got.Validate(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(ours(e), described(got)); diff != "" {
				t.Errorf("(-ours +SDK)\n%s", diff)
			}
		})
	}
}

func TestTheSDKReadsABatch(t *testing.T) {
	events := read(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://example.com/", bytes.NewReader(cloudevent.AppendBatch(nil, events)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", cloudevent.BatchType)
	got, err := cehttp.NewEventsFromHTTPRequest(req)
	if err != nil || len(got) != len(events) {
		t.Fatalf("got %d events, %v, want %d", len(got), err, len(events))
	}
	for i := range events {
		if diff := cmp.Diff(ours(events[i]), described(got[i])); diff != "" {
			t.Errorf("event %d (-ours +SDK)\n%s", i, diff)
		}
	}
}
