package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// bytesInfo is what a plain function says of itself that takes a text and bytes.
const bytesInfo = `{"predict":{"parameters":[{"name":"text","type":"string","schema":{}},{"name":"data","type":"file","required":true,"schema":{"type":"string","format":"binary"}}]}}`

func TestEventData(t *testing.T) {
	file := func(name, filename, contentType, data string) []actions.File {
		return []actions.File{{Name: name, Filename: filename, ContentType: contentType, Data: []byte(data)}}
	}
	python := func(info string) func(*Config) {
		return func(cfg *Config) {
			cfg.Catalog = oneModel{actions.Model{Name: "echo", Runtime: actions.Python}}
			cfg.Invoker = &fakeInvoker{info: json.RawMessage(info)}
		}
	}
	const form = "--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nhi\r\n--b--\r\n"
	for _, tt := range []struct {
		name   string
		r      *request
		cfg    func(*Config)
		args   string
		files  []actions.File
		status int
		text   string // of an error
	}{
		{name: "object", r: binaryEvent("1", jsonType, `{"text":"hi"}`), args: `{"text":"hi"}`},
		{name: "object of another type in JSON", r: binaryEvent("1", "application/vnd.x+json; charset=utf-8", `{"text":"hi"}`), args: `{"text":"hi"}`},
		{name: "object without a type", r: binaryEvent("1", "", `{"text":"hi"}`), args: `{"text":"hi"}`},
		{name: "structured", r: structured("1", `,"data":{"text":"hi"}`), args: `{"text":"hi"}`},
		{name: "structured, JSON in base64", r: structured("1", `,"data_base64":"eyJ0ZXh0IjoiaGkifQ=="`), args: `{"text":"hi"}`},
		{name: "0.3", r: eventRequest("/", `{"specversion":"0.3","id":"1","source":"/s","type":"t","data":{"text":"hi"}}`, "Content-Type", cloudevent.StructuredType), args: `{"text":"hi"}`},
		{name: "0.3 in base64", r: eventRequest("/", `{"specversion":"0.3","id":"1","source":"/s","type":"t","datacontenttype":"image/png","datacontentencoding":"base64","data":"cGl4ZWxz"}`, "Content-Type", cloudevent.StructuredType), args: `{}`, files: file("image", "", "image/png", "pixels")},
		{name: "0.3 in binary mode", r: eventRequest("/", `{"n":1}`, "Ce-Specversion", "0.3", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "t", "Content-Type", jsonType), args: `{"n":1}`},
		{name: "no data", r: binaryEvent("1", "", ""), args: `{}`},
		{name: "no data, with a type", r: binaryEvent("1", "image/png", ""), args: `{}`},
		{name: "no data, structured", r: structured("1", ``), args: `{}`},
		{name: "null", r: structured("1", `,"data":null`), args: `{}`},
		{name: "form", r: binaryEvent("1", formType, "text=hi"), args: `{"text":"hi"}`},
		{name: "form of parts", r: binaryEvent("1", "multipart/form-data; boundary=b", form), args: `{"text":"hi"}`},
		{name: "image", r: binaryEvent("1", "image/png", "pixels", "Ce-Subject", "a/b.png"), args: `{}`, files: file("image", "b.png", "image/png", "pixels")},
		{name: "sound", r: binaryEvent("1", "audio/wav", "RIFF"), args: `{}`, files: file("image", "", "audio/wav", "RIFF")},
		{name: "bytes", r: structured("1", `,"datacontenttype":"application/octet-stream","data_base64":"AAE="`), args: `{}`, files: file("image", "", "application/octet-stream", "\x00\x01")},
		{name: "text", r: structured("1", `,"datacontenttype":"text/plain","data":"hé"`), args: `{}`, files: file("image", "", "text/plain", "hé")},
		{name: "bytes without a type", r: binaryEvent("1", "", "\x89PNG"), args: `{}`, files: file("image", "", "", "\x89PNG")},
		{name: "function with bytes", r: binaryEvent("1", "image/png", "pixels"), cfg: python(bytesInfo), files: file("data", "", "image/png", "pixels")},
		{name: "function with text", r: binaryEvent("1", jsonType, `{"text":"hi"}`), cfg: python(bytesInfo), args: `{"text":"hi"}`},
		{name: "array to one that parses it", r: binaryEvent("1", jsonType, `[1, 2]`), cfg: python(bytesInfo), args: `[1, 2]`},
		{name: "value to one that takes a file", r: structured("1", `,"datacontenttype":"application/json","data":"hi"`), args: `{}`, files: file("image", "", jsonType, `"hi"`)},
		{name: "value to one argument", r: binaryEvent("1", jsonType, `-7`), cfg: python(`{"predict":{"parameters":[{"name":"n","type":"integer","schema":{}}]}}`), args: `{"n":-7}`},
		{name: "value to a function of all arguments", r: binaryEvent("1", jsonType, `"hi"`), cfg: python(`{"predict":{"parameters":[],"open":true},"function":true}`), args: `{"value":"hi"}`},
		{name: "broken array", r: binaryEvent("1", jsonType, `[1, 2`), cfg: python(bytesInfo), status: 400, text: "the data of the event are not JSON"},

		{name: "array", r: binaryEvent("1", jsonType, `[1]`), status: 400, text: "the data of the event are not an object of arguments: the body is not a JSON object"},
		{name: "value to none", r: structured("1", `,"data":"hi"`), cfg: python(`{"predict":{"parameters":[]}}`), status: 400, text: "echo has no one argument that they could be; send a JSON object"},
		{name: "value to several", r: structured("1", `,"data":"hi"`), cfg: python(`{"predict":{"parameters":[{"name":"a","type":"string","schema":{}},{"name":"b","type":"string","schema":{}}]}}`), status: 400, text: "no one argument that they could be"},
		{name: "broken JSON", r: binaryEvent("1", jsonType, `{"text":`), status: 400, text: "the data of the event are not an object of arguments: unexpected end of JSON input"},
		{name: "unknown argument", r: binaryEvent("1", jsonType, `{"txt":1}`), status: 400, text: `did you mean "text"?`},
		{name: "image for none", r: binaryEvent("1", "image/png", "pixels"), cfg: python(`{"predict":{"parameters":[]}}`), status: 415, text: "the event has data of the type image/png, and echo has no argument that is a file; send a JSON object of arguments"},
		{name: "image for a function of all arguments", r: binaryEvent("1", "image/png", "pixels"), cfg: python(`{"predict":{"parameters":[]},"function":true}`), status: 415, text: "no argument that is a file"},
		{name: "image for a program", r: binaryEvent("1", "image/png", "pixels"), cfg: func(cfg *Config) {
			cfg.Catalog = oneModel{actions.Model{Name: "echo", Runtime: actions.Executable}}
		}, status: 415, text: "no argument that is a file"},
		{name: "image for several", r: binaryEvent("1", "image/png", "pixels"), cfg: func(cfg *Config) {
			m := echoModel("echo")
			m.Arguments = append(m.Arguments, actions.Argument{Name: "mask", Type: actions.TypeFile})
			cfg.Catalog = oneModel{m}
		}, status: 415, text: "echo has several arguments that are files (image, mask)"},
		{name: "no event", r: structured("", ``), status: 400, text: "id"},
		{name: "another version", r: binaryEvent("1", "", "", "Ce-Specversion", "2.0"), status: 400, text: "specversion"},
		{name: "another format", r: eventRequest("/", "x", "Content-Type", "application/cloudevents+avro"), status: 415, text: "the event is in the format avro; send it in JSON"},
		{name: "a batch in another format", r: eventRequest("/", "x", "Content-Type", "application/cloudevents-batch+xml"), status: 415, text: "the event is in the format xml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := &fakeInvoker{}
			cfg := Config{Model: "echo", Invoker: inv}
			if tt.cfg != nil {
				tt.cfg(&cfg)
				if given, ok := cfg.Invoker.(*fakeInvoker); ok {
					inv = given
				} else {
					cfg.Invoker = inv
				}
			}
			s, _ := newServer(t, cfg)
			resp := s.handle(t.Context(), tt.r)
			wantEventual(t, resp)
			if tt.status != 0 {
				if resp.status != tt.status || !strings.Contains(string(resp.body), strings.ReplaceAll(tt.text, `"`, `\"`)) || !json.Valid(resp.body) {
					t.Errorf("got %d %s, want %d …%s…", resp.status, resp.body, tt.status, tt.text)
				}
				return
			}
			if got := replyOf(t, resp); got.Type != cloudevent.Prediction {
				t.Errorf("got type %q", got.Type)
			}
			got := inv.lastRequest()
			if string(got.Args) != tt.args {
				t.Errorf("got arguments %s, want %s", got.Args, tt.args)
			}
			if diff := cmp.Diff(tt.files, got.Files); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A file may be given by reference, and the answer stored, as on the other routes.
func TestEventReferences(t *testing.T) {
	inv, storage := &fakeInvoker{}, newFakeStorage()
	s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Storage: storage})
	got := replyOf(t, s.handle(t.Context(), binaryEvent("1", jsonType, `{"image":{"url":"`+place+`b"},"text":"x","result_to":"`+place+`out"}`)))
	if files := inv.lastRequest().Files; len(files) != 1 || string(files[0].Data) != "bytes" {
		t.Errorf("got files %v", files)
	}
	if stored := storage.stored[place+"out"]; string(stored.Data) != `{"text":"x"}` || !strings.Contains(string(got.Data), place+"out") {
		t.Errorf("got %s, stored %s", got.Data, stored.Data)
	}
}

// The statuses say whether to try again, by what Knative's senders do with them.
func TestEventErrors(t *testing.T) {
	failed := func(status int) *actions.Error { return &actions.Error{Code: actions.Failed, Msg: "m", Status: status} }
	for _, tt := range []struct {
		name   string
		err    error
		status int
		again  bool
	}{
		{"invalid", actions.Errorf(actions.Invalid, "m"), 400, false},
		{"wrong argument", &actions.Error{Code: actions.Invalid, Msg: "m", Fields: map[string][]string{"a": {"b"}}}, 400, false},
		{"unknown", actions.Errorf(actions.NotFound, "m"), 400, false},
		{"unauthorized", actions.Errorf(actions.Unauthorized, "m"), 401, false},
		{"forbidden", actions.Errorf(actions.Forbidden, "m"), 403, false},
		{"too large", actions.Errorf(actions.TooLarge, "m"), 413, false},
		{"unsupported", actions.Errorf(actions.Unsupported, "m"), 422, false},
		{"conflict", actions.Errorf(actions.Conflict, "m"), 422, false},
		{"raised", actions.Errorf(actions.Failed, "m"), 422, false},
		{"no answer", actions.Errorf(actions.NoAnswer, "m"), 422, false},
		{"exited", actions.Errorf(actions.Exited, "m"), 422, false},
		{"busy", &actions.Error{Code: actions.Busy, Msg: "m", RetryAfter: 1}, 429, true},
		{"unavailable", actions.Errorf(actions.Unavailable, "m"), 503, true},
		{"died", &actions.Error{Code: actions.Unavailable, Msg: "m", Err: actions.ErrDied}, 502, true},
		{"canceled", context.Canceled, 503, true},
		{"deadline", context.DeadlineExceeded, 504, true},
		{"internal", errors.New("secret"), 500, true},
		{"model's 404", failed(404), 422, false},
		{"model's 409", failed(409), 422, false},
		{"model's 418", failed(418), 418, false},
		{"model's 408", failed(408), 408, true},
		{"model's 429", failed(429), 429, true},
		{"model's 500", failed(500), 422, false},
		{"model's 501", failed(501), 422, false},
		{"model's 503", failed(503), 503, true},
		{"model's 599", failed(599), 422, false},
		{"disk is full", &actions.Error{Code: actions.Unavailable, Msg: "m", Status: 507}, 507, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := &fakeInvoker{answer: failing(tt.err)}
			s, _ := newServer(t, Config{Model: "echo", Invoker: inv})
			for n := range 2 {
				resp := s.handle(t.Context(), binaryEvent("1", jsonType, `{}`))
				if resp.status != tt.status || maySucceed(resp.status) != tt.again {
					t.Errorf("got %d %s, want %d, again %v", resp.status, resp.body, tt.status, tt.again)
				}
				if later := resp.retryAfter > 0; later != (tt.status == 429 || tt.status == 503) {
					t.Errorf("got Retry-After %d of %d", resp.retryAfter, tt.status)
				}
				var body errorBody
				if json.Unmarshal(resp.body, &body) != nil || body.Error == "" || body.Code == "" || strings.Contains(body.Error, "secret") {
					t.Errorf("got body %s", resp.body)
				}
				recorded := !tt.again && actions.CodeOf(tt.err) != actions.NotFound // what may be there later is not
				if want := map[bool]int{true: 1, false: n + 1}[recorded]; inv.calls() != want {
					t.Errorf("got %d calls after %d events, want %d", inv.calls(), n+1, want)
				}
			}
		})
	}
}

