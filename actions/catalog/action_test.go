package catalog

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

const someHash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// good is an action.yaml with everything in it.
const good = `# a comment
name: cats
version: 1.10
title: "Tells cats from dogs"
description: >
  Two lines
  in one.
author: A. Cat
license: MIT
source: https://example.com/cats
keywords: [cat, dog]
runtime: onnx
arguments:
  - name: image
    type: file
    required: true
    content_types: [image/png]
  - {name: angle, type: string, default: "0", choices: ["0", "180"]}
  - {name: top, type: integer, default: 0x10}
  - {name: scale, type: number, default: 1.50}
files:
  model: {path: cats.onnx, sha256: ` + someHash + `}
  labels:
    package: cats-data==1.0
    path: cats_data/labels.txt
    sha256: ` + someHash + `
resources: {gpus: 2, gpu_memory: 4 GiB, compute_capability: "8.0"}
scale: {max: 3, pin: true}
batching: {size: 64, columns: true, answer: out.rows}
onnx:
  labels: &labels ["0", "180", no, 0, 180, 1e3, 0o17, 1_000, null, ~, true, 2024-01-01]
  again: *labels
  mean: [0.5, .5, -1]
  html: <b>
  1: one
  none:
`

// TestParseAction reads everything that an action.yaml can say, with strings and
// numbers told apart.
func TestParseAction(t *testing.T) {
	m, err := parseAction("action.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	labels := `["0","180","no",0,180,1e3,15,1000,null,null,true,"2024-01-01"]`
	want := actions.Model{
		Name: "cats", Version: "1.10", Title: "Tells cats from dogs", Description: "Two lines in one.\n",
		Author: "A. Cat", License: "MIT", Source: "https://example.com/cats", Keywords: []string{"cat", "dog"},
		Runtime: "onnx",
		Arguments: []actions.Argument{
			{Name: "image", Type: actions.TypeFile, Required: true, ContentTypes: []string{"image/png"}},
			{Name: "angle", Type: actions.TypeString, Default: json.RawMessage(`"0"`), Choices: []json.RawMessage{json.RawMessage(`"0"`), json.RawMessage(`"180"`)}},
			{Name: "top", Type: actions.TypeInteger, Default: json.RawMessage("16")},
			{Name: "scale", Type: actions.TypeNumber, Default: json.RawMessage("1.50")},
		},
		Files: map[string]actions.ModelFile{
			"model":  {Path: "cats.onnx", SHA256: someHash},
			"labels": {Package: "cats-data==1.0", Path: "cats_data/labels.txt", SHA256: someHash},
		},
		Resources: actions.Resources{GPUs: 2, GPUMemory: 4 << 30, ComputeCapability: "8.0"},
		Scale:     actions.Scale{Max: 3, Pin: true},
		Batching:  actions.Batching{Size: 64, Columns: true, Answer: "out.rows"},
		Spec:      json.RawMessage(`{"labels":` + labels + `,"again":` + labels + `,"mean":[0.5,0.5,-1],"html":"<b>","1":"one","none":null}`),
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := m.Validate(); err != nil {
		t.Error(err)
	}
}

// TestParseActionErrors shows that errors name the file, the line and what to do.
func TestParseActionErrors(t *testing.T) {
	bomb := "runtime: onnx\nonnx:\n  a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("  %c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 10), ", "))
	}
	large := "runtime: onnx\nonnx:\n  a: &a " + strings.Repeat("x", 1<<19) + "\n  b: [" + strings.Repeat("*a, ", 100) + "]\n"
	tests := map[string]struct {
		in, want string
	}{
		"empty":               {"", "f.yaml is empty"},
		"comment":             {"# nothing\n", "f.yaml is empty"},
		"null":                {"~", `f.yaml:1: keys and values are expected here, not "~"`},
		"list":                {"- a", "f.yaml:1: keys and values are expected here, not a list"},
		"syntax":              {"name: a\nruntime: [\n", "f.yaml:"},
		"tab":                 {"name: a\n\truntime: onnx\n", "f.yaml:2: found a tab character"},
		"two documents":       {"name: a\n---\nname: b\n", "f.yaml:2: a second document; an action has one"},
		"unknown key":         {"runtime: onnx\nmodel: a\n", `f.yaml:2: unknown key "model"; there are arguments, author, batching, description, files, keywords, license, name, resources, runtime, scale, source, title, version, and onnx for the runtime`},
		"spec by its name":    {"runtime: onnx\nspec: {}\n", `f.yaml:2: unknown key "spec"`},
		"other runtime":       {"runtime: onnx\ntorch: {}\n", `f.yaml:2: unknown key "torch"`},
		"unknown in argument": {"arguments:\n  - name: a\n    typ: file\n", `f.yaml:3: unknown key "typ"; there are choices, content_types, default, description, name, required, type`},
		"unknown in file":     {"files:\n  m:\n    hash: a\n", `f.yaml:3: unknown key "hash"; there are package, path, sha256, url`},
		"runtime is a key":    {"runtime: files\n", `f.yaml:1: runtime "files": a key of every action cannot be a runtime`},
		"key twice":           {"name: a\nname: b\n", `f.yaml:2: key "name" is there twice`},
		"key twice in spec":   {"runtime: onnx\nonnx:\n  a: 1\n  a: 2\n", `f.yaml:4: key "a" is there twice`},
		"key of no text":      {"runtime: onnx\nonnx:\n  1.5: 1\n", "f.yaml:3: a key must be a string; quote it"},
		"merge key":           {"runtime: onnx\nonnx:\n  a: &a {b: 1}\n  <<: *a\n", "f.yaml:4: a key must be a string; quote it"},
		"string":              {"title: [a]\n", "f.yaml:1: title must be a string, not a list"},
		"boolean":             {"arguments:\n  - {name: a, required: yes}\n", "f.yaml:2: required must be true or false"},
		"list of arguments":   {"arguments:\n  a: file\n", "f.yaml:2: arguments must be a list, not keys and values"},
		"argument":            {"arguments:\n  - image\n", `f.yaml:2: keys and values are expected here, not "image"`},
		"keyword":             {"keywords: [[a]]\n", "f.yaml:1: keywords[0] must be a string, not a list"},
		"files":               {"files: [a]\n", "f.yaml:1: keys and values are expected here, not a list"},
		"whole number":        {"scale: {min: 1.5}\n", `f.yaml:1: min must be a whole number, not "1.5"`},
		"bytes":               {"resources: {gpu_memory: much}\n", `f.yaml:1: gpu_memory must be a number of bytes, such as 4 GiB, not "much"`},
		"resource":            {"resources: {gpu: 1}\n", `f.yaml:1: unknown key "gpu"; there are compute_capability, gpu_memory, gpus, no_gpu`},
		"batching":            {"batching: {rows: 1}\n", `f.yaml:1: unknown key "rows"; there are answer, argument, columns, size`},
		"infinity":            {"runtime: onnx\nonnx: {a: .inf}\n", `f.yaml:2: ".inf" is no JSON value; quote it to make it a string`},
		"binary":              {"runtime: onnx\nonnx: {a: !!binary aGk=}\n", `f.yaml:2: "aGk=" is no JSON value`},
		"tag":                 {"runtime: onnx\nonnx: {a: !secret b}\n", `f.yaml:2: "b" is no JSON value`},
		"wrong tag":           {"runtime: onnx\nonnx: {a: !!int b}\n", `f.yaml:2: "b" is no JSON value`},
		"unknown alias":       {"runtime: onnx\nonnx: *a\n", "f.yaml: unknown anchor 'a' referenced"},
		"alias of itself":     {"runtime: onnx\nonnx: &a [*a]\n", "f.yaml:2: more than"},
		"bomb":                {bomb, "more than 1000 aliases"},
		"large bomb":          {large, "f.yaml:3: more than 4194304 bytes with all its aliases"},
		"deep":                {"runtime: onnx\nonnx: " + strings.Repeat("[", 200) + strings.Repeat("]", 200), "f.yaml:2: more than 100 values in each other"},
		"large":               {"# " + strings.Repeat("x", 1<<20), "f.yaml: more than 1048576 bytes"},
		"binary file":         {"\x7fELF\x00\x00", "f.yaml: control characters are not allowed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := parseAction("f.yaml", []byte(tt.in))
			if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want Invalid with %q", err, tt.want)
			}
		})
	}
}

