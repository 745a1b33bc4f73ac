package controller_test

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
)

// TestModels invokes each form of an action that a model is behind.
func TestModels(t *testing.T) {
	w := open(t)
	w.put(t, whisk.Packages, "m", `{"binding":{"namespace":"whisk.system","name":"models"},"parameters":[{"key":"p","value":1}]}`)
	i := 0
	for exec, want := range map[string]string{
		`{"kind":"deepfn:digits"}`:                                                                                          "digits ",
		`{"kind":"deepfn:digits","main":"main"}`:                                                                            "digits predict",
		`{"kind":"deepfn:digits","main":"metadata"}`:                                                                        "digits metadata",
		`{"kind":"deepfn:default","code":"{\"model\":\"digits\"}","main":"train"}`:                                          "digits train",
		`{"kind":"blackbox","image":"deepfn/ocr-line"}`:                                                                     "ocr-line ",
		`{"kind":"blackbox","image":"registry.example.com:5000/deephdc/deep-oc-ocr-line:cpu"}`:                              "ocr-line ",
		`{"kind":"blackbox","image":"deephdc/uc-digits@sha256:00"}`:                                                         "digits ",
		`{"kind":"blackbox","image":"OCR_line"}`:                                                                            "ocr-line ",
		`{"kind":"blackbox","image":"deepfn","code":"{\"model\":\"digits\"}","main":"predict"}`:                             "digits predict",
		`{"kind":"blackbox","image":"x","code":"` + base64.StdEncoding.EncodeToString([]byte(`{"model":"digits"} `)) + `"}`: "digits ",
	} {
		i++
		n := "a" + strconv.Itoa(i)
		w.put(t, whisk.Actions, n, `{"exec":`+exec+`}`)
		a := w.invoke(t, n, `{"a":1}`)
		in := w.last(t)
		got, _, _ := strings.Cut(want, " ")
		if a.Response.Code != whisk.Success || in.Model != got || in.Verb != "predict" && string(in.Verb) != strings.TrimPrefix(want, got+" ") {
			t.Errorf("%s: ran %s %s: %s", exec, in.Model, in.Verb, text(t, a.Response))
		}
	}
	if len(w.catalog.imports()) != 0 {
		t.Errorf("imported %v", w.catalog.imports())
	}
	a := w.invoke(t, "/whisk.system/models/digits", "")
	if note(a, "path") != `"whisk.system/models/digits"` || note(a, "kind") != `"deepfn:digits"` || a.Namespace != "guest" || word(w.last(t), "__OW_ACTION_NAME") != "/whisk.system/models/digits" {
		t.Errorf("the catalog's: %s", text(t, a))
	}
	a = w.invoke(t, "m/digits", "{}")
	if note(a, "binding") != `"guest/m"` || !strings.Contains(string(a.Response.Result), `"value":{"p":1}`) {
		t.Errorf("through a binding: %s", text(t, a))
	}
}

// TestCode says that code is imported once for all actions that are the same function.
func TestCode(t *testing.T) {
	w := open(t)
	zip := []byte("PK\x03\x04\x00")
	body := func(code, rest string) string { return `{"exec":{"kind":"python:3","code":"` + code + `"` + rest + `}` }
	w.put(t, whisk.Actions, "a", body("x", "}"))
	w.put(t, whisk.Actions, "b", body("x", "}"))
	w.put(t, whisk.Actions, "main", body("x", `,"main":"other"}`))
	w.put(t, whisk.Actions, "env", body("x", `},"parameters":[{"key":"E","value":"1","init":true}]`))
	w.put(t, whisk.Actions, "zip", body(base64.StdEncoding.EncodeToString(zip), "}"))
	models := make(map[string]string)
	for round := range 2 {
		for _, n := range []string{"a", "b", "main", "env", "zip"} {
			a := w.invoke(t, n, "{}")
			models[n] = w.last(t).Model
			if cold := note(a, "initTime") != ""; cold != (round == 0 && n != "b") {
				t.Errorf("%s, round %d: cold is %v", n, round, cold)
			}
		}
	}
	if models["a"] != models["b"] || models["a"] == models["main"] || models["a"] == models["env"] || models["main"] == models["env"] {
		t.Errorf("got %v", models)
	}
	imports := w.catalog.imports()
	if len(imports) != 4 || string(imports[3].Data) != string(zip) {
		t.Fatalf("imported %q", imports)
	}
	w.update(t, whisk.Actions, "a", body("y", "}"))
	w.invoke(t, "a", "{}")
	if now := w.last(t).Model; now == models["b"] || len(w.catalog.imports()) != 5 {
		t.Errorf("after the change of code it runs %s", now)
	}
	list, err := w.List(t.Context(), whisk.Guest, whisk.Actions, whisk.Name{Namespace: "whisk.system"}, whisk.Page{})
	if err != nil || len(list.Items) != 2 {
		t.Errorf("the models are %s, %v", text(t, list.Items), err)
	}
	_, err = w.Invoke(t.Context(), whisk.Guest, whisk.Name{Namespace: whisk.System, Package: "models", Entity: models["a"]}, whisk.Invocation{Blocking: true})
	refused(t, "code as a model", err, actions.NotFound, "does not exist")

	w.stop(t)
	w.start(t)
	w.invoke(t, "b", "{}")
	if w.last(t).Model != models["b"] || len(w.catalog.imports()) != 6 {
		t.Errorf("after a restart: %s, %d imports", w.last(t).Model, len(w.catalog.imports()))
	}
	w.catalog.fail = actions.Errorf(actions.Invalid, "code: it is nothing")
	w.python(t, "bad", "bad")
	for range 2 {
		a := w.invoke(t, "bad", "{}")
		if a.Response.Code != whisk.DeveloperError || string(a.Response.Result) != `{"error":"The action failed during initialization: code: it is nothing"}` {
			t.Errorf("code that is none: %s", text(t, a.Response))
		}
	}
	w.catalog.fail = nil
	if a := w.invoke(t, "bad", "{}"); a.Response.Code != whisk.Success {
		t.Errorf("a failed import is for ever: %s", text(t, a.Response))
	}
}

