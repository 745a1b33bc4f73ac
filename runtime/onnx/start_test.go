package onnx

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ort "github.com/yalue/onnxruntime_go"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/onnx/onnxtest"
)

func TestStartTells(t *testing.T) {
	c := tiny(t, addition(), `{"model":"model","output":{"tensors":["sum"]}}`)
	c.Threads = 2
	_, info := start(t, c)
	if info.LoadSeconds <= 0 || info.WarmSeconds <= 0 || info.Version == "" {
		t.Errorf("got %+v, want times and a version", info)
	}
	info.LoadSeconds, info.WarmSeconds, info.Version = 0, 0, ""
	want := Info{
		Provider: "CPUExecutionProvider", Threads: 2, Warm: true, Cache: "off",
		Inputs:  []Port{{"a", "FP32", []int64{-1, 2}}, {"b", "FP32", []int64{-1, 2}}},
		Outputs: []Port{{"sum", "FP32", []int64{-1, 2}}},
	}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestStartRefuses(t *testing.T) {
	file := func(data []byte) func(*Setup) {
		return func(c *Setup) {
			path := filepath.Join(t.TempDir(), "model.onnx")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			c.Files = map[string]string{"model": path}
		}
	}
	spec := func(s string) func(*Setup) { return func(c *Setup) { c.Spec = json.RawMessage(s) } }
	whole := addition().Bytes()
	sequence := addition()
	sequence.Outputs[1].Type = 99
	external := append(bytes.Clone(whole), 0x3a, 7, 0x2a, 5, 0x42, 1, 'w', 0x70, 1)
	tests := []struct {
		name   string
		change func(*Setup)
		want   string
	}{
		{"text", file([]byte("this is not a model")), "model model.onnx: it is not an ONNX file"},
		{"empty", file(nil), "model model.onnx: the file is empty"},
		{"cut", file(whole[:len(whole)/2]), "model model.onnx: it is not an ONNX file, or it is cut short"},
		{"missing file", func(c *Setup) { c.Files["model"] = "/none/model.onnx" }, "model model.onnx: open /none/model.onnx: no such file or directory"},
		{"weights elsewhere", file(external), `model model.onnx: its weight "w" lies in a separate file; save the model as one file`},
		{"no such operation", file(func() []byte { g := addition(); g.Nodes[0].Op = "Frobnicate"; return g.Bytes() }()), "model model.onnx: Error creating C session from file: "},
		{"elements of a kind", file(sequence.Bytes()), "output: product: its elements are of type 99, which is not supported"},
		{"device", func(c *Setup) { c.Device = "tpu" }, `device: got "tpu", want auto, cpu, cuda`},
		{"spec", spec(`{"model": "model", "outputs": {}}`), `onnx: unknown key "outputs"`},
		{"file", spec(`{"model": "weights"}`), `the action has no file "weights"`},
		{"argument", func(c *Setup) { c.Arguments = c.Arguments[:1] }, `inputs: b: the action has no argument "b"`},
		{"input", spec(`{"model": "model", "inputs": {"c": {"tensor": {"argument": "a"}}}}`), `inputs: the model has no input "c" but ["a" "b"]`},
		{"output", spec(`{"model": "model", "output": {"tensors": ["c"]}}`), `output: the model has no output "c" but ["sum" "product"]`},
		{"which output", spec(`{"model": "model", "output": {"classification": {"labels": ["a", "b"]}}}`), `output: the model has the outputs ["sum" "product"]; name one as tensor`},
		{"metadata", spec(`{"model": "model", "output": {"classification": {"tensor": "sum", "labels": {"metadata": "names"}}}}`), `output: the model's metadata has no entry "names"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tiny(t, addition(), "")
			tt.change(&c)
			if _, _, err := tryStart(t, c); err == nil || !strings.HasPrefix(err.Error(), "onnx: "+tt.want) {
				t.Errorf("got %v, want onnx: %s", err, tt.want)
			}
		})
	}
}

// TestStartFindsMisfits starts the real models with actions that do not fit them.
func TestStartFindsMisfits(t *testing.T) {
	tests := []struct{ name, model, old, changed, want string }{
		{"labels", "text-angle", `["0","180"]`, `["0","90","180"]`, "onnx: the model answered with 2 classes, the action has 3 labels"},
		{"characters", "ocr-line", `"space":true`, `"space":false`, "onnx: the model answered with 6625 classes, the action has 6624 characters with the blank"},
		{"colours", "ocr-line", `"bgr"`, `"gray"`, "onnx: inputs: x: got the shape [1,1,48,320], the model takes [?,3,?,?]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := setup(t, shipped(t, tt.model), nil)
			changed := strings.Replace(string(c.Spec), tt.old, tt.changed, 1)
			if changed == string(c.Spec) {
				t.Fatalf("got no %s in %s", tt.old, c.Spec)
			}
			c.Spec = json.RawMessage(changed)
			if _, _, err := tryStart(t, c); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestDevice opens sessions on machines with a GPU and without.
func TestDevice(t *testing.T) {
	c := tiny(t, addition(), "")
	if _, err := openLibrary(c.Library); err != nil {
		t.Fatal(err)
	}
	g := addition()
	none := func(*ort.SessionOptions) error { return errors.New("no device") }
	one := func(*ort.SessionOptions) error { return nil }
	tests := []struct {
		device     string
		accelerate func(*ort.SessionOptions) error
		want       string // the provider, or the error
	}{
		{"", one, providerCUDA},
		{"auto", one, providerCUDA},
		{"cuda", one, providerCUDA},
		{"cpu", one, providerCPU},
		{"", none, providerCPU},
		{"auto", none, providerCPU},
		{"cuda", none, "the device is cuda, but the model cannot be loaded there: no device"},
		{"cpu", none, providerCPU},
	}
	for _, tt := range tests {
		m := model{inputs: []port{{name: g.Inputs[0].Name}, {name: g.Inputs[1].Name}}, outputs: []port{{name: g.Outputs[0].Name}}}
		s, err := openSession(sessionConfig{
			path: c.Files["model"], inputs: m.inputs, outputs: m.outputs, threads: 1,
			device: tt.device, accelerate: tt.accelerate,
		})
		got := fmt.Sprint(err)
		if err == nil {
			got = s.provider
			s.close()
		}
		if got != tt.want {
			t.Errorf("device %q: got %s, want %s", tt.device, got, tt.want)
		}
	}
}

// TestDeviceOfThisMachine asks the library itself, which may have a GPU or not: cuda
// fails where auto takes the CPU, and nowhere else.
func TestDeviceOfThisMachine(t *testing.T) {
	c := tiny(t, addition(), "")
	c.Device = "auto"
	_, auto := start(t, c)
	c.Device = "cuda"
	p, cuda, err := tryStart(t, c)
	if err == nil {
		t.Cleanup(p.Close)
	}
	const refused = "the device is cuda, but the model cannot be loaded there: "
	switch auto.Provider {
	case providerCPU:
		if err == nil || !strings.Contains(err.Error(), refused) {
			t.Errorf("got %v, want an error that says that there is no GPU", err)
		}
	case providerCUDA:
		if err != nil || cuda.Provider != providerCUDA {
			t.Errorf("got %+v and %v, want the GPU", cuda, err)
		}
	default:
		t.Errorf("got %s", auto.Provider)
	}
}

func TestLibraryVersion(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(text, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"":                        "no libonnxruntime is configured; give the path of one, version 1.24 or later",
		"/none/libonnxruntime.so": "libonnxruntime not found at /none/libonnxruntime.so; install ONNX Runtime 1.24 or later and give its path",
		text:                      text + " is not a shared library: ",
	} {
		if _, err := LibraryVersion(path); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", path, err, want)
		}
	}
	if v, err := LibraryVersion(onnxtest.Library(t)); err != nil || older(v, 1, 24) || v == "" {
		t.Errorf("got %q and %v, want 1.24 or later", v, err)
	}
	want := "libonnxruntime at /lib/x.so is version 1.23.9; version 1.24 or later is needed; leave --onnxruntime out and the right one is fetched"
	if err := recent("/lib/x.so", "1.23.9"); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	for v, want := range map[string]bool{"1.23.9": true, "0.99": true, "1.24.0": false, "1.100.1": false, "2.0.0": false, "odd": false} {
		if got := older(v, 1, 24); got != want {
			t.Errorf("%s: got older %v, want %v", v, got, want)
		}
	}
}

// TestGuessedSizes starts a model that refuses the sizes that are guessed for it.
func TestGuessedSizes(t *testing.T) {
	g := identity(1, -1, -1)
	g.Inputs = append(g.Inputs, onnxtest.Value{Name: "shape", Type: 7, Shape: []int64{-1}})
	g.Nodes = []onnxtest.Node{{
		Op: "Reshape", Inputs: []string{"x", "shape"}, Outputs: []string{"y"},
		Attributes: map[string]int64{"allowzero": 1}, // a size of 0 means 0
	}}
	g.Outputs[0].Shape = []int64{2, 3}
	p, info := start(t, tiny(t, g, ""))
	if info.Warm {
		t.Error("got a warm model, want one that refused the guess")
	}
	r, err := p.Call(t.Context(), actions.Request{Args: json.RawMessage(`{"x": [[1,2,3,4,5,6]], "shape": [2,3]}`)})
	if want := `{"y":{"datatype":"FP32","shape":[2,3],"data":[1,2,3,4,5,6]}}`; err != nil || string(r.Data) != want {
		t.Errorf("got %s and %v, want %s", r.Data, err, want)
	}
}
