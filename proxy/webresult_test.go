package proxy

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions/whisk"
)

// Results become answers as in apache/openwhisk's WebActionsApiTests.scala.
func TestWebGatewayResults(t *testing.T) {
	const png = "iVBORw0KGgo="
	const notHTTPBody, notJSON = "Response is not valid 'message/http'.", "Response is not valid 'application/json'."
	const processing, mismatch = "There was an error processing your request.", "Response type in header did not match generated content type."
	html, textPlain := "text/html; charset=UTF-8", "text/plain; charset=UTF-8"
	for _, tt := range []struct {
		extension, result string
		status            int
		contentType, body string
	}{
		{"", `{"body":"hello"}`, 200, html, "hello"},
		{"", `{"body":{"a": 1}}`, 200, jsonType, `{"a": 1}`},
		{"", `{"body":[1]}`, 200, jsonType, `[1]`},
		{"", `{"body":3}`, 200, jsonType, `3`},
		{"", `{"statusCode":201,"body":"made"}`, 201, html, "made"},
		{"", `{"statusCode":"444","body":"x"}`, 444, html, "x"},
		{"", `{"statusCode":200.0,"body":"x"}`, 200, html, "x"},
		{"", `{}`, 204, "", ""},
		{"", `{"body":""}`, 204, "", ""},
		{"", `{"body":null}`, 204, "", ""},
		{"", `{"statusCode":200}`, 200, "", ""},
		{"", `{"statusCode":201,"headers":{"content-type":"application/json"}}`, 201, "", ""},
		{"", `{"payload":"Hello"}`, 204, "", ""},
		{"", `{"headers":{"Content-Type":"image/png"},"body":"` + png + `"}`, 200, "image/png", "\x89PNG\r\n\x1a\n"},
		{"", `{"headers":{"content-type":"image/png"},"body":"no base64!"}`, 400, "", mismatch},
		{"", `{"headers":{"content-type":"application/json"},"body":"hello world"}`, 200, jsonType, "hello world"},
		{"", `{"headers":{"content-type":"application/json"},"body":"{\"a\":1}"}`, 200, jsonType, `{"a":1}`},
		{"", `{"headers":{"content-type":"application/json-patch+json"},"body":"eyJhIjoxfQ=="}`, 200, "application/json-patch+json", `{"a":1}`},
		{"", `{"headers":{"content-type":"application/hal+json"},"body":{"a":1}}`, 200, "application/hal+json", `{"a":1}`},
		{"", `{"headers":{"content-type":"text/html"},"body":{"a":1}}`, 400, "", mismatch},
		{"", `{"headers":{"content-type":"text/xml"},"body":"<a/>"}`, 200, "text/xml; charset=UTF-8", "<a/>"},
		{"", `{"headers":{"content-type":"xyzbar"},"body":"hello"}`, 400, "", "Response did not specify a known content-type."},
		{"", `{"statusCode":"xyz"}`, 400, "", notHTTPBody},
		{"", `{"statusCode":200.5}`, 400, "", notHTTPBody},
		{"", `{"statusCode":99}`, 400, "", notHTTPBody},
		{"", `{"statusCode":1e9}`, 400, "", notHTTPBody},
		{"", `{"statusCode":null}`, 400, "", notHTTPBody},
		{"", `{"headers":"a"}`, 400, "", notHTTPBody},
		{"", `{"headers":{"a":{}}}`, 400, "", notHTTPBody},
		{"", `{"headers":{"a b":"c"}}`, 400, "", notHTTPBody},
		{"", `{"headers":{"a":"b\r\nc: d"}}`, 400, "", notHTTPBody},
		{"", `[1]`, 400, "", notHTTPBody},
		{".http", `{"body":"hello"}`, 200, html, "hello"},
		{".json", `{"a": 1}`, 200, jsonType, `{"a": 1}`},
		{".json", `[1]`, 200, jsonType, `[1]`},
		{".json", `"a"`, 400, "", notJSON},
		{".html", `{"html":"<p>"}`, 200, html, "<p>"},
		{".html", `{"html":"<p>","body":"<b>"}`, 200, html, "<b>"},
		{".html", `{"a":1}`, 400, "", "Response is not valid 'text/html'."},
		{".svg", `{"svg":"<svg/>"}`, 200, "image/svg+xml", "<svg/>"},
		{".svg", `{"body":1}`, 400, "", "Response is not valid 'image/svg+xml'."},
		{".text", `{"text":"é"}`, 200, textPlain, "é"},
		{".text", `{"body":true}`, 200, textPlain, "true"},
		{".text", `{"body":null}`, 200, textPlain, "null"},
		{".text", `[1]`, 200, textPlain, "[1]"},
		{".text", `{"a":1}`, 404, "", "Response does not include requested property."},
		{"", "application " + `{"error":{"statusCode":418,"body":"no hello for you"}}`, 418, html, "no hello for you"},
		{"", "application " + `{"error":"bad"}`, 400, "", notHTTPBody},
		{".json", "application " + `{"error":"bad"}`, 400, "", notJSON},
		{".json", "application " + `{"error":{"a":1}}`, 200, jsonType, `{"a":1}`},
		{".text", "application " + `{"error":"bad"}`, 200, textPlain, "bad"},
		{".json", "application " + `{}`, 404, "", "Response does not include requested property."},
		{"", "developer " + `{"error":"bad"}`, 400, "", processing},
		{".text", "whisk " + `{"error":"bad"}`, 400, "", processing},
		{"", "late", 202, "", "Response not yet ready."},
	} {
		c := &webController{outcome: func(json.RawMessage) whisk.Outcome { return outcomeOf(tt.result) }}
		s, _ := newServer(t, Config{Controller: c})
		got := visit(t, s, "GET", "guest/pkg/fn"+tt.extension, "")
		want := tt.body
		if tt.status >= 400 && tt.contentType == "" || tt.status == 202 {
			want, tt.contentType = string(jsonResponse(0, apiError{tt.body, "id-1"}).body), jsonType
		}
		if got.status != tt.status || got.contentType != tt.contentType || string(got.body) != want {
			t.Errorf("%s %s: got %d %q %q\nwant %d %q %q", tt.extension, tt.result, got.status, got.contentType, got.body, tt.status, tt.contentType, want)
		}
		if got.header.Get("X-Openwhisk-Activation-Id") != "0123" || got.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: got header %v", tt.result, got.header)
		}
	}
}

