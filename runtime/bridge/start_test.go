package bridge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/bridge"
	"github.com/deepfn/deepfn/runtime/command"
	"github.com/deepfn/deepfn/runtime/worker"
)

func TestStart(t *testing.T) {
	two := spec(startTwo)
	two.Model = "cats"
	based := spec(startPlain, "BASE=/api")
	based.BasePath = "/api/"
	for name, s := range map[string]bridge.Spec{
		"plain": spec(startPlain), "slow": spec(startSlow), "without swagger": spec(startBare),
		"one of two": two, "base path": based,
	} {
		t.Run(name, func(t *testing.T) { works(t, start(t, s)) })
	}
}

func TestDescription(t *testing.T) {
	w := start(t, spec(startPlain))
	var got, want any
	if err := json.Unmarshal(w.Info(), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{
 "metadata": {"id":"1","name":"A cat","license":"MIT"},
 "predict": {"parameters": [
  {"name":"image","type":"file","required":true,"description":"A picture.","location":"form","schema":{"type":"string","format":"binary","description":"A picture."}},
  {"name":"more","type":"file","location":"form","schema":{"type":"string","format":"binary"}},
  {"name":"top","type":"integer","default":5,"schema":{"type":"integer","format":"int32","default":5,"minimum":1}},
  {"name":"tags","type":"array","schema":{"type":"array","items":{"type":"string"}}},
  {"name":"mode","type":"string","choices":["fast","good"],"location":"form","schema":{"type":"string","enum":["fast","good"]}},
  {"name":"X-Key","type":"string","location":"headers","schema":{"type":"string"}},
  {"name":"accept","type":"string","default":"application/json","choices":["application/json","image/png","*/*"],"location":"headers","schema":{"type":"string","enum":["application/json","image/png","*/*"],"default":"application/json"}}
 ]},
 "train": {"parameters": [{"name":"epochs","type":"integer","required":true,"schema":{"type":"integer"}}]}}`), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got %s", diff)
	}
	bare := start(t, spec(startBare))
	if got, want := string(bare.Info()), `{"metadata":{"id":"1","license":"MIT","name":"A cat"},"predict":{"parameters":[],"open":true},"train":{"parameters":[],"open":true}}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestStartFaults(t *testing.T) {
	wrong := spec(startPlain)
	wrong.Model = "dogs"
	absent := spec(startPlain)
	absent.Command = []string{"no-such-server"}
	_, taken := listen(t)
	conflict := spec(startPlain)
	conflict.Port = &taken
	patient := spec(startNever)
	patient.Ready = "200ms"
	alone := bridge.Spec{Port: &taken, Ready: "200ms"}
	for _, test := range []struct {
		name string
		spec bridge.Spec
		code actions.Code
		msg  string
		log  string
	}{
		{"exits", spec(startExit), actions.Failed, "the server ended before it was ready: exit status 3", "no weights here"},
		{"never answers", patient, actions.Deadline, "ready: 200ms are over", ""},
		{"nobody there", alone, actions.Deadline, "ready: 200ms are over", ""},
		{"garbage", spec(startGarbage), actions.Failed, "list of models is not one", ""},
		{"two models", spec(startTwo), actions.Invalid, `2 models, ["dogs" "cats"]; name one`, ""},
		{"no models", spec(startNone), actions.Invalid, "0 models", ""},
		{"another model", wrong, actions.NotFound, `no model "dogs" but ["cats"]`, ""},
		{"no program", absent, actions.NotFound, "there is no program no-such-server", ""},
		{"port taken", conflict, actions.Conflict, "cannot have its port", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := worker.Start(t.Context(), config(t, test.spec))
			e := wantError(t, err, test.code, test.msg)
			var log strings.Builder
			for _, l := range e.Logs {
				log.WriteString(l.Text)
			}
			if !strings.Contains(log.String(), test.log) {
				t.Errorf("got logs %q, want %q", log.String(), test.log)
			}
		})
	}
}

func TestStartIsBounded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := worker.Start(ctx, config(t, spec(startNever)))
	wantError(t, err, actions.Deadline, "")
}

// A server that runs already is used, and left alone.
func TestConnect(t *testing.T) {
	l, port := listen(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/models/{$}", list(startPlain))
	mux.HandleFunc("POST /v2/models/cats/predict/{$}", predict)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	w := start(t, bridge.Spec{Port: &port})
	works(t, w)
	_, err := w.Call(t.Context(), do("hangup"))
	wantError(t, err, actions.Unavailable, "hung up without an answer")
	_ = w.Close()
	works(t, start(t, bridge.Spec{Port: &port}))
}

// A variable of an /init that no program can have does not keep the others from theirs.
func TestEnvironmentOfInit(t *testing.T) {
	s := spec(startPlain)
	s.BasePath = "/api"
	cfg := config(t, s)
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	m := actions.Model{Spec: raw, Env: map[string]string{"A=B": "x", "BASE": "/api", "a b": "odd"}}
	if cfg.Setup, err = json.Marshal(command.NewSetup(m, 4<<20)); err != nil {
		t.Fatal(err)
	}
	w := startConfig(t, cfg)
	resp, err := w.Call(t.Context(), do("result"))
	if err != nil {
		t.Fatal(err)
	}
	if logs := fmt.Sprint(resp.Logs); !strings.Contains(logs, `a variable of the /init is left out: "A=B" cannot be`) || strings.Contains(logs, "a b") {
		t.Errorf("got logs %q", logs)
	}
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid(t, w))); err != nil || !strings.Contains(string(env), "\x00a b=odd\x00") {
		t.Errorf("got %q, %v", env, err)
	}
}

