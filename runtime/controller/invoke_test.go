package controller_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
)

// TestInvoke looks at all that an activation says.
func TestInvoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, func(c *controller.Config) { c.APIHost = "http://127.0.0.1:8080" })
		w.put(t, whisk.Packages, "pkg", `{"parameters":[{"key":"a","value":1},{"key":"b","value":1}]}`)
		w.put(t, whisk.Packages, "bnd", `{"binding":{"namespace":"_","name":"pkg"},"parameters":[{"key":"b","value":"<2>"}]}`)
		w.put(t, whisk.Actions, "pkg/hello", `{"exec":{"kind":"python:3","code":"x","main":"go"},"parameters":[{"key":"c","value":3},{"key":"SECRET","value":{"k":1},"init":true},{"key":"OTHER","value":null,"init":true}],"limits":{"timeout":5000}}`)
		w.run = func(_ context.Context, in actions.Activation) (actions.Response, error) {
			time.Sleep(300 * time.Millisecond)
			resp, err := echo(in)
			resp.Timing = actions.Timing{Queue: 100 * time.Millisecond, Start: 150 * time.Millisecond, Run: 50 * time.Millisecond, Cold: true}
			resp.Logs = []actions.LogLine{{Stream: actions.Stdout, Text: "out"}, {Stream: actions.Stderr, Text: "err <1>"}}
			return resp, err
		}
		asked := time.Now()
		a := w.invoke(t, "bnd/hello", `{"c": 4, "d": {"x": [1.0, "ü"]}, "SECRET": 5}`)
		in := w.last(t)
		if got, want := string(in.Value), `{"a":1,"b":"<2>","c":4,"d":{"x":[1.0,"ü"]}}`; got != want {
			t.Errorf("arguments: got %s, want %s", got, want)
		}
		if in.ID != a.ID || in.Verb != "" || !regexp.MustCompile(`^fn-[0-9a-f]{16}$`).MatchString(in.Model) {
			t.Errorf("ran %+v", in)
		}
		source := w.catalog.imports()[0]
		if source.Name != in.Model || source.Main != "go" || string(source.Data) != "x" || fmt.Sprint(source.Env) != `map[OTHER: SECRET:{"k":1}]` {
			t.Errorf("imported %+v", source)
		}
		for key, want := range map[string]string{
			"__OW_NAMESPACE": "guest", "__OW_ACTION_NAME": "/guest/pkg/hello", "__OW_ACTION_VERSION": "0.0.1", "__OW_ACTIVATION_ID": a.ID,
			"__OW_TRANSACTION_ID": a.ID, "__OW_DEADLINE": strconv.FormatInt(asked.Add(5*time.Second).UnixMilli(), 10), "__OW_API_KEY": "", "__OW_API_HOST": "http://127.0.0.1:8080",
		} {
			if got := word(in, key); got != want {
				t.Errorf("%s: got %s, want %s", key, got, want)
			}
		}
		end := asked.Add(300 * time.Millisecond)
		want := whisk.Activation{
			ID: a.ID, Namespace: "guest", Name: "hello", Version: "0.0.1", Subject: "guest",
			Start: end.Add(-200 * time.Millisecond).UnixMilli(), End: end.UnixMilli(), Duration: 200, Logs: []string{},
			Response: whisk.Response{Result: json.RawMessage(`{"model":"` + in.Model + `","value":` + string(in.Value) + `}`)},
			Annotations: whisk.KeyValues{}.With("path", "guest/pkg/hello").With("waitTime", 100).With("kind", "python:3").With("timeout", false).
				With("limits", whisk.Limits{Timeout: 5000, Memory: 256, Logs: 10, Concurrency: 1}).With("binding", "guest/bnd").With("initTime", 150),
		}
		if text(t, a) != text(t, want) {
			t.Errorf("got\n%s, want\n%s", text(t, a), text(t, want))
		}
		stamp := end.UTC().Format("2006-01-02T15:04:05.000000000Z")
		want.Logs = []string{stamp + " stdout: out", stamp + " stderr: err <1>"}
		if got := w.recorded(t, a.ID); text(t, got) != text(t, want) {
			t.Errorf("recorded\n%s, want\n%s", text(t, got), text(t, want))
		}
		for what, query := range map[string]whisk.ActivationQuery{
			"all": {}, "name": {Name: "bnd/hello"}, "since": {Since: want.Start, Upto: want.Start},
		} {
			list, err := w.Activations(t.Context(), whisk.Guest, query)
			summary := fmt.Sprintf(`{"namespace":"guest","name":"hello","version":"0.0.1","publish":false,"annotations":%s,"activationId":"%s","start":%d,"end":%d,"duration":200,"statusCode":0}`,
				text(t, want.Annotations), a.ID, want.Start, want.End)
			if err != nil || len(list.Items) != 1 || text(t, list.Items[0]) != summary {
				t.Errorf("%s: got %s, %v, want %s", what, text(t, list.Items), err, summary)
			}
			query.Docs = true
			list, err = w.Activations(t.Context(), whisk.Guest, query)
			if got := documents(t, list); err != nil || text(t, got) != text(t, []any{want}) {
				t.Errorf("%s: got %s, %v, want %s", what, text(t, got), err, text(t, want))
			}
		}
		for what, query := range map[string]whisk.ActivationQuery{"name": {Name: "hello"}, "upto": {Upto: want.Start - 1}, "since": {Since: want.End}} {
			list, err := w.Activations(t.Context(), whisk.Guest, query)
			if err != nil || len(list.Items) != 0 {
				t.Errorf("%s: got %s, %v, want none", what, text(t, list.Items), err)
			}
		}
		list, err := w.Activations(t.Context(), whisk.Guest, whisk.ActivationQuery{Page: whisk.Page{Count: true}})
		if err != nil || list.Count != 1 {
			t.Errorf("counted %d, %v", list.Count, err)
		}
		_, err = w.Activation(t.Context(), whisk.Guest, strings.Repeat("0", 32))
		refused(t, "no activation", err, actions.NotFound, "The requested resource does not exist.")
	})
}

