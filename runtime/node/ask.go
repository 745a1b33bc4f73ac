package node

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// ask asks the node a question and decodes the answer into v.
func (r *Relay) ask(ctx context.Context, q *request, v any) error {
	resp, _, err := r.send(ctx, q)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(resp.Data, v); err != nil {
		return &actions.Error{Code: actions.Unavailable, Msg: "the node runtime answered what cannot be read", Err: err, RetryAfter: time.Second}
	}
	return nil
}

// asking makes a question about a model.
func asking(what question, model string) *request {
	return &request{typ: frameAsk, what: what, Request: &actions.Request{Model: model}}
}

// soon asks a question for somebody who has no context and waits for no node.
func (r *Relay) soon(q *request, v any) error {
	if l, _, why := r.current(); l != nil {
		l.leave()
	} else {
		return r.unavailable(why)
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	return r.ask(ctx, q, v)
}

// Ready returns nil if the node answers and takes calls, else an error that says what is
// wrong. It takes a second at most.
func (r *Relay) Ready() error {
	var none struct{}
	return r.soon(asking(askReady, ""), &none)
}

// Info returns what the runtime reported of the model when it was last loaded, a JSON
// object; nil if it never was. While the node does not answer it is what was known last.
func (r *Relay) Info(model string) json.RawMessage {
	r.mu.Lock()
	info := r.infos[model]
	r.mu.Unlock()
	if info != nil {
		return info
	}
	if r.soon(asking(askInfo, model), &info) != nil || string(info) == "null" {
		return nil
	}
	r.learn(model, info)
	return info
}

// learn notes what a model reports of itself; empty is nothing any more.
func (r *Relay) learn(model string, info json.RawMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(info) == 0 {
		delete(r.infos, model)
		return
	}
	r.infos[model] = info
}

// Stats describes the pools on the node of the models that this relay has used; nil while
// the node does not answer.
func (r *Relay) Stats() []actions.PoolStats {
	var stats []actions.PoolStats
	if r.soon(asking(askStats, ""), &stats) != nil {
		return nil
	}
	return stats
}

// Models returns the models of the node's catalog.
func (r *Relay) Models(ctx context.Context) ([]actions.Model, error) {
	var models []actions.Model
	err := r.ask(ctx, asking(askModels, ""), &models)
	return models, err
}

// Model returns one model, or an actions.Error NotFound. It asks each node once.
func (r *Relay) Model(ctx context.Context, name string) (actions.Model, error) {
	r.mu.Lock()
	m, ok := r.models[name]
	r.mu.Unlock()
	if ok {
		return m, nil
	}
	if err := r.ask(ctx, asking(askModel, name), &m); err != nil {
		return actions.Model{}, err
	}
	r.know(name, m)
	return m, nil
}

// maxKnown bounds how many models a relay remembers.
const maxKnown = 1024

func (r *Relay) know(name string, m actions.Model) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.models) >= maxKnown {
		clear(r.models)
	}
	r.models[name] = m
}

// Import has the node make a model of code, which has a name that its hash is part of.
// The relay keeps the code, for the next node.
func (r *Relay) Import(ctx context.Context, source actions.Source) (actions.Model, error) {
	q, err := importQuestion(source)
	if err != nil {
		return actions.Model{}, err
	}
	var m actions.Model
	if err := r.ask(ctx, q, &m); err != nil {
		return actions.Model{}, err
	}
	r.know(m.Name, m)
	source.Data = slices.Clone(source.Data)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sources[m.Name] = source
	return m, nil
}

func importQuestion(source actions.Source) (*request, error) {
	args, err := json.Marshal(sentSource{source.Main, source.Env})
	if err != nil {
		return nil, err
	}
	return &request{typ: frameAsk, what: askImport, Request: &actions.Request{
		Args: args, Files: []actions.File{{Name: "code", Data: source.Data}},
	}}, nil
}

// importOn imports code on a connection that no request uses yet.
func importOn(ctx context.Context, l *link, source actions.Source) (actions.Model, error) {
	q, err := importQuestion(source)
	if err != nil {
		return actions.Model{}, err
	}
	resp, err := l.call(ctx, q)
	if err != nil {
		return actions.Model{}, err
	}
	var m actions.Model
	return m, json.Unmarshal(resp.Data, &m)
}

// Warm has the node keep n instances of the model while this relay is there, and returns
// when the first can answer, or with the error of its start; the node goes on trying, until
// Cool.
func (r *Relay) Warm(ctx context.Context, model string, n int) error {
	r.mu.Lock()
	r.warmed[model] = n
	r.mu.Unlock()
	for {
		var none struct{}
		err := r.ask(ctx, warmQuestion(model, n), &none)
		if !errors.Is(err, errLost) {
			return err
		} // another node may take its place: nothing is done twice
	}
}

func warmQuestion(model string, n int) *request {
	q := asking(askWarm, model)
	q.Args, _ = json.Marshal(sentWarm{n}) // a number cannot be an error
	return q
}

// Cool takes back what Warm asked for.
func (r *Relay) Cool(model string) {
	r.mu.Lock()
	delete(r.warmed, model)
	r.mu.Unlock()
	var none struct{}
	_ = r.soon(asking(askCool, model), &none) // a node that does not answer keeps it for no lease
}
