package cloudevent_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

const required = `"specversion":"1.0","id":"1","source":"/a","type":"t"`

// structuredSamples are events that are read.
func structuredSamples() []string {
	return []string{
		`{` + required + `}`,
		`{` + required + `,"data":{"a":[1,2]},"subject":"s","time":"2026-01-31T23:59:60.5+05:30"}`,
		`{"data":"\u00e9\n","datacontenttype":"text/plain",` + required + `}`,
		`{` + required + `,"data_base64":"AAECAw==","datacontenttype":"image/png","dataschema":"http://example.com/s"}`,
		`{"specversion":"0.3","id":"1","source":"/a","type":"t","schemaurl":"s","datacontentencoding":"base64","data":"AAE="}`,
		`{` + required + `,"ex":"","n":-7,"b":true,"gone":null,"subject":null,"data":null}`,
		`{` + required + `,"datacontenttype":"text/xml","data":{"not":"a text"},"schemaurl":"an extension here"}`,
		` {` + required + `,"p\u0061rtition":"\ud83d\ude00"} `,
	}
}

type fault struct{ name, body, want string }

// structuredFaults are events that are refused, and what the message has to say.
func structuredFaults() []fault {
	with := func(name, members, want string) fault { return fault{name, `{` + required + `,` + members + `}`, want} }
	return []fault{
		{"nothing", ``, "no event in the JSON format"},
		{"an array", `[]`, "no event in the JSON format"},
		{"something behind it", `{` + required + `} x`, "no event in the JSON format"},
		{"not UTF-8", "{" + required + ",\"data\":\"\xff\"}", "UTF-8"},
		{"no version", `{"id":"1","source":"/a","type":"t"}`, "no specversion"},
		{"a version of the future", `{"specversion":"2.0","id":"1","source":"/a","type":"t"}`, `specversion is "2.0": 1.0 and 0.3 are taken`},
		{"a version that is a number", `{"specversion":1.0,"id":"1","source":"/a","type":"t"}`, "specversion is no string"},
		{"no id", `{"specversion":"1.0","source":"/a","type":"t"}`, "no id"},
		{"no source", `{"specversion":"1.0","id":"1","type":"t"}`, "no source"},
		{"no type", `{"specversion":"1.0","id":"1","source":"/a"}`, "no type"},
		{"an id that is null", `{"specversion":"1.0","id":null,"source":"/a","type":"t"}`, "no id"},
		{"an empty id", `{"specversion":"1.0","id":"","source":"/a","type":"t"}`, "id is empty"},
		{"an id that is a number", `{"specversion":"1.0","id":1,"source":"/a","type":"t"}`, "id is no string"},
		{"a source that is no URI", `{"specversion":"1.0","id":"1","source":"http://[","type":"t"}`, "source"},
		{"a type with a tab", `{"specversion":"1.0","id":"1","source":"/a","type":"a\tb"}`, "U+0009"},
		with("an id twice", `"id":"1"`, "id twice"),
		with("an extension twice", `"x":"1","x":"1"`, "x twice"),
		with("data twice", `"data":1,"data":1`, "data twice"),
		with("an empty subject", `"subject":""`, "subject is empty"),
		with("a subject with a control", `"subject":"\u0080"`, "U+0080"),
		with("a subject with no character", `"subject":"\ufffe"`, "U+FFFE"),
		with("a name in capitals", `"Color":"red"`, `"Color"`),
		with("a name with a dash", `"my-ext":"red"`, `"my-ext"`),
		with("no name", `"":"red"`, `""`),
		with("a long name", `"`+strings.Repeat("x", 65)+`":"red"`, "64"),
		with("a long value", `"x":"`+strings.Repeat("x", 65<<10)+`"`, "65536 bytes"),
		with("an object as an extension", `"x":{}`, "x is neither"),
		with("a fraction", `"x":1.5`, "x is neither"),
		with("a large number", `"x":2147483648`, "x is neither"),
		with("a time without an offset", `"time":"2026-01-31T23:59:59"`, "time"),
		with("a day that is none", `"time":"2026-02-29T00:00:00Z"`, "time"),
		with("a time with a comma", `"time":"2026-02-28T00:00:00,5Z"`, "time"),
		with("a content type that is none", `"datacontenttype":"json"`, "datacontenttype"),
		with("a schema that is no URI", `"dataschema":"schema.json"`, "dataschema"),
		with("a schema that is a number", `"dataschema":7`, "dataschema"),
		with("data in two ways", `"data":1,"data_base64":"AA=="`, "both data and data_base64"),
		with("base64 that is none", `"data_base64":"A"`, "data_base64 is no base64"),
		with("base64 that is an object", `"data_base64":{}`, "data_base64 is no string"),
		with("many extensions", extensions(129), "more than 128 extensions"),
		{"base64 of 1.0 in 0.3", `{"specversion":"0.3","id":"1","source":"/a","type":"t","data_base64":"AA=="}`, "0.3 does not know"},
		{"an encoding that is none", `{"specversion":"0.3","id":"1","source":"/a","type":"t","datacontentencoding":"gzip"}`, "datacontentencoding"},
		{"encoded data that are no text", `{"specversion":"0.3","id":"1","source":"/a","type":"t","datacontentencoding":"base64","data":{}}`, "data is no string"},
	}
}

