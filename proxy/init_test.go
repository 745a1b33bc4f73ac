package proxy

import (
	"bytes"
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
	const forms = `code that is JSON is {\"model\": \"name\"} and names a model of the server"}` + "\n"
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
		{"source text", "", `{"value":{"code":"def main(args): pass"}}`, 502, `{"error":"Cannot start action: it is no code"}` + "\n", ""},
		{"source text that begins like JSON", "", `{"value":{"code":"{}[0]"}}`, 502, `{"error":"Cannot start action: it is no code"}` + "\n", ""},
		{"name is a number", "", `{"value":{"code":"x","name":1}}`, 400, `{"error":"Error unmarshaling request: value.name is not a string"}` + "\n", ""},
		{"zip", "", `{"value":{"code":"` + b64("PK\x03\x04....") + `","binary":true}}`, 502, `{"error":"Cannot start action: it is no code"}` + "\n", ""},
		{"large code", "", `{"value":{"code":"` + strings.Repeat("A", 1<<20) + `","binary":true}}`, 502, `{"error":"Cannot start action: it is no code"}` + "\n", ""},
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
			logged := 0
			if strings.Contains(tt.want, "it is no code") {
				logged = 1
			}
			wantSentinels(t, st, logged)
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
		post(t, s, "/run", `{"value":{"n":1,"__ow_user":"guest"}}`)
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

// importing is a catalog that takes all code.
type importing struct {
	fakeCatalog
	source actions.Source
	err    error
}

func (c *importing) Import(_ context.Context, source actions.Source) (actions.Model, error) {
	source.Data = bytes.Clone(source.Data)
	c.source = source
	return echoModel("echo"), c.err
}

// Code that names no model becomes one, with its name, entry point and environment.
func TestInitCode(t *testing.T) {
	const zip = "PK\x03\x04\x00\xff"
	for _, tt := range []struct {
		name, body string
		want       actions.Source
	}{
		{"text", `{"value":{"name":"hello","main":"main","code":"\tdef main(a):\n ☃\n"}}`, actions.Source{Name: "hello", Main: "main", Data: []byte("\tdef main(a):\n ☃\n")}},
		{"text without escapes", `{"value":{"code":"x = 1","binary":false}}`, actions.Source{Data: []byte("x = 1")}},
		{"binary", `{"value":{"name":"a","main":"niam","binary":true,"code":"` + b64(zip) + `"}}`, actions.Source{Name: "a", Main: "niam", Data: []byte(zip)}},
		{"binary in lines", `{"value":{"binary":true,"code":"` + b64(zip)[:4] + `\n` + b64(zip)[4:] + `\n"}}`, actions.Source{Data: []byte(zip)}},
		{"verbs are names", `{"value":{"main":"train","code":"x"}}`, actions.Source{Main: "train", Data: []byte("x")}},
		{"name of the environment", `{"value":{"code":"x","env":{"__OW_ACTION_NAME":"/guest/p/hi","A":"a=b","N":1}}}`, actions.Source{
			Name: "/guest/p/hi", Data: []byte("x"), Env: map[string]string{"__OW_ACTION_NAME": "/guest/p/hi", "A": "a=b", "N": "1"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			catalog, warmed := &importing{}, ""
			inv := &fakeInvoker{}
			s, st := newServer(t, Config{Catalog: catalog, Invoker: inv, Warm: func(_ context.Context, model string) error {
				warmed = model
				return nil
			}})
			wantResponse(t, post(t, s, "/init", tt.body), 200, initOK)
			wantSentinels(t, st, 0)
			if tt.want.Env == nil {
				tt.want.Env = map[string]string{}
			}
			if diff := cmp.Diff(tt.want, catalog.source); diff != "" || warmed != "echo" {
				t.Errorf("%s warmed %q", diff, warmed)
			}
			wantResponse(t, post(t, s, "/run", `{"value":{"n":1}}`), 200, `{"n":1}`)
			if got := inv.lastRequest(); got.Verb != actions.Predict {
				t.Errorf("got verb %s", got.Verb)
			}
		})
	}
}

// Why code does not start stands in the answer and in the logs, which end with the
// sentinels. A better /init may follow.
func TestInitCodeFails(t *testing.T) {
	lines := []actions.LogLine{{Stream: actions.Stdout, Text: "hi"}, {Stream: actions.Stderr, Text: "Traceback"}}
	for _, tt := range []struct {
		name         string
		load, warm   error
		status       int
		want         string
		stdout, err2 string
	}{
		{"no main", actions.Errorf(actions.Invalid, "Zip file does not include __main__.py"), nil, 502, "Cannot start action: Zip file does not include __main__.py", "", "Cannot start action: Zip file does not include __main__.py\n"},
		{"syntax error", nil, &actions.Error{Code: actions.Failed, Msg: "SyntaxError: x", Logs: lines}, 502, "Cannot start action: SyntaxError: x", "hi\n", "Traceback\nCannot start action: SyntaxError: x\n"},
		{"exits", nil, actions.Errorf(actions.Unavailable, "Command exited abruptly during initialization."), 502, "Cannot start action: Command exited abruptly during initialization.", "", "Cannot start action: Command exited abruptly during initialization.\n"},
		{"broken", errors.New("secret"), nil, 502, "Cannot start action: internal error; the log has its cause under request id id-1", "", "Cannot start action: internal error; the log has its cause under request id id-1\n"},
		{"late", nil, context.DeadlineExceeded, 502, "Cannot start action: the model echo was not ready before the deadline of /init", "", "Cannot start action: the model echo was not ready before the deadline of /init\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, st := newServer(t, Config{
				Catalog: &importing{err: tt.load}, Debug: true,
				Warm: func(context.Context, string) error { return tt.warm },
			})
			const body = `{"value":{"code":"x"}}`
			wantResponse(t, post(t, s, "/init", body), tt.status, `{"error":"`+tt.want+`"}`+"\n")
			if out, err := st.out.String(), st.err.String(); out != tt.stdout+sentinel+"\n" || err != tt.err2+sentinel+"\n" {
				t.Errorf("got stdout %q, stderr %q", out, err)
			}
			if got := string(get(t, s, "/v2/debug/").body); got != tt.stdout+tt.err2 {
				t.Errorf("got debug %q", got)
			}
			tt.load, tt.warm = nil, nil
			s.cfg.Catalog, s.cfg.Warm = &importing{}, nil
			wantResponse(t, post(t, s, "/init", body), 200, initOK)
		})
	}
	s, st := newServer(t, Config{Catalog: &importing{err: context.Canceled}})
	wantResponse(t, post(t, s, "/init", `{"value":{"code":"x"}}`), 503, `{"error":"the request was given up"}`+"\n")
	wantSentinels(t, st, 0)
}

func TestInitCodeTooLong(t *testing.T) {
	catalog := &importing{}
	s, _ := newServer(t, Config{Catalog: catalog})
	for _, code := range []string{
		`"` + strings.Repeat("a", maxCode+1) + `"`,
		`"` + strings.Repeat("AAAA", maxCode/3+1000) + `","binary":true`,
	} {
		wantResponse(t, post(t, s, "/init", `{"value":{"code":`+code+`}}`), 502, `{"error":"Cannot start action: the code has…`)
	}
	if catalog.source.Data != nil {
		t.Error("it was imported")
	}
	wantResponse(t, post(t, s, "/init", `{"value":{"code":"`+strings.Repeat("a", maxCode)+`"}}`), 200, initOK)
}