func outcomeOf(text string) whisk.Outcome {
	kind, result, ok := strings.Cut(text, " ")
	switch {
	case text == "late":
		return whisk.Outcome{Activation: whisk.Activation{ID: "0123"}}
	case !ok || !slices.Contains([]string{"application", "developer", "whisk"}, kind):
		return succeeded(text)
	}
	codes := map[string]int{"application": whisk.ApplicationError, "developer": whisk.DeveloperError, "whisk": whisk.WhiskError}
	return ended(codes[kind], result)
}

// FuzzWebResult gives the gateway whatever an action may answer.
func FuzzWebResult(f *testing.F) {
	f.Add(`{"statusCode":"200","headers":{"a":["b",1,[true]]},"body":"x"}`, ".http")
	f.Add(`{"headers":{"content-type":"image/png"},"body":"AP8="}`, ".http")
	f.Add(`{"body":{"a":1}}`, ".text")
	f.Add(`[1]`, ".json")
	f.Add(`"\ud800"`, ".svg")
	f.Fuzz(func(t *testing.T, result, extension string) {
		if !json.Valid([]byte(result)) {
			return // an activation's is
		}
		resp, status, wrong := project(extension, json.RawMessage(strings.TrimSpace(result)))
		if wrong != "" {
			if status != 400 && status != 404 {
				t.Errorf("got %d %s", status, wrong)
			}
			return
		}
		if resp.status < 200 || resp.status > 599 {
			t.Errorf("got status %d", resp.status)
		}
		for name, values := range resp.header {
			if !validName(name) || slices.ContainsFunc(values, func(v string) bool { return strings.ContainsAny(v, "\r\n") }) {
				t.Errorf("got header %q: %q", name, values)
			}
		}
	})
}
