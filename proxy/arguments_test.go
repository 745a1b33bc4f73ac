package proxy

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

const modPath = "/v2/models/mod/predict/"

// A model that parses its own arguments gets them as the caller gave them.
func TestGiven(t *testing.T) {
	const mixed = "multipart/form-data; boundary=b"
	text := func(origin actions.Origin, name, value string) actions.Text {
		return actions.Text{Origin: origin, Name: name, Value: value}
	}
	file := func(name, header, data string) string {
		return form("--b", `Content-Disposition: form-data; name="`+name+`"`+header, "", data, "")
	}
	many := "{" + strings.TrimSuffix(strings.Repeat(`"a":1,`, 5000), ",") + "}"
	tests := []struct {
		name, query, contentType, accept, body string
		want                                   actions.Request
	}{
		{"nothing", "", "", "", "", actions.Request{}},
		{"JSON as it came", "", jsonType, "", ` {"a": 1.0, "a":"\u0041"} `, actions.Request{Args: []byte(` {"a": 1.0, "a":"\u0041"} `)}},
		{"JSON of another type", "", "application/vnd.api+json", "", `{}`, actions.Request{Args: []byte(`{}`)}},
		{"JSON called a form", "", formType, "", `{"a":1}`, actions.Request{Args: []byte(`{"a":1}`)}},
		{"JSON with a broken parameter", "", jsonType + "; x", "", `{"a":1}`, actions.Request{Args: []byte(`{"a":1}`)}},
		{"form with a line's end", "", formType + "; charset", "", "a= b \r\n", actions.Request{Texts: []actions.Text{text(2, "a", " b")}}},
		{"many members", "", jsonType, "", many, actions.Request{Args: []byte(many)}},
		{"null", "", jsonType, "", " null ", actions.Request{}},
		{"JSON without a type", "", "", "", `{"a":1}`, actions.Request{Args: []byte(`{"a":1}`)}},
		{"anything without a type", "", "", "", `hello`, actions.Request{}},
		{"another type", "a=1", "image/png", "", "PNG", actions.Request{Texts: []actions.Text{text(1, "a", "1")}}},
		{"no type at all", "", ";;", "", "x", actions.Request{}},
		{"query in its order", "b=1&a=2&b=3&c&d=&=x&e=a+b%26", "", "", "", actions.Request{Texts: []actions.Text{
			text(1, "b", "1"), text(1, "a", "2"), text(1, "b", "3"), text(1, "c", ""), text(1, "d", ""), text(1, "", "x"), text(1, "e", "a b&"),
		}}},
		{"query and form", "a=1", formType, "", "a=2&b=3", actions.Request{Texts: []actions.Text{
			text(1, "a", "1"), text(2, "a", "2"), text(2, "b", "3"),
		}}},
		{"query and JSON", "a=1", jsonType, "", `{"a":2}`, actions.Request{Texts: []actions.Text{text(1, "a", "1")}, Args: []byte(`{"a":2}`)}},
		{"multipart", "", mixed, "", file("a", "", "1") + file("f", `; filename="x/y.png"`+"\r\nContent-Type: image/png", "\xff") +
			file("a", "\r\nContent-Type: application/json", "[2]") + file("g", "\r\nContent-Type: image/png", "text") + "--b--", actions.Request{
			Texts: []actions.Text{text(2, "a", "1"), text(2, "a", "[2]"), text(2, "g", "text")},
			Files: []actions.File{{Name: "f", Filename: "y.png", ContentType: "image/png", Data: []byte{0xff}}},
		}},
		{"file field left empty", "", mixed, "", file("f", `; filename=""`, "") + file("g", `; filename=""`, "x") + "--b--", actions.Request{
			Files: []actions.File{{Name: "g", Data: []byte("x")}},
		}},
		{"bytes without a file name", "", mixed, "", file("f", "\r\nContent-Type: application/octet-stream", "\xff") + "--b--", actions.Request{
			Files: []actions.File{{Name: "f", ContentType: "application/octet-stream", Data: []byte{0xff}}},
		}},
		{"header Accept", "", jsonType, "image/png;q=0.5", `{}`, actions.Request{Args: []byte(`{}`), Accept: "image/png;q=0.5"}},
		{"argument accept wins", "accept=image/gif&accept=x", jsonType, "image/png", `{"accept":"a/b"}`, actions.Request{
			Texts: []actions.Text{text(1, "accept", "image/gif"), text(1, "accept", "x")}, Args: []byte(`{"accept":"a/b"}`), Accept: "image/gif",
		}},
		{"argument accept in JSON", "", jsonType, "image/png", `{"accept":"image/gif"}`, actions.Request{Args: []byte(`{"accept":"image/gif"}`), Accept: "image/gif"}},
		{"argument accept that is no text", "", jsonType, "image/png", `{"accept":[1]}`, actions.Request{Args: []byte(`{"accept":[1]}`), Accept: "image/png"}},
		{"argument accept that is no type", "accept=json", "", "", ``, actions.Request{Texts: []actions.Text{text(1, "accept", "json")}, Accept: "json"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inv := &fakeInvoker{answer: func(_ context.Context, req actions.Request) (actions.Response, error) {
				return actions.Response{ContentType: "image/gif", Data: []byte("GIF")}, nil
			}}
			if tt.accept != "" && tt.want.Accept == tt.accept {
				inv.answer = answering("image/png", "PNG")
			}
			s, _ := newServer(t, Config{Invoker: inv, Catalog: module()})
			got := s.handle(t.Context(), &request{
				method: http.MethodPost, path: modPath, query: tt.query, contentType: tt.contentType,
				accept: tt.accept, body: []byte(tt.body), id: "id-1",
			})
			if got.status != 200 {
				t.Errorf("got %d %s", got.status, got.body)
			}
			tt.want.Model, tt.want.Verb, tt.want.ID = "mod", actions.Predict, "id-1"
			if diff := cmp.Diff(tt.want, inv.lastRequest()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGivenErrors(t *testing.T) {
	const mixed = "multipart/form-data; boundary=b"
	tests := []struct {
		name, query, contentType, body string
		status                         int
		want                           string
	}{
		{"not JSON", "", jsonType, `{"a":1,}`, 400, `{"json":["Invalid JSON body."]}`},
		{"cut off", "", jsonType, `{"a":`, 400, `{"json":["Invalid JSON body."]}`},
		{"NaN", "", jsonType, `{"a":NaN}`, 400, `{"json":["Invalid JSON body."]}`},
		{"too deep", "", jsonType, `{"a":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`, 400, `{"json":["Invalid JSON body."]}`},
		{"JSON not UTF-8", "", jsonType, "{\"a\":\"\xff\"}", 400, `{"json":["Invalid JSON body."]}`},
		{"array", "", jsonType, `[1]`, 422, `{"json":["Invalid input type."]}`},
		{"text", "", jsonType, `"a"`, 422, `{"json":["Invalid input type."]}`},
		{"bad escape", "a=%zz", "", "", 400, `{"error":"the arguments are not URL-encoded: invalid URL escape \"%zz\"","code":"invalid"}`},
		{"many arguments", strings.Repeat("a=1&", 20001), "", "", 400, `{"error":"there are more than 20000 arguments","code":"invalid"}`},
		{"not UTF-8 in a query", "a=%ff", "", "", 422, `{"a":["is not UTF-8"]}`},
		{"name not UTF-8", "%ff=a", "", "", 422, `{"?":["is not UTF-8"]}`},
		{"file's name not UTF-8", "", mixed, "--b\r\nContent-Disposition: form-data; name=\"\xff\"; filename=x\r\n\r\n1\r\n--b--", 422, `{"?":["is not UTF-8"]}`},
		{"not UTF-8 in a form", "", mixed, form("--b", `Content-Disposition: form-data; name="a"`, "", "\xff", "--b--"), 422, `{"a":["is not UTF-8"]}`},
		{"long name", strings.Repeat("a", 9000) + "=1", "", "", 400, `{"error":"the name of an argument has more than 8192 bytes","code":"invalid"}`},
		{"long texts", "", formType, "a=" + strings.Repeat("x", maxTexts), 413, `{"error":"the texts of the form have more than 33554432 bytes; send a file","code":"too_large"}`},
		{"long text in a part", "", mixed, form("--b", `Content-Disposition: form-data; name="a"`, "", strings.Repeat("x", maxTexts+1), "--b--"), 413, `{"error":"the texts of the form have…`},
		{"not multipart", "", mixed, "x", 400, `{"error":"the multipart form is wrong…`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inv := &fakeInvoker{}
			s, _ := newServer(t, Config{Invoker: inv, Catalog: module()})
			got := s.handle(t.Context(), &request{
				method: http.MethodPost, path: modPath, query: tt.query, contentType: tt.contentType, body: []byte(tt.body), id: "id-1",
			})
			if !strings.HasSuffix(tt.want, "…") {
				tt.want += "\n"
			}
			wantResponse(t, got, tt.status, tt.want)
			if inv.calls() != 0 {
				t.Error("the model was called")
			}
		})
	}
}

// headers makes what the server makes of a request's header.
func headers(lines ...[2]string) func(string, func(name, value string)) {
	return func(name string, each func(name, value string)) {
		for _, line := range lines {
			if name == "" || strings.EqualFold(name, line[0]) {
				each(line[0], line[1])
			}
		}
	}
}

func TestGivenHeaders(t *testing.T) {
	sent := headers([2]string{"X-Token", "t"}, [2]string{"Cookie", "a=1; b=2"}, [2]string{"Host", "h"}, [2]string{"Proxy-Authorization", "p"}, [2]string{"Content-Length", "1"}, [2]string{"ACCEPT", "a/b"}, [2]string{"X-Token", "u"}, [2]string{"X-Bad", "\xff"})
	header := func(name, value string) actions.Text {
		return actions.Text{Origin: actions.FromHeader, Name: name, Value: value}
	}
	signature := func(parameters string) string {
		return `{"predict":{"parameters":[` + parameters + `]},"train":{"parameters":[{"name":"HOST","location":"headers"}]}}`
	}
	for name, tt := range map[string]struct {
		info string
		want []actions.Text
	}{
		"none":         {signature(`{"name":"a","location":"query"},{"name":"x-token"}`), nil},
		"header":       {signature(`{"name":"x-token","location":"headers"}`), []actions.Text{header("x-token", "t"), header("x-token", "u")}},
		"cookies":      {signature(`{"name":"a","location":"cookies"},{"name":"b","location":"cookies"}`), []actions.Text{header("Cookie", "a=1; b=2")}},
		"cannot":       {`{"predict":null}`, nil},
		"not loaded":   {"", []actions.Text{header("x-token", "t"), header("cookie", "a=1; b=2"), header("x-token", "u")}},
		"not readable": {`[]`, []actions.Text{header("x-token", "t"), header("cookie", "a=1; b=2"), header("x-token", "u")}},
	} {
		inv := &fakeInvoker{info: []byte(tt.info)}
		s, _ := newServer(t, Config{Invoker: inv, Catalog: module()})
		s.handle(t.Context(), &request{method: http.MethodPost, path: modPath, header: sent})
		if diff := cmp.Diff(tt.want, inv.lastRequest().Texts); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// The server finds the headers of a real request.
func TestGivenHeadersOfServer(t *testing.T) {
	for _, info := range []string{`{"predict":{"parameters":[{"name":"x_token-A","location":"headers"}]}}`, ""} {
		inv := &fakeInvoker{info: []byte(info)}
		r := start(t, Config{Invoker: inv, Catalog: module()})
		r.do(t, "POST", modPath, "{}", "Content-Type: application/json", "X_TOKEN-a: secret")
		found := false
		for _, text := range inv.lastRequest().Texts {
			found = found || strings.EqualFold(text.Name, "x_token-a") && text.Value == "secret" && text.Origin == actions.FromHeader
		}
		if !found || info != "" && len(inv.lastRequest().Texts) != 1 {
			t.Errorf("%q: got %v", info, inv.lastRequest().Texts)
		}
	}
}

// What a module answers is the document, or stands in the envelope in Python's bytes.
func TestModuleAnswers(t *testing.T) {
	const offers = `{"predict":{"parameters":[{"name":"accept"}]}}`
	const refused = `{"error":"mod answers application/json, which the request does not accept: \"image/png\"","code":"unsupported"}` + "\n"
	const one = `{"status": "OK", "predictions": 1}`
	asJSON := actions.Response{ContentType: jsonType, Data: []byte("1")}
	for _, tt := range []struct {
		info, accept string
		answer       actions.Response
		status       int
		want         string
	}{
		{"", "", actions.Response{ContentType: jsonType, Data: []byte(`{"a": [1, 2]}`)}, 200, `{"status": "OK", "predictions": {"a": [1, 2]}}`},
		{"", "", actions.Response{ContentType: jsonType, Data: []byte(`{"a": 1}`), Whole: true}, 200, `{"a": 1}`},
		{"", "", actions.Response{ContentType: jsonType, Data: []byte(`"x"`), Whole: true}, 200, `"x"`},
		{"", "", actions.Response{ContentType: jsonType, Whole: true}, 200, `null`},
		{"", "image/png", actions.Response{ContentType: "image/png", Data: []byte("PNG"), Whole: true}, 200, `PNG`},
		{offers, "image/png", asJSON, 406, refused},
		{offers, "nonsense", asJSON, 200, one},
		// What cannot be chosen is not refused.
		{`{"predict":{"parameters":[],"open":true},"train":{"parameters":[{"name":"accept"}]}}`, "image/png", asJSON, 200, one},
		{"", "image/png", asJSON, 200, one},
	} {
		inv := &fakeInvoker{
			info:   []byte(tt.info),
			answer: func(context.Context, actions.Request) (actions.Response, error) { return tt.answer, nil },
		}
		s, _ := newServer(t, Config{Invoker: inv, Catalog: module()})
		got := s.handle(t.Context(), &request{method: http.MethodPost, path: modPath, accept: tt.accept})
		wantResponse(t, got, tt.status, tt.want)
		got = s.handle(t.Context(), &request{method: http.MethodPost, path: modPath, query: "accept=" + tt.accept})
		wantResponse(t, got, tt.status, tt.want)
	}
}

// The status that a module asks for is that of /v2/ and not of /run.
func TestModuleErrors(t *testing.T) {
	for _, tt := range []struct {
		err    *actions.Error
		status int
		want   string
	}{
		{&actions.Error{Code: actions.Invalid, Msg: "no", Status: 418}, 418, `{"error":"no","code":"invalid"}`},
		{&actions.Error{Code: actions.Failed, Msg: "no", Status: 502}, 502, `{"error":"no","code":"failed"}`},
		{&actions.Error{Code: actions.Unsupported, Msg: "no", Status: 406}, 406, `{"error":"no","code":"unsupported"}`},
		{&actions.Error{Code: actions.Unsupported, Msg: "no predict"}, 501, `{"error":"no predict","code":"unsupported"}`},
		{&actions.Error{Code: actions.Invalid, Msg: "no", Status: 422}, 422, `{"error":"no","code":"invalid"}`},
		{&actions.Error{Code: actions.Invalid, Msg: "no", Status: 422, Fields: map[string][]string{"a": {"b"}}}, 422, `{"a":["b"]}`},
		{&actions.Error{Code: actions.Invalid, Msg: "no", Status: 400, Fields: map[string][]string{"a": {"b"}}}, 400, `{"error":"no","code":"invalid"}`},
		{&actions.Error{Code: actions.Failed, Msg: "no", Status: 200}, 500, `{"error":"no","code":"failed"}`},
		{&actions.Error{Code: actions.Failed, Msg: "no", Status: 1000}, 500, `{"error":"no","code":"failed"}`},
		{&actions.Error{Code: actions.Internal, Msg: "secret", Status: 599}, 599, `{"error":"internal error…`},
	} {
		s, _ := newServer(t, Config{Invoker: &fakeInvoker{answer: failing(tt.err)}, Catalog: module(), Model: "mod"})
		if !strings.HasSuffix(tt.want, "…") {
			tt.want += "\n"
		}
		got := s.handle(t.Context(), &request{method: http.MethodPost, path: modPath, accept: "image/png"})
		wantResponse(t, got, tt.status, tt.want)
		if got := post(t, s, "/run", `{}`); got.status != 200 {
			t.Errorf("%v: got %d of /run", tt.err, got.status)
		}
	}
}

func TestRunGiven(t *testing.T) {
	context := func(name, value string) actions.Text {
		return actions.Text{Origin: actions.FromContext, Name: "__OW_" + name, Value: value}
	}
	many := "{" + strings.TrimSuffix(strings.Repeat(`"a":1,`, 5000), ",") + "}"
	for _, tt := range []struct {
		name, body string
		want       actions.Request
	}{
		{"nothing", `{}`, actions.Request{}},
		{"null", `{"value":null}`, actions.Request{}},
		{"object", `{"value": {"a": [1, 2], "__ow_user":"me"} }`, actions.Request{Args: []byte(`{"a": [1, 2], "__ow_user":"me"}`)}},
		{"array", `{"value":["a", "b"]}`, actions.Request{Args: []byte(`["a", "b"]`)}},
		{"many members", `{"value":` + many + `}`, actions.Request{Args: []byte(many)}},
		{"value twice", `{"value":{"accept":"a/b"},"value":[1]}`, actions.Request{Args: []byte(`[1]`)}},
		{"accept", `{"value":{"accept":"application/json"}}`, actions.Request{Args: []byte(`{"accept":"application/json"}`), Accept: "application/json"}},
		{
			"context", `{"value":{},"api_key":"k=é\n","deadline":123,"x":{"a": 1},"y":null,"a-b":"1","":"2","z\u0000":"3","n":"a\u0000b","Q":true}`,
			actions.Request{Args: []byte(`{}`), Texts: []actions.Text{
				context("API_KEY", "k=é\n"), context("DEADLINE", "123"), context("X", `{"a":1}`), context("Y", ""), context("Q", "true"),
			}},
		},
	} {
		inv := &fakeInvoker{answer: answering(jsonType, `{}`)}
		s, st := newServer(t, Config{Model: "mod", Invoker: inv, Catalog: module()})
		wantResponse(t, post(t, s, "/run", tt.body), 200, `{}`)
		tt.want.Model, tt.want.Verb, tt.want.ID = "mod", actions.Predict, "id-1"
		tt.want.Texts = append([]actions.Text{context("ACTIVATION_ID", "id-1")}, tt.want.Texts...)
		if diff := cmp.Diff(tt.want, inv.lastRequest()); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		wantSentinels(t, st, 1)
	}
	s, _ := newServer(t, Config{Model: "mod", Catalog: module()})
	long := fmt.Sprintf(`{"value":{},"x":"%s"}`, strings.Repeat("a", maxContext))
	wantResponse(t, post(t, s, "/run", long), 200, `{"error":"the activation has more than 65536 bytes beside its value"}`+"\n")
	wantResponse(t, post(t, s, "/run", `{"value":1}`), 404, `{"error":"The action did not receive…`)
	s, _ = newServer(t, Config{Model: "echo"})
	wantResponse(t, post(t, s, "/run", `{"value":`+many+`}`), 200, `{"error":"echo: \"a\" is unknown…`)
	distinct := strings.Builder{}
	for i := range 1001 {
		fmt.Fprintf(&distinct, `,"a%d":1`, i)
	}
	wantResponse(t, post(t, s, "/run", `{"value":{`+distinct.String()[1:]+`}}`), 200, `{"error":"Error unmarshaling request: the body is nested deeper…`)
}

func FuzzGiven(f *testing.F) {
	f.Add(`{"n":1}`, jsonType, "text=a")
	f.Add("--b\r\nContent-Disposition: form-data; name=\"n\"; filename=x\r\n\r\n1\r\n--b--", "multipart/form-data; boundary=b", "")
	f.Add("n=1&text=%20", formType, "n=2&&;=%")
	f.Fuzz(func(t *testing.T, body, contentType, query string) {
		s, _ := newServer(t, Config{Catalog: module(), Invoker: &fakeInvoker{answer: answering(jsonType, "{}")}})
		got := s.handle(t.Context(), &request{method: http.MethodPost, path: modPath, query: query, contentType: contentType, body: []byte(body)})
		switch got.status {
		case 200, 400, 406, 413, 422:
		default:
			t.Errorf("got status %d: %s", got.status, got.body)
		}
		wantJSONObject(t, got)
	})
}