// FuzzParseAction shows that no action.yaml makes the reader panic, hang or give a
// model with broken JSON in it.
func FuzzParseAction(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("runtime: onnx\nonnx: &a [*a]\n"))
	f.Add([]byte("runtime: a\na: {? [b] : c, !!int x: !!str 1, d: !!float 1}\n"))
	f.Add([]byte("arguments: [{default: {a: [1, 2]}, choices: [.nan, 0b1]}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseAction("f.yaml", data)
		if err != nil {
			if actions.CodeOf(err) != actions.Invalid || !strings.HasPrefix(err.Error(), "f.yaml") {
				t.Errorf("got %v, want Invalid with the file", err)
			}
			return
		}
		if m.Spec != nil && !json.Valid(m.Spec) {
			t.Errorf("got the spec %q, want JSON", m.Spec)
		}
		for _, a := range m.Arguments {
			if a.Default != nil && !json.Valid(a.Default) {
				t.Errorf("got the default %q, want JSON", a.Default)
			}
		}
		_ = m.Validate() // does not panic
	})
}

// BenchmarkParseAction reads an action.yaml of the usual size.
func BenchmarkParseAction(b *testing.B) {
	for b.Loop() {
		if _, err := parseAction("action.yaml", []byte(good)); err != nil {
			b.Fatal(err)
		}
	}
}
