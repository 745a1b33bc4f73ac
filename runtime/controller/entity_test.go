package controller_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
)

const hello = "def main(args):\n    return args\n"

// TestAction takes an action through its life, with the bodies that wsk sends.
func TestAction(t *testing.T) {
	w := open(t)
	made := w.put(t, whisk.Actions, "hello", `{"namespace":"_","name":"other","exec":{"kind":"python:default","code":`+quote(hello)+`},"parameters":[{"key":"a","value":1},{"key":"a","value":2}],"limits":{"memory":512}}`)
	const exec = `"exec":{"kind":"python:3","code":"def main(args):\n    return args\n","binary":false}`
	want := `{"namespace":"guest","name":"hello","version":"0.0.1","publish":false,` + exec + `,` +
		`"parameters":[{"key":"a","value":2}],"annotations":[{"key":"provide-api-key","value":false},{"key":"exec","value":"python:3"}],` +
		`"limits":{"timeout":60000,"memory":512,"logs":10,"concurrency":1},"updated":1}`
	if made != want {
		t.Errorf("made\n%s, want\n%s", made, want)
	}
	if got := w.entity(t, whisk.Actions, "hello"); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	doc, err := w.Entity(t.Context(), whisk.Guest, whisk.Actions, whisk.Name{Namespace: whisk.Guest, Entity: "hello"}, false)
	if got := text(t, doc); err != nil || got != strings.Replace(want, exec, `"exec":{"kind":"python:3","binary":false}`, 1) {
		t.Errorf("without code: got %s, %v", got, err)
	}
	_, err = w.Put(t.Context(), whisk.Guest, whisk.Actions, name(t, "hello"), json.RawMessage(`{"exec":{"kind":"python:3","code":"x"}}`), false)
	refused(t, "again", err, actions.Conflict, "resource already exists")

	got := w.update(t, whisk.Actions, "hello", `{"annotations":[{"key":"web-export","value":true},{"key":"x","value":1}],"limits":{"timeout":100},"publish":true}`)
	want = strings.NewReplacer(exec, `"exec":{"kind":"python:3","binary":false}`, "0.0.1", "0.0.2", "60000", "100", `"publish":false`, `"publish":true`,
		`{"key":"exec","value":"python:3"}]`, `{"key":"exec","value":"python:3"},{"key":"web-export","value":true},{"key":"x","value":1}]`).Replace(want)
	if got != want {
		t.Errorf("changed\n%s, want\n%s", got, want)
	}
	got = w.update(t, whisk.Actions, "hello", `{"delAnnotations":["x","exec","web-export"],"parameters":[],"version":"3.1"}`)
	if !strings.Contains(got, `"version":"3.1.0"`) || !strings.Contains(got, `"parameters":[],"annotations":[{"key":"provide-api-key","value":false},{"key":"exec","value":"python:3"}]`) {
		t.Errorf("changed again: %s", got)
	}
	if got = w.entity(t, whisk.Actions, "hello"); !strings.Contains(got, exec) {
		t.Errorf("the code is gone: %s", got)
	}
	if doc, err := w.Delete(t.Context(), whisk.Guest, whisk.Actions, name(t, "hello"), false); err != nil || !strings.Contains(text(t, doc), `"name":"hello"`) {
		t.Errorf("delete: got %v, %v", doc, err)
	}
	_, err = w.Entity(t.Context(), whisk.Guest, whisk.Actions, name(t, "hello"), true)
	refused(t, "gone", err, actions.NotFound, "The requested resource does not exist.")
	_, err = w.Delete(t.Context(), whisk.Guest, whisk.Actions, name(t, "hello"), false)
	refused(t, "delete again", err, actions.NotFound, "The requested resource does not exist.")
	if got := w.update(t, whisk.Actions, "hello", `{"exec":{"kind":"blackbox","image":"i"}}`); !strings.Contains(got, `"version":"0.0.1"`) {
		t.Errorf("an update that makes it: %s", got)
	}
}