// Where there is no model for an event there is an error that is not tried again, and a server
// that is ending says so.
func TestEventTargets(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cfg    Config
		path   string
		status int
		text   string
	}{
		{"the server's own", Config{Model: "echo"}, "/", 200, ""},
		{"one of many", Config{}, "/v2/models/echo/events/", 200, ""},
		{"below a path", Config{BasePath: "/a"}, "/a/v2/models/echo/events/", 200, ""},
		{"code from the start", Config{Entry: Entry{Code: "hello"}}, "/", 200, ""},
		{"no model of its own", Config{}, "/", 400, "send the event to /v2/models/NAME/events/"},
		{"unknown", Config{}, "/v2/models/nope/events/", 400, `there is no model \"nope\"`},
		{"unknown of its own", Config{Model: "nope"}, "/", 400, `there is no model \"nope\"`},
		{"code that does not start", Config{Entry: Entry{Code: "nope"}}, "/", 502, "it is no code"},
		{"turned off", Config{Model: "echo", NoPredict: true}, "/", 402, "predictions are turned off here"},
		{"without a slash", Config{}, "/v2/models/echo/events", 308, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.cfg.Entry.Code != "" {
				f := newFunctions()
				tt.cfg.Catalog, tt.cfg.Invoker = f, f
			}
			s, _ := newServer(t, tt.cfg)
			r := binaryEvent("1", jsonType, `{}`)
			r.path = tt.path
			resp := s.handle(t.Context(), r)
			if resp.status != tt.status || !strings.Contains(string(resp.body), tt.text) {
				t.Errorf("got %d %s, want %d …%s…", resp.status, resp.body, tt.status, tt.text)
			}
			if tt.status == 200 {
				replyOf(t, resp)
			}
			s.draining.Store(true)
			r = binaryEvent("2", jsonType, `{}`)
			if r.path = tt.path; tt.status == 308 {
				return
			}
			if resp := s.handle(t.Context(), r); resp.status != 503 || resp.retryAfter == 0 {
				t.Errorf("draining: got %d %s", resp.status, resp.body)
			}
		})
	}
	s, _ := newServer(t, Config{Model: "echo", MaxBody: 10})
	r := binaryEvent("1", jsonType, "")
	if r.refused = s.tooLargeError(); s.handle(t.Context(), r).status != 413 {
		t.Error("a body over the limit is no 413")
	}
	resp := s.handle(t.Context(), eventRequest("/v2/models/echo/events/", `{}`, "Content-Type", jsonType))
	if resp.status != 415 || !strings.Contains(string(resp.body), "send a CloudEvent") {
		t.Errorf("no event: got %d %s", resp.status, resp.body)
	}
	for _, path := range []string{"/", "/v2/models/echo/events/"} {
		r = binaryEvent("1", jsonType, `{}`, "Sec-Fetch-Site", "cross-site")
		r.path = path
		if resp := s.handle(t.Context(), r); resp.status != 403 {
			t.Errorf("a page of another site: got %d %s", resp.status, resp.body)
		}
	}
	training, _ := newServer(t, Config{Model: "echo"})
	training.action.Store(&action{model: "echo", verb: actions.Train})
	if resp := training.handle(t.Context(), binaryEvent("1", jsonType, `{}`)); resp.status != 422 {
		t.Errorf("a function that trains: got %d %s", resp.status, resp.body)
	}
}

