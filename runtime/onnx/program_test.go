package onnx

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/onnx/onnxtest"
)

// tiny writes a model to a file and returns a setup whose arguments are its inputs.
func tiny(t *testing.T, g onnxtest.Graph, spec string) Setup {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.onnx")
	if err := os.WriteFile(path, g.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if spec == "" {
		spec = `{"model": "model"}`
	}
	c := setup(t, actions.Model{Spec: json.RawMessage(spec)}, map[string]string{"model": path})
	for _, in := range g.Inputs {
		c.Arguments = append(c.Arguments, actions.Argument{Name: in.Name, Type: actions.TypeAny})
	}
	return c
}

// identity is a model that answers with its input.
func identity(kind int, shape ...int64) onnxtest.Graph {
	return onnxtest.Graph{
		Inputs:  []onnxtest.Value{{Name: "x", Type: kind, Shape: shape}},
		Outputs: []onnxtest.Value{{Name: "y", Type: kind, Shape: shape}},
		Nodes:   []onnxtest.Node{{Op: "Identity", Inputs: []string{"x"}, Outputs: []string{"y"}}},
	}
}

func TestTensorsOfEveryType(t *testing.T) {
	tests := []struct {
		kind         kind
		shape        []int64
		value, wants string
	}{
		{fp32, []int64{-1, 2}, "[[1,2.5],[-3e-3,4e20]]", `{"datatype":"FP32","shape":[2,2],"data":[1,2.5,-0.003,4e+20]}`},
		{fp64, []int64{-1}, "[0.1,1e300]", `{"datatype":"FP64","shape":[2],"data":[0.1,1e+300]}`},
		{int8s, []int64{-1}, "[-128,127]", `{"datatype":"INT8","shape":[2],"data":[-128,127]}`},
		{int16s, []int64{-1}, "[-32768]", `{"datatype":"INT16","shape":[1],"data":[-32768]}`},
		{int32s, []int64{-1}, "[-2147483648]", `{"datatype":"INT32","shape":[1],"data":[-2147483648]}`},
		{int64s, []int64{-1}, "[9007199254740993]", `{"datatype":"INT64","shape":[1],"data":[9007199254740993]}`},
		{uint8s, []int64{-1}, "[0,255]", `{"datatype":"UINT8","shape":[2],"data":[0,255]}`},
		{uint16s, []int64{-1}, "[65535]", `{"datatype":"UINT16","shape":[1],"data":[65535]}`},
		{uint32s, []int64{-1}, "[4294967295]", `{"datatype":"UINT32","shape":[1],"data":[4294967295]}`},
		{uint64s, []int64{-1}, "[18446744073709551615]", `{"datatype":"UINT64","shape":[1],"data":[18446744073709551615]}`},
		{bools, []int64{2, 1}, "[[true],[false]]", `{"datatype":"BOOL","shape":[2,1],"data":[true,false]}`},
		{strs, []int64{-1}, `["é\"","","b"]`, `{"datatype":"BYTES","shape":[3],"data":["é\"","","b"]}`},
		{fp16, []int64{2}, "[1.5,65504]", `{"datatype":"FP16","shape":[2],"data":[1.5,65504]}`},
		{bf16, []int64{2}, "[1.5,-2]", `{"datatype":"BF16","shape":[2],"data":[1.5,-2]}`},
		{fp32, []int64{}, "7.5", `{"datatype":"FP32","shape":[],"data":[7.5]}`},
		{int64s, []int64{}, "-7", `{"datatype":"INT64","shape":[],"data":[-7]}`},
		{fp32, []int64{-1}, "[]", `{"datatype":"FP32","shape":[0],"data":[]}`},
		{fp32, []int64{-1, 2}, `{"data": [1,2,3,4], "shape": [2,2], "datatype": "FP32"}`, `{"datatype":"FP32","shape":[2,2],"data":[1,2,3,4]}`},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.kind, tt.shape), func(t *testing.T) {
			p, _ := start(t, tiny(t, identity(int(tt.kind), tt.shape...), ""))
			r, err := p.Call(t.Context(), actions.Request{Args: json.RawMessage(`{"x": ` + tt.value + `}`)})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := string(r.Data), `{"y":`+tt.wants+`}`; got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
			if tt.kind == strs || tt.kind == bf16 {
				return
			}
			// What is answered as .npy is understood as .npy.
			npy, err := p.Call(t.Context(), actions.Request{Args: json.RawMessage(`{"x": ` + tt.value + `}`), Accept: typeNPY})
			if err != nil {
				t.Fatal(err)
			}
			again, err := p.Call(t.Context(), actions.Request{Files: []actions.File{{Name: "x", Data: npy.Data}}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(r.Data), string(again.Data)); diff != "" {
				t.Errorf("through .npy: -want +got\n%s", diff)
			}
		})
	}
}