// TestCodeAtOnce imports code once, however many invoke it at first.
func TestCodeAtOnce(t *testing.T) {
	w := open(t)
	w.python(t, "a", hello)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() { w.invoke(t, "a", "{}") })
	}
	all.Wait()
	if n := len(w.catalog.imports()); n != 1 {
		t.Errorf("imported %d times", n)
	}
}

// TestWarm loads code before its first run, in a time limit of its own.
func TestWarm(t *testing.T) {
	var warmed []string
	start := func(context.Context, string) error { return nil }
	synctest.Test(t, func(t *testing.T) {
		w := open(t, func(c *controller.Config) {
			c.Warm = func(ctx context.Context, model string) error {
				warmed = append(warmed, model)
				return start(ctx, model)
			}
		})
		w.run = func(_ context.Context, in actions.Activation) (actions.Response, error) {
			time.Sleep(900 * time.Millisecond)
			resp, err := echo(in)
			resp.Timing.Run = 900 * time.Millisecond
			return resp, err
		}
		w.put(t, whisk.Actions, "a", `{"exec":{"kind":"python:3","code":"x"},"limits":{"timeout":1000}}`)
		printed := []actions.LogLine{{Stream: actions.Stderr, Text: "Traceback"}}
		for _, step := range []struct {
			what    string
			start   func(context.Context, string) error
			code    int
			want    string
			timeout string
			logs    int
		}{
			{"does not start", func(_ context.Context, model string) error {
				return &actions.Error{Code: actions.Unavailable, Msg: model + " could not be started: no", Logs: printed}
			}, whisk.DeveloperError, `{"error":"The action failed during initialization: /guest/a could not be started: no"}`, "false", 1},
			{"is wrong", func(context.Context, string) error { return actions.Errorf(actions.Invalid, "no") }, whisk.DeveloperError, `{"error":"The action failed during initialization: no"}`, "false", 0},
			{"takes too long", func(ctx context.Context, _ string) error {
				<-ctx.Done()
				return &actions.Error{Code: actions.Deadline, Msg: "late", Logs: printed}
			}, whisk.DeveloperError, `{"error":"The action exceeded its time limits of 1000 milliseconds during initialization."}`, "true", 1},
			{"takes too long and says what else", func(ctx context.Context, _ string) error {
				<-ctx.Done()
				return ctx.Err()
			}, whisk.DeveloperError, `{"error":"The action exceeded its time limits of 1000 milliseconds during initialization."}`, "true", 0},
			{"fails by our fault", func(context.Context, string) error { return actions.Errorf(actions.Internal, "oops") }, whisk.WhiskError, `{"error":"There was an internal error: activation `, "false", 0},
			{"starts", func(context.Context, string) error {
				time.Sleep(800 * time.Millisecond)
				return nil
			}, whisk.Success, `{"model":`, "false", 0},
			{"is warm", func(context.Context, string) error { panic("again") }, whisk.Success, `{"model":`, "false", 0},
		} {
			start = step.start
			a := w.recorded(t, w.invoke(t, "a", "{}").ID)
			if a.Response.Code != step.code || !strings.HasPrefix(string(a.Response.Result), step.want) || note(a, "timeout") != step.timeout || len(a.Logs) != step.logs {
				t.Errorf("%s: got %s", step.what, text(t, a))
			}
			if step.what == "starts" && (note(a, "initTime") != "800" || a.Duration != 1700) {
				t.Errorf("%s: got %s", step.what, text(t, a))
			}
		}
	})
	if len(warmed) != 6 || warmed[0] != warmed[5] {
		t.Errorf("warmed %v", warmed)
	}
}
