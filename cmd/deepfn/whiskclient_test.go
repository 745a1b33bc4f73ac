//nolint:bodyclose // openwhisk-client-go has read the bodies, and has put texts in their place
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	client "github.com/apache/openwhisk-client-go/whisk"

	"github.com/deepfn/deepfn/actions/whisk"
)

// newClient makes a client of openwhisk-client-go. A service changes the namespace of its
// client for good, so there is one for each.
func newClient(t *testing.T, p *process) *client.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.NewClient(&http.Client{Transport: transport, Timeout: 2 * time.Minute}, &client.Config{
		Host: p.base, AuthToken: whisk.GuestAuth, Namespace: "_", Version: "v1", UserAgent: "deepfn-test",
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A clientSession drives a server with the library that wsk and deploying use.
type clientSession struct {
	t *testing.T
	p *process
	*client.Client
}

// did wants a status and no error.
func (s *clientSession) did(what string, resp *http.Response, err error, status int) {
	s.t.Helper()
	if err != nil || resp == nil || resp.StatusCode != status {
		s.t.Fatalf("%s: got %+v, %v, want %d", what, resp, err, status)
	}
}

// refused wants a status and an error.
func (s *clientSession) refused(what string, resp *http.Response, err error, status int) {
	s.t.Helper()
	if err == nil || resp == nil || resp.StatusCode != status {
		s.t.Fatalf("%s: got %+v, %v, want %d and an error", what, resp, err, status)
	}
}

func code(text string) *client.Exec { return &client.Exec{Kind: "python:3", Code: &text} }

// member returns a text of a result.
func member(result any, name string) string {
	doc, _ := result.(map[string]any)
	text, _ := doc[name].(string)
	return text
}

// openwhisk-client-go makes, changes, runs and removes all that there is.
func TestWhiskClientGo(t *testing.T) {
	p := serveWhisk(t)
	for name, do := range map[string]func(*clientSession){
		"actions": clientActions, "sequences": clientSequences, "packages": clientPackages, "rules": clientRules, "info": clientInfo,
	} {
		t.Run(name, func(t *testing.T) { do(&clientSession{t: t, p: p, Client: newClient(t, p)}) })
	}
}

func clientActions(s *clientSession) {
	action := &client.Action{Name: "greet", Exec: code(helloSource)}
	made, resp, err := s.Actions.Insert(action, false)
	s.did("insert", resp, err, 200)
	if made.Name != "greet" || made.Namespace != "guest" || made.Version != "0.0.1" || made.Exec.Kind != "python:3" {
		s.t.Errorf("insert: got %+v", made)
	}
	_, resp, err = s.Actions.Insert(action, false)
	s.refused("insert again", resp, err, 409)
	timeout := 30000
	changed, resp, err := s.Actions.Insert(&client.Action{Name: "greet", Limits: &client.Limits{Timeout: &timeout}}, true)
	s.did("update", resp, err, 200)
	if changed.Version != "0.0.2" || *changed.Limits.Timeout != timeout || changed.Exec.Kind != "python:3" {
		s.t.Errorf("update: got %+v", changed)
	}
	got, resp, err := s.Actions.Get("greet", true)
	s.did("get", resp, err, 200)
	if got.Exec.Code == nil || *got.Exec.Code != helloSource {
		s.t.Errorf("get: got %+v", got.Exec)
	}
	list, resp, err := s.Actions.List("", &client.ActionListOptions{Limit: 10})
	s.did("list", resp, err, 200)
	if len(list) == 0 || list[0].Exec.Binary == nil {
		s.t.Errorf("list: got %+v", list)
	}
	result, resp, err := s.Actions.Invoke("greet", map[string]any{"name": "Ada"}, true, true)
	s.did("invoke", resp, err, 200)
	if fmt.Sprint(result) != "map[greeting:hello Ada]" {
		s.t.Errorf("invoke: got %v", result)
	}
	clientRecord(s)
	_, resp, err = s.Actions.Insert(&client.Action{Name: "bad", Exec: code("def main(args):\n    return {'error': 'it is bad'}\n")}, false)
	s.did("insert", resp, err, 200)
	result, resp, err = s.Actions.Invoke("bad", map[string]any{}, true, true)
	s.refused("application error", resp, err, 502)
	if fmt.Sprint(result) != "map[error:it is bad]" || !strings.Contains(err.Error(), "it is bad") {
		s.t.Errorf("application error: got %v, %v", result, err)
	}
	_, resp, err = s.Actions.Invoke("none", map[string]any{}, true, true)
	s.refused("no action", resp, err, 404)
	resp, err = s.Actions.Delete("greet")
	s.did("delete", resp, err, 200)
	_, resp, err = s.Actions.Get("greet", false)
	s.refused("get", resp, err, 404)
}

// clientRecord reads the record of an activation, with a client that is spoiled by that.
func clientRecord(s *clientSession) {
	s.t.Helper()
	result, resp, err := s.Actions.Invoke("greet", map[string]any{"name": "record"}, false, false)
	s.did("invoke", resp, err, 202)
	id := member(result, "activationId")
	if len(id) != 32 || resp.Header.Get("X-Openwhisk-Activation-Id") != id {
		s.t.Fatalf("invoke: got %v %v", result, resp.Header)
	}
	records := newClient(s.t, s.p)
	eventually(s.t, "recorded", func() bool {
		_, resp, _ := records.Activations.Get(id)
		return resp != nil && resp.StatusCode == 200
	})
	a, resp, err := records.Activations.Get(id)
	s.did("activation", resp, err, 200)
	if a.ActivationID != id || a.Name != "greet" || !a.Success || a.Annotations.GetValue("kind") != "python:3" {
		s.t.Errorf("activation: got %+v", a)
	}
	logs, resp, err := records.Activations.Logs(id)
	s.did("logs", resp, err, 200)
	if len(logs.Logs) != 1 || !strings.HasSuffix(logs.Logs[0], "stdout: log of hello") {
		s.t.Errorf("logs: got %q", logs.Logs)
	}
	answer, resp, err := records.Activations.Result(id)
	s.did("result", resp, err, 200)
	if fmt.Sprint(answer.Result) != "map[greeting:hello record]" || !answer.Success {
		s.t.Errorf("result: got %+v", answer)
	}
	list, resp, err := records.Activations.List(&client.ActivationListOptions{Name: "greet", Limit: 5, Docs: true})
	s.did("list", resp, err, 200)
	if len(list) != 2 || list[0].ActivationID != id {
		s.t.Errorf("list: got %+v", list)
	}
}

func clientSequences(s *clientSession) {
	_, resp, err := s.Actions.Insert(&client.Action{Name: "one", Exec: code("def main(args):\n    return {'n': args['n'] + 1}\n")}, false)
	s.did("insert", resp, err, 200)
	seq, resp, err := s.Actions.Insert(&client.Action{Name: "seq", Exec: &client.Exec{Kind: "sequence", Components: []string{"/_/one", "/_/one"}}}, false)
	s.did("insert", resp, err, 200)
	if fmt.Sprint(seq.Exec.Components) != "[/guest/one /guest/one]" {
		s.t.Errorf("insert: got %v", seq.Exec.Components)
	}
	result, resp, err := s.Actions.Invoke("seq", map[string]any{"n": 1}, true, true)
	s.did("invoke", resp, err, 200)
	if fmt.Sprint(result) != "map[n:3]" {
		s.t.Errorf("invoke: got %v", result)
	}
	_, resp, err = s.Actions.Insert(&client.Action{Name: "hole", Exec: &client.Exec{Kind: "sequence", Components: []string{"/_/none"}}}, false)
	s.refused("a component that is not there", resp, err, 400)
	model, resp, err := s.Actions.Insert(&client.Action{Name: "reader", Exec: &client.Exec{Kind: "blackbox", Image: "deepfn/ocr-line"}}, false)
	s.did("insert", resp, err, 200)
	if model.Exec.Image != "deepfn/ocr-line" {
		s.t.Errorf("insert: got %+v", model.Exec)
	}
	image := base64.StdEncoding.EncodeToString(linePNG(s.t, "Client go 2026"))
	result, resp, err = s.Actions.Invoke("reader", map[string]any{"image": image}, true, true)
	s.did("invoke", resp, err, 200)
	if member(result, "text") != "Client go 2026" {
		s.t.Errorf("invoke: got %v", result)
	}
}

func clientPackages(s *clientSession) {
	yes := true
	pkg := &client.Package{Name: "tools", Publish: &yes, Parameters: client.KeyValueArr{{Key: "name", Value: "tools"}}}
	made, resp, err := s.Packages.Insert(pkg, false)
	s.did("insert", resp, err, 200)
	if made.GetName() != "tools" {
		s.t.Errorf("insert: got %+v", made)
	}
	_, resp, err = s.Actions.Insert(&client.Action{Name: "tools/greet", Exec: code(helloSource)}, false)
	s.did("insert", resp, err, 200)
	bound := &client.BindingPackage{Name: "bound", Binding: client.Binding{Namespace: "guest", Name: "tools"}}
	_, resp, err = s.Packages.Insert(bound, false)
	s.did("bind", resp, err, 200)
	result, resp, err := s.Actions.Invoke("bound/greet", map[string]any{}, true, true)
	s.did("invoke", resp, err, 200)
	if fmt.Sprint(result) != "map[greeting:hello tools]" {
		s.t.Errorf("invoke: got %v", result)
	}
	got, resp, err := s.Packages.Get("tools")
	s.did("get", resp, err, 200)
	if len(got.Actions) != 1 || got.Actions[0].Name != "greet" {
		s.t.Errorf("get: got %+v", got)
	}
	list, resp, err := s.Packages.List(&client.PackageListOptions{Limit: 200})
	s.did("list", resp, err, 200)
	if len(list) != 2 {
		s.t.Errorf("list: got %+v", list)
	}
	resp, err = s.Packages.Delete("tools")
	s.refused("delete", resp, err, 409)
	resp, err = s.Actions.Delete("tools/greet")
	s.did("delete", resp, err, 200)
	resp, err = s.Packages.Delete("tools")
	s.did("delete", resp, err, 200)
}

func clientRules(s *clientSession) {
	_, resp, err := s.Actions.Insert(&client.Action{Name: "ruled", Exec: code(helloSource)}, false)
	s.did("insert", resp, err, 200)
	_, resp, err = s.Triggers.Insert(&client.Trigger{Name: "bell"}, false)
	s.did("trigger", resp, err, 200)
	_, resp, err = s.Triggers.Fire("bell", map[string]any{})
	s.did("no rule", resp, err, 204)
	rule, resp, err := s.Rules.Insert(&client.Rule{Name: "ring", Trigger: "/_/bell", Action: "/_/ruled"}, false)
	s.did("rule", resp, err, 200)
	if rule.Status != "active" {
		s.t.Errorf("rule: got %+v", rule)
	}
	fired, resp, err := s.Triggers.Fire("bell", map[string]any{"name": "bell"})
	s.did("fire", resp, err, 202)
	if len(fired.ActivationId) != 32 {
		s.t.Errorf("fire: got %+v", fired)
	}
	_, resp, err = s.Rules.SetState("ring", "inactive")
	s.did("disable", resp, err, 200)
	rule, resp, err = s.Rules.Get("ring")
	s.did("get", resp, err, 200)
	if rule.Status != "inactive" {
		s.t.Errorf("get: got %+v", rule)
	}
	_, resp, err = s.Triggers.Fire("bell", map[string]any{})
	s.did("no active rule", resp, err, 204)
	rules, resp, err := s.Rules.List(&client.RuleListOptions{Limit: 10})
	s.did("list", resp, err, 200)
	triggers, _, err := s.Triggers.List(&client.TriggerListOptions{Limit: 10})
	if err != nil || len(rules) != 1 || len(triggers) != 1 {
		s.t.Errorf("list: got %+v, %+v, %v", rules, triggers, err)
	}
	resp, err = s.Rules.Delete("ring")
	s.did("delete", resp, err, 200)
	_, resp, err = s.Triggers.Delete("bell")
	s.did("delete", resp, err, 200)
}

func clientInfo(s *clientSession) {
	namespaces, resp, err := newClient(s.t, s.p).Namespaces.List()
	s.did("namespaces", resp, err, 200)
	if len(namespaces) != 1 || namespaces[0].Name != "guest" {
		s.t.Errorf("namespaces: got %+v", namespaces)
	}
	var doc struct {
		Runtimes map[string][]struct {
			Kind    string
			Default bool
		}
		Versions []any
	}
	if err := json.Unmarshal([]byte(s.p.mustGet("/").body), &doc); err != nil || len(doc.Runtimes["python"]) == 0 || len(doc.Versions) != 1 {
		s.t.Errorf("GET /: got %+v, %v", doc, err)
	}
}
