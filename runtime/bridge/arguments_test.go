package bridge_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// What the server sees of a request.
func TestArguments(t *testing.T) {
	w := start(t, spec(startPlain))
	query := func(name, value string) actions.Text {
		return actions.Text{Origin: actions.FromQuery, Name: name, Value: value}
	}
	form := func(name, value string) actions.Text {
		return actions.Text{Origin: actions.FromForm, Name: name, Value: value}
	}
	header := func(name, value string) actions.Text {
		return actions.Text{Origin: actions.FromHeader, Name: name, Value: value}
	}
	long := strings.Repeat("x", 10_000)
	for _, test := range []struct {
		name string
		req  actions.Request
		want seen
	}{
		{"JSON", actions.Request{Args: []byte(`{"top": 3, "x": {"y": null}}`)}, seen{JSON: []byte(`{"top":3,"x":{"y":null}}`)}},
		{"a list", actions.Request{Args: []byte(`[1]`)}, seen{JSON: []byte(`[1]`)}},
		{"nothing", actions.Request{Args: []byte(`{}`)}, seen{}},
		{"a trace", actions.Request{Trace: actions.Trace{Parent: "00-1", State: "a=b"}}, seen{Trace: actions.Trace{Parent: "00-1", State: "a=b"}}},
		{"a trace without state", actions.Request{Trace: actions.Trace{Parent: "00-1"}}, seen{Trace: actions.Trace{Parent: "00-1"}}},
		{"a state without a trace", actions.Request{Trace: actions.Trace{State: "a=b"}}, seen{}},
		{"a trace that is none", actions.Request{Trace: actions.Trace{Parent: "00\r\nX-Key: k", State: "a=b"}}, seen{}},
		{"a state that is none", actions.Request{Trace: actions.Trace{Parent: "00-1", State: "a\nb"}}, seen{Trace: actions.Trace{Parent: "00-1"}}},
		{
			"texts",
			actions.Request{Texts: []actions.Text{query("a", "1"), query("a", "&2"), form("b", "ü"), header("x-key", "k"), header("Cookie", "c")}},
			seen{Query: map[string][]string{"a": {"1", "&2"}}, Form: map[string][]string{"b": {"ü"}}, Key: "k"},
		},
		{
			"a form with files",
			actions.Request{
				Texts: []actions.Text{form("mode", "fast")},
				Files: []actions.File{
					{Name: "image", Filename: `a "ü".png`, ContentType: "image/png", Data: []byte("1")},
					{Name: "image", Data: []byte("2")},
				},
			},
			seen{
				Form:  map[string][]string{"mode": {"fast"}},
				Files: map[string][]string{"image": {`a "ü".png image/png 1`, "image application/octet-stream 2"}},
			},
		},
		{
			"JSON with files",
			actions.Request{Args: []byte(`{"image":"aGk=","more":{"data":"data:text/plain;base64,aG8","filename":"b.txt"},
				"top":3,"tags":["a","b"],"mode":"fast","X-Key":"k","other":{"z":[1]},"none":null,"yes":true}`)},
			seen{
				Query: map[string][]string{"top": {"3"}, "tags": {"a", "b"}},
				Form:  map[string][]string{"mode": {"fast"}, "other": {`{"z":[1]}`}, "yes": {"true"}}, Key: "k",
				Files: map[string][]string{"image": {"image application/octet-stream hi"}, "more": {"b.txt text/plain ho"}},
			},
		},
		{
			"several files of one name",
			actions.Request{Args: []byte(`{"image":["MQ==","Mg"]}`)},
			seen{Files: map[string][]string{"image": {"image application/octet-stream 1", "image application/octet-stream 2"}}},
		},
		{
			"a file that the server does not name",
			actions.Request{Args: []byte(`{"extra":{"data":"data:,a%20b","content_type":"text/x"},"plain":{"data":"aGk="}}`)},
			seen{
				Form:  map[string][]string{"plain": {`{"data":"aGk="}`}},
				Files: map[string][]string{"extra": {"extra text/x a b"}},
			},
		},
		{
			"what is long",
			actions.Request{Args: []byte(`{"image":"MQ==","tags":"` + long + `"}`)},
			seen{Form: map[string][]string{"tags": {long}}, Files: map[string][]string{"image": {"image application/octet-stream 1"}}},
		},
		{"accept", actions.Request{Accept: "text/html;q=0.9, image/*"}, seen{Accept: "image/png"}},
		{"accept anything", actions.Request{Accept: "*/*"}, seen{Accept: "application/json"}},
		{"accept in vain", actions.Request{Accept: "image/png;q=0, */*;q=0.5"}, seen{Accept: "application/json"}},
		{"accept by half", actions.Request{Accept: `application/json;q="0.3", image/*;q=0.5`}, seen{Accept: "image/png"}},
		{"accept as it is called", actions.Request{Accept: "image/png"}, seen{Accept: "image/png"}},
		{"accept in capitals", actions.Request{Accept: "nonsense, IMAGE/PNG"}, seen{Accept: "image/png"}},
		{"accept as an argument", actions.Request{Args: []byte(`{"accept":"image/png"}`), Accept: "*/*"}, seen{JSON: []byte(`{"accept":"image/png"}`), Accept: "image/png"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, err := w.Call(t.Context(), test.req)
			var got seen
			if err != nil || json.Unmarshal(resp.Data, &got) != nil {
				t.Fatalf("got %s, %v", resp.Data, err)
			}
			if string(got.JSON) == "null" {
				got.JSON = nil
			}
			for _, m := range []*map[string][]string{&got.Query, &got.Form, &got.Files} {
				if len(*m) == 0 {
					*m = nil
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got %s", diff)
			}
		})
	}
}

func TestBadArguments(t *testing.T) {
	w := start(t, spec(startPlain))
	files := []actions.File{{Name: "image", Data: []byte("x")}}
	for _, test := range []struct {
		name string
		req  actions.Request
		code actions.Code
		msg  string
	}{
		{"not JSON", actions.Request{Args: []byte(`{"a"`)}, actions.Invalid, "not JSON"},
		{"a list with files", actions.Request{Args: []byte(`[1]`), Files: files}, actions.Invalid, "JSON object"},
		{"not base64", actions.Request{Args: []byte(`{"image":"%%"}`)}, actions.Invalid, "image is not base64"},
		{"a number", actions.Request{Args: []byte(`{"image":5}`)}, actions.Invalid, "image must be a file: a base64 string"},
		{"no comma", actions.Request{Args: []byte(`{"image":"data:text/plain"}`)}, actions.Invalid, "image is a data: URI without a comma"},
		{"bad escape", actions.Request{Args: []byte(`{"image":"data:,%zz"}`)}, actions.Invalid, "image is a data: URI with a %"},
		{"a URL", actions.Request{Args: []byte(`{"image":"http://localhost/a.png"}`)}, actions.Invalid, "image is the text of a URL"},
		{"one of a list", actions.Request{Args: []byte(`{"image":["aGk=",5]}`)}, actions.Invalid, "image has a wrong file at index 1"},
		{"mixed alphabets", actions.Request{Args: []byte(`{"image":"-_+/"}`)}, actions.Invalid, "image is not base64"},
		{"accept nonsense", actions.Request{Accept: "nonsense"}, actions.Unsupported, `not with "nonsense"`},
		{"accept", actions.Request{Accept: "text/html"}, actions.Unsupported, `application/json, image/png, not with "text/html"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := w.Call(t.Context(), test.req)
			e := wantError(t, err, test.code, test.msg)
			// In the words that other runtimes have for it.
			if field, ok := strings.CutPrefix(test.msg, "image "); ok && (len(e.Fields["image"]) != 1 || !strings.HasPrefix(e.Fields["image"][0], field)) {
				t.Errorf("got fields %v", e.Fields)
			}
		})
	}
	works(t, w)
}
