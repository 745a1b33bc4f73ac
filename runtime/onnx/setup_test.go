package onnx

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"path/filepath"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/catalog"
	"github.com/deepfn/deepfn/runtime/onnx/onnxtest"
)

// shipped reads one of the actions of the repository.
func shipped(tb testing.TB, name string) actions.Model {
	tb.Helper()
	m, err := catalog.New(catalog.Config{Shipped: actions.Shipped()}).Model(tb.Context(), name)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// setup describes an action whose files are where paths say.
func setup(tb testing.TB, m actions.Model, paths map[string]string) Setup {
	tb.Helper()
	c := Setup{
		Spec: m.Spec, Arguments: m.Arguments, Files: paths, SHA256: map[string]string{},
		Library: onnxtest.Library(tb), Device: "cpu",
	}
	for name, f := range m.Files {
		c.SHA256[name] = f.SHA256
		if f.Package != "" {
			c.Files = map[string]string{name: onnxtest.Model(tb, filepath.Base(f.Path))}
		}
	}
	return c
}

// start starts a program and closes it with the test.
func start(tb testing.TB, c Setup) (*Program, Info) {
	tb.Helper()
	p, info, err := tryStart(tb, c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	return p, info
}

func tryStart(tb testing.TB, c Setup) (*Program, Info, error) {
	tb.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		tb.Fatal(err)
	}
	p := New()
	info, err := p.Start(tb.Context(), data)
	if err != nil {
		return nil, Info{}, err
	}
	got, ok := info.(Info)
	if !ok {
		tb.Fatalf("got a %T, want an Info", info)
	}
	return p, got, nil
}

func encode(tb testing.TB, m image.Image) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func imageRequest(data []byte) actions.Request {
	return actions.Request{Files: []actions.File{{Name: "image", Data: data}}}
}

// predict calls a program and decodes its JSON.
func predict[T any](t *testing.T, p *Program, req actions.Request) T {
	t.Helper()
	var v T
	r, err := p.Call(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if r.ContentType != "application/json" {
		t.Fatalf("got content type %q, want application/json", r.ContentType)
	}
	if err := json.Unmarshal(r.Data, &v); err != nil {
		t.Fatalf("got %q: %v", r.Data, err)
	}
	return v
}
