package actions_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// TestValidate breaks one thing of a valid model at a time.
func TestValidate(t *testing.T) {
	hash := strings.Repeat("0aF", 21) + "9"
	arg := func(a actions.Argument) func(*actions.Model) {
		return func(m *actions.Model) { m.Arguments = []actions.Argument{a} }
	}
	file := func(f actions.ModelFile) func(*actions.Model) {
		return func(m *actions.Model) {
			if f.SHA256 == "" {
				f.SHA256 = hash
			}
			m.Files = map[string]actions.ModelFile{"model": f}
		}
	}
	name := func(s string) func(*actions.Model) { return func(m *actions.Model) { m.Name = s } }
	tests := map[string]struct {
		change func(*actions.Model)
		want   string // "" when the model stays valid
	}{
		"as it is":           {func(*actions.Model) {}, ""},
		"name":               {name("a.b_c-9"), ""},
		"name of a digit":    {name("9"), ""},
		"name long":          {name(strings.Repeat("a", 63)), ""},
		"name longer":        {name(strings.Repeat("a", 64)), "use lower-case letters"},
		"name none":          {name(""), "use lower-case letters"},
		"name capital":       {name("Ocr"), "use lower-case letters"},
		"name dot first":     {name("..a"), "use lower-case letters"},
		"name slash":         {name("a/b"), "use lower-case letters"},
		"name letter":        {name("é"), "use lower-case letters"},
		"name Kelvin":        {name("a\u212a"), "use lower-case letters"},
		"runtime":            {func(m *actions.Model) { m.Runtime = "" }, "runtime is missing"},
		"spec":               {func(m *actions.Model) { m.Spec = raw(`{"a":1}`) }, ""},
		"spec list":          {func(m *actions.Model) { m.Spec = raw(`[]`) }, "spec is not a JSON object"},
		"spec not JSON":      {func(m *actions.Model) { m.Spec = raw(`{`) }, "spec is not a JSON object"},
		"arguments twice":    {func(m *actions.Model) { m.Arguments = append(m.Arguments, m.Arguments[0]) }, "argument image is there twice"},
		"argument name":      {arg(actions.Argument{Name: "a b", Type: "string"}), `argument "a b": use letters`},
		"argument no name":   {arg(actions.Argument{Type: "string"}), `argument "": use letters`},
		"type":               {arg(actions.Argument{Name: "a", Type: "float"}), `argument a: type "float": there are file, string`},
		"type none":          {arg(actions.Argument{Name: "a"}), `argument a: type ""`},
		"default":            {arg(actions.Argument{Name: "a", Type: "integer", Default: raw("3.0")}), ""},
		"default type":       {arg(actions.Argument{Name: "a", Type: "integer", Default: raw(`"3"`)}), `argument a: the default must be an integer, not "3"`},
		"default not JSON":   {arg(actions.Argument{Name: "a", Type: "any", Default: raw(`{`)}), "argument a: the default is not JSON"},
		"default choice":     {arg(actions.Argument{Name: "a", Type: "number", Default: raw("1"), Choices: []json.RawMessage{raw("1.0")}}), ""},
		"default not choice": {arg(actions.Argument{Name: "a", Type: "number", Default: raw("2"), Choices: []json.RawMessage{raw("1")}}), "argument a: the default 2 is not one of the choices"},
		"default required":   {arg(actions.Argument{Name: "a", Type: "number", Default: raw("2"), Required: true}), "argument a: it is required, so its default is never used"},
		"choice type":        {arg(actions.Argument{Name: "a", Type: "number", Choices: []json.RawMessage{raw(`"1"`)}}), `argument a: a choice must be a number, not "1"`},
		"file default":       {arg(actions.Argument{Name: "a", Type: "file", Default: raw(`"AA=="`)}), "argument a: a file has no default and no choices"},
		"resources": {func(m *actions.Model) {
			m.Resources = actions.Resources{GPUs: 2, GPUMemory: 4 << 30, ComputeCapability: "8.0"}
		}, ""},
		"resources negative":   {func(m *actions.Model) { m.Resources.GPUs = -1 }, "resources: -1 gpus"},
		"resources opposite":   {func(m *actions.Model) { m.Resources = actions.Resources{NoGPU: true, GPUMemory: 1} }, "no_gpu, and yet"},
		"resources capability": {func(m *actions.Model) { m.Resources.ComputeCapability = "Ampere" }, "compute_capability \"Ampere\""},
		"scale":                {func(m *actions.Model) { m.Scale = actions.Scale{Min: 1, Max: 1, Pin: true} }, ""},
		"scale upside down":    {func(m *actions.Model) { m.Scale = actions.Scale{Min: 2, Max: 1} }, "min not over max"},
		"scale too large":      {func(m *actions.Model) { m.Scale.Max = 5000 }, "want 0 to 1024"},
		"batching": {func(m *actions.Model) {
			m.Runtime, m.Batching = actions.Python, actions.Batching{Argument: "rows", Answer: "a.b", Size: 10}
		}, ""},
		"batching size":       {func(m *actions.Model) { m.Batching.Size = -1 }, "batching: a size of -1: want 1 to 1000000"},
		"batching both ways":  {func(m *actions.Model) { m.Batching = actions.Batching{Argument: "a", Columns: true} }, "a list in the argument a or columns, not both"},
		"batching of one":     {func(m *actions.Model) { m.Batching.Answer = "rows" }, "batching: answer is for a model that takes many rows"},
		"batching unknown":    {func(m *actions.Model) { m.Batching.Argument = "rows" }, "batching: the model has no argument rows"},
		"path":                {file(actions.ModelFile{Path: "weights/m.onnx"}), ""},
		"package":             {file(actions.ModelFile{Package: "rapidocr==1.2.3.post1+cpu", Path: "a/m.onnx"}), ""},
		"url":                 {file(actions.ModelFile{URL: "https://example.com/m.onnx"}), ""},
		"no source":           {file(actions.ModelFile{}), "file model: give its path"},
		"package alone":       {file(actions.ModelFile{Package: "a==1"}), "file model: give its path"},
		"url and path":        {file(actions.ModelFile{URL: "https://example.com/m", Path: "a"}), "file model: give its path"},
		"hash short":          {file(actions.ModelFile{Path: "a", SHA256: "abc"}), "file model: sha256 must be 64 hexadecimal digits, as sha256sum prints them"},
		"hash other":          {file(actions.ModelFile{Path: "a", SHA256: strings.Repeat("g", 64)}), "file model: sha256 must be 64 hexadecimal digits, as sha256sum prints them"},
		"path up":             {file(actions.ModelFile{Path: "../a"}), `file model: path "../a" must be relative`},
		"path up inside":      {file(actions.ModelFile{Path: "a/../../b"}), "must be relative"},
		"path absolute":       {file(actions.ModelFile{Path: "/etc/passwd"}), "must be relative"},
		"path backslash":      {file(actions.ModelFile{Path: `..\a`}), "must be relative"},
		"path dot":            {file(actions.ModelFile{Path: "."}), "must be relative"},
		"path NUL":            {file(actions.ModelFile{Path: "a\x00"}), "must be relative"},
		"package not pinned":  {file(actions.ModelFile{Package: "a", Path: "b"}), `package "a" must be pinned`},
		"package range":       {file(actions.ModelFile{Package: "a>=1", Path: "b"}), "must be pinned"},
		"package any version": {file(actions.ModelFile{Package: "a==1.*", Path: "b"}), "must be pinned"},
		"package option":      {file(actions.ModelFile{Package: "--index-url==1", Path: "b"}), "must be pinned"},
		"package two":         {file(actions.ModelFile{Package: "a==1 b", Path: "b"}), "must be pinned"},
		"package path up":     {file(actions.ModelFile{Package: "a==1", Path: "../b"}), "must be relative"},
		"url http":            {file(actions.ModelFile{URL: "http://example.com/m"}), "the url must be https"},
		"url password":        {file(actions.ModelFile{URL: "https://me:secret@example.com/m"}), "the url must be https"},
		"url no host":         {file(actions.ModelFile{URL: "https:///m"}), "the url must be https"},
		"file name":           {func(m *actions.Model) { m.Files["../x"] = m.Files["model"] }, `file "../x": use letters`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := ocr()
			m.Files = map[string]actions.ModelFile{"model": {Path: "m.onnx", SHA256: hash}}
			tt.change(&m)
			err := m.Validate()
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case tt.want != "" && (actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want Invalid with %q", err, tt.want)
			}
		})
	}
}

// TestValidateAll shows one error for everything that is wrong.
func TestValidateAll(t *testing.T) {
	m := actions.Model{Arguments: []actions.Argument{{Name: "a"}, {Name: "a"}}, Files: map[string]actions.ModelFile{"f": {}}}
	if got := strings.Count(m.Validate().Error(), ";"); got != 6 {
		t.Errorf("got %d complaints, want 7: %v", got+1, m.Validate())
	}
}
