package onnx

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/onnx/picture"
)

func TestParseSpec(t *testing.T) {
	got, err := ParseSpec(json.RawMessage(`{
		"model": "model",
		"inputs": {
			"x": {"image": {"argument": "image", "color": "bgr", "scale": 0.5, "mean": [1], "std": [1, 2, 3], "layout": "nhwc", "max_pixels": 9, "max_bytes": 10,
				"resize": {"mode": "fit", "width": 4, "height": 5, "filter": "lanczos", "pad": [114]}}},
			"y": {"tensor": {"argument": "numbers"}}
		},
		"output": {"text_line": {"tensor": "out", "softmax": true, "characters": {"file": "chars"}, "space": true, "blank": "last"}}
	}`))
	want := Spec{
		Model: "model",
		Inputs: map[string]Input{
			"x": {Image: &Image{
				Argument: "image", Color: "bgr", Scale: 0.5, Mean: []float64{1}, Std: []float64{1, 2, 3}, Layout: "nhwc", MaxPixels: 9, MaxBytes: 10,
				Resize: Resize{Mode: "fit", Width: 4, Height: 5, Filter: picture.Lanczos, Pad: []float64{114}},
			}},
			"y": {Tensor: &Tensor{Argument: "numbers"}},
		},
		Output: Output{TextLine: &TextLine{Tensor: "out", Softmax: true, Characters: Names{File: "chars"}, Space: true, Blank: "last"}},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("got %v, -want +got\n%s", err, diff)
	}
}

func TestParseSpecRefuses(t *testing.T) {
	image := func(more string) string {
		return `{"model": "m", "inputs": {"x": {"image": {"argument": "a"` + more + `}}}}`
	}
	output := func(o string) string { return `{"model": "m", "output": {` + o + `}}` }
	tests := []struct{ spec, want string }{
		{"", "the section is missing"},
		{"null", "model: the name of the model's file is missing"},
		{"{}", "model: the name of the model's file is missing"},
		{`{"model": 5}`, "model: got number, want a string"},
		{`{"modell": "m"}`, `unknown key "modell"`},
		{`{"model": "m"} {}`, "there is something behind the section's end"},
		{`{"model": "m", "inputs": {"x": {}}}`, "inputs: x: say either image or tensor"},
		{`{"model": "m", "inputs": {"x": {"tensor": {}}}}`, "inputs: x: tensor: argument: the name is missing"},
		{`{"model": "m", "inputs": {"x": {"image": {}}}}`, "inputs: x: image: argument: the name is missing"},
		{image(`, "colour": "rgb"`), `unknown key "colour"`},
		{image(`, "color": "hsv"`), `inputs: x: image: color: got "hsv", want rgb, bgr, gray`},
		{image(`, "layout": "chw"`), `inputs: x: image: layout: got "chw", want nchw, nhwc`},
		{image(`, "mean": [1, 2]`), "inputs: x: image: mean: got 2 numbers, want 1 or 3"},
		{image(`, "color": "gray", "mean": [1, 2, 3]`), "inputs: x: image: mean: got 3 numbers, want 1 or 1"},
		{image(`, "std": [0]`), "inputs: x: image: std: must not be 0"},
		{image(`, "max_pixels": -1`), "inputs: x: image: max_pixels and max_bytes: must not be negative"},
		{image(`, "max_bytes": -1`), "inputs: x: image: max_pixels and max_bytes: must not be negative"},
		{image(`, "resize": {"mode": "crop"}`), `inputs: x: image: resize: mode: got "crop", want none, stretch, fit, fill, height`},
		{image(`, "resize": {"width": 5}`), "inputs: x: image: resize: without a mode (stretch, fit, fill or height) there must be no other key"},
		{image(`, "resize": {"mode": "fill", "width": 5}`), "inputs: x: image: resize: mode fill wants width and height, and none of min_width, max_width and wider"},
		{image(`, "resize": {"mode": "fill", "width": 5, "height": 5, "pad": [1]}`), "inputs: x: image: resize: mode fill leaves nothing to pad"},
		{image(`, "resize": {"mode": "fit", "width": 5, "height": 50000}`), "inputs: x: image: resize: height: got 50000, want 1 to 16384"},
		{image(`, "resize": {"mode": "fit", "width": 5, "height": 5, "pad": [256]}`), "inputs: x: image: resize: pad: got 256, want 0 to 255"},
		{image(`, "resize": {"mode": "fit", "width": 5, "height": 5, "filter": "cubic"}`), `inputs: x: image: resize: filter: got "cubic", want one of ["nearest"`},
		{image(`, "resize": {"mode": "height", "height": 48, "width": 3}`), "inputs: x: image: resize: mode height wants height and no width"},
		{image(`, "resize": {"mode": "height", "height": 48, "min_width": 9, "max_width": 8}`), "inputs: x: image: resize: min_width 9 is greater than max_width 8"},
		{image(`, "resize": {"mode": "height", "height": 48, "wider": "cut"}`), `inputs: x: image: resize: wider: got "cut", want refuse, squeeze`},
		{output(`"tensors": ["a"], "text_line": {"characters": ["a"]}`), "output: say one of classification, text_line and tensors"},
		{output(`"classification": {}`), "output: classification: labels: give a list, or {file: NAME}, or {metadata: KEY}"},
		{output(`"classification": {"labels": [0, 180]}`), "a list of names must hold strings; quote those that look like numbers or booleans"},
		{output(`"classification": {"labels": {"path": "x"}}`), `unknown key "path"`},
		{output(`"classification": {"labels": ["a"], "top": -1}`), "output: classification: top: must not be negative"},
		{output(`"text_line": {"characters": ["a"], "blank": "middle"}`), `output: text_line: blank: got "middle", want first, last`},
		{output(`"text_line": {"characters": {"file": "a", "metadata": "b"}}`), "output: text_line: characters: give a list, or {file: NAME}, or {metadata: KEY}"},
	}
	for _, tt := range tests {
		_, err := ParseSpec(json.RawMessage(tt.spec))
		if actions.CodeOf(err) != actions.Invalid || !strings.HasPrefix(err.Error(), "onnx: "+tt.want) {
			t.Errorf("%s: got %v, want onnx: %s", tt.spec, err, tt.want)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, name := range []string{"ocr-line", "text-angle"} {
		m := shipped(t, name)
		if err := Check(m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := m.Validate(); err != nil || m.Name != name || m.Runtime != "onnx" {
			t.Errorf("got %v for %s with the runtime %s", err, m.Name, m.Runtime)
		}
		m.Arguments[0].Type = actions.TypeString
		if err := Check(m); err == nil || err.Error() != `onnx: inputs: x: argument "image" is of type string, want file` {
			t.Errorf("%s: got %v for an argument of the wrong type", name, err)
		}
		m.Arguments = nil
		if err := Check(m); err == nil || err.Error() != `onnx: inputs: x: the action has no argument "image"` {
			t.Errorf("%s: got %v without arguments", name, err)
		}
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(`{"model":"m","inputs":{"x":{"image":{"argument":"a","resize":{"mode":"fit","width":4,"height":5}}}},"output":{"classification":{"labels":["a"]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSpec(data)
		if err != nil {
			return
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseSpec(b); err != nil {
			t.Errorf("%s: %v", b, err)
		}
	})
}
