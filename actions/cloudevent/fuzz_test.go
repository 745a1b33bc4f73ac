package cloudevent_test

import (
	"cmp"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// An event that was read is valid, and written and read again it is the same.
func FuzzParseStructured(f *testing.F) {
	for _, test := range structuredFaults() {
		f.Add([]byte(test.body))
	}
	for _, body := range structuredSamples() {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := cloudevent.ParseStructured(body)
		checkRead(t, e, err)
		if err != nil {
			return
		}
		again, err := cloudevent.ParseStructured(e.AppendJSON(nil))
		if diff := gocmp.Diff(e, again); err != nil || diff != "" {
			t.Errorf("%q: written and read again: %v\n%s", body, err, diff)
		}
		checkBinary(t, e)
	})
}

// Each event of a batch is what it is alone.
func FuzzParseBatch(f *testing.F) {
	f.Add([]byte(`[]`))
	f.Add([]byte("[" + strings.Join(structuredSamples(), ",") + "]"))
	for _, test := range structuredFaults() {
		f.Add([]byte(`[` + structuredSamples()[0] + `,` + test.body + `,` + structuredSamples()[1] + `]`))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		events, wrong, err := cloudevent.ParseBatch(body)
		if err != nil {
			if code := actions.CodeOf(err); code != actions.Invalid && code != actions.TooLarge || events != nil || wrong != nil {
				t.Errorf("%q: got %v, %v, %v", body, events, wrong, err)
			}
			return
		}
		if wrong != nil && len(wrong) != len(events) {
			t.Fatalf("%q: got %d errors for %d events", body, len(wrong), len(events))
		}
		for i, e := range events {
			if wrong != nil && wrong[i] != nil {
				probe := cloudevent.Event{ID: cmp.Or(e.ID, "1"), Source: cmp.Or(e.Source, "/"), Type: "t"}
				if err := probe.Validate(); err != nil {
					t.Errorf("%q: event %d is known as what it cannot be: %v", body, i, err)
				}
				e.ID, e.Source = "", ""
				checkRead(t, e, wrong[i])
				continue
			}
			checkRead(t, e, nil)
			alone, err := cloudevent.ParseStructured(e.AppendJSON(nil))
			if diff := gocmp.Diff(e, alone); err != nil || diff != "" {
				t.Errorf("%q: event %d alone: %v\n%s", body, i, err, diff)
			}
		}
	})
}

func FuzzParseBinary(f *testing.F) {
	f.Add("1.0", "1", "/a", "t", "application/json", "color", "red", []byte(`{"a":1}`))
	f.Add("0.3", "%E2%98%83", `"quoted \" %20"`, "t", "image/png", "datacontentencoding", "base64", []byte(`AAE=`))
	f.Add("1.0", "%zz", "/a%20b", "t", "text", "Data", "", []byte{0xff})
	f.Add("2.0", "\"", "\\", "\x7f", "a/b; c", "time", "2026-02-30T00:00:00Z", []byte(nil))
	f.Fuzz(func(t *testing.T, version, id, source, typ, contentType, name, value string, body []byte) {
		e, err := cloudevent.ParseBinary(contentType, func(each func(name, value string)) {
			each("Ce-Specversion", version)
			each("ce-id", id)
			each("CE-SOURCE", source)
			each("ce-type", typ)
			each("ce-"+name, value)
		}, body)
		checkRead(t, e, err)
		if err == nil {
			checkBinary(t, e)
		}
	})
}

// checkRead wants an event that is valid, or none and an error of the caller's.
func checkRead(t *testing.T, e cloudevent.Event, err error) {
	t.Helper()
	if err == nil {
		if err := e.Validate(); err != nil {
			t.Errorf("what was read is not valid: %v", err)
		}
		return
	}
	if actions.CodeOf(err) != actions.Invalid || err.Error() == "" || !gocmp.Equal(e, cloudevent.Event{}) {
		t.Errorf("got %+v, %v (%s), want no event and Invalid", e, err, actions.CodeOf(err))
	}
}

// checkBinary wants the event as it is after a way through binary mode, which has but texts.
func checkBinary(t *testing.T, e cloudevent.Event) {
	t.Helper()
	again, err := cloudevent.ParseBinary(e.DataContentType, e.BinaryHeader, e.Data)
	want := e
	want.Extensions = nil
	for _, a := range e.Extensions {
		want.Extensions = append(want.Extensions, cloudevent.Attribute{Name: a.Name, Value: a.Value})
	}
	if len(want.Data) == 0 {
		want.Data = nil
	}
	if diff := gocmp.Diff(want, again); err != nil || diff != "" {
		t.Errorf("through binary mode: %v\n%s", err, diff)
	}
}