// A sender of web hooks asks whether it may send.
func TestEventWebHook(t *testing.T) {
	s, _ := newServer(t, Config{Model: "echo"})
	for _, path := range []string{"/", "/v2/models/echo/events/"} {
		for _, tt := range []struct{ asked, allowed string }{{"120", "120"}, {"", "*"}, {"many", "*"}} {
			r := eventRequest(path, "", "WebHook-Request-Origin", "eventemitter.example.com", "WebHook-Request-Rate", tt.asked, "WebHook-Request-Callback", "https://example.com/c")
			r.method = "OPTIONS"
			resp := s.handle(t.Context(), r)
			if resp.status != 200 || resp.header.Get("WebHook-Allowed-Origin") != "eventemitter.example.com" ||
				resp.header.Get("WebHook-Allowed-Rate") != tt.allowed || !strings.Contains(resp.allow, "POST") {
				t.Errorf("%s: got %d, %v, Allow %q", path, resp.status, resp.header, resp.allow)
			}
		}
		r := eventRequest(path, "")
		r.method = "OPTIONS"
		if resp := s.handle(t.Context(), r); resp.status != 200 || len(resp.header) > 0 || !strings.Contains(resp.allow, "POST") {
			t.Errorf("%s, OPTIONS alone: got %d, %v, Allow %q", path, resp.status, resp.header, resp.allow)
		}
		r.method = "PUT"
		if resp := s.handle(t.Context(), r); resp.status != 405 || !strings.Contains(resp.allow, "POST") {
			t.Errorf("%s, PUT: got %d, Allow %q", path, resp.status, resp.allow)
		}
	}
}

