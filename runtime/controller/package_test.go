package controller_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
)

// TestPackage takes packages and bindings through their lives.
func TestPackage(t *testing.T) {
	w := open(t)
	w.put(t, whisk.Packages, "pkg", `{"publish":true,"parameters":[{"key":"a","value":1},{"key":"b","value":1}],"annotations":[{"key":"binding","value":"mine"},{"key":"n","value":1}]}`)
	w.put(t, whisk.Packages, "bnd", `{"parameters":[{"key":"b","value":2},{"key":"c","value":2}],"binding":{"namespace":"guest","name":"pkg"}}`)
	w.put(t, whisk.Actions, "pkg/run", `{"exec":{"kind":"blackbox","image":"i"},"parameters":[{"key":"c","value":3}]}`)
	w.put(t, whisk.Actions, "pkg/feed", `{"exec":{"kind":"blackbox","image":"i"},"annotations":[{"key":"feed","value":true}]}`)
	got := w.entity(t, whisk.Packages, "pkg")
	notes := `[{"key":"provide-api-key","value":false},{"key":"exec","value":"blackbox"}]`
	inside := `"actions":[{"name":"run","version":"0.0.1","annotations":` + notes + `}],` +
		`"feeds":[{"name":"feed","version":"0.0.1","annotations":` + strings.Replace(notes, `{"key":"exec"`, `{"key":"feed","value":true},{"key":"exec"`, 1) + `}]`
	want := `{"namespace":"guest","name":"pkg","version":"0.0.1","publish":true,"parameters":[{"key":"a","value":1},{"key":"b","value":1}],` +
		`"annotations":[{"key":"n","value":1}],"binding":{},"updated":1,` + inside + `}`
	if got != want {
		t.Errorf("package:\n%s, want\n%s", got, want)
	}
	got = w.entity(t, whisk.Packages, "bnd")
	want = `{"namespace":"guest","name":"bnd","version":"0.0.1","publish":false,"parameters":[{"key":"a","value":1},{"key":"b","value":2},{"key":"c","value":2}],` +
		`"annotations":[{"key":"binding","value":{"namespace":"guest","name":"pkg"}}],"binding":{"namespace":"guest","name":"pkg"},"updated":1,` + inside + `}`
	if got != want {
		t.Errorf("binding:\n%s, want\n%s", got, want)
	}
	got = w.entity(t, whisk.Actions, "bnd/run")
	if !strings.Contains(got, `"namespace":"guest/pkg"`) || !strings.Contains(got, `"parameters":[{"key":"a","value":1},{"key":"b","value":2},{"key":"c","value":3}]`) {
		t.Errorf("through the binding: %s", got)
	}
	got = w.update(t, whisk.Packages, "pkg", `{"parameters":[{"key":"b","value":9}]}`)
	if !strings.Contains(got, `"version":"0.0.2","publish":true,"parameters":[{"key":"b","value":9}],"annotations":[{"key":"n","value":1}]`) {
		t.Errorf("changed: %s", got)
	}
	got = w.update(t, whisk.Packages, "bnd", `{"binding":{"namespace":"whisk.system","name":"models"}}`)
	if !strings.Contains(got, `"binding":{"namespace":"whisk.system","name":"models"}`) {
		t.Errorf("bound anew: %s", got)
	}
	if got = w.entity(t, whisk.Packages, "bnd"); !strings.Contains(got, `"actions":[{"name":"digits"`) {
		t.Errorf("bound to the models: %s", got)
	}
	_, err := w.Delete(t.Context(), whisk.Guest, whisk.Packages, name(t, "pkg"), false)
	refused(t, "not empty", err, actions.Conflict, "Package not empty (contains 2 entities). Set force param or delete package contents.")
	if _, err := w.Delete(t.Context(), whisk.Guest, whisk.Actions, name(t, "pkg/feed"), false); err != nil {
		t.Error(err)
	}
	_, err = w.Delete(t.Context(), whisk.Guest, whisk.Packages, name(t, "pkg"), false)
	refused(t, "not empty", err, actions.Conflict, "(contains 1 entity)")
	_, err = w.Delete(t.Context(), whisk.Guest, whisk.Actions, name(t, "bnd/run"), false)
	refused(t, "through a binding", err, actions.Invalid, "Operation not permitted on package binding.")
	w.update(t, whisk.Packages, "two", `{"binding":{"namespace":"_","name":"pkg"}}`)
	if _, err := w.Delete(t.Context(), whisk.Guest, whisk.Packages, name(t, "pkg"), true); err != nil {
		t.Error(err)
	}
	for _, n := range []string{"pkg/run", "two/run", "two"} {
		c := whisk.Actions
		if n == "two" {
			c = whisk.Packages
		}
		_, err = w.Entity(t.Context(), whisk.Guest, c, name(t, n), true)
		refused(t, n, err, actions.NotFound, "does not exist")
	}
	w.put(t, whisk.Packages, "pkg", `{}`)
	if got = w.entity(t, whisk.Packages, "pkg"); !strings.Contains(got, `"actions":[],"feeds":[]`) {
		t.Errorf("made again it has %s", got)
	}
}

