package actionloop

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
)

func text(origin actions.Origin, name, value string) actions.Text {
	return actions.Text{Origin: origin, Name: name, Value: value}
}

func TestNewLine(t *testing.T) {
	const query, form, header, platform = actions.FromQuery, actions.FromForm, actions.FromHeader, actions.FromContext
	for _, test := range []struct {
		name string
		req  actions.Request
		want string
	}{
		{"nothing", actions.Request{}, `{"value":{}}`},
		{"as it came", actions.Request{Args: []byte(`{"b": 1.0, "a": 1e400}`)}, `{"value":{"b": 1.0, "a": 1e400}}`},
		{"a list", actions.Request{Args: []byte(`[1, 2]`)}, `{"value":[1, 2]}`},
		{"newlines", actions.Request{Args: []byte("{\r\n\"a\\n\":\n\"b\\nc\\r\"\r}")}, `{"value":{"a\n":"b\nc\r"}}`},
		{"line separators", actions.Request{Args: []byte("{\"a\":\n\"\u2028\"}")}, "{\"value\":{\"a\":\"\u2028\"}}"},
		{"a trace", actions.Request{Trace: actions.Trace{Parent: "00-1", State: "a=b"}}, `{"value":{},"traceparent":"00-1","tracestate":"a=b"}`},
		{"a trace without state", actions.Request{Trace: actions.Trace{Parent: "00-1"}}, `{"value":{},"traceparent":"00-1"}`},
		{"id", actions.Request{ID: `a"b`}, `{"value":{},"activation_id":"a\"b"}`},
		{
			"platform",
			actions.Request{ID: "other", Texts: []actions.Text{
				text(platform, "__OW_API_KEY", "u:p=q\n"), text(platform, "__OW_DEADLINE", "123"),
				text(platform, "__OW_ACTIVATION_ID", "i"), text(platform, "__OW_VALUE", "no"), text(header, "X", "y"),
			}},
			`{"value":{},"api_key":"u:p=q\n","deadline":"123","activation_id":"i"}`,
		},
		{
			"texts",
			actions.Request{Texts: []actions.Text{
				text(query, "a", "1"), text(query, "b", "q"), text(form, "b", "f"), text(query, "a", "<2>"),
			}},
			`{"value":{"b":"f","a":["1","\u003c2\u003e"]}}`,
		},
		{
			"texts join JSON",
			actions.Request{Args: []byte(" {\"a\": 1 }\n"), Texts: []actions.Text{
				text(query, "a", "hidden"), text(query, "z", "\xff"),
			}},
			`{"value":{"a":1,"z":"\ufffd"}}`,
		},
		{
			"files",
			actions.Request{Args: []byte(`{}`), Files: []actions.File{
				{Name: "x", Filename: "a.png", ContentType: "image/png", Data: []byte{0, 255}},
				{Name: "y", Data: nil},
				{Name: "y", Data: []byte("z")},
			}},
			`{"value":{"x":{"data":"AP8=","filename":"a.png","content_type":"image/png"},"y":[{"data":""},{"data":"eg=="}]}}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := newLine(context.Background(), &test.req)
			if got := string(bytes.Join(l, nil)); err != nil || got != test.want+"\n" {
				t.Errorf("got  %s, %v\nwant %s", got, err, test.want)
			}
		})
	}
}

func TestNewLineDeadline(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.UnixMilli(4102444800123))
	defer cancel()
	l, err := newLine(ctx, &actions.Request{})
	if got := string(bytes.Join(l, nil)); err != nil || got != `{"value":{},"deadline":"4102444800123"}`+"\n" {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestNewLineRefuses(t *testing.T) {
	for _, test := range []struct {
		name, args string
		texts      []actions.Text
		msg        string
	}{
		{"no JSON", "XXX", nil, "not JSON"},
		{"two values", "{}\n{}", nil, "not JSON"},
		{"not UTF-8", "{\"a\":\"\xff\"}", nil, "not JSON"},
		{"open", `{"a":`, nil, "not JSON"},
		{"spaces", " ", nil, "not JSON"},
		{"deep", strings.Repeat("[", 20000), nil, "not JSON"},
		{"a list with texts", "[1]", []actions.Text{text(actions.FromForm, "a", "b")}, "need a JSON object"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := newLine(t.Context(), &actions.Request{Args: []byte(test.args), Texts: test.texts})
			if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), test.msg) {
				t.Errorf("got %v, want %q", err, test.msg)
			}
		})
	}
}

// Whatever comes, a line is one line of JSON with the same value.
func FuzzNewLine(f *testing.F) {
	f.Add([]byte("{\"a\":\n1}"), "name", "value", "id")
	f.Add([]byte("[1,\r2]"), "__OW_", "\n", "\xff")
	f.Add([]byte(" null "), "", "", "")
	f.Fuzz(func(t *testing.T, args []byte, name, value, id string) {
		req := actions.Request{Args: args, ID: id, Texts: []actions.Text{text(actions.FromContext, name, value)}}
		if len(args)%2 == 0 {
			req.Texts = append(req.Texts, text(actions.FromQuery, name, value))
		}
		l, err := newLine(context.Background(), &req)
		if err != nil {
			return
		}
		b := bytes.Join(l, nil)
		if bytes.IndexByte(b, '\n') != len(b)-1 || bytes.ContainsRune(b, '\r') || !utf8.Valid(b) || len(b) != l.size() {
			t.Fatalf("not one line: %q", b)
		}
		var got struct{ Value any }
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if len(req.Texts) > 1 || len(args) == 0 {
			return
		}
		var want any
		if err := json.Unmarshal(args, &want); err == nil && !reflect.DeepEqual(got.Value, want) {
			t.Fatalf("got %v, want %v", got.Value, want)
		}
	})
}
