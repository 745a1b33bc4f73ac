package controller_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
	"github.com/deepfn/deepfn/runtime/store"
)

// FuzzPut puts what nobody vouches for: it is refused with an error of ours, or can be read,
// invoked and removed.
func FuzzPut(f *testing.F) {
	s, err := store.Open(store.Config{Path: filepath.Join(f.TempDir(), "whisk.db")})
	if err != nil {
		f.Fatal(err)
	}
	run := func(_ context.Context, in actions.Activation) (actions.Response, error) { return echo(in) }
	c, err := controller.New(controller.Config{Store: s, Catalog: newCatalog(), Run: run, MaxPayload: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := errors.Join(c.Close(context.Background()), s.Close()); err != nil {
			f.Error(err)
		}
	})
	for _, body := range []string{
		`{"namespace":"_","name":"model","exec":{"kind":"blackbox","image":"deephdc/uc-lara-dockerized"}}`,
		`{"exec":{"kind":"python:3","code":"UEsDBA==","main":"predict"},"annotations":[{"key":"provide-api-key","value":true}],"parameters":[{"key":"n","value":3,"init":true}],"limits":{"timeout":300000,"memory":512,"logs":5,"concurrency":4}}`,
		`{"exec":{"kind":"sequence","components":["/whisk.system/models/digits"]}}`,
		`{"exec":{"kind":"deepfn:default","code":"{\"model\":\"digits\"}"},"delAnnotations":["exec"],"version":"1.2"}`,
		`{"parameters":[{"key":"z","value":9}],"binding":{"namespace":"whisk.system","name":"models"}}`,
		`{"name":"r1","status":"","trigger":"/_/t1","action":{"path":"_","name":"hello"}}`,
	} {
		f.Add(uint8(0), body, `{"a":[1]}`)
		f.Add(uint8(3), body, ``)
	}
	f.Add(uint8(0), `{"exec":{"kind":"deepfn:digits"}}`, `{0`)
	collections := []whisk.Collection{whisk.Actions, whisk.Triggers, whisk.Rules, whisk.Packages}
	f.Fuzz(func(t *testing.T, which uint8, body, args string) {
		col := collections[int(which)%len(collections)]
		n := whisk.Name{Namespace: whisk.Own, Entity: "x"}
		ours := new(actions.Error)
		doc, err := c.Put(t.Context(), whisk.Guest, col, n, json.RawMessage(body), true)
		if err != nil {
			if !errors.As(err, &ours) || ours.Code == actions.Internal {
				t.Fatalf("put: %v", err)
			}
			return
		}
		if _, err := json.Marshal(doc); err != nil {
			t.Fatalf("the document: %v", err)
		}
		if _, err := c.Entity(t.Context(), whisk.Guest, col, n, true); err != nil {
			t.Fatalf("get: %v", err)
		}
		if col == whisk.Actions {
			out, err := c.Invoke(t.Context(), whisk.Guest, n, whisk.Invocation{Args: json.RawMessage(args), Blocking: true})
			if err == nil && (!out.Done || !json.Valid(out.Activation.Response.Result)) {
				t.Fatalf("invoke: %+v", out)
			}
			if err != nil && (!errors.As(err, &ours) || ours.Code == actions.Internal) {
				t.Fatalf("invoke: %v", err)
			}
		}
		if _, err := c.Delete(t.Context(), whisk.Guest, col, n, true); err != nil {
			t.Fatalf("delete: %v", err)
		}
	})
}