// TestResponses maps what a run answers to the response of the activation.
func TestResponses(t *testing.T) {
	fails := func(code actions.Code) error { return &actions.Error{Code: code, Msg: "why <x>"} }
	const application, developer, internal = whisk.ApplicationError, whisk.DeveloperError, whisk.WhiskError
	why := `{"error":"why <x>"}`
	for what, test := range map[string]struct {
		data string
		err  error
		code int
		want string // the beginning of the result
	}{
		"object":            {`{"a": [1, 2.0]}`, nil, whisk.Success, `{"a": [1, 2.0]}`},
		"array":             {` [1, {"error": 2}] `, nil, whisk.Success, `[1, {"error": 2}]`},
		"error":             {`{"error": {"code": 7}, "more": 1}`, nil, application, `{"error":{"code":7}}`},
		"error null":        {`{"error": null}`, nil, application, `{"error":null}`},
		"error in disguise": {`{"\u0065rror": 1}`, nil, application, `{"error":1}`},
		"error within":      {`{"a": {"error": 1}}`, nil, whisk.Success, `{"a": {"error": 1}}`},
		"another error":     {`{"Error": 1, "x_error": 2}`, nil, whisk.Success, `{"Error": 1, "x_error": 2}`},
		"text":              {`"x"`, nil, developer, `{"error":"The action did not produce a valid JSON or JSON Array response."}`},
		"half":              {`{"a":`, nil, developer, `{"error":"The action did not produce`},
		"nothing":           {``, nil, developer, `{"error":"The action did not produce`},
		"long":              {`{"a":"` + strings.Repeat("x", 993) + `"}`, nil, application, `{"error":"The action produced a response that exceeded the allowed length: 1001 > 1000 bytes. A result that is large`},
		"not too long":      {`{"a":"` + strings.Repeat("x", 992) + `"}`, nil, whisk.Success, `{"a":"xxx`},
		"invalid":           {"", fails(actions.Invalid), application, why},
		"failed":            {"", fails(actions.Failed), application, why},
		"unsupported":       {"", fails(actions.Unsupported), application, why},
		"too large":         {"", fails(actions.TooLarge), application, why},
		"not found":         {"", fails(actions.NotFound), application, why},
		"forbidden":         {"", fails(actions.Forbidden), application, why},
		"a deadline within": {"", fails(actions.Deadline), application, why},
		"no answer":         {"", fails(actions.NoAnswer), developer, why},
		"exited":            {"", fails(actions.Exited), developer, why},
		"not started":       {"", fails(actions.Unavailable), developer, why},
		"died":              {"", &actions.Error{Code: actions.Unavailable}, developer, `{"error":"The action did not produce a valid response and exited unexpectedly."}`},
		"internal":          {"", fails(actions.Internal), internal, `{"error":"There was an internal error: activation `},
		"canceled":          {"", fails(actions.Canceled), internal, `{"error":"There was an internal error`},
		"no error of ours":  {"", errors.New("a secret"), internal, `{"error":"There was an internal error`},
	} {
		t.Run(what, func(t *testing.T) {
			w := open(t, func(c *controller.Config) { c.MaxPayload, c.ByReference = 1000, true })
			w.run = func(context.Context, actions.Activation) (actions.Response, error) {
				return actions.Response{Data: []byte(test.data)}, test.err
			}
			a := w.invoke(t, "/whisk.system/models/digits", "{}")
			got := w.recorded(t, a.ID)
			if got.Response.Code != test.code || a.Response.Code != test.code || !strings.HasPrefix(string(a.Response.Result), test.want) {
				t.Errorf("got %d %s, want %d %s", a.Response.Code, a.Response.Result, test.code, test.want)
			}
			if strings.Contains(string(a.Response.Result), "secret") || note(got, "timeout") != "false" {
				t.Errorf("got %s", text(t, got))
			}
		})
	}
}

