package deploy_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/deploy"
)

// wskdeployFile has the members of a manifest that wskdeploy reads (parsers/yamlparser.go
// of apache/openwhisk-wskdeploy), which refuses others.
type wskdeployFile struct {
	Packages map[string]struct {
		Version, License string
		Actions          map[string]struct {
			Docker, Function, Code, Runtime, Main, Web string
			Limits                                     struct {
				Timeout    *int
				MemorySize *int `yaml:"memorySize"`
				LogSize    *int `yaml:"logSize"`
			}
			Inputs, Annotations map[string]any
		}
		Sequences map[string]struct {
			Actions, Web string
			Annotations  map[string]any
		}
	}
}

func readManifest(t *testing.T, data []byte) wskdeployFile {
	t.Helper()
	var doc wskdeployFile
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&doc); err != nil {
		t.Fatalf("%v in:\n%s", err, data)
	}
	return doc
}

func TestManifest(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "code", "dates.py")
	source := []byte("def main(args):\n    return {'x': \"<a> # $b: 'c'\"}\n")
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, source, 0o600); err != nil {
		t.Fatal(err)
	}
	logs := 3
	line, dates := function("ocr-line"), deploy.Function{Name: "dates", File: file, Code: source, Model: actions.Model{Name: "dates"}, Memory: 128}
	inline := deploy.Function{Name: "in & line.1", Code: source, Model: actions.Model{Name: "inline"}, Memory: 128}
	line.Options = deploy.Options{
		Web: deploy.Raw, Secret: "no: yes", Main: "predict", Limits: deploy.Limits{Memory: 512, Timeout: 60000, Logs: &logs},
		Parameters: whisk.KeyValues{kv("key: #", `{"a":["b: c",null,"'\"\n"]}`)}, Annotations: whisk.KeyValues{kv("x", "1.5")},
	}
	d := deployment(line, dates, inline)
	d.Package = "models"
	d.Sequences = []deploy.Sequence{{Name: "receipts", Components: []string{"ocr-line", "dates", "/_/other/last"}, Options: deploy.Options{Web: deploy.Yes}}}
	out, err := deploy.Manifest(d, dir)
	if err != nil {
		t.Fatal(err)
	}
	doc := readManifest(t, out)
	pkg, ok := doc.Packages["models"]
	if !ok || pkg.Version == "" || pkg.License == "" || len(pkg.Actions) != 3 {
		t.Fatalf("got %+v in:\n%s", doc, out)
	}
	a := pkg.Actions["ocr-line"]
	if a.Docker != "me/deepfn:1" || a.Code != `{"model":"ocr-line"}` || a.Runtime != "python" || a.Function != "" || a.Main != "predict" || a.Web != "raw" {
		t.Errorf("got %+v", a)
	}
	if *a.Limits.Timeout != 60000 || *a.Limits.MemorySize != 512 || *a.Limits.LogSize != 3 {
		t.Errorf("limits: got %d, %d, %d", *a.Limits.Timeout, *a.Limits.MemorySize, *a.Limits.LogSize)
	}
	if want := map[string]any{"key: #": map[string]any{"a": []any{"b: c", nil, "'\"\n"}}}; !cmp.Equal(a.Inputs, want) {
		t.Errorf("inputs: got %v, want %v", a.Inputs, want)
	}
	if a.Annotations["require-whisk-auth"] != "no: yes" || a.Annotations["x"] != 1.5 || a.Annotations["provide-api-key"] != false || a.Annotations["deepfn"] == nil {
		t.Errorf("annotations: got %v", a.Annotations)
	}
	if b := pkg.Actions["dates"]; b.Function != "code/dates.py" || b.Code != "" || b.Runtime != "" {
		t.Errorf("a file: got %+v, want it by its path", b)
	}
	if b := pkg.Actions["in & line.1"]; b.Code != string(source) || b.Runtime == "" {
		t.Errorf("code: got %q, want %q", b.Code, source)
	}
	if s := pkg.Sequences["receipts"]; s.Actions != "models/ocr-line,models/dates,other/last" || s.Web != "yes" || s.Annotations["deepfn"] == nil {
		t.Errorf("sequence: got %+v", s)
	}
}

// Without a package wskdeploy's is called default, and the file itself is text that a
// person can read.
func TestManifestWithoutPackage(t *testing.T) {
	d := deployment(function("m"))
	d.Sequences = []deploy.Sequence{{Name: "s", Components: []string{"m", "n"}}}
	out, err := deploy.Manifest(d, ".")
	if err != nil {
		t.Fatal(err)
	}
	if s := readManifest(t, out).Packages["default"].Sequences["s"]; s.Actions != "m,n" {
		t.Errorf("got %+v in:\n%s", s, out)
	}
	if !bytes.HasPrefix(out, []byte("# For wskdeploy")) || !bytes.Contains(out, []byte("\n  \"default\":\n")) {
		t.Errorf("got:\n%s", out)
	}
}