// TestSystem reads whisk.system, which nobody writes to.
func TestSystem(t *testing.T) {
	w := open(t)
	got := w.entity(t, whisk.Packages, "/whisk.system/models")
	if !strings.Contains(got, `"publish":true`) || strings.Count(got, `"key":"exec","value":"deepfn:`) != 2 {
		t.Errorf("package: %s", got)
	}
	got = w.entity(t, whisk.Actions, "/whisk.system/models/ocr-line")
	for _, want := range []string{
		`"exec":{"kind":"deepfn:ocr-line","binary":false}`, `{"key":"web-export","value":false}`, `{"key":"description","value":"Reads ocr-line"}`,
		`{"key":"parameters","value":[{"name":"image","description":"A picture","type":"file","required":true}]}`, `"publish":true`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("action: got %s, want %s", got, want)
		}
	}
	for _, test := range []struct {
		c          whisk.Collection
		name, says string
		code       actions.Code
	}{
		{whisk.Actions, "/whisk.system/models/none", "there is no model none; there are: digits, ocr-line", actions.NotFound},
		{whisk.Actions, "/whisk.system/alarms/alarm", "does not exist", actions.NotFound},
		{whisk.Packages, "/whisk.system/none", "does not exist", actions.NotFound},
		{whisk.Actions, "/whisk.system/x", "not authorized", actions.Forbidden},
		{whisk.Triggers, "/whisk.system/x", "not authorized", actions.Forbidden},
		{whisk.Actions, "/other/x", "not authorized", actions.Forbidden},
		{whisk.Packages, "/other/x", "not authorized", actions.Forbidden},
	} {
		_, err := w.Entity(t.Context(), whisk.Guest, test.c, name(t, test.name), true)
		refused(t, test.name, err, test.code, test.says)
	}
	for _, n := range []string{"/whisk.system/models", "/other/x"} {
		_, err := w.Delete(t.Context(), whisk.Guest, whisk.Packages, name(t, n), true)
		refused(t, "delete "+n, err, actions.Forbidden, "not authorized")
	}
	w.catalog.broken = errors.New("the disk is gone")
	if _, err := w.Entity(t.Context(), whisk.Guest, whisk.Packages, name(t, "/whisk.system/models"), true); err == nil {
		t.Error("a broken catalog is not noticed")
	}
}

func TestWeb(t *testing.T) {
	w := open(t)
	w.put(t, whisk.Packages, "pkg", `{"parameters":[{"key":"p","value":1}]}`)
	w.put(t, whisk.Packages, "bnd", `{"binding":{"namespace":"_","name":"pkg"}}`)
	body := func(export string) string {
		return `{"exec":{"kind":"python:3","code":"x"},"annotations":[{"key":"web-export","value":` + export + `}]}`
	}
	w.put(t, whisk.Actions, "pkg/in", body("true"))
	for i, export := range []string{"true", "false", `"yes"`, "1"} {
		w.put(t, whisk.Actions, "a"+strconv.Itoa(i), body(export))
	}
	for _, n := range []whisk.Name{
		{Namespace: "guest", Entity: "a0"},
		{Namespace: "guest", Package: "default", Entity: "a0"},
		{Namespace: "guest", Package: "pkg", Entity: "in"},
		{Namespace: "guest", Package: "bnd", Entity: "in"},
	} {
		a, err := w.Web(t.Context(), n)
		if err != nil || a.Exec.Code != nil {
			t.Errorf("%s: got %+v, %v", n, a, err)
		}
		if a.Name == "in" && string(a.Parameters.Lookup("p")) != "1" {
			t.Errorf("%s: got parameters %v", n, a.Parameters)
		}
	}
	for _, n := range []whisk.Name{
		{Namespace: "guest", Entity: "a1"},
		{Namespace: "guest", Entity: "a2"},
		{Namespace: "guest", Entity: "a3"},
		{Namespace: "guest", Entity: "none"},
		{Namespace: "other", Entity: "a0"},
		{Namespace: "guest", Entity: "pkg"},
		{Namespace: "whisk.system", Package: "models", Entity: "digits"},
	} {
		_, err := w.Web(t.Context(), n)
		refused(t, n.String(), err, actions.NotFound, "The requested resource does not exist.")
	}
}

func TestAuthenticate(t *testing.T) {
	w := open(t, func(c *controller.Config) { c.Auth = "me:key" })
	if ns, err := w.Authenticate("me", "key"); err != nil || ns != whisk.Guest {
		t.Errorf("got %s, %v", ns, err)
	}
	for _, pair := range [][2]string{{"me", ""}, {"", "key"}, {"me", "Key"}, {"me:key", ""}, {"", ""}} {
		_, err := w.Authenticate(pair[0], pair[1])
		refused(t, pair[0]+"/"+pair[1], err, actions.Unauthorized, "invalid")
	}
	user, key, _ := strings.Cut(whisk.GuestAuth, ":")
	if _, err := w.Authenticate(user, key); err == nil {
		t.Error("the well-known key opens it")
	}
	if _, err := open(t).Authenticate(user, key); err != nil {
		t.Error(err)
	}
	for _, auth := range []string{"key", ":", "a:", ":b"} {
		_, err := controller.New(controller.Config{Auth: auth})
		refused(t, auth, err, actions.Invalid, "UUID:KEY")
	}
}

func TestInfo(t *testing.T) {
	w := open(t, func(c *controller.Config) { c.MaxPayload = 1 << 20 })
	for what, test := range map[string]struct {
		doc  any
		want []string
	}{
		"info": {w.Info(), []string{
			`"api_paths":["/api/v1"]`, `"description":"OpenWhisk"`, `"max_action_duration":3600000`, `"min_action_memory":134217728`, `"sequence_length":50`,
			`{"kind":"python:3","image":"deepfn","deprecated":false,"default":true,"attached":true,"requireMain":false}`, `"kind":"deepfn:ocr-line"`,
		}},
		"limits": {w.Limits(), []string{`"maxActionTimeout":3600000`, `"minActionMemory":128`, `"maxPayloadSize":"1048576 B"`, `"invocationsPerMinute":`}},
	} {
		for _, want := range test.want {
			if got := text(t, test.doc); !strings.Contains(got, want) {
				t.Errorf("%s: got %s, want %s", what, got, want)
			}
		}
	}
}
