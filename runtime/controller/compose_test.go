package controller_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
)

// sequence makes a sequence.
func (w *world) sequence(t *testing.T, n string, components ...string) {
	t.Helper()
	w.update(t, whisk.Actions, n, `{"exec":{"kind":"sequence","components":`+text(t, components)+`}}`)
}

// steps answers as the argument asks: the action adds its name to "path", and does what the
// member with its name says.
func (w *world) steps(_ context.Context, in actions.Activation) (actions.Response, error) {
	action := word(in, "__OW_ACTION_NAME")
	action = action[strings.LastIndexByte(action, '/')+1:]
	if in.Value[0] == '[' {
		return actions.Response{Data: []byte(`{"list":` + string(in.Value) + `}`)}, nil
	}
	var args map[string]any
	if err := json.Unmarshal(in.Value, &args); err != nil {
		return actions.Response{}, err
	}
	was, _ := args["path"].(string)
	args["path"] = was + action
	time.Sleep(100 * time.Millisecond)
	switch args[action] {
	case "error":
		return actions.Response{Data: []byte(`{"error": "wrong", "path": 1}`)}, nil
	case "exit":
		return actions.Response{}, actions.Errorf(actions.Exited, "command exited")
	case "list":
		return actions.Response{Data: []byte(`[1, 2]`)}, nil
	}
	data, err := json.Marshal(args)
	return actions.Response{Data: data, Timing: actions.Timing{Run: 100 * time.Millisecond}}, err
}

// TestSequence runs a sequence and looks at all that is recorded.
func TestSequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		w.run = w.steps
		w.put(t, whisk.Packages, "pkg", `{"parameters":[{"key":"p","value":1}]}`)
		w.put(t, whisk.Packages, "bnd", `{"binding":{"namespace":"_","name":"pkg"}}`)
		w.put(t, whisk.Actions, "pkg/a", `{"exec":{"kind":"python:3","code":"a"},"limits":{"memory":512}}`)
		w.python(t, "b", "b")
		w.sequence(t, "inner", "/_/b", "guest/b")
		w.sequence(t, "s", "/_/bnd/a", "/_/inner", "/_/b")
		got := w.entity(t, whisk.Actions, "s")
		if !strings.Contains(got, `"exec":{"kind":"sequence","binary":false,"components":["/guest/bnd/a","/guest/inner","/guest/b"]},"parameters":[{"key":"_actions","value":["/guest/bnd/a","/guest/inner","/guest/b"]}]`) {
			t.Errorf("the document is %s", got)
		}
		began := time.Now().UnixMilli()
		a := w.invoke(t, "s", `{"x":1}`)
		if want := `{"p":1,"path":"abbb","x":1}`; a.Response.Code != whisk.Success || string(a.Response.Result) != want {
			t.Errorf("got %s, want %s", text(t, a.Response), want)
		}
		if a.Start != began || a.End != began+400 || a.Duration != 400 || len(a.Logs) != 3 {
			t.Errorf("got %s", text(t, a))
		}
		for key, want := range map[string]string{
			"path": `"guest/s"`, "kind": `"sequence"`, "topmost": "true", "causedBy": "", "limits": `{"timeout":60000,"memory":512,"logs":10,"concurrency":1}`,
		} {
			if note(a, key) != want {
				t.Errorf("%s is %s, want %s", key, note(a, key), want)
			}
		}
		if got := w.recorded(t, a.ID); text(t, got) != text(t, a) {
			t.Errorf("recorded %s", text(t, got))
		}
		var parts []whisk.Activation
		for _, id := range a.Logs {
			parts = append(parts, w.recorded(t, id))
		}
		for i, want := range []string{"guest/pkg/a python:3 ", "guest/inner sequence false", "guest/b python:3 "} {
			p := parts[i]
			got := strings.Trim(note(p, "path"), `"`) + " " + strings.Trim(note(p, "kind"), `"`) + " " + note(p, "topmost")
			if got != want || p.Cause != a.ID || note(p, "causedBy") != `"sequence"` {
				t.Errorf("component %d: %s, want %s", i, text(t, p), want)
			}
		}
		if note(parts[0], "binding") != `"guest/bnd"` || len(parts[1].Logs) != 2 || parts[1].Duration != 200 {
			t.Errorf("components: %s", text(t, parts))
		}
		inner := w.recorded(t, parts[1].Logs[0])
		if inner.Cause != parts[1].ID || note(inner, "path") != `"guest/b"` {
			t.Errorf("within the inner one: %s", text(t, inner))
		}
		if got := w.update(t, whisk.Actions, "s", `{"exec":{"kind":"python:3","code":"x"}}`); !strings.Contains(got, `"parameters":[]`) {
			t.Errorf("a sequence no more: %s", got)
		}
	})
}

