package actions

import "encoding/json"

// A Description is what a model's program reports of a model that parses its own
// arguments, when it has loaded it.
type Description struct {
	// Metadata is what the module says of itself, a JSON object. Nil means nothing.
	Metadata json.RawMessage `json:"metadata,omitempty"`
	// Predict and Train are what the model can do; nil means that it cannot.
	Predict *Signature `json:"predict"`
	Train   *Signature `json:"train"`
	// Function says that the model is a function that takes all of its arguments at once,
	// main(args), as OpenWhisk calls it.
	Function bool `json:"function,omitempty"`
	// Response is the JSON Schema of the document that predict answers, for a module
	// that has one; nil means any result, in the envelope of the DEEPaaS API.
	Response json.RawMessage `json:"response,omitempty"`
	// Imports are the installed packages that the model has imported, which a second
	// instance will import too.
	Imports []string `json:"imports,omitempty"`
	// Suspend is how the model could be suspended when it was ready, "hooks" or "torch"; empty
	// if it could not, which its first request may change.
	Suspend string `json:"suspend,omitempty"`
}

// A Signature is what one verb of a model takes.
type Signature struct {
	Parameters []Parameter `json:"parameters"`
	// Open says that other arguments than these may be given too.
	Open bool `json:"open,omitempty"`
}

// A Parameter is an argument as the model's own program describes it. It informs; the
// program checks more than can be said here.
type Parameter struct {
	Argument
	// Location is the only part of a request in which the argument is looked for:
	// "query", "form", "json", "headers" or "cookies". Empty means query string, form,
	// JSON, in this order.
	Location string `json:"location,omitempty"`
	// Schema is the JSON Schema (2020-12) of the value. Bytes are
	// {"type": "string", "format": "binary"}.
	Schema json.RawMessage `json:"schema"`
}
