package proxy

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

const initOK = "{\"ok\":true}\n"

func wantJSONObject(tb testing.TB, got response) {
	tb.Helper()
	var m map[string]any
	if err := json.Unmarshal(got.body, &m); err != nil {
		tb.Errorf("got body %q: %v", got.body, err)
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestInit(t *testing.T) {
	const missing = `{"error":"Missing main/no code to execute."}` + "\n"
	const forms = `the code of an action is {\"model\": \"name\"}, as JSON or in base64, and names a model of the server"}` + "\n"
	tests := []struct {
		name   string
		model  string // of Config
		body   string
		status int
		want   string
		runs   string // the model that /run runs afterwards
	}{
		{"no content", "", `{}`, 403, missing, ""},
		{"no code", "", `{"value":{"name":"a","main":"main","binary":false,"env":null}}`, 403, missing, ""},
		{"code null", "", `{"value":{"code":null,"main":"","binary":false}}`, 403, missing, ""},
		{"code empty", "", `{"value":{"code":"","main":""}}`, 403, missing, ""},
		{"value null", "", `{"value":null}`, 403, missing, ""},
		{"not JSON", "", `XXX`, 400, `{"error":"Error unmarshaling request: invalid character 'X' looking for beginning of value"}` + "\n", ""},
		{"empty body", "", ``, 400, `{"error":"Error unmarshaling request: unexpected end of JSON input"}` + "\n", ""},
		{"array", "", `[]`, 400, `{"error":"Error unmarshaling request: the body is not a JSON object"}` + "\n", ""},
		{"value string", "", `{"value":"A"}`, 400, `{"error":"Error unmarshaling request: value is not an object"}` + "\n", ""},
		{"code number", "", `{"value":{"code":1}}`, 400, `{"error":"Error unmarshaling request: value.code is not a string"}` + "\n", ""},
		{"binary string", "", `{"value":{"binary":"yes"}}`, 400, `{"error":"Error unmarshaling request: value.binary is not a boolean"}` + "\n", ""},
		{"env array", "", `{"value":{"env":[1]}}`, 400, `{"error":"Error unmarshaling request: value.env: the body is not a JSON object"}` + "\n", ""},
		{"code names the model", "", `{"value":{"code":"{\"model\": \"echo\"}","binary":false,"main":"main"}}`, 200, initOK, "echo"},
		{"code in base64", "", `{"value":{"code":"` + b64(`{"model":"other"}`) + `","binary":true}}`, 200, initOK, "other"},
		{"plain code marked binary", "", `{"value":{"code":" {\"model\":\"other\"}\n","binary":true}}`, 200, initOK, "other"},
		{"bad base64", "", `{"value":{"code":"%%%","binary":true}}`, 400, `{"error":"cannot decode the request: illegal base64 data at input byte 0"}` + "\n", ""},
		{"source text", "", `{"value":{"code":"def main(args): pass"}}`, 502, `{"error":"Cannot start action: ` + forms, ""},
		{"zip", "", `{"value":{"code":"` + b64("PK\x03\x04....") + `","binary":true}}`, 502, `{"error":"Cannot start action: the code is a zip archive; ` + forms, ""},
		{"large code", "", `{"value":{"code":"` + strings.Repeat("A", 1<<20) + `","binary":true}}`, 502, `{"error":"Cannot start action: the code has 1048578 bytes; ` + forms, ""},
		{"server has a model: large code", "echo", `{"value":{"code":"` + strings.Repeat("A", 1<<20) + `","binary":true}}`, 200, initOK, "echo"},
		{"JSON without model", "", `{"value":{"code":"{}"}}`, 502, `{"error":"Cannot start action: ` + forms, ""},
		{"JSON with more", "", `{"value":{"code":"{\"model\":\"echo\",\"x\":1}"}}`, 502, `{"error":"Cannot start action: ` + forms, ""},
		{"unknown model", "", `{"value":{"code":"{\"model\":\"nope\"}"}}`, 502, `{"error":"there is no model \"nope\"; there are echo, other"}` + "\n", ""},
		{"env names the model", "", `{"value":{"code":"{\"model\":\"other\"}","env":{"DEEPFN_MODEL":"echo"}}}`, 200, initOK, "echo"},
		{"env names an unknown model", "", `{"value":{"env":{"DEEPFN_MODEL":"nope"}}}`, 502, `{"error":"there is no model \"nope\"; there are echo, other"}` + "\n", ""},
		{"server has a model: no content", "echo", `{}`, 200, initOK, "echo"},
		{"server has a model: no code", "echo", `{"value":{"main":"main","binary":false,"env":{"__OW_API_HOST":"xyz"}}}`, 200, initOK, "echo"},
		{"server has a model: it wins", "echo", `{"value":{"code":"{\"model\":\"other\"}","env":{"DEEPFN_MODEL":"other"}}}`, 200, initOK, "echo"},
		{"server has an unknown model", "nope", `{}`, 502, `{"error":"there is no model \"nope\"; there are echo, other"}` + "\n", "nope"},
		{"entry point", "echo", `{"value":{"main":"niam"}}`, 502, `{"error":"Cannot start action: there is no entry point \"niam\"; main is predict, train or metadata"}` + "\n", "echo"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inv := &fakeInvoker{}
			s, st := newServer(t, Config{Model: tt.model, Invoker: inv})
			wantResponse(t, post(t, s, "/init", tt.body), tt.status, tt.want)
			wantSentinels(t, st, 0)
			post(t, s, "/run", `{}`)
			if tt.runs != "nope" && inv.lastRequest().Model != tt.runs {
				t.Errorf("got a run of %q, want %q", inv.lastRequest().Model, tt.runs)
			}
		})
	}
}

func TestInitVerbs(t *testing.T) {
	for main, want := range map[string]actions.Verb{
		"": actions.Predict, "main": actions.Predict, "predict": actions.Predict, "train": actions.Train,
	} {
		inv := &fakeInvoker{}
		s, _ := newServer(t, Config{Model: "echo", Invoker: inv})
		wantResponse(t, post(t, s, "/init", `{"value":{"main":"`+main+`"}}`), 200, initOK)
		post(t, s, "/run", `{"value":{"n":1,"__ow_method":"get"}}`)
		if got := inv.lastRequest(); got.Verb != want || string(got.Args) != `{"n":1}` {
			t.Errorf("main %q: got verb %s with %s, want %s", main, got.Verb, got.Args, want)
		}
	}
	s, st := newServer(t, Config{Model: "echo"})
	post(t, s, "/init", `{"value":{"main":"metadata"}}`)
	wantResponse(t, post(t, s, "/run", `{}`), 200, `{"id":"echo","name":"echo","links":[{"rel":"self","href":"/v2/models/echo"}],"title":"Echo"…`)
	wantSentinels(t, st, 1)
}

func TestInitTwice(t *testing.T) {
	const once = `{"error":"Cannot initialize the action more than once."}` + "\n"
	s, st := newServer(t, Config{Model: "echo"})
	wantResponse(t, post(t, s, "/init", `{}`), 200, initOK)
	wantResponse(t, post(t, s, "/init", `{}`), 403, once)
	wantSentinels(t, st, 0)
	if got := st.out.String(); got != "Cannot initialize the action more than once.\n" {
		t.Errorf("got stdout %q", got)
	}
}

func TestInitConcurrently(t *testing.T) {
	const n = 50
	begun, refused := make(chan struct{}), make(chan struct{}, n)
	s, _ := newServer(t, Config{Model: "echo", Warm: func(context.Context, string) error {
		close(begun) // a second winner would panic here
		for range n - 1 {
			<-refused
		}
		return nil
	}})
	var mu sync.Mutex // guards got
	got := map[int]int{}
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			resp := post(t, s, "/init", `{}`)
			mu.Lock()
			got[resp.status]++
			mu.Unlock()
			refused <- struct{}{}
		})
	}
	<-begun
	wg.Wait()
	if diff := cmp.Diff(map[int]int{200: 1, 403: n - 1}, got); diff != "" {
		t.Error(diff)
	}
}