// TestSequenceStops says how a sequence ends before its end.
func TestSequenceStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, func(c *controller.Config) { c.MaxPayload = 1000 })
		w.run = w.steps
		for _, n := range []string{"a", "b", "c", "gone"} {
			w.python(t, n, n)
		}
		w.sequence(t, "s", "/_/a", "/_/b", "/_/c")
		w.sequence(t, "outer", "/_/s", "/_/c")
		w.sequence(t, "hole", "/_/a", "/_/gone", "/_/c")
		if _, err := w.Delete(t.Context(), whisk.Guest, whisk.Actions, name(t, "gone"), false); err != nil {
			t.Fatal(err)
		}
		for what, test := range map[string]struct {
			name, args string
			code, logs int
			want       string
		}{
			"error":          {"s", `{"b":"error"}`, whisk.ApplicationError, 2, `{"error":"wrong"}`},
			"error first":    {"s", `{"a":"error"}`, whisk.ApplicationError, 1, `{"error":"wrong"}`},
			"error in it":    {"outer", `{"b":"error"}`, whisk.ApplicationError, 1, `{"error":"wrong"}`},
			"exit":           {"s", `{"b":"exit"}`, whisk.DeveloperError, 2, `{"error":"command exited"}`},
			"error given":    {"s", `{"error":"x"}`, whisk.ApplicationError, 1, `{"error":"x"}`},
			"list":           {"s", `{"b":"list"}`, whisk.Success, 3, `{"list":[1, 2]}`},
			"hole":           {"hole", `{}`, whisk.ApplicationError, 1, `{"error":"Sequence component does not exist."}`},
			"long":           {"s", `{"x":"` + strings.Repeat("x", 982) + `"}`, whisk.ApplicationError, 1, `{"error":"The action produced a response that exceeded the allowed length: 1001 > 1000 bytes."}`},
			"no argument":    {"s", ``, whisk.Success, 3, `{"path":"abc"}`},
			"last one fails": {"s", `{"c":"exit"}`, whisk.DeveloperError, 3, `{"error":"command exited"}`},
		} {
			a := w.invoke(t, test.name, test.args)
			if a.Response.Code != test.code || len(a.Logs) != test.logs || string(a.Response.Result) != test.want {
				t.Errorf("%s: got %s", what, text(t, a))
			}
		}
	})
}

// TestSequenceBusy waits within a sequence, because some of it has run.
func TestSequenceBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		w.python(t, "a", "a")
		w.sequence(t, "s", "/_/a", "/_/a")
		calls := 0
		w.queue = func(context.Context) error {
			if calls++; calls > 1 && calls < 10 {
				return actions.Errorf(actions.Busy, "full")
			}
			return nil
		}
		if a := w.invoke(t, "s", "{}"); a.Response.Code != whisk.Success || calls != 10 {
			t.Errorf("after %d calls: %s", calls, text(t, a))
		}
	})
}