// TestPanic is a run that panics.
func TestPanic(t *testing.T) {
	w := open(t)
	w.run = func(context.Context, actions.Activation) (actions.Response, error) { panic("boom") }
	if a := w.invoke(t, "/whisk.system/models/digits", "{}"); a.Response.Code != whisk.WhiskError {
		t.Errorf("got %s", text(t, a))
	}
}

// TestNoStart names the action, not the model that its code became.
func TestNoStart(t *testing.T) {
	w := open(t)
	w.python(t, "hello", hello)
	w.run = func(_ context.Context, in actions.Activation) (actions.Response, error) {
		return actions.Response{}, &actions.Error{
			Code: actions.Unavailable, Msg: in.Model + " could not be started: no module named x",
			Logs: []actions.LogLine{{Stream: actions.Stderr, Text: "Traceback"}},
		}
	}
	a := w.invoke(t, "hello", "{}")
	if a.Response.Code != whisk.DeveloperError || string(a.Response.Result) != `{"error":"/guest/hello could not be started: no module named x"}` {
		t.Errorf("got %s", text(t, a.Response))
	}
	if logs := w.recorded(t, a.ID).Logs; len(logs) != 1 || !strings.HasSuffix(logs[0], " stderr: Traceback") {
		t.Errorf("logs %q", logs)
	}
}

// TestUnprepared is an action that cannot be run at all.
func TestUnprepared(t *testing.T) {
	w := open(t)
	for n, test := range map[string]struct{ exec, want string }{
		"image": {`{"kind":"blackbox","image":"deephdc/uc-lara"}`, `Failed to pull container image 'deephdc/uc-lara'. Images run here as the model of their name; there is none "uc-lara". There are: digits, ocr-line. To add one: deepfn add`},
		"entry": {`{"kind":"deepfn:digits","main":"go"}`, `The action failed during initialization: there is no entry point "go"; main is predict, train or metadata`},
	} {
		w.put(t, whisk.Actions, n, `{"exec":`+test.exec+`}`)
		a := w.invoke(t, n, "{}")
		if a.Response.Code != whisk.DeveloperError || !strings.Contains(string(a.Response.Result), quote(test.want)[:len(quote(test.want))-1]) {
			t.Errorf("%s: got %s", n, text(t, a.Response))
		}
	}
	w.python(t, "code", hello)
	w.catalog.fail = actions.Errorf(actions.Unavailable, "the disk is full")
	if a := w.invoke(t, "code", "{}"); a.Response.Code != whisk.WhiskError || !strings.Contains(string(a.Response.Result), "the disk is full") {
		t.Errorf("got %s", text(t, a.Response))
	}
}

