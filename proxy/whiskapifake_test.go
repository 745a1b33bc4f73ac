package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// A controllerCall is what a fakeController was asked.
type controllerCall struct {
	Op, Caller string
	Collection whisk.Collection
	Name       whisk.Name
	Body       string
	Flag       bool // overwrite, force, code
	Page       whisk.Page
	Query      whisk.ActivationQuery
	Invocation whisk.Invocation
	ID, Status string
}

// fakeController knows the key u:p of the namespace guest and answers as its knobs say.
type fakeController struct {
	err     error
	doc     any
	list    whisk.Listing
	outcome whisk.Outcome
	fired   string
	record  whisk.Activation

	mu   sync.Mutex // guards last
	last controllerCall
}

func (f *fakeController) note(c controllerCall) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = c
}

func (f *fakeController) called() controllerCall {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func (f *fakeController) Authenticate(user, password string) (string, error) {
	if user != "u" || password != "p:p" {
		return "", actions.Errorf(actions.Unauthorized, "no such key")
	}
	return whisk.Guest, nil
}

func (f *fakeController) Info() any   { return map[string]any{"api_paths": []string{"/api/v1"}} }
func (f *fakeController) Limits() any { return map[string]int{"concurrentInvocations": 30} }

func (f *fakeController) List(_ context.Context, caller string, c whisk.Collection, n whisk.Name, page whisk.Page) (whisk.Listing, error) {
	f.note(controllerCall{Op: "list", Caller: caller, Collection: c, Name: n, Page: page})
	return f.list, f.err
}

func (f *fakeController) Entity(_ context.Context, caller string, c whisk.Collection, n whisk.Name, code bool) (any, error) {
	f.note(controllerCall{Op: "entity", Caller: caller, Collection: c, Name: n, Flag: code})
	return f.doc, f.err
}

func (f *fakeController) Put(_ context.Context, caller string, c whisk.Collection, n whisk.Name, body json.RawMessage, overwrite bool) (any, error) {
	f.note(controllerCall{Op: "put", Caller: caller, Collection: c, Name: n, Body: string(body), Flag: overwrite})
	return f.doc, f.err
}

func (f *fakeController) Delete(_ context.Context, caller string, c whisk.Collection, n whisk.Name, force bool) (any, error) {
	f.note(controllerCall{Op: "delete", Caller: caller, Collection: c, Name: n, Flag: force})
	return f.doc, f.err
}

func (f *fakeController) SetRule(_ context.Context, caller string, n whisk.Name, status string) error {
	f.note(controllerCall{Op: "rule", Caller: caller, Name: n, Status: status})
	return f.err
}

func (f *fakeController) Invoke(_ context.Context, caller string, n whisk.Name, in whisk.Invocation) (whisk.Outcome, error) {
	body := string(in.Args)
	in.Args = bytes.Clone(in.Args)
	f.note(controllerCall{Op: "invoke", Caller: caller, Name: n, Body: body, Invocation: in})
	return f.outcome, f.err
}

func (f *fakeController) Fire(_ context.Context, caller string, n whisk.Name, args json.RawMessage) (string, error) {
	f.note(controllerCall{Op: "fire", Caller: caller, Name: n, Body: string(args)})
	return f.fired, f.err
}

func (f *fakeController) Activations(_ context.Context, caller string, q whisk.ActivationQuery) (whisk.Listing, error) {
	f.note(controllerCall{Op: "activations", Caller: caller, Query: q})
	return f.list, f.err
}

func (f *fakeController) Activation(_ context.Context, caller, id string) (whisk.Activation, error) {
	f.note(controllerCall{Op: "activation", Caller: caller, ID: id})
	return f.record, f.err
}

func (f *fakeController) Web(_ context.Context, n whisk.Name) (whisk.Action, error) {
	f.note(controllerCall{Op: "web", Name: n})
	return whisk.Action{}, f.err
}