// TestSequenceRefused is what cannot be a sequence.
func TestSequenceRefused(t *testing.T) {
	w := open(t)
	w.put(t, whisk.Packages, "pkg", `{}`)
	w.put(t, whisk.Packages, "bnd", `{"binding":{"namespace":"_","name":"pkg"}}`)
	w.python(t, "a", "a")
	w.python(t, "pkg/p", "a")
	ten := strings.Split(strings.Repeat("/_/a ", 10), " ")[:10]
	w.sequence(t, "ten", ten...)
	w.sequence(t, "loop", "/_/ten")
	w.sequence(t, "models", "/whisk.system/models/digits")
	list := func(n int, component string) string {
		return text(t, strings.Split(strings.Repeat(component+" ", n), " ")[:n])
	}
	for what, test := range map[string]struct {
		name, components string
		code             actions.Code
		says             string
	}{
		"itself":          {"x", `["/_/a","/_/x"]`, actions.Invalid, "Sequence may not refer to itself."},
		"itself in one":   {"a", `["/_/loop"]`, actions.Invalid, "Sequence may not refer to itself."},
		"itself, bound":   {"pkg/p", `["/_/bnd/p"]`, actions.Invalid, "Sequence may not refer to itself."},
		"absent":          {"x", `["/_/none"]`, actions.Invalid, "Sequence component does not exist."},
		"no package":      {"x", `["/_/none/a"]`, actions.Invalid, "Sequence component does not exist."},
		"a package":       {"x", `["/_/pkg"]`, actions.Invalid, "Sequence component does not exist."},
		"no model":        {"x", `["/whisk.system/models/none"]`, actions.Invalid, "Sequence component does not exist."},
		"another's":       {"x", `["/other/a"]`, actions.Forbidden, "not authorized"},
		"51":              {"x", list(51, "/_/a"), actions.Invalid, "Too many actions in the sequence."},
		"6 of 10":         {"x", list(6, "/_/ten"), actions.Invalid, "Too many actions in the sequence."},
		"no name":         {"x", `["a"]`, actions.Invalid, "must contain at least the namespace"},
		"too many parts":  {"x", `["/_/a/b/c"]`, actions.Invalid, "is not the name of an entity"},
		"an illegal name": {"x", `["/_/a*"]`, actions.Invalid, "cannot be a name"},
		"names are texts": {"x", `[1]`, actions.Invalid, "malformed"},
	} {
		_, err := w.Put(t.Context(), whisk.Guest, whisk.Actions, name(t, test.name), json.RawMessage(`{"exec":{"kind":"sequence","components":`+test.components+`}}`), true)
		refused(t, what, err, test.code, test.says)
	}
	w.sequence(t, "fifty", strings.Fields(strings.Repeat("/_/ten ", 5))...)
	if a := w.invoke(t, "fifty", "{}"); a.Response.Code != whisk.Success || len(w.ran) != 50 {
		t.Errorf("50: %d ran: %s", len(w.ran), text(t, a.Response))
	}
}

// TestSequenceOfBindings is a loop that a package made after the sequences has closed.
func TestSequenceOfBindings(t *testing.T) {
	w := open(t)
	w.put(t, whisk.Packages, "one", `{}`)
	w.put(t, whisk.Packages, "two", `{}`)
	w.put(t, whisk.Packages, "b", `{"binding":{"namespace":"_","name":"one"}}`)
	w.python(t, "one/s", "a")
	w.sequence(t, "two/s", "/_/b/s")
	w.update(t, whisk.Packages, "b", `{"binding":{"namespace":"_","name":"two"}}`)
	a := w.invoke(t, "two/s", "{}")
	if a.Response.Code != whisk.ApplicationError || !strings.Contains(string(a.Response.Result), "Too many actions in the sequence.") {
		t.Errorf("got %s", text(t, a.Response))
	}
	_, err := w.Put(t.Context(), whisk.Guest, whisk.Actions, name(t, "x"), json.RawMessage(`{"exec":{"kind":"sequence","components":["/_/two/s"]}}`), true)
	refused(t, "a sequence of it", err, actions.Invalid, "Too many actions in the sequence.")
}

