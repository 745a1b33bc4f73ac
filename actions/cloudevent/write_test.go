package cloudevent_test

import (
	"fmt"
	"testing"

	"github.com/deepfn/deepfn/actions/cloudevent"
)

func TestAppendJSON(t *testing.T) {
	base := cloudevent.Event{ID: "1", Source: "/a", Type: "t"}
	const head = `{"specversion":"1.0","id":"1","source":"/a","type":"t"`
	for _, test := range []struct {
		name string
		set  func(*cloudevent.Event)
		want string
	}{
		{"no data", func(*cloudevent.Event) {}, head + `}`},
		{"JSON", func(e *cloudevent.Event) { e.Data = []byte(`{"a": 1}`) }, head + `,"data":{"a": 1}}`},
		{"what should be JSON", func(e *cloudevent.Event) { e.Data = []byte(`{`) }, head + `,"data_base64":"ew=="}`},
		{"text", func(e *cloudevent.Event) { e.DataContentType, e.Data = "text/plain", []byte("a\"\\\n\x00é") }, head + `,"datacontenttype":"text/plain","data":"a\"\\\n\u0000é"}`},
		{"bytes", func(e *cloudevent.Event) { e.DataContentType, e.Data = "image/png", []byte{0xff} }, head + `,"datacontenttype":"image/png","data_base64":"/w=="}`},
		{"bytes in 0.3", func(e *cloudevent.Event) { e.SpecVersion, e.DataContentType, e.Data = "0.3", "image/png", []byte{0xff} }, `{"specversion":"0.3","id":"1","source":"/a","type":"t","datacontenttype":"image/png","datacontentencoding":"base64","data":"/w=="}`},
		{"kinds", func(e *cloudevent.Event) {
			e.Extensions = []cloudevent.Attribute{{Name: "n", Value: "-7", Kind: cloudevent.Integer}, {Name: "b", Value: "true", Kind: cloudevent.Boolean}, {Name: "s", Value: "7"}}
		}, head + `,"n":-7,"b":true,"s":"7"}`},
		{"not UTF-8", func(e *cloudevent.Event) { e.Subject = "a\xffb\xe2\x82" }, head + `,"subject":"a` + "\ufffdb\ufffd\ufffd" + `"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := base
			test.set(&e)
			if got := string(e.AppendJSON(nil)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(*cloudevent.Event)
	}{
		{"a version", func(e *cloudevent.Event) { e.SpecVersion = "1.1" }},
		{"an extension that the event has a field for", func(e *cloudevent.Event) { e.SetExtension("subject", "a") }},
		{"the schema as an extension", func(e *cloudevent.Event) { e.SetExtension("dataschema", "a:b") }},
		{"an extension twice", func(e *cloudevent.Event) { e.Extensions = []cloudevent.Attribute{{Name: "a"}, {Name: "a"}} }},
		{"a boolean that is none", func(e *cloudevent.Event) {
			e.Extensions = []cloudevent.Attribute{{Name: "a", Value: "yes", Kind: cloudevent.Boolean}}
		}},
		{"a number that is none", func(e *cloudevent.Event) {
			e.Extensions = []cloudevent.Attribute{{Name: "a", Value: "007", Kind: cloudevent.Integer}}
		}},
		{"a text that is not UTF-8", func(e *cloudevent.Event) { e.Subject = "\xff" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := cloudevent.Event{ID: "1", Source: "/a", Type: "t"}
			if err := e.Validate(); err != nil {
				t.Fatal(err)
			}
			test.set(&e)
			if err := e.Validate(); err == nil {
				t.Error("got nil, want an error")
			}
		})
	}
}

func ExampleParseStructured() {
	e, err := cloudevent.ParseStructured([]byte(`{
		"specversion": "1.0", "id": "42", "source": "/cameras/7", "type": "com.example.line",
		"datacontenttype": "text/plain", "data": "hello"
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s from %s: %s\n", e.Type, e.Source, e.Data)
	e.Type, e.Data = cloudevent.Prediction, []byte("world")
	fmt.Printf("%s\n", e.AppendJSON(nil))

	_, err = cloudevent.ParseStructured([]byte(`{"specversion": "1.0", "id": "42", "type": "com.example.line"}`))
	fmt.Println(err)
	// Output:
	// com.example.line from /cameras/7: hello
	// {"specversion":"1.0","id":"42","source":"/cameras/7","type":"dev.deepfn.prediction","datacontenttype":"text/plain","data":"world"}
	// the event has no source: it needs one that is not empty
}
