// Package launcher starts Python models: DEEPaaS modules and plain functions, each in
// the interpreter of its own environment. The Python side, deepfn_launcher, is embedded.
package launcher

import (
	"encoding/json"
)

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
	// Main is the function of a plain file. The default is main, else predict.
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
}

// ParseSpec reads the section of an action.
func ParseSpec(raw json.RawMessage) (Spec, error) {
	var s Spec
	if len(raw) == 0 {
		return s, nil
	}
	err := json.Unmarshal(raw, &s)
	return s, err
}