func TestInitAgainAfterFailure(t *testing.T) {
	tries := 0
	s, st := newServer(t, Config{Warm: func(_ context.Context, model string) error {
		switch tries++; tries {
		case 1:
			return &actions.Error{
				Code: actions.Failed, Msg: "cannot load " + model,
				Logs: []actions.LogLine{{Stream: actions.Stderr, Text: "Traceback"}},
			}
		case 2:
			panic("warm")
		case 3:
			return errors.New("secret")
		}
		return nil
	}})
	const body = `{"value":{"code":"{\"model\":\"echo\"}"}}`
	wantResponse(t, post(t, s, "/init", body), 502, `{"error":"cannot load echo"}`+"\n")
	wantSentinels(t, st, 1)
	if got := st.err.String(); got != "Traceback\n"+sentinel+"\n" {
		t.Errorf("got stderr %q", got)
	}
	wantResponse(t, post(t, s, "/init", body), 500, `{"error":"internal error…`)
	wantResponse(t, post(t, s, "/init", body), 502, `{"error":"internal error; the log has its cause under request id id-1"}`+"\n")
	wantResponse(t, post(t, s, "/run", `{}`), 500, `{"error":"no action defined yet"}`+"\n")
	wantResponse(t, post(t, s, "/init", body), 200, initOK)
	wantResponse(t, post(t, s, "/run", `{"value":{"n":1}}`), 200, `{"n":1}`)
}

func TestInitDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer(t, Config{Model: "echo", Warm: func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		start := time.Now()
		body := fmt.Sprintf(`{"value":{"env":{"__OW_DEADLINE":"%d"}}}`, start.Add(time.Minute).UnixMilli())
		wantResponse(t, post(t, s, "/init", body), 502, `{"error":"the model echo was not ready before the deadline of /init"}`+"\n")
		if got, want := time.Since(start), time.Minute-100*time.Millisecond; got != want {
			t.Errorf("got the answer after %v, want %v", got, want)
		}
	})
}

// A deadline that has passed is one clear sentence, and starts nothing.
func TestInitDeadlinePast(t *testing.T) {
	s, _ := newServer(t, Config{Model: "echo", Warm: func(context.Context, string) error {
		t.Error("the model was started")
		return nil
	}})
	body := fmt.Sprintf(`{"value":{"env":{"__OW_DEADLINE":"%d"}}}`, time.Now().Add(-time.Minute).UnixMilli())
	wantResponse(t, post(t, s, "/init", body), 502, `{"error":"the model echo was not ready before the deadline of /init"}`+"\n")
}

func TestParseEnv(t *testing.T) {
	got, bad := parseEnv(json.RawMessage(`{"s":"xyz","empty":"","nul":null,"b":true,"n":123,"a":[1, 2, 3],"o":{"a": 1},"u":"\u00e9"}`))
	want := map[string]string{
		"s": "xyz", "empty": "", "nul": "", "b": "true", "n": "123", "a": "[1,2,3]", "o": `{"a":1}`, "u": "é",
	}
	if diff := cmp.Diff(want, got); diff != "" || bad != nil {
		t.Error(diff, bad)
	}
	if got, bad := parseEnv(json.RawMessage(`null`)); len(got) != 0 || bad != nil {
		t.Errorf("got %v %v of null", got, bad)
	}
}

func FuzzInit(f *testing.F) {
	f.Add([]byte(`{"value":{"code":"{\"model\":\"echo\"}","binary":false,"main":"main","env":{"A":null}}}`))
	f.Add([]byte(`{"value":{"code":"UEsDBA==","binary":true}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, _ := newServer(t, Config{})
		got := post(t, s, "/init", string(body))
		if got.status != 200 && got.status != 400 && got.status != 403 && got.status != 502 {
			t.Errorf("got status %d", got.status)
		}
		wantJSONObject(t, got)
		if (got.status == 200) != (s.action.Load() != nil) || strings.HasSuffix(string(got.body), "\n\n") {
			t.Errorf("got %d %q and action %v", got.status, got.body, s.action.Load())
		}
	})
}