// FuzzEvents sends what a caller may: the answer is an error, empty or an event.
func FuzzEvents(f *testing.F) {
	f.Add(cloudevent.StructuredType, `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"text":"hi"}}`, "1", "reply")
	f.Add(cloudevent.BatchType, `[{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"text":"hi"}},{}]`, "", "return=minimal")
	f.Add(jsonType, `{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"a+b"}}}]}`, "", "")
	f.Add("application/x-ndjson", "{\"text\":\"a\"}\n{}\n[", "7", "reply, respond-async")
	f.Add("image/png; q=\"", "\x89", "7", "return=")
	f.Fuzz(func(t *testing.T, contentType, body, id, prefer string) {
		pairs := []string{"Content-Type", contentType, "Prefer", prefer, "Accept", id}
		if id != "" {
			pairs = append(pairs, "Ce-Id", id, "Ce-Specversion", "1.0", "Ce-Source", "/s", "Ce-Type", "t")
		}
		for _, path := range []string{"/", "/v2/models/echo/events/"} {
			s, _ := newServer(t, Config{Model: "echo", Sink: &fakeSink{none: strings.Contains(body, "x")}})
			r := eventRequest(path, body, pairs...)
			event := isEvent(r)
			resp := s.handle(t.Context(), r)
			s.background.wait(0)
			if path != "/" || event {
				wantEventual(t, resp)
			}
			if resp.status >= 400 && (!json.Valid(resp.body) || resp.status == 500) {
				t.Errorf("got %d %q", resp.status, resp.body)
			}
			if resp.contentType == cloudevent.StructuredType || resp.event != nil {
				replyOf(t, resp)
			}
			if resp.contentType == cloudevent.BatchType {
				if _, wrong, err := cloudevent.ParseBatch(resp.body); err != nil || wrong != nil {
					t.Errorf("got %s: %v, %v", resp.body, wrong, err)
				}
			}
		}
	})
}