func TestNotANumberIsNull(t *testing.T) {
	g := onnxtest.Graph{
		Inputs:  []onnxtest.Value{{Name: "x", Type: 1, Shape: []int64{-1}}},
		Outputs: []onnxtest.Value{{Name: "y", Type: 1, Shape: []int64{-1}}},
		Nodes:   []onnxtest.Node{{Op: "Log", Inputs: []string{"x"}, Outputs: []string{"y"}}},
	}
	p, _ := start(t, tiny(t, g, ""))
	r, err := p.Call(t.Context(), actions.Request{Args: json.RawMessage(`{"x": [1, 0, -1]}`)})
	if want := `{"y":{"datatype":"FP32","shape":[3],"data":[0,null,null]}}`; err != nil || string(r.Data) != want {
		t.Errorf("got %s and %v, want %s", r.Data, err, want)
	}
}

// addition is a model with two inputs and two outputs.
func addition() onnxtest.Graph {
	v := func(name string) onnxtest.Value { return onnxtest.Value{Name: name, Type: 1, Shape: []int64{-1, 2}} }
	return onnxtest.Graph{
		Inputs: []onnxtest.Value{v("a"), v("b")}, Outputs: []onnxtest.Value{v("sum"), v("product")},
		Nodes: []onnxtest.Node{
			{Op: "Add", Inputs: []string{"a", "b"}, Outputs: []string{"sum"}},
			{Op: "Mul", Inputs: []string{"a", "b"}, Outputs: []string{"product"}},
		},
	}
}

