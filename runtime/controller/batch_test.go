package controller_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
)

func withBatches(cfg *controller.Config) { cfg.Batches = true }

// notice is a notification of a bucket about objects.
func notice(event string, keys ...string) string {
	var records []string
	for _, key := range keys {
		records = append(records, `{"eventName":"`+event+`","s3":{"bucket":{"name":"in"},"object":{"key":"`+key+`","size":7}}}`)
	}
	return `"Records":[` + strings.Join(records, ",") + `]`
}

// TestBatchAction begins batch predictions by the actions of whisk.system's package batch.
func TestBatchAction(t *testing.T) {
	const digits = "/whisk.system/batch/digits"
	for name, test := range map[string]struct {
		args  string
		value string // that ran; "" for none
		says  string // the error
	}{
		"members": {
			args:  `{"input":"s3://in/a.csv","output":{"url":"s3://out/"},"max_errors":"1%"}`,
			value: `{"input":"s3://in/a.csv","max_errors":"1%","model":"digits","output":{"url":"s3://out/"}}`,
		},
		"nothing":       {args: "", value: `{"model":"digits"}`},
		"headers":       {args: `{"__ow_headers":{"h":"1"},"input":"s3://in/"}`, value: `{"input":"s3://in/","model":"digits"}`},
		"another model": {args: `{"model":"ocr-line"}`, value: `{"model":"digits"}`},
		"notification": {
			args:  `{` + notice("ObjectCreated:Put", "2026/a+b%2Bc.csv") + `,"output":"s3://out/p/"}`,
			value: `{"input":"s3://in/2026/a%20b+c.csv","model":"digits","output":"s3://out/p/2026/a%20b+c.csv/"}`,
		},
		"MinIO's": {
			args:  `{"EventName":"s3:ObjectCreated:Put","Key":"in/a.csv",` + notice("s3:ObjectCreated:Put", "a.csv") + `,"output":{"url":"s3://out/"}}`,
			value: `{"input":"s3://in/a.csv","model":"digits","output":{"url":"s3://out/"}}`,
		},
		"without output": {args: `{` + notice("ObjectCreated:Put", "a") + `}`, value: `{"input":"s3://in/a","model":"digits"}`},
		"two objects":    {args: `{` + notice("ObjectCreated:Put", "a", "b") + `}`, says: "is no notification of a bucket about one object"},
		"removed":        {args: `{` + notice("ObjectRemoved:Delete", "a") + `}`, says: `is of \"ObjectRemoved:Delete\"`},
		"no key":         {args: `{` + notice("ObjectCreated:Put", "%zz") + `}`, says: "names no object"},
		"no records":     {args: `{"Records":7}`, says: "is no notification"},
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, withBatches)
			a := w.invoke(t, digits, test.args)
			if test.value == "" {
				if a.Response.Code != whisk.ApplicationError || !strings.Contains(string(a.Response.Result), test.says) {
					t.Errorf("got %s, want an error with %s", text(t, a.Response), test.says)
				}
				return
			}
			in := w.last(t)
			if want := `{"dev.deepfn.batch.requested":` + test.value + `}`; string(in.Value) != want || in.Model != "digits" {
				t.Errorf("ran %s of %s, want %s", in.Value, in.Model, want)
			}
			if note(a, "path") != `"whisk.system/batch/digits"` {
				t.Errorf("the record is %s", text(t, a))
			}
		})
	}
}

// TestBatchByTrigger fires a trigger whose rule begins a batch.
func TestBatchByTrigger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, withBatches)
		w.put(t, whisk.Packages, "b", `{"binding":{"namespace":"whisk.system","name":"batch"},"parameters":[{"key":"concurrency","value":2}]}`)
		for rule, action := range map[string]string{"nightly": "/whisk.system/batch/digits", "bound": "b/digits"} {
			w.put(t, whisk.Triggers, rule, `{}`)
			w.put(t, whisk.Rules, rule+"-rule", `{"trigger":"/_/`+rule+`","action":"`+strings.Replace(action, "b/", "/_/b/", 1)+`"}`)
			if _, err := w.Fire(t.Context(), whisk.Guest, name(t, rule), []byte(`{"input":"s3://in/","output":"s3://out/"}`)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			want := `{"dev.deepfn.batch.requested":{"input":"s3://in/","model":"digits","output":"s3://out/"}}`
			if rule == "bound" {
				want = strings.Replace(want, `{"input"`, `{"concurrency":2,"input"`, 1)
			}
			if in := w.last(t); string(in.Value) != want {
				t.Errorf("%s: ran %s, want %s", rule, in.Value, want)
			}
		}
	})
}

// TestBatchPackage reads the package batch, which is there only where there are batches.
func TestBatchPackage(t *testing.T) {
	w := open(t, withBatches)
	got := w.entity(t, whisk.Packages, "/whisk.system/batch")
	if strings.Count(got, `"key":"exec","value":"deepfn:`) != 2 || !strings.Contains(got, "Batch predictions") {
		t.Errorf("package: %s", got)
	}
	got = w.entity(t, whisk.Actions, "/whisk.system/batch/digits")
	for _, want := range []string{`"namespace":"whisk.system/batch"`, `"name":"input"`, "Begins a batch prediction with digits"} {
		if !strings.Contains(got, want) {
			t.Errorf("action: got %s, want %s", got, want)
		}
	}
	for in, want := range map[string]int{"": 4, "batch": 2, "models": 2} {
		list, err := w.List(t.Context(), whisk.Guest, whisk.Actions, whisk.Name{Namespace: whisk.System, Package: in}, whisk.Page{})
		if err != nil || len(list.Items) != want {
			t.Errorf("actions of %q: got %d, %v, want %d", in, len(list.Items), err, want)
		}
	}
	w = open(t)
	_, err := w.Entity(t.Context(), whisk.Guest, whisk.Packages, name(t, "/whisk.system/batch"), true)
	refused(t, "without batches", err, actions.NotFound, "does not exist")
	_, err = w.Entity(t.Context(), whisk.Guest, whisk.Actions, name(t, "/whisk.system/batch/digits"), true)
	refused(t, "without batches", err, actions.NotFound, "does not exist")
}