// TestInvokeRefused is what is no activation.
func TestInvokeRefused(t *testing.T) {
	w := open(t, func(c *controller.Config) { c.MaxPayload = 100 })
	w.put(t, whisk.Packages, "pkg", `{"parameters":[{"key":"p","value":1},{"key":"null","value":null}]}`)
	w.put(t, whisk.Actions, "pkg/final", `{"exec":{"kind":"deepfn:digits"},"parameters":[{"key":"a","value":1}],"annotations":[{"key":"final","value":true}]}`)
	for what, test := range map[string]struct {
		name, args string
		code       actions.Code
		says       string
	}{
		"no action":         {"none", "{}", actions.NotFound, "The requested resource does not exist."},
		"no package":        {"none/x", "{}", actions.NotFound, "does not exist"},
		"a package":         {"pkg", "{}", actions.Conflict, "Resource by this name exists but is not in this collection."},
		"another's":         {"/other/x", "{}", actions.Forbidden, "not authorized"},
		"array":             {"pkg/final", "[1]", actions.Invalid, "The request content was malformed:\n"},
		"final":             {"pkg/final", `{"a":2}`, actions.Invalid, "Request defines parameters that are not allowed"},
		"the package's":     {"pkg/final", `{"x":1, "p":2}`, actions.Invalid, "Request defines parameters that are not allowed"},
		"final and no JSON": {"pkg/final", `{"x"`, actions.Invalid, "malformed"},
		"too large":         {"pkg/final", `{"x":"` + strings.Repeat("x", 100) + `"}`, actions.TooLarge, "Request larger than allowed: 108 > 100 bytes."},
	} {
		for _, blocking := range []bool{true, false} {
			_, err := w.Invoke(t.Context(), whisk.Guest, name(t, test.name), whisk.Invocation{Args: json.RawMessage(test.args), Blocking: blocking})
			refused(t, what, err, test.code, test.says)
		}
	}
	if len(w.ran) != 0 {
		t.Errorf("%d ran", len(w.ran))
	}
	w.invoke(t, "pkg/final", `{"null":5,"x":1}`)
	if got := string(w.last(t).Value); got != `{"a":1,"null":5,"p":1,"x":1}` {
		t.Errorf("got %s", got)
	}
	_, err := w.Invoke(t.Context(), whisk.Guest, whisk.Name{Namespace: "_", Package: "pkg"}, whisk.Invocation{})
	refused(t, "no entity", err, actions.NotFound, "does not exist")
}

// TestTimeLimit is an action that does not end.
func TestTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		w.put(t, whisk.Actions, "slow", `{"exec":{"kind":"deepfn:digits"},"limits":{"timeout":2000}}`)
		w.run = func(ctx context.Context, _ actions.Activation) (actions.Response, error) {
			<-ctx.Done()
			return actions.Response{}, &actions.Error{
				Code: actions.Deadline, Msg: "late", Logs: []actions.LogLine{{Stream: actions.Stdout, Text: "on my way"}},
			}
		}
		began := time.Now()
		a := w.recorded(t, w.invoke(t, "slow", "{}").ID)
		if a.Response.Code != whisk.DeveloperError || string(a.Response.Result) != `{"error":"The action exceeded its time limits of 2000 milliseconds."}` ||
			note(a, "timeout") != "true" || a.Duration != 2000 || time.Since(began) != 2*time.Second || len(a.Logs) != 1 {
			t.Errorf("after %v: got %s", time.Since(began), text(t, a))
		}
	})
}

// TestLogs bounds the logs of an activation.
func TestLogs(t *testing.T) {
	line := strings.Repeat("x", 1<<16-1)
	for limit, want := range map[int]int{0: 0, 1: 17, 2: 33} {
		w := open(t)
		w.put(t, whisk.Actions, "a", `{"exec":{"kind":"deepfn:digits"},"limits":{"logs":`+strconv.Itoa(limit)+`}}`)
		w.run = func(context.Context, actions.Activation) (actions.Response, error) {
			resp := actions.Response{Data: []byte("{}")}
			for range 40 {
				resp.Logs = append(resp.Logs, actions.LogLine{Stream: actions.Stdout, Text: line})
			}
			return resp, nil
		}
		logs := w.recorded(t, w.invoke(t, "a", "{}").ID).Logs
		if len(logs) != want {
			t.Errorf("%d MiB: got %d lines, want %d", limit, len(logs), want)
		}
		if want > 0 && !strings.HasSuffix(logs[want-1], fmt.Sprintf(" stderr: Logs were truncated because the total bytes size exceeds the limit of %d bytes.", limit<<20)) {
			t.Errorf("%d MiB: the last is %s", limit, logs[want-1])
		}
	}
}

// TestAPIKey tells an action the key when it is to have it.
func TestAPIKey(t *testing.T) {
	w := open(t, func(c *controller.Config) { c.Auth = "me:key" })
	for value, want := range map[string]string{"true": "me:key", "false": "", "1": "me:key", `""`: ""} {
		w.update(t, whisk.Actions, "a", `{"exec":{"kind":"deepfn:digits"},"annotations":[{"key":"provide-api-key","value":`+value+`}]}`)
		w.invoke(t, "a", "{}")
		if got := word(w.last(t), "__OW_API_KEY"); got != want {
			t.Errorf("%s: got %q, want %q", value, got, want)
		}
	}
	if _, err := w.Invoke(t.Context(), whisk.Guest, name(t, "a"), whisk.Invocation{Blocking: true, Transaction: "t1"}); err != nil || word(w.last(t), "__OW_TRANSACTION_ID") != "t1" {
		t.Errorf("got transaction %s, %v", word(w.last(t), "__OW_TRANSACTION_ID"), err)
	}
}
