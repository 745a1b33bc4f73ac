package actions

import "encoding/json"

// A Model is what a function runs: its description for people, the arguments that
// predict takes, and what a runtime needs to load it.
type Model struct {
	// Name identifies the model in routes and commands: lower-case letters, digits,
	// '-', '_' and '.', at most 63 bytes, beginning with a letter or digit.
	Name string `json:"name"`
	// Version is the model's own version, free text.
	Version string `json:"version,omitempty"`
	// Title is one line for a list, Description a paragraph for a page.
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	// Author and License credit the people who trained the model.
	Author  string `json:"author,omitempty"`
	License string `json:"license,omitempty"`
	// Source is where the model comes from, a URL for people.
	Source string `json:"source,omitempty"`
	// Keywords are for search.
	Keywords []string `json:"keywords,omitempty"`

	// Runtime says which child program loads the model: ONNX, Python, Executable or HTTP.
	Runtime string `json:"runtime"`
	// Arguments are what predict takes, in the order of the documentation.
	Arguments []Argument `json:"arguments"`
	// Files are the files that the model needs, by the name that Spec uses for them.
	Files map[string]ModelFile `json:"files,omitempty"`
	// Resources are what one instance needs of the machine, Scale how many there are to be.
	Resources Resources `json:"resources,omitzero"`
	Scale     Scale     `json:"scale,omitzero"`
	// Batching is how one call takes many rows, for batch predictions and batches of events.
	// The zero value means that predict takes one.
	Batching Batching `json:"batching,omitzero"`
	// Spec is the section of the action that belongs to its Runtime (for "onnx": how
	// bytes become tensors and tensors become an answer). Only that runtime reads it.
	Spec json.RawMessage `json:"spec,omitempty"`
	// Env are variables of the environment of the model's program, as an /init gave
	// them. They hide those of the server.
	Env map[string]string `json:"-"`
	// Dir is the absolute path of the action's folder; empty for an action that is
	// built into the program.
	Dir string `json:"-"`
}

// Resources are what one instance of a model needs. Without a GPU on the machine they mean
// nothing.
type Resources struct {
	// GPUs is how many devices an instance needs. Zero is one, if the model uses any.
	GPUs int `json:"gpus,omitempty"`
	// GPUMemory is how many bytes it needs on each device until that has been measured, in
	// action.yaml also "4 GiB". Zero means unknown: it is guessed by the size of the files.
	GPUMemory Bytes `json:"gpu_memory,omitempty"`
	// NoGPU says that the model does not use one.
	NoGPU bool `json:"no_gpu,omitempty"`
	// ComputeCapability is the least that a device must have, "8.0"; empty for any.
	ComputeCapability string `json:"compute_capability,omitempty"`
}

// Scale says how many instances of a model there are. Zeros leave it to the server.
type Scale struct {
	// Min is how many are kept, once the model was used; Max the most there may be.
	Min int `json:"min,omitempty"`
	Max int `json:"max,omitempty"`
	// Pin says that instances are never ended or suspended for the sake of other models.
	Pin bool `json:"pin,omitempty"`
}

// The runtimes of a Model.
const (
	// ONNX is the program's own engine for .onnx files.
	ONNX = "onnx"
	// Python is the launcher: DEEPaaS modules and plain functions in an interpreter of
	// their own.
	Python = "python"
	// Executable is any program that speaks OpenWhisk's ActionLoop protocol.
	Executable = "executable"
	// HTTP is a program that serves the DEEPaaS V2 API by itself.
	HTTP = "http"
)

// ParsesArguments says that the model's own program parses the arguments of a request:
// they go to it as the caller gave them, and what they are stands in a Description
// instead of Arguments.
func (m Model) ParsesArguments() bool { return m.Runtime != ONNX }

// A ModelFile names bytes that a model needs and where they come from: Path alone
// (a file in the action's folder), Path in Package, or URL.
type ModelFile struct {
	// Path is a slash-separated path in the action's folder or, with Package, in
	// that package.
	Path string `json:"path,omitempty"`
	// Package is a Python distribution pinned by version ("name==1.2.3") whose wheel
	// carries the file.
	Package string `json:"package,omitempty"`
	// URL is where the file is fetched from, https.
	URL string `json:"url,omitempty"`
	// SHA256 is the hash of the file, 64 hexadecimal digits; always required.
	SHA256 string `json:"sha256"`
}

// An ArgumentType is a JSON Schema type, or "file" for bytes.
type ArgumentType string

// The types of an Argument. TypeAny takes every JSON value.
const (
	TypeFile    ArgumentType = "file"
	TypeString  ArgumentType = "string"
	TypeInteger ArgumentType = "integer"
	TypeNumber  ArgumentType = "number"
	TypeBoolean ArgumentType = "boolean"
	TypeArray   ArgumentType = "array"
	TypeObject  ArgumentType = "object"
	TypeAny     ArgumentType = "any"
)

// An Argument is one parameter of a model's predict.
type Argument struct {
	Name        string       `json:"name"`
	Type        ArgumentType `json:"type"`
	Description string       `json:"description,omitempty"`
	// Required refuses a request without the argument. Default is used when an
	// optional one is absent; nil means that the model sees no such argument.
	Required bool            `json:"required,omitempty"`
	Default  json.RawMessage `json:"default,omitempty"`
	// Choices, when there are any, are the only values that are taken.
	Choices []json.RawMessage `json:"choices,omitempty"`
	// ContentTypes say, for a file, which media types the model reads. They inform;
	// they are not checked, because the bytes themselves are.
	ContentTypes []string `json:"content_types,omitempty"`
}