func extensions(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`"x%d":%d`, i, i))
	}
	return strings.Join(list, ",")
}

func TestParseStructuredRefuses(t *testing.T) {
	for _, test := range structuredFaults() {
		t.Run(test.name, func(t *testing.T) {
			_, err := cloudevent.ParseStructured([]byte(test.body))
			if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v (%s), want Invalid that says %q", err, actions.CodeOf(err), test.want)
			}
		})
	}
}

func TestParseStructured(t *testing.T) {
	base := cloudevent.Event{SpecVersion: "1.0", ID: "1", Source: "/a", Type: "t"}
	wants := []func(*cloudevent.Event){
		func(*cloudevent.Event) {},
		func(e *cloudevent.Event) {
			e.Data, e.Subject, e.Time = []byte(`{"a":[1,2]}`), "s", "2026-01-31T23:59:60.5+05:30"
		},
		func(e *cloudevent.Event) { e.Data, e.DataContentType = []byte("é\n"), "text/plain" },
		func(e *cloudevent.Event) {
			e.Data, e.DataContentType, e.DataSchema = []byte{0, 1, 2, 3}, "image/png", "http://example.com/s"
		},
		func(e *cloudevent.Event) { e.SpecVersion, e.DataSchema, e.Data = "0.3", "s", []byte{0, 1} },
		func(e *cloudevent.Event) {
			e.Extensions = []cloudevent.Attribute{{Name: "ex"}, {Name: "n", Value: "-7", Kind: cloudevent.Integer}, {Name: "b", Value: "true", Kind: cloudevent.Boolean}}
			e.Data = []byte("null")
		},
		func(e *cloudevent.Event) {
			e.DataContentType, e.Data = "text/xml", []byte(`{"not":"a text"}`)
			e.SetExtension("schemaurl", "an extension here")
		},
		func(e *cloudevent.Event) { e.SetExtension("partition", "😀") },
	}
	for i, body := range structuredSamples() {
		want := base
		wants[i](&want)
		got, err := cloudevent.ParseStructured([]byte(body))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", body, err, diff)
		}
	}
}

func TestParseBatch(t *testing.T) {
	good := `{` + required + `}`
	events, wrong, err := cloudevent.ParseBatch([]byte(`[` + good + `,{},7,` + good + "," + `{` + required + ",\"x\":\"\xff\"}," + good + `]`))
	if err != nil || len(events) != 6 || len(wrong) != 6 {
		t.Fatalf("got %v, %v, %v", events, wrong, err)
	}
	for i, want := range []string{"", "specversion", "no object", "", "UTF-8", ""} {
		if want == "" && (wrong[i] != nil || events[i].ID != "1") {
			t.Errorf("event %d: got %+v, %v, want it", i, events[i], wrong[i])
		}
		if want != "" && (actions.CodeOf(wrong[i]) != actions.Invalid || !strings.Contains(wrong[i].Error(), want)) {
			t.Errorf("event %d: got %v, want Invalid that says %q", i, wrong[i], want)
		}
	}
	for _, test := range []struct {
		name, body string
		want       actions.Code
	}{
		{"nothing", ``, actions.Invalid},
		{"an event", good, actions.Invalid},
		{"cut off", `[` + good, actions.Invalid},
		{"something behind it", `[]]`, actions.Invalid},
		{"an event that is no JSON", `[` + good + `,{"a":}]`, actions.Invalid},
		{"too many", `[0` + strings.Repeat(",0", cloudevent.MaxBatch) + `]`, actions.TooLarge},
	} {
		t.Run(test.name, func(t *testing.T) {
			events, wrong, err := cloudevent.ParseBatch([]byte(test.body))
			if actions.CodeOf(err) != test.want || events != nil || wrong != nil {
				t.Errorf("got %d events, %d errors, %v, want %s alone", len(events), len(wrong), err, test.want)
			}
		})
	}
	if events, wrong, err := cloudevent.ParseBatch([]byte(` [ ] `)); len(events) != 0 || wrong != nil || err != nil {
		t.Errorf("no events: got %v, %v, %v, want none", events, wrong, err)
	}
}

