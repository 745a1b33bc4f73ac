package actions

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Limits of a model's names.
const (
	maxName         = 63
	maxArgumentName = 128
)

// Validate checks the model: its name, that its arguments are unique and typed and
// their defaults and choices fit the types, and that each of its files has a hash and
// one source. It does not look into Spec, which belongs to the runtime. The error is
// an *Error with the code Invalid that lists everything that is wrong.
func (m Model) Validate() error {
	var c complaints
	if !isName(m.Name) {
		c.add("name %q: use lower-case letters, digits, '-', '_' and '.', at most %d, and begin with a letter or a digit", shorten(m.Name), maxName)
	}
	if m.Runtime == "" {
		c.add("runtime is missing")
	}
	if m.Spec != nil && (!json.Valid(m.Spec) || m.Spec[0] != '{') {
		c.add("spec is not a JSON object")
	}
	seen := make(map[string]bool)
	for _, a := range m.Arguments {
		if seen[a.Name] {
			c.add("argument %s is there twice", a.Name)
		}
		seen[a.Name] = true
		a.validate(&c)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		m.Files[name].validate(name, &c)
	}
	m.Resources.validate(&c)
	m.Scale.validate(&c)
	m.Batching.validate(m, &c)
	if len(c) == 0 {
		return nil
	}
	return Errorf(Invalid, "model %s: %s", shorten(m.Name), strings.Join(c, "; "))
}

// complaints are what is wrong with a model.
type complaints []string

func (c *complaints) add(format string, args ...any) {
	*c = append(*c, fmt.Sprintf(format, args...))
}

// maxScale is more instances, or devices, than any machine has room for.
const maxScale = 1024

func (r Resources) validate(c *complaints) {
	if r.GPUs < 0 || r.GPUs > maxScale || r.GPUMemory < 0 {
		c.add("resources: %d gpus with %d bytes of memory: want 0 to %d, and a size", r.GPUs, r.GPUMemory, maxScale)
	}
	if r.NoGPU && (r.GPUs > 0 || r.GPUMemory > 0) {
		c.add("resources: no_gpu, and yet gpus or gpu_memory")
	}
	if !isComputeCapability(r.ComputeCapability) {
		c.add("resources: compute_capability %q: write it as \"8.0\"", shorten(r.ComputeCapability))
	}
}

// isComputeCapability says whether text is two numbers with a dot between them, or nothing.
func isComputeCapability(text string) bool {
	major, minor, ok := strings.Cut(text, ".")
	isNumber := func(s string) bool { return s != "" && len(s) <= 2 && strings.Trim(s, "0123456789") == "" }
	return text == "" || ok && isNumber(major) && isNumber(minor)
}

func (s Scale) validate(c *complaints) {
	if s.Min < 0 || s.Max < 0 || s.Min > maxScale || s.Max > maxScale || s.Max > 0 && s.Min > s.Max {
		c.add("scale: min %d and max %d: want 0 to %d, and min not over max", s.Min, s.Max, maxScale)
	}
}

// maxRows is the most rows that a call may have.
const maxRows = 1_000_000

func (b Batching) validate(m Model, c *complaints) {
	if b.Size < 0 || b.Size > maxRows {
		c.add("batching: a size of %d: want 1 to %d", b.Size, maxRows)
	}
	if b.Argument != "" && b.Columns {
		c.add("batching: the rows are a list in the argument %s or columns, not both", shorten(b.Argument))
	}
	if b.Answer != "" && !b.Vectorised() {
		c.add("batching: answer is for a model that takes many rows: say in which argument, or columns")
	}
	if b.Argument != "" && !m.ParsesArguments() && m.argument(b.Argument) == nil {
		c.add("batching: the model has no argument %s", shorten(b.Argument))
	}
}

func (a Argument) validate(c *complaints) {
	if !isArgumentName(a.Name) {
		c.add("argument %q: use letters, digits, '-', '_' and '.' for the name, and begin with a letter or '_'", shorten(a.Name))
	}
	if a.Type.phrase() == "" {
		c.add("argument %s: type %q: there are file, string, integer, number, boolean, array, object and any", a.Name, shorten(string(a.Type)))
		return
	}
	if a.Type == TypeFile {
		if a.Default != nil || len(a.Choices) > 0 {
			c.add("argument %s: a file has no default and no choices", a.Name)
		}
		return
	}
	for _, choice := range a.Choices {
		if err := a.Type.fits(choice); err != nil {
			c.add("argument %s: a choice %v", a.Name, err)
		}
	}
	if a.Default == nil {
		return
	}
	if a.Required {
		c.add("argument %s: it is required, so its default is never used", a.Name)
	}
	if err := a.Type.fits(a.Default); err != nil {
		c.add("argument %s: the default %v", a.Name, err)
	} else if !a.chosen(a.Default) {
		c.add("argument %s: the default %s is not one of the choices", a.Name, show(a.Default))
	}
}

// fits checks a value from the model's own description.
func (t ArgumentType) fits(value json.RawMessage) error {
	if err := checkJSON(value); err != nil {
		return err
	}
	_, err := t.check(value)
	return err
}

func (f ModelFile) validate(name string, c *complaints) {
	if !isArgumentName(name) {
		c.add("file %q: use letters, digits, '-', '_' and '.' for the name, and begin with a letter or '_'", shorten(name))
	}
	if !isSHA256(f.SHA256) {
		c.add("file %s: sha256 must be 64 hexadecimal digits, as sha256sum prints them", name)
	}
	switch {
	case f.URL != "" && (f.Path != "" || f.Package != ""), f.URL == "" && f.Path == "":
		c.add("file %s: give its path, or its package and the path in there, or its url", name)
	case f.URL != "":
		u, err := url.Parse(f.URL)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			c.add("file %s: the url must be https://HOST/PATH", name)
		}
	case !fs.ValidPath(f.Path) || f.Path == "." || strings.ContainsAny(f.Path, "\\\x00"):
		c.add("file %s: path %q must be relative, with '/', and without '.' and '..'", name, shorten(f.Path))
	case f.Package != "" && !isPinned(f.Package):
		c.add("file %s: package %q must be pinned to one version, as name==1.2.3", name, shorten(f.Package))
	}
}

// The letters of names.
const (
	lower   = "abcdefghijklmnopqrstuvwxyz"
	upper   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
	letters = lower + upper
)

// only reports whether s is a first letter and then others.
func only(s, first, others string) bool {
	return s != "" && strings.Contains(first, s[:1]) && strings.Trim(s, first+others) == ""
}

// isName reports whether s can be the name of a model.
func isName(s string) bool {
	return len(s) <= maxName && only(s, lower+digits, "-_.")
}

// isArgumentName reports whether s can be the name of an argument or a file.
func isArgumentName(s string) bool {
	return len(s) <= maxArgumentName && only(s, letters+"_", digits+"-.")
}

// isSHA256 reports whether s is a SHA-256 hash.
func isSHA256(s string) bool {
	return len(s) == 64 && only(s, digits+"abcdefABCDEF", "")
}

// isPinned reports whether s is a Python distribution and one version of it.
func isPinned(s string) bool {
	name, version, ok := strings.Cut(s, "==")
	return ok && only(name, letters+digits, "-_.") && only(version, letters+digits, "-_.+!")
}
