package node

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/deepfn/deepfn/actions"
)

// sentSource is a source as it crosses, beside its code.
type sentSource struct {
	Main string            `json:"main,omitempty"`
	Env  map[string]string `json:"env,omitempty"`
}

// sentWarm are the arguments of warm.
type sentWarm struct {
	N int `json:"n"`
}

// maxWarm bounds how many instances a relay may want; the pool has a bound of its own.
const maxWarm = 1 << 16

// answer answers a question.
func (l *lease) answer(ctx context.Context, q question, req actions.Request) (actions.Response, error) {
	switch q {
	case askReady:
		return document(struct{}{})
	case askModels:
		models, err := l.node.cfg.Catalog.Models(ctx)
		if err != nil {
			return actions.Response{}, err
		}
		return document(slices.DeleteFunc(models, func(m actions.Model) bool { return l.knows(m.Name) != nil }))
	case askModel:
		if err := l.knows(req.Model); err != nil {
			return actions.Response{}, err
		}
		m, err := l.node.cfg.Catalog.Model(ctx, req.Model)
		if err != nil {
			return actions.Response{}, err
		}
		return document(m)
	case askInfo:
		return l.info(req.Model)
	case askStats:
		return document(l.stats())
	case askImport:
		return l.load(ctx, req)
	case askWarm:
		return l.warm(ctx, req)
	case askCool:
		l.node.wants.cool(ctx, l, req.Model)
		return document(struct{}{})
	}
	return actions.Response{}, actions.Errorf(actions.Unsupported, "the node does not know question %d", q)
}

// document answers with JSON.
func document(v any) (actions.Response, error) {
	data, err := json.Marshal(v)
	return actions.Response{ContentType: "application/json", Data: data}, err
}

// info answers what a model reports of itself.
func (l *lease) info(model string) (actions.Response, error) {
	if err := l.knows(model); err != nil {
		return actions.Response{}, err
	}
	info := l.node.cfg.Pool.Info(model)
	l.mu.Lock()
	l.told[model] = info
	l.mu.Unlock()
	if info == nil {
		info = json.RawMessage("null")
	}
	return actions.Response{ContentType: "application/json", Data: info}, nil
}

// stats are the pools of the models that the relay has used: who looks at all of them asks
// the node.
func (l *lease) stats() []actions.PoolStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(l.node.cfg.Pool.Stats(), func(s actions.PoolStats) bool {
		_, used := l.told[s.Model]
		return !used
	})
}

// warm keeps a model warm for the relay.
func (l *lease) warm(ctx context.Context, req actions.Request) (actions.Response, error) {
	var args sentWarm
	if err := json.Unmarshal(slices.Clone(req.Args), &args); err != nil || args.N < 1 || args.N > maxWarm {
		return actions.Response{}, actions.Errorf(actions.Invalid, "warm wants 1 to %d instances", maxWarm)
	}
	if err := l.knows(req.Model); err != nil {
		return actions.Response{}, err
	}
	if err := l.node.wants.warm(ctx, l, req.Model, args.N); err != nil {
		return actions.Response{}, err
	}
	return document(struct{}{})
}