// TestRules takes rules through their lives.
func TestRules(t *testing.T) {
	w := open(t)
	w.put(t, whisk.Packages, "pkg", `{}`)
	w.put(t, whisk.Actions, "pkg/a", `{"exec":{"kind":"deepfn:digits"}}`)
	w.put(t, whisk.Actions, "hello", `{"exec":{"kind":"deepfn:digits"}}`)
	w.put(t, whisk.Triggers, "t1", `{"name":"t1","annotations":[{"key":"feed","value":"/whisk.system/alarms/alarm"}],"parameters":[{"key":"x","value":1}]}`)
	w.put(t, whisk.Triggers, "t2", `{}`)
	rule := func(version, status, path, action, trigger string) string {
		if status != "" {
			status = `"status":"` + status + `",`
		}
		return fmt.Sprintf(`{"namespace":"guest","name":"r1","version":%q,"publish":false,%s"trigger":{"path":"guest","name":%q},"action":{"path":%q,"name":%q},"annotations":[],"updated":1}`,
			version, status, trigger, path, action)
	}
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s:\n%s, want\n%s", what, got, want)
		}
	}
	expect("made", w.put(t, whisk.Rules, "r1", `{"name":"r1","status":"","trigger":"/_/t1","action":"/_/hello"}`), rule("0.0.1", "active", "guest", "hello", "t1"))
	expect("got", w.entity(t, whisk.Rules, "r1"), rule("0.0.1", "active", "guest", "hello", "t1"))
	if got := w.entity(t, whisk.Triggers, "t1"); !strings.Contains(got, `"rules":{"guest/r1":{"action":{"path":"guest","name":"hello"},"status":"active"}}`) {
		t.Errorf("the trigger is %s", got)
	}
	list, err := w.List(t.Context(), whisk.Guest, whisk.Rules, whisk.Name{Namespace: "_"}, whisk.Page{})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("listed %s, %v", text(t, list.Items), err)
	}
	expect("listed", text(t, list.Items[0]), rule("0.0.1", "", "guest", "hello", "t1"))
	set := func(n, status string) error { return w.SetRule(t.Context(), whisk.Guest, name(t, n), status) }
	for _, status := range []string{whisk.Active, whisk.Inactive, whisk.Inactive} {
		if err := set("r1", status); err != nil {
			t.Error(err)
		}
	}
	expect("disabled", w.entity(t, whisk.Rules, "r1"), rule("0.0.1", "inactive", "guest", "hello", "t1"))
	expect("changed", w.update(t, whisk.Rules, "r1", `{"action":{"path":"guest/pkg","name":"a"}}`), rule("0.0.2", "inactive", "guest/pkg", "a", "t1"))
	if err := set("r1", whisk.Active); err != nil {
		t.Error(err)
	}
	expect("moved", w.update(t, whisk.Rules, "r1", `{"trigger":"/guest/t2"}`), rule("0.0.3", "active", "guest/pkg", "a", "t2"))
	if got := w.entity(t, whisk.Triggers, "t1"); strings.Contains(got, "rules") {
		t.Errorf("the old trigger is %s", got)
	}
	if _, err := w.Delete(t.Context(), whisk.Guest, whisk.Triggers, name(t, "t2"), false); err != nil {
		t.Error(err)
	}
	expect("without its trigger", w.entity(t, whisk.Rules, "r1"), rule("0.0.3", "inactive", "guest/pkg", "a", "t2"))
	if err := set("r1", whisk.Inactive); err != nil {
		t.Error(err)
	}
	refused(t, "enable", set("r1", whisk.Active), actions.NotFound, "Only rules with existing triggers can be activated")
	w.put(t, whisk.Triggers, "t2", `{}`)
	expect("with another of its name", w.entity(t, whisk.Rules, "r1"), rule("0.0.3", "inactive", "guest/pkg", "a", "t2"))
	if err := set("r1", whisk.Active); err != nil {
		t.Error(err)
	}
	expect("enabled", w.entity(t, whisk.Rules, "r1"), rule("0.0.3", "active", "guest/pkg", "a", "t2"))
	doc, err := w.Delete(t.Context(), whisk.Guest, whisk.Rules, name(t, "r1"), false)
	if err != nil {
		t.Fatal(err)
	}
	expect("deleted", text(t, doc), rule("0.0.3", "inactive", "guest/pkg", "a", "t2"))
	if got := w.entity(t, whisk.Triggers, "t2"); strings.Contains(got, "rules") {
		t.Errorf("its trigger is %s", got)
	}
	refused(t, "no rule", set("r1", whisk.Inactive), actions.NotFound, "The requested resource does not exist.")
	refused(t, "no state", set("r1", "on"), actions.Invalid, "'on' is not a recognized rule state")
	refused(t, "another's", set("/other/r1", whisk.Active), actions.Forbidden, "not authorized")
	refused(t, "in a package", set("pkg/r1", whisk.Active), actions.NotFound, "does not exist")
	refused(t, "a trigger", set("t1", whisk.Active), actions.Conflict, "not in this collection")
	w.put(t, whisk.Rules, "model", `{"trigger":"/_/t1","action":"/whisk.system/models/digits"}`)
}

