package launcher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// maxConcurrency is how many lanes a worker may have.
const maxConcurrency = 64

// Spec is the section "python" of an action. At most one of Path, Module and EntryPoint
// is set; without any it is the only entry point deepaas.v2.model of the environment.
type Spec struct {
	// Path is a Python file in the action's folder: a DEEPaaS module, or a file with a
	// function main(args) or predict(...).
	Path string `json:"path,omitempty"`
	// Module is an importable module, "package.api", or an object in one, "package.api:Model".
	Module string `json:"module,omitempty"`
	// EntryPoint is the name of an entry point of the group deepaas.v2.model.
	EntryPoint string `json:"entry_point,omitempty"`
	// Main is the function of a plain file. The default is main, else predict. That of a
	// name is called as main(args) is, also predict(args).
	Main string `json:"main,omitempty"`
	// Interpreter is the path of the interpreter, absolute or in the action's folder. The
	// default is one that has the Requirements.
	Interpreter string `json:"interpreter,omitempty"`
	// Requirements are the packages that the model needs, as pip writes them, pinned.
	Requirements []string `json:"requirements,omitempty"`
	// Preload are the packages that a second worker finds imported already. The default is
	// what the first one has imported; an empty list turns this off.
	Preload *[]string `json:"preload,omitempty"`
	// Concurrency is how many predictions a worker may work on at a time, for a module that
	// is thread-safe. The default is 1.
	Concurrency int `json:"concurrency,omitempty"`
	// Suspend is how the model leaves the memory of its device: "hooks", which are functions
	// suspend() and resume() of its own; "torch", which moves the weights of its torch modules;
	// "none". The default is hooks if it has both, else torch if it has used a device with it.
	Suspend string `json:"suspend,omitempty"`
	// WorkingDir is the folder that the model runs in, absolute or in the action's folder,
	// which is the default.
	WorkingDir string `json:"working_dir,omitempty"`
	// Env are variables of its environment.
	Env map[string]string `json:"env,omitempty"`
}

// Setup is what the launcher in the child is told; words.Setup on the Python side.
type Setup struct {
	Model      string `json:"model"`
	Path       string `json:"path,omitempty"` // absolute
	Module     string `json:"module,omitempty"`
	EntryPoint string `json:"entry_point,omitempty"`
	Main       string `json:"main,omitempty"`
	Warm       bool   `json:"warm"`
	Suspend    string `json:"suspend,omitempty"`
}

// ParseSpec reads the section of an action. No section is an empty one; a key that there
// is not is an error that lists those that there are.
func ParseSpec(raw json.RawMessage) (Spec, error) {
	var s Spec
	if len(bytes.TrimSpace(raw)) == 0 {
		return s, nil
	}
	if err := actions.DecodeStrict(raw, &s); err != nil {
		return s, fmt.Errorf("python: %w", err)
	}
	return s, nil
}

// Check checks the section of a Python action as far as that can be done without looking
// at files. The error is an *actions.Error, Invalid.
func Check(m actions.Model) error {
	s, err := ParseSpec(m.Spec)
	if err == nil {
		if err = s.check(m.Dir); err != nil {
			err = fmt.Errorf("python: %w", err)
		}
	}
	if err != nil {
		return actions.Errorf(actions.Invalid, "%w", err)
	}
	return nil
}

func (s *Spec) check(dir string) error {
	which := 0
	for _, name := range []string{s.Path, s.Module, s.EntryPoint} {
		if name != "" {
			which++
		}
	}
	if which > 1 {
		return errors.New("path, module, entry_point: only one of them may be given")
	}
	dotted := regexp.MustCompile(`^[\pL_][\pL\pN_]*(\.[\pL_][\pL\pN_]*)*$`)
	module, object, hasObject := strings.Cut(s.Module, ":")
	switch {
	case s.Path != "" && !filepath.IsLocal(s.Path):
		return fmt.Errorf("path: %q is not in the action's folder", s.Path)
	case s.Path != "" && dir == "":
		return errors.New("path: an action without a folder has no files")
	case s.Module != "" && (!dotted.MatchString(module) || hasObject && !dotted.MatchString(object)):
		return fmt.Errorf("module: %q is no name of a module, such as package.api or package.api:Model", s.Module)
	case s.Main != "" && !dotted.MatchString(s.Main):
		return fmt.Errorf("main: %q is no name of a function", s.Main)
	case !slices.Contains([]string{"", "hooks", "torch", "none"}, s.Suspend):
		return fmt.Errorf("suspend: got %q, want hooks, torch or none", s.Suspend)
	case s.Concurrency < 0 || s.Concurrency > maxConcurrency:
		return fmt.Errorf("concurrency: got %d, want 1 to %d", s.Concurrency, maxConcurrency)
	}
	for key, path := range map[string]string{"interpreter": s.Interpreter, "working_dir": s.WorkingDir} {
		if path != "" && !filepath.IsAbs(path) && !filepath.IsLocal(path) {
			return fmt.Errorf("%s: %q is neither absolute nor in the action's folder", key, path)
		}
	}
	for _, r := range s.Requirements {
		if r = strings.TrimSpace(r); r == "" || r[0] == '-' || strings.ContainsAny(r, "\n\r\x00") {
			return fmt.Errorf("requirements: %q is not a requirement, such as numpy==2.4.6", r)
		}
	}
	if s.Preload != nil {
		for _, name := range *s.Preload {
			if !dotted.MatchString(name) {
				return fmt.Errorf("preload: %q is no name of a module", name)
			}
		}
	}
	return actions.CheckEnv(s.Env)
}

// NewSetup returns what the child is told of a model whose Spec is s.
func NewSetup(m actions.Model, s Spec) Setup {
	setup := Setup{Model: m.Name, Module: s.Module, EntryPoint: s.EntryPoint, Main: s.Main, Warm: true, Suspend: s.Suspend}
	if s.Path != "" {
		setup.Path = within(m.Dir, s.Path)
	}
	return setup
}

// within returns path, in dir unless it is absolute.
func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
