package proxy

import (
	"context"
	"encoding/json"
	"io"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// A Controller keeps the entities of an OpenWhisk and runs its activations. Many may call
// it at the same time. caller is the namespace of who asks. Errors are *actions.Error:
// Invalid, NotFound, Conflict, Forbidden, TooLarge, Busy, Unavailable, Internal.
type Controller interface {
	// Authenticate returns the namespace of a key, or Unauthorized.
	Authenticate(user, password string) (namespace string, err error)
	// Info is the document of GET /, Limits that of a namespace's limits.
	Info() any
	Limits() any
	// List lists a collection of a namespace; n.Package limits it to a package's.
	List(ctx context.Context, caller string, c whisk.Collection, n whisk.Name, page whisk.Page) (whisk.Listing, error)
	// Entity returns the document of an entity, an action's with its code if that is asked for.
	Entity(ctx context.Context, caller string, c whisk.Collection, n whisk.Name, code bool) (any, error)
	// Put makes or, with overwrite, changes an entity and returns its document. body is
	// what the API's client sent.
	Put(ctx context.Context, caller string, c whisk.Collection, n whisk.Name, body json.RawMessage, overwrite bool) (any, error)
	// Delete removes an entity and returns its last document. force removes a package with
	// what is in it.
	Delete(ctx context.Context, caller string, c whisk.Collection, n whisk.Name, force bool) (any, error)
	// SetRule makes a rule whisk.Active or whisk.Inactive.
	SetRule(ctx context.Context, caller string, n whisk.Name, status string) error
	// Invoke runs an action. An error means that there was no activation.
	Invoke(ctx context.Context, caller string, n whisk.Name, in whisk.Invocation) (whisk.Outcome, error)
	// Fire fires a trigger and returns the id of its activation, "" if no rule is active.
	Fire(ctx context.Context, caller string, n whisk.Name, args json.RawMessage) (id string, err error)
	// Activations lists activations of a namespace, Activation returns one. The list is one
	// of Documents if whole ones are asked for.
	Activations(ctx context.Context, caller string, q whisk.ActivationQuery) (whisk.Listing, error)
	Activation(ctx context.Context, caller, id string) (whisk.Activation, error)
	// Web returns an action that is exported to the web, with the parameters of its
	// package, else NotFound.
	Web(ctx context.Context, n whisk.Name) (whisk.Action, error)
}

// A Storage has what is given by reference. Many may call it at the same time.
type Storage interface {
	// Fetch writes what is at url to w and returns its name and media type; both may be
	// empty. An error of w is returned as it is; the others are *actions.Error: Invalid
	// (no such form of URL), Forbidden (the address is not allowed), NotFound, TooLarge,
	// Deadline, Canceled, Unavailable.
	Fetch(ctx context.Context, url string, w io.Writer) (actions.File, error)
	// MayStore says whether Store may write to url: nil, Invalid or Forbidden.
	MayStore(url string) error
	// Store writes Data to url. The errors are those of Fetch.
	Store(ctx context.Context, url string, f actions.File) error
}