func TestParseSpec(t *testing.T) {
	for _, test := range []struct{ name, spec, msg string }{
		{"all", `{"command":["a","{port}"],"port":0,"host":"::1","base_path":"/a/b","model":"m","ready":"1m","watchdog":"1s","env":{"A":"b"},"working_dir":"c"}`, ""},
		{"connect", `{"port":5001}`, ""},
		{"empty", `{}`, ""},
		{"nothing", ``, "section is missing"},
		{"unknown", `{"url":"x"}`, `unknown key "url"`},
		{"more", `{} 1`, "behind the section's end"},
		{"no name", `{"command":[""]}`, "name is missing"},
		{"zero byte", `{"command":["a\u0000"]}`, "zero byte"},
		{"port", `{"port":70000}`, "port"},
		{"negative port", `{"port":-1}`, "port"},
		{"chosen without a command", `{"port":0}`, "without a command"},
		{"chosen without a place", `{"command":["a"],"port":0}`, "{port}"},
		{"host", `{"host":"a/b"}`, "host"},
		{"base path", `{"base_path":"/a?b"}`, "base_path"},
		{"model", `{"model":".."}`, "model"},
		{"ready", `{"ready":"soon"}`, "ready"},
		{"watchdog", `{"watchdog":"-1s"}`, "watchdog"},
		{"env", `{"env":{"":"x"}}`, "env"},
		{"working folder", `{"working_dir":"../x"}`, "working_dir"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := bridge.ParseSpec(json.RawMessage(test.spec))
			if test.msg == "" && err == nil {
				return
			}
			if test.msg == "" || actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), test.msg) {
				t.Errorf("got %v, want %q", err, test.msg)
			}
		})
	}
	if err := bridge.Check(actions.Model{Spec: []byte(`{"working_dir":"x"}`)}); actions.CodeOf(err) != actions.Invalid {
		t.Errorf("a folder of no folder: got %v", err)
	}
	if err := bridge.Check(actions.Model{Dir: "/x", Spec: []byte(`{"working_dir":"x"}`)}); err != nil {
		t.Error(err)
	}
}

// TestDEEPaaS asks the published server of DEEPaaS for its dummy model.
func TestDEEPaaS(t *testing.T) {
	python := os.Getenv("DEEPFN_TEST_PYTHON_DEEPAAS")
	if python == "" {
		t.Fatal("there is no interpreter for this test; run make test")
	}
	w := start(t, bridge.Spec{
		Command: []string{filepath.Join(filepath.Dir(python), "deepaas-run"), "--listen-ip", "127.0.0.1", "--listen-port", "{port}"},
		Model:   "deepaas-test",
	})
	var d actions.Description
	if err := json.Unmarshal(w.Info(), &d); err != nil || d.Predict == nil || len(d.Predict.Parameters) != 4 || d.Train == nil {
		t.Fatalf("got %s, %v", w.Info(), err)
	}
	// As OpenWhisk has it: all in one JSON object.
	resp, err := w.Call(t.Context(), actions.Request{Args: []byte(`{"data":"AAEC","parameter":3,"parameter_three":"foo"}`)})
	if err != nil || !resp.Whole || !strings.Contains(string(resp.Data), `"labels": [{"label": "foo"`) {
		t.Fatalf("got %.300s whole %v, %v", resp.Data, resp.Whole, err)
	}
	// As a form has it, with a media type.
	resp, err = w.Call(t.Context(), actions.Request{
		Texts:  []actions.Text{{Origin: actions.FromForm, Name: "parameter", Value: "3"}},
		Files:  []actions.File{{Name: "data", Filename: "a.png", Data: []byte("x")}},
		Accept: "text/html, image/*;q=0.8, */*;q=0.1",
	})
	if err != nil || resp.ContentType != "image/png" || !strings.HasPrefix(string(resp.Data), "\x89PNG") {
		t.Fatalf("got %s %.20q, %v", resp.ContentType, resp.Data, err)
	}
	_, err = w.Call(t.Context(), actions.Request{Args: []byte(`{"data":"AAEC","parameter":"three"}`)})
	e := wantError(t, err, actions.Invalid, "refused the arguments")
	if diff := cmp.Diff(map[string][]string{"parameter": {"Not a valid integer."}}, e.Fields); diff != "" || e.Status != 422 {
		t.Errorf("status %d, %s", e.Status, diff)
	}
	resp, err = w.Call(t.Context(), actions.Request{Verb: actions.Train, Args: []byte(`{"sleep":0}`)})
	if err != nil || string(resp.Data) != "null" {
		t.Fatalf("train: got %s, %v", resp.Data, err)
	}
}
