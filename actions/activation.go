package actions

import (
	"context"
	"encoding/json"
	"time"
)

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
	// Limit is the most time of the call of the model itself: its wait for an instance and
	// the start of one do not count. Zero is none.
	Limit time.Duration
	// Begin is called when there is an instance, before the call; with an error there is no
	// call, and the error is the activation's. Nil is fine.
	Begin func(ctx context.Context) error
}