func TestOutputs(t *testing.T) {
	req := actions.Request{Args: json.RawMessage(`{"a": [[1,2]], "b": [[3,4]]}`)}
	tests := []struct{ name, spec, accept, want string }{
		{"all", `{"model":"model"}`, "", `{"sum":{"datatype":"FP32","shape":[1,2],"data":[4,6]},"product":{"datatype":"FP32","shape":[1,2],"data":[3,8]}}`},
		{"one", `{"model":"model","output":{"tensors":["product"]}}`, "", `{"product":{"datatype":"FP32","shape":[1,2],"data":[3,8]}}`},
		{"classes", `{"model":"model","output":{"classification":{"tensor":"sum","labels":["cat","dog"],"top":1}}}`, "", `{"label":"dog","score":6,"labels":[{"label":"dog","score":6}]}`},
		{"two as npy", `{"model":"model"}`, typeNPY, "unsupported: the model has 2 outputs, a .npy file holds one; accept application/json"},
		{"text", `{"model":"model"}`, "text/html", `unsupported: the model answers with application/json or application/x-npy, not with "text/html"`},
		{"classes as npy", `{"model":"model","output":{"classification":{"tensor":"sum","labels":["cat","dog"]}}}`, typeNPY, `unsupported: the model answers with application/json, not with "application/x-npy"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := start(t, tiny(t, addition(), tt.spec))
			req.Accept = tt.accept
			r, err := p.Call(t.Context(), req)
			got := string(r.Data)
			if err != nil {
				got = string(actions.CodeOf(err)) + ": " + err.Error()
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestCallRefuses(t *testing.T) {
	p, _ := start(t, tiny(t, addition(), ""))
	file := func(data []byte) []actions.File { return []actions.File{{Name: "a", Data: data}} }
	npy := func(k kind, shape []int64, data any) []byte {
		b, err := writeNPY(tensor{k, shape, data})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := `"b": [[3,4]]`
	tests := []struct {
		name string
		req  actions.Request
		want string
	}{
		{"train", actions.Request{Verb: actions.Train}, "unsupported: the model cannot train; it can predict"},
		{"suspend", actions.Request{Verb: actions.Suspend}, "unsupported: the model cannot suspend; it can predict"},
		{"no arguments", actions.Request{}, "invalid: a: the argument is missing"},
		{"arguments of another kind", actions.Request{Args: json.RawMessage(`[1]`)}, "invalid: the arguments are not a JSON object"},
		{"shape", actions.Request{Args: json.RawMessage(`{"a": [[1,2,3]], ` + b + `}`)}, "invalid: a: got the shape [1,3], the model takes [?,2]"},
		{"rank", actions.Request{Args: json.RawMessage(`{"a": 1, ` + b + `}`)}, "invalid: a: got the shape [], the model takes [?,2]"},
		{"lists", actions.Request{Args: json.RawMessage(`{"a": [[1,2],[3]], ` + b + `}`)}, "invalid: a: the lists are of different lengths: 2 and 1, after 3 numbers"},
		{"text", actions.Request{Args: json.RawMessage(`{"a": [["1",2]], ` + b + `}`)}, `invalid: a: element 0: got the string "1", want a number (FP32)`},
		{"range", actions.Request{Args: json.RawMessage(`{"a": [[1e39,2]], ` + b + `}`)}, "invalid: a: element 0: 1e39 is out of the range of FP32"},
		{"datatype", actions.Request{Args: json.RawMessage(`{"a": {"data": [[1,2]], "datatype": "INT8"}, ` + b + `}`)}, `invalid: a: got datatype "INT8", want FP32`},
		{"key", actions.Request{Args: json.RawMessage(`{"a": {"date": [[1,2]]}, ` + b + `}`)}, `invalid: a: unknown key "date"`},
		{"not npy", actions.Request{Files: file([]byte("hello"))}, `invalid: a: this is not a .npy file (it does not begin with \x93NUMPY)`},
		{"npy of int8", actions.Request{Files: file(npy(int8s, []int64{1, 2}, []int8{1, 2}))}, "invalid: a: got elements of type INT8, want FP32"},
		{"npy out of range", actions.Request{Files: file(npy(fp64, []int64{1, 2}, []float64{1, -1e300}))}, "invalid: a: element 1: -1e+300 is out of the range of FP32"},
		{"two files", actions.Request{Files: append(file(nil), file(nil)...)}, "invalid: a: got more than one file, want one"},
		// The two fit one by one but not together, which only the model knows.
		{"sizes", actions.Request{Args: json.RawMessage(`{"a": [[1,2],[3,4],[5,6]], "b": [[1,2],[3,4]]}`)}, "failed: the model raised an error: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := p.Call(t.Context(), tt.req)
			if got := string(actions.CodeOf(err)) + ": " + fmt.Sprint(err); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	if _, err := p.Call(t.Context(), actions.Request{Files: file(npy(fp64, []int64{1, 2}, []float64{1, 2})), Args: json.RawMessage("{" + b + "}")}); err != nil {
		t.Errorf("got %v, want numpy's default type to be converted", err)
	}
}

func TestPicturesThatAreRefused(t *testing.T) {
	p, _ := start(t, setup(t, shipped(t, "ocr-line"), nil))
	// The header of a picture that takes a file of 200 bytes and seconds to decode.
	many := []byte("RIFF\x0e\x00\x00\x00WEBPVP8L\x05\x00\x00\x00\x2f\xf2\xa4\x3c\x09")
	tests := []struct {
		name string
		req  actions.Request
		want string
	}{
		{"many pixels", imageRequest(many), "image: the WebP picture has 9459×9459 pixels, the limit is 16777216 pixels; send a smaller one"},
		{"missing", actions.Request{}, "image: the argument is missing"},
		{"JSON", actions.Request{Args: json.RawMessage(`{"image": 5}`)}, "image: got a JSON value, want a picture: a file"},
		{"text", imageRequest([]byte("no picture")), `image: this is not a picture that can be read but text, beginning with "no picture"; send PNG, JPEG, WebP or TIFF`},
		{"empty", imageRequest(nil), "image: this is not a picture that can be read but an empty file (0 bytes); send PNG, JPEG, WebP or TIFF"},
		{"wide", imageRequest(encode(t, image.NewGray(image.Rect(0, 0, 900, 10)))), "image: the picture is 900×10 pixels, at a height of 48 its width is 4320; the limit is 4096: send a part of it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := p.Call(t.Context(), tt.req)
			if actions.CodeOf(err) != actions.Invalid || err.Error() != tt.want {
				t.Errorf("got %s: %v, want %s", actions.CodeOf(err), err, tt.want)
			}
		})
	}
	got := predict[struct{ Text string }](t, p, imageRequest(encode(t, image.NewGray(image.Rect(0, 0, 1, 1)))))
	if got.Text != "" {
		t.Errorf("got %q for one pixel, want no text", got.Text)
	}
}

func TestCallsAtATime(t *testing.T) {
	p, _ := start(t, tiny(t, addition(), `{"model":"model","output":{"tensors":["sum"]}}`))
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			args := json.RawMessage(fmt.Sprintf(`{"a": [[%d,0]], "b": [[0,%d]]}`, i, i))
			want := fmt.Sprintf(`{"sum":{"datatype":"FP32","shape":[1,2],"data":[%d,%d]}}`, i, i)
			for range 50 {
				r, err := p.Call(t.Context(), actions.Request{Args: args})
				if err != nil || string(r.Data) != want {
					t.Errorf("got %s and %v, want %s", r.Data, err, want)
					return
				}
			}
		})
	}
	callers.Wait()
}

// TestMemory counts what the process holds, since the library's memory is not Go's.
func TestMemory(t *testing.T) {
	g := identity(1, -1, -1)
	g.Outputs = append(g.Outputs, onnxtest.Value{Name: "s", Type: 8, Shape: []int64{-1}})
	g.Inputs = append(g.Inputs, onnxtest.Value{Name: "t", Type: 8, Shape: []int64{-1}})
	g.Nodes = append(g.Nodes, onnxtest.Node{Op: "Identity", Inputs: []string{"t"}, Outputs: []string{"s"}})
	p, _ := start(t, tiny(t, g, ""))
	req := actions.Request{Args: json.RawMessage(`{"x": [` + strings.Repeat("[1,2,3,4],", 999) + `[1,2,3,4]], "t": ["a text of some length, so that it counts"]}`)}
	calls := func(n int) {
		for range n {
			ctx, cancel := context.WithCancel(t.Context())
			if _, err := p.Call(ctx, req); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
	}
	calls(500)
	before := resident(t)
	calls(3000)
	// A leak of the input alone would be 48 MB.
	if grown := resident(t) - before; grown > 12<<20 {
		t.Errorf("got %d more bytes after 3000 calls, want less than 12 MiB", grown)
	}
}

func resident(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
