package whisk

import (
	"encoding/json"
	"iter"
	"time"
)

// The limits of a list, as the API has them.
const (
	DefaultLimit = 30
	MaxLimit     = 200
)

// A Page is the part of a list that is asked for.
type Page struct {
	Skip  int
	Limit int // 1 to MaxLimit
	// Count asks for the number of entries alone.
	Count bool
}

// A Listing is a part of a list.
type Listing struct {
	// Items are the documents; none if the number was asked for.
	Items []any
	// Documents, unless it is nil, are there in the place of Items, because all of them may be
	// too much for memory: each is made when it is asked for, and is the caller's. An error is
	// the last.
	Documents iter.Seq2[json.RawMessage, error]
	// Count is the number of entries from Page.Skip on, if it was asked for.
	Count int
}

// An ActivationQuery asks for activations, the latest first.
type ActivationQuery struct {
	Page
	// Name is that of an action or trigger, or package/action. Empty means all.
	Name string
	// Since and Upto bound the start, in milliseconds since 1970, both included; 0 means no
	// bound.
	Since, Upto int64
	// Docs asks for whole documents.
	Docs bool
}

// An Invocation is what is asked of an action.
type Invocation struct {
	// Args is a JSON object. Nil means {}.
	Args json.RawMessage
	// Blocking waits for the end, Wait at most; zero means the API's own limit.
	Blocking bool
	Wait     time.Duration
	// Transaction is the id of the request, which the action is told. Empty means the
	// activation's.
	Transaction string
}

// An Outcome is what has become of an Invocation.
type Outcome struct {
	// Activation has no more than its ID unless Done.
	Activation Activation
	Done       bool
}
