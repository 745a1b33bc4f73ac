package actions

import "encoding/json"

// An Activation is one run of an OpenWhisk action that a model is behind.
type Activation struct {
	// Model is the name of the model, Verb what is asked of it; the zero value means
	// Predict.
	Model string
	Verb  Verb
	// ID is the activation's.
	ID string
	// Value are the arguments, a JSON object or array. Nil means {}. The arguments of a web
	// action are in it, __ow_method and so on.
	Value json.RawMessage
	// Context is what the platform says of the activation, each FromContext.
	Context []Text
}