// TestFire fires a trigger with rules of every kind.
func TestFire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		for _, n := range []string{"a", "b", "gone"} {
			w.put(t, whisk.Actions, n, `{"exec":{"kind":"deepfn:digits"},"parameters":[{"key":"n","value":"`+n+`"}]}`)
		}
		w.put(t, whisk.Triggers, "t", `{"parameters":[{"key":"x","value":1},{"key":"y","value":1}]}`)
		fire := func(args string) string {
			t.Helper()
			id, err := w.Fire(t.Context(), whisk.Guest, name(t, "t"), json.RawMessage(args))
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		if id := fire("{}"); id != "" {
			t.Errorf("without a rule: %s", id)
		}
		for rule, action := range map[string]string{"r1": "a", "r2": "b", "r3": "gone", "r4": "b"} {
			w.put(t, whisk.Rules, rule, `{"trigger":"/_/t","action":"/_/`+action+`"}`)
		}
		if err := w.SetRule(t.Context(), whisk.Guest, name(t, "r4"), whisk.Inactive); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Delete(t.Context(), whisk.Guest, whisk.Actions, name(t, "gone"), false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		asked := time.Now().UnixMilli()
		id := fire(`{"y":2,"__ow_headers":{"h":"<1>"}}`)
		trigger := w.recorded(t, id)
		if trigger.Name != "t" || trigger.Start != asked || string(trigger.Response.Result) != `{"y":2}` || len(trigger.Logs) != 4 || len(trigger.Annotations) != 0 {
			t.Fatalf("the trigger's: %s", text(t, trigger))
		}
		list, err := w.Activations(t.Context(), whisk.Guest, whisk.ActivationQuery{Name: "t"})
		want := fmt.Sprintf(`{"namespace":"guest","name":"t","version":"0.0.1","publish":false,"annotations":[],"activationId":"%s","start":%d}`, id, asked)
		if err != nil || len(list.Items) != 1 || text(t, list.Items[0]) != want {
			t.Errorf("listed %s, %v, want %s", text(t, list.Items), err, want)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		for i, action := range []string{"a", "b"} {
			var line struct{ ActivationID string }
			if err := json.Unmarshal([]byte(trigger.Logs[i]), &line); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf(`{"statusCode":0,"success":true,"activationId":"%s","rule":"guest/r%d","action":"guest/%s"}`, line.ActivationID, i+1, action); trigger.Logs[i] != want {
				t.Errorf("got %s, want %s", trigger.Logs[i], want)
			}
			a := w.recorded(t, line.ActivationID)
			if a.Cause != id || note(a, "causedBy") != "" || !strings.Contains(string(a.Response.Result), `"value":{"__ow_headers":{"h":"<1>"},"n":"`+action+`","x":1,"y":2}`) {
				t.Errorf("%s: %s", action, text(t, a))
			}
		}
		for i, want := range map[int]string{
			2: `{"statusCode":1,"success":false,"error":"The requested resource does not exist.","rule":"guest/r3","action":"guest/gone"}`,
			3: `{"statusCode":1,"success":false,"error":"Rule 'guest/r4' is inactive, action 'guest/b' was not activated.","rule":"guest/r4","action":"guest/b"}`,
		} {
			if trigger.Logs[i] != want {
				t.Errorf("got %s, want %s", trigger.Logs[i], want)
			}
		}
		if id := fire(""); id == "" || string(w.recorded(t, id).Response.Result) != "{}" {
			t.Errorf("without arguments: %s", id)
		}
		for rule := range 4 {
			if err := w.SetRule(t.Context(), whisk.Guest, name(t, fmt.Sprintf("r%d", rule+1)), whisk.Inactive); err != nil {
				t.Fatal(err)
			}
		}
		if id := fire("{}"); id != "" {
			t.Errorf("without an active rule: %s", id)
		}
		_, err = w.Fire(t.Context(), whisk.Guest, name(t, "t"), json.RawMessage(`[1]`))
		refused(t, "an array", err, actions.Invalid, "malformed")
		_, err = w.Fire(t.Context(), whisk.Guest, name(t, "none"), nil)
		refused(t, "no trigger", err, actions.NotFound, "does not exist")
		_, err = w.Fire(t.Context(), whisk.Guest, name(t, "a"), nil)
		refused(t, "an action", err, actions.Conflict, "not in this collection")
		_, err = w.Fire(t.Context(), whisk.Guest, name(t, "/other/t"), nil)
		refused(t, "another's", err, actions.Forbidden, "not authorized")
	})
}