// TestExec says what an exec becomes.
func TestExec(t *testing.T) {
	zip := base64.StdEncoding.EncodeToString([]byte("PK not really"))
	named := base64.StdEncoding.EncodeToString([]byte(`{"model": "digits"}`))
	for name, test := range map[string]struct{ exec, want string }{
		"python":             {`{"kind":"python:3.11","code":"x"}`, `{"kind":"python:3.11","code":"x","binary":false}`},
		"zip":                {`{"kind":"python:3","code":"` + zip + `","main":"predict"}`, `{"kind":"python:3","code":"` + zip + `","main":"predict","binary":true}`},
		"kind in capitals":   {`{"kind":" Python:3 ","code":"x"}`, `{"kind":"python:3","code":"x","binary":false}`},
		"image":              {`{"kind":"blackbox","image":"deephdc/uc-lara-dockerized"}`, `{"kind":"blackbox","image":"deephdc/uc-lara-dockerized","binary":false}`},
		"native":             {`{"kind":"blackbox","code":"#!/bin/sh","image":"openwhisk/dockerskeleton"}`, `{"kind":"blackbox","code":"#!/bin/sh","image":"openwhisk/dockerskeleton","binary":false}`},
		"image and model":    {`{"kind":"blackbox","image":"deepfn","code":"{\"model\":\"digits\"}"}`, `{"kind":"blackbox","code":"{\"model\":\"digits\"}","image":"deepfn","binary":false}`},
		"model":              {`{"kind":"deepfn:ocr-line"}`, `{"kind":"deepfn:ocr-line","binary":false}`},
		"model and its name": {`{"kind":"deepfn:digits","code":"` + named + `"}`, `{"kind":"deepfn:digits","code":"` + named + `","binary":true}`},
		"default model":      {`{"kind":"deepfn:default","code":" {\"model\":\"digits\"}\n","main":"train"}`, `{"kind":"deepfn:default","code":" {\"model\":\"digits\"}\n","main":"train","binary":false}`},
	} {
		t.Run(name, func(t *testing.T) {
			got := open(t).put(t, whisk.Actions, "a", `{"exec":`+test.exec+`}`)
			if !strings.Contains(got, `"exec":`+test.want+`,`) {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// TestPutRefused says what cannot be made.
func TestPutRefused(t *testing.T) {
	w := open(t, func(c *controller.Config) { c.MaxPayload = 100 })
	w.put(t, whisk.Packages, "pkg", `{}`)
	w.put(t, whisk.Packages, "bound", `{"binding":{"namespace":"_","name":"pkg"}}`)
	w.put(t, whisk.Triggers, "t", `{}`)
	w.put(t, whisk.Actions, "a", `{"exec":{"kind":"blackbox","image":"i"}}`)
	const malformed = "The request content was malformed:\n"
	long := strings.Repeat("x", 100)
	action := func(rest string) string { return `{"exec":{"kind":"blackbox","image":"i"},` + rest + `}` }
	for what, test := range map[string]struct {
		c          whisk.Collection
		name, body string
		code       actions.Code
		says       string
	}{
		"no JSON":             {whisk.Actions, "x", `{`, actions.Invalid, malformed},
		"a list":              {whisk.Actions, "x", `[]`, actions.Invalid, malformed + "the content cannot be a JSON array"},
		"no exec":             {whisk.Actions, "x", `{}`, actions.Invalid, "exec undefined"},
		"exec is text":        {whisk.Actions, "x", `{"exec":"x"}`, actions.Invalid, malformed + "'exec' cannot be a JSON string"},
		"no kind":             {whisk.Actions, "x", `{"exec":{"code":"x"}}`, actions.Invalid, malformed + "'kind' must be a string defined in 'exec'"},
		"kind":                {whisk.Actions, "x", `{"exec":{"kind":"nodejs:default","code":"x"}}`, actions.Invalid, malformed + "The specified runtime 'nodejs:default' is not supported by this platform. Valid values are: 'python:3', 'blackbox', 'sequence', 'deepfn:default', 'deepfn:digits', 'deepfn:ocr-line'."},
		"Python 2":            {whisk.Actions, "x", `{"exec":{"kind":"python:2","code":"x"}}`, actions.Invalid, "The specified runtime 'python:2' is not supported"},
		"kind of no model":    {whisk.Actions, "x", `{"exec":{"kind":"deepfn:none"}}`, actions.Invalid, "The specified runtime 'deepfn:none' is not supported"},
		"model and other":     {whisk.Actions, "x", `{"exec":{"kind":"deepfn:digits","code":"print()"}}`, actions.Invalid, `the code of a 'deepfn:digits' action is {"model": "name"}`},
		"no model named":      {whisk.Actions, "x", `{"exec":{"kind":"deepfn:default"}}`, actions.Invalid, `{"model": "name"}`},
		"another model named": {whisk.Actions, "x", `{"exec":{"kind":"blackbox","image":"deepfn","code":"{\"model\":\"none\"}"}}`, actions.Invalid, "there is no model none; there are: digits, ocr-line"},
		"no code":             {whisk.Actions, "x", `{"exec":{"kind":"python:3","code":" "}}`, actions.Invalid, "'code' must be a string"},
		"no image":            {whisk.Actions, "x", `{"exec":{"kind":"blackbox","code":"x"}}`, actions.Invalid, "'image' must be a string defined in 'exec' for 'blackbox' actions"},
		"code too long":       {whisk.Actions, "x", `{"exec":{"kind":"python:3","code":"` + strings.Repeat(" ", 48<<20) + `x"}}`, actions.TooLarge, "exec larger than allowed: 50331649 > 50331648 bytes."},
		"parameters":          {whisk.Actions, "x", action(`"parameters":{"a":1}`), actions.Invalid, "'parameters' cannot be a JSON object"},
		"parameter":           {whisk.Actions, "x", action(`"parameters":[{"value":1}]`), actions.Invalid, malformed + "parameters malformed!"},
		"annotation":          {whisk.Triggers, "x", `{"annotations":[{"key":"a"}]}`, actions.Invalid, malformed + "annotations malformed!"},
		"parameters long":     {whisk.Packages, "x", `{"parameters":[{"key":"a","value":"` + long + `"}]}`, actions.TooLarge, "parameters larger than allowed: 103 > 100 bytes."},
		"annotations long":    {whisk.Rules, "x", `{"annotations":[{"key":"a","value":"` + long + `"}]}`, actions.TooLarge, "annotations larger than allowed: 103 > 100 bytes."},
		"version":             {whisk.Actions, "x", action(`"version":"1.x"`), actions.Invalid, `bad semantic version "1.x"`},
		"version of four":     {whisk.Packages, "x", `{"version":"1.2.3.4"}`, actions.Invalid, "bad semantic version"},
		"time too short":      {whisk.Actions, "x", action(`"limits":{"timeout":99}`), actions.Invalid, "duration 99 milliseconds below allowed threshold of 100 milliseconds"},
		"time too long":       {whisk.Actions, "x", action(`"limits":{"timeout":3600001}`), actions.Invalid, "duration 3600001 milliseconds exceeds allowed threshold of 3600000 milliseconds"},
		"memory":              {whisk.Actions, "x", action(`"limits":{"memory":1}`), actions.Invalid, "memory size 1 MB below allowed threshold of 128 MB"},
		"logs":                {whisk.Actions, "x", action(`"limits":{"logs":11}`), actions.Invalid, "log size 11 MB exceeds allowed threshold of 10 MB"},
		"concurrency":         {whisk.Actions, "a", `{"limits":{"concurrency":0}}`, actions.Invalid, "concurrency 0 below allowed threshold of 1"},
		"part of a limit":     {whisk.Actions, "x", action(`"limits":{"timeout":1.5}`), actions.Invalid, malformed + "'limits.timeout'"},
		"init of a model":     {whisk.Actions, "x", `{"exec":{"kind":"deepfn:digits"},"parameters":[{"key":"k","value":1,"init":true}]}`, actions.Invalid, "parameter k: a model is loaded once"},
		"no package":          {whisk.Actions, "none/x", action(`"publish":true`), actions.NotFound, "The requested resource does not exist."},
		"in a binding":        {whisk.Actions, "bound/x", action(`"publish":true`), actions.Invalid, "Operation not permitted on package binding."},
		"another's":           {whisk.Actions, "/other/x", action(`"publish":true`), actions.Forbidden, "The supplied authentication is not authorized to access this resource."},
		"the system's":        {whisk.Actions, "/whisk.system/models/x", action(`"publish":true`), actions.Forbidden, "not authorized"},
		"name of a trigger":   {whisk.Actions, "t", action(`"publish":true`), actions.Conflict, "Resource by this name exists but is not in this collection."},
		"name of an action":   {whisk.Packages, "a", `{}`, actions.Conflict, "not in this collection"},
		"reserved":            {whisk.Packages, "default", `{}`, actions.Invalid, "Package name 'default' is reserved."},
		"bound to nothing":    {whisk.Packages, "x", `{"binding":{"namespace":"_","name":"none"}}`, actions.Invalid, "Binding references a package that does not exist."},
		"bound to no package": {whisk.Packages, "x", `{"binding":{"namespace":"_","name":"t"}}`, actions.Conflict, "Cannot bind to a resource that is not a package."},
		"bound to a binding":  {whisk.Packages, "x", `{"binding":{"namespace":"_","name":"bound"}}`, actions.Invalid, "Cannot bind to another package binding."},
		"bound to another's":  {whisk.Packages, "x", `{"binding":{"namespace":"other","name":"pkg"}}`, actions.Forbidden, "not authorized"},
		"bound to system's":   {whisk.Packages, "x", `{"binding":{"namespace":"whisk.system","name":"none"}}`, actions.Invalid, "does not exist"},
		"package made one":    {whisk.Packages, "pkg", `{"binding":{"namespace":"whisk.system","name":"models"}}`, actions.Conflict, "Resource is a package and cannot be converted into a binding."},
		"feed":                {whisk.Triggers, "x", `{"annotations":[{"key":"feed","value":"/a//b*"}]}`, actions.Invalid, "Feed name is not valid"},
		"feed no text":        {whisk.Triggers, "x", `{"annotations":[{"key":"feed","value":1}]}`, actions.Invalid, "Feed name is not valid"},
		"rule of nothing":     {whisk.Rules, "x", `{}`, actions.Invalid, "rule requires a valid trigger and a valid action"},
		"rule of no trigger":  {whisk.Rules, "x", `{"trigger":"/_/none","action":"/_/a"}`, actions.Invalid, "trigger /guest/none does not exist"},
		"rule of no action":   {whisk.Rules, "x", `{"trigger":"/_/t","action":"/_/none"}`, actions.Invalid, "action /guest/none does not exist"},
		"rule of a bare name": {whisk.Rules, "x", `{"trigger":"t","action":"/_/a"}`, actions.Invalid, "must contain at least the namespace and the name of the entity"},
		"rule of a number":    {whisk.Rules, "x", `{"trigger":7,"action":"/_/a"}`, actions.Invalid, "fully qualified name malformed"},
		"another's trigger":   {whisk.Rules, "x", `{"trigger":"/other/t","action":"/_/a"}`, actions.Forbidden, "not authorized"},
		"another's action":    {whisk.Rules, "x", `{"trigger":"/_/t","action":"/other/a"}`, actions.Forbidden, "not authorized"},
		"packaged trigger":    {whisk.Triggers, "pkg/x", `{}`, actions.NotFound, "does not exist"},
		"sequence of none":    {whisk.Actions, "x", `{"exec":{"kind":"sequence","components":[]}}`, actions.Invalid, "No component specified for the sequence."},
		"no components":       {whisk.Actions, "x", `{"exec":{"kind":"sequence"}}`, actions.Invalid, "'components' must be defined for sequence kind"},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := w.Put(t.Context(), whisk.Guest, test.c, name(t, test.name), json.RawMessage(test.body), true)
			refused(t, what, err, test.code, test.says)
		})
	}
	_, err := w.Put(t.Context(), whisk.Guest, whisk.Actions, whisk.Name{Namespace: "_", Entity: "a*"}, json.RawMessage(action(`"publish":true`)), true)
	refused(t, "a name", err, actions.Invalid, "cannot be a name")
	_, err = w.Put(t.Context(), whisk.Guest, whisk.Actions, whisk.Name{Namespace: "_"}, json.RawMessage(action(`"publish":true`)), true)
	refused(t, "no name", err, actions.Invalid, "cannot be a name")
	_, err = w.Put(t.Context(), whisk.Guest, "things", name(t, "a"), json.RawMessage(`{}`), true)
	refused(t, "no collection", err, actions.NotFound, "does not exist")
}

// TestList lists what was changed last first, and pages of it.
func TestList(t *testing.T) {
	w := open(t)
	w.put(t, whisk.Packages, "pkg", `{}`)
	for _, n := range []string{"b", "pkg/c", "a"} {
		w.put(t, whisk.Actions, n, `{"exec":{"kind":"python:3","code":"AAAA"}}`)
		w.put(t, whisk.Triggers, "t-"+strings.ReplaceAll(n, "/", "-"), `{"parameters":[{"key":"a","value":1}]}`)
	}
	w.put(t, whisk.Packages, "bnd", `{"binding":{"namespace":"_","name":"pkg"}}`)
	w.put(t, whisk.Packages, "sys", `{"binding":{"namespace":"whisk.system","name":"models"}}`)
	names := func(l whisk.Listing) string {
		var all []string
		for _, item := range l.Items {
			var doc struct{ Namespace, Name string }
			if err := json.Unmarshal([]byte(text(t, item)), &doc); err != nil {
				t.Fatal(err)
			}
			all = append(all, doc.Namespace+"/"+doc.Name)
		}
		return strings.Join(all, " ")
	}
	all := whisk.Page{Limit: whisk.MaxLimit}
	inside := func(pkg string) whisk.Name { return whisk.Name{Namespace: "_", Package: pkg} }
	for what, test := range map[string]struct {
		c    whisk.Collection
		in   whisk.Name
		page whisk.Page
		want string
	}{
		"package":       {whisk.Actions, inside("pkg"), all, "guest/pkg/c"},
		"binding":       {whisk.Actions, inside("bnd"), all, "guest/pkg/c"},
		"bound models":  {whisk.Actions, inside("sys"), all, "whisk.system/models/digits whisk.system/models/ocr-line"},
		"models":        {whisk.Actions, whisk.Name{Namespace: "whisk.system", Package: "models"}, all, "whisk.system/models/digits whisk.system/models/ocr-line"},
		"a page of it":  {whisk.Actions, whisk.Name{Namespace: "whisk.system", Package: "models"}, whisk.Page{Skip: 1, Limit: 1}, "whisk.system/models/ocr-line"},
		"behind it":     {whisk.Actions, whisk.Name{Namespace: "whisk.system", Package: "models"}, whisk.Page{Skip: 9, Limit: 1}, ""},
		"system":        {whisk.Packages, whisk.Name{Namespace: "whisk.system"}, all, "whisk.system/models"},
		"its triggers":  {whisk.Triggers, whisk.Name{Namespace: "whisk.system"}, all, ""},
		"another's":     {whisk.Packages, whisk.Name{Namespace: "other"}, all, ""},
		"rules, no one": {whisk.Rules, inside(""), all, ""},
	} {
		got, err := w.List(t.Context(), whisk.Guest, test.c, test.in, test.page)
		if err != nil || names(got) != test.want {
			t.Errorf("%s: got %s, %v, want %s", what, names(got), err, test.want)
		}
	}
	for c, want := range map[whisk.Collection]int{whisk.Actions: 3, whisk.Triggers: 3, whisk.Packages: 3, whisk.Rules: 0} {
		got, err := w.List(t.Context(), whisk.Guest, c, inside(""), all)
		if err != nil || len(got.Items) != want {
			t.Errorf("%s: got %s, %v, want %d", c, names(got), err, want)
		}
		got, err = w.List(t.Context(), whisk.Guest, c, inside(""), whisk.Page{Skip: 1, Count: true})
		if err != nil || got.Count != max(want-1, 0) {
			t.Errorf("%s: counted %d, %v, want %d", c, got.Count, err, want-1)
		}
	}
	_, err := w.List(t.Context(), whisk.Guest, whisk.Actions, whisk.Name{Namespace: "other"}, all)
	refused(t, "another's actions", err, actions.Forbidden, "not authorized")
	for _, in := range []whisk.Name{inside("none"), {Namespace: "whisk.system", Package: "none"}} {
		_, err = w.List(t.Context(), whisk.Guest, whisk.Actions, in, all)
		refused(t, "no package", err, actions.NotFound, "does not exist")
	}

	one := func(c whisk.Collection, n string) string {
		t.Helper()
		got, err := w.List(t.Context(), whisk.Guest, c, inside(""), all)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range got.Items {
			if s := text(t, item); strings.Contains(s, `"name":"`+n+`","version"`) {
				return s
			}
		}
		return ""
	}
	for what, pair := range map[string][2]string{
		"action": {
			one(whisk.Actions, "c"), `{"namespace":"guest/pkg","name":"c","version":"0.0.1","publish":false,"annotations":[{"key":"provide-api-key","value":false},{"key":"exec","value":"python:3"}],` +
				`"updated":1,"limits":{"timeout":60000,"memory":256,"logs":10,"concurrency":1},"exec":{"binary":true}}`,
		},
		"trigger": {one(whisk.Triggers, "t-a"), `{"namespace":"guest","name":"t-a","version":"0.0.1","publish":false,"annotations":[],"updated":1}`},
		"package": {one(whisk.Packages, "pkg"), `{"namespace":"guest","name":"pkg","version":"0.0.1","publish":false,"annotations":[],"updated":1,"binding":false}`},
		"binding": {one(whisk.Packages, "bnd"), `{"namespace":"guest","name":"bnd","version":"0.0.1","publish":false,"annotations":[{"key":"binding","value":{"namespace":"guest","name":"pkg"}}],"updated":1,"binding":{"namespace":"guest","name":"pkg"}}`},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got\n%s, want\n%s", what, pair[0], pair[1])
		}
	}
}

// TestListOrder lists what was changed last first.
func TestListOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		for _, n := range []string{"a", "c", "b"} {
			w.put(t, whisk.Triggers, n, `{}`)
			time.Sleep(time.Second)
		}
		w.update(t, whisk.Triggers, "c", `{"publish":true}`)
		got, err := w.List(t.Context(), whisk.Guest, whisk.Triggers, whisk.Name{Namespace: "guest"}, whisk.Page{})
		if err != nil {
			t.Fatal(err)
		}
		order := ""
		for _, item := range got.Items {
			order += text(t, item)[len(`{"namespace":"guest","name":"`):][:1]
		}
		if order != "cba" {
			t.Errorf("got %s, want cba", order)
		}
	})
}