func TestManifestRefuses(t *testing.T) {
	with := func(change func(*deploy.Deployment)) deploy.Deployment {
		d := deployment(function("m"))
		d.Package = "models"
		change(&d)
		return d
	}
	sequence := func(components ...string) func(*deploy.Deployment) {
		return func(d *deploy.Deployment) {
			d.Sequences = []deploy.Sequence{{Name: "s", Components: components}}
		}
	}
	for _, test := range []struct {
		name string
		d    deploy.Deployment
		text string
	}{
		{"a kind", with(func(d *deploy.Deployment) { d.Functions[0].Kind = "deepfn:m" }), "for images"},
		{"another namespace", with(sequence("/whisk.system/utils/echo")), "cannot name the action"},
		{"an action of no package", with(sequence("m", "alone")), "cannot name the action"},
		{"a variable", with(func(d *deploy.Deployment) { d.Functions[0].Parameters = whisk.KeyValues{kv("k", `"$HOME"`)} }), "wskdeploy would replace"},
		{"a variable within", with(func(d *deploy.Deployment) { d.Functions[0].Annotations = whisk.KeyValues{kv("k", `"a${HOME}"`)} }), "wskdeploy would replace"},
		{"what no platform takes", with(func(d *deploy.Deployment) { d.Functions[0].Web = "x" }), "--web x"},
		{"a name", with(func(d *deploy.Deployment) { d.Functions[0].Name = "/" }), "cannot be a name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := deploy.Manifest(test.d, "."); actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v, want Invalid with %q", err, test.text)
			}
		})
	}
}

func TestRuntimesEntry(t *testing.T) {
	for _, test := range []struct {
		image string
		want  map[string]any
	}{
		{"deepfn:1", map[string]any{"name": "deepfn", "tag": "1"}},
		{"me/deepfn", map[string]any{"prefix": "me", "name": "deepfn"}},
		{"registry.example.org:5000/a/b/deepfn-line:0.1.0", map[string]any{"registry": "registry.example.org:5000", "prefix": "a/b", "name": "deepfn-line", "tag": "0.1.0"}},
		{"localhost/deepfn", map[string]any{"registry": "localhost", "name": "deepfn"}},
	} {
		f := function("ocr-line")
		f.Image = test.image
		out, err := deploy.RuntimesEntry([]deploy.Function{f}, deploy.StemCell{Count: 2})
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Runtimes map[string][]map[string]any `json:"runtimes"`
		}
		if err := json.Unmarshal(out, &doc); err != nil {
			t.Fatal(err)
		}
		want := []map[string]any{{
			"kind": "deepfn:ocr-line", "default": true, "deprecated": false, "image": test.want,
			"attached":  map[string]any{"attachmentName": "codefile", "attachmentType": "text/plain"},
			"stemCells": []any{map[string]any{"initialCount": 2.0, "memory": "320 MB"}},
		}}
		if got := doc.Runtimes["deepfn"]; !cmp.Equal(got, want) {
			t.Errorf("%s: %s", test.image, cmp.Diff(want, got))
		}
	}
	code := function("m")
	code.Code = []byte("x")
	digest := function("m")
	digest.Image = "deepfn@sha256:00"
	empty := function("m")
	for _, list := range [][]deploy.Function{nil, {code}, {digest}, {empty}} {
		if _, err := deploy.RuntimesEntry(list, deploy.StemCell{}); actions.CodeOf(err) != actions.Invalid {
			t.Errorf("%v: got %v, want Invalid", list, err)
		}
	}
}

func TestReadProperties(t *testing.T) {
	props, err := deploy.ReadProperties(strings.NewReader("APIHOST=http://127.0.0.1:8080\r\n AUTH = a:b=c== \n# NOTE=1\n\nodd\n=x\napiversion=v1\nAPIHOST=https://last\n"))
	want := deploy.Properties{"APIHOST": "https://last", "AUTH": "a:b=c==", "APIVERSION": "v1"}
	if err != nil || !cmp.Equal(props, want) {
		t.Errorf("got %v, %v, want %v", props, err, want)
	}
	if _, err := deploy.ReadProperties(strings.NewReader("A=" + strings.Repeat("x", 1<<20))); err == nil {
		t.Error("a line of 1 MiB: got no error")
	}
}

func TestEstimate(t *testing.T) {
	for _, test := range []struct {
		name         string
		estimate     deploy.Estimate
		runtime      string
		requirements []string
		packages     bool
		want         int
	}{
		{"onnx, 10 MiB", deploy.Estimate{Weights: 10 << 20}, actions.ONNX, nil, false, 256},
		{"onnx, not fetched", deploy.Estimate{Unknown: true}, actions.ONNX, nil, false, 448},
		{"onnx, 1 GiB", deploy.Estimate{Weights: 1 << 30}, actions.ONNX, nil, false, 3264},
		{"function", deploy.Estimate{}, actions.Python, nil, false, 128},
		{"numpy", deploy.Estimate{}, actions.Python, []string{"numpy==2.2.6"}, false, 512},
		{"torch", deploy.Estimate{}, actions.Python, []string{"numpy", "Torch>=2"}, false, 2048},
		{"torchvision alone is not torch", deploy.Estimate{}, actions.Python, []string{"torch-like"}, false, 512},
		{"added", deploy.Estimate{}, actions.Python, nil, true, 2048},
		{"server", deploy.Estimate{}, actions.HTTP, nil, false, 2048},
	} {
		if got := test.estimate.Memory(actions.Model{Runtime: test.runtime}, test.requirements, test.packages); got != test.want {
			t.Errorf("%s: got %d MiB, want %d", test.name, got, test.want)
		}
	}
	fsys := fstest.MapFS{
		"a.onnx": {Data: make([]byte, 100)}, "sub/b.PT": {Data: make([]byte, 20)}, "c.py": {Data: make([]byte, 1000)},
		".git/d.onnx": {Data: make([]byte, 5000)},
	}
	if got := deploy.WeightsIn(fsys); got != 120 {
		t.Errorf("weights: got %d, want 120", got)
	}
}