func TestParseBinary(t *testing.T) {
	parse := func(contentType string, body string, headers ...string) (cloudevent.Event, error) {
		list := []cloudevent.Attribute{{Name: "Host", Value: "example.com"}}
		for i := 0; i < len(headers); i += 2 {
			list = append(list, cloudevent.Attribute{Name: headers[i], Value: headers[i+1]})
		}
		e, err := cloudevent.ParseBinary(contentType, func(each func(name, value string)) {
			for _, a := range list {
				each(a.Name, a.Value)
			}
		}, []byte(body))
		same, wrong := cloudevent.ParseAttributes(contentType, list, []byte(body))
		if diff := cmp.Diff(e, same); diff != "" || fmt.Sprint(err) != fmt.Sprint(wrong) {
			t.Errorf("as a list: %v, want %v\n%s", wrong, err, diff)
		}
		return e, err
	}
	base := []string{"Ce-Specversion", "1.0", "ce-id", " 1 ", "CE-Source", "/a", "ce-type", "t"}
	e, err := parse("image/png", "\x00\xff", append(base, "Ce-Subject", `"Euro \"%e2%82%AC\" %25"`, "Ce-MyExt", "%F0%9F%98%80", "ce-plain", "é")...)
	want := cloudevent.Event{
		SpecVersion: "1.0", ID: "1", Source: "/a", Type: "t", Subject: `Euro "€" %`, DataContentType: "image/png",
		Extensions: []cloudevent.Attribute{{Name: "myext", Value: "😀"}, {Name: "plain", Value: "é"}}, Data: []byte("\x00\xff"),
	}
	if diff := cmp.Diff(want, e); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	e, err = parse("", "aGVsbG8=", "ce-specversion", "0.3", "ce-id", "1", "ce-source", "/a", "ce-type", "t", "ce-datacontentencoding", "base64", "ce-schemaurl", "s")
	want = cloudevent.Event{SpecVersion: "0.3", ID: "1", Source: "/a", Type: "t", DataSchema: "s", Data: []byte("hello")}
	if diff := cmp.Diff(want, e); err != nil || diff != "" {
		t.Errorf("0.3: %v\n%s", err, diff)
	}
	for _, test := range []struct {
		name    string
		headers []string
		want    string
	}{
		{"an escape that is none", []string{"ce-subject", "100%"}, "%"},
		{"an escape of half a letter", []string{"ce-subject", "%E2%82"}, "UTF-8"},
		{"an escape of a control", []string{"ce-subject", "a%0Ab"}, "U+000A"},
		{"an open quote", []string{"ce-subject", `"a`}, "quote"},
		{"a quote and more", []string{"ce-subject", `"a"b`}, "quote"},
		{"twice", []string{"Ce-Id", "2"}, "id twice"},
		{"an extension twice", []string{"ce-x", "2", "Ce-X", "2"}, "x twice"},
		{"empty", []string{"ce-subject", ""}, "subject is empty"},
		{"the content type", []string{"ce-datacontenttype", "a/b"}, "Content-Type"},
		{"data", []string{"ce-data", "a"}, `"data"`},
		{"no name", []string{"ce-", "a"}, `""`},
		{"a bad name", []string{"ce-a_b", "a"}, `"a_b"`},
		{"a long name", []string{"ce-" + strings.Repeat("x", 65), "a"}, "64"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parse("", "", append(slices.Clip(base), test.headers...)...)
			if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v (%s), want Invalid that says %q", err, actions.CodeOf(err), test.want)
			}
		})
	}
	if _, err := parse("text", "", base...); actions.CodeOf(err) != actions.Invalid {
		t.Errorf("a content type that is none: got %v, want Invalid", err)
	}
}

func TestFormat(t *testing.T) {
	for contentType, want := range map[string]string{
		"application/cloudevents": "json", "application/cloudevents; charset=utf-8": "json",
		"application/cloudevents+JSON ; charset=utf-8": "json", "application/cloudevents-batch+json": "json",
		"application/cloudevents+avro": "avro", "application/cloudevents-batch+xml; a=b+json": "xml",
	} {
		if got := cloudevent.Format(contentType); got != want {
			t.Errorf("%s: got %q, want %q", contentType, got, want)
		}
	}
}

func TestModeOf(t *testing.T) {
	for _, test := range []struct {
		contentType, header string
		want                cloudevent.Mode
	}{
		{"application/json", "Accept", cloudevent.None},
		{"", "ce-subject", cloudevent.None},
		{"application/json", "Ce-Specversion", cloudevent.Binary},
		{"", "CE-ID", cloudevent.Binary},
		{"application/cloudevents+json; charset=utf-8", "Accept", cloudevent.Structured},
		{"Application/CloudEvents+JSON", "ce-id", cloudevent.Structured},
		{"application/cloudevents+avro", "Accept", cloudevent.Structured},
		{"application/cloudevents-batch+json", "Accept", cloudevent.Batched},
	} {
		got := cloudevent.ModeOf(test.contentType, func(each func(name, value string)) { each(test.header, "1") })
		if got != test.want {
			t.Errorf("%s with %s: got %d, want %d", test.contentType, test.header, got, test.want)
		}
	}
}

func TestIsJSON(t *testing.T) {
	for contentType, want := range map[string]bool{
		"": true, "application/json": true, "application/json;charset=utf-8": true, "TEXT/JSON": true, "application/vnd.a.v1+JSON ; q=1": true,
		"text/plain": false, "application/jsonl": false, "image/png": false, "application/+json": false, "json": false,
	} {
		e := cloudevent.Event{DataContentType: contentType}
		if got := e.IsJSON(); got != want {
			t.Errorf("%q: got %v, want %v", contentType, got, want)
		}
	}
}
