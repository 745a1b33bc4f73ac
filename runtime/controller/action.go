package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// An action is what is kept of an action. Its code is elsewhere.
type action struct {
	whisk.Action
	// Model is the model that the kind or the code names, if one does.
	Model string `json:"model,omitempty"`
	// Code is the SHA-256 of the code, "" if there is none that runs.
	Code string `json:"codeHash,omitempty"`
	// Batch says that it begins batch predictions of the model. None that is kept does.
	Batch bool `json:"-"`
}

// An actionPut is the body of a PUT. What is nil stays as it is.
type actionPut struct {
	Exec              *whisk.Exec      `json:"exec"`
	Parameters        *whisk.KeyValues `json:"parameters"`
	Limits            *limitsPut       `json:"limits"`
	Version           *string          `json:"version"`
	Publish           *bool            `json:"publish"`
	Annotations       *whisk.KeyValues `json:"annotations"`
	DeleteAnnotations []string         `json:"delAnnotations"`
}

type limitsPut struct {
	Timeout     *int `json:"timeout"`
	Memory      *int `json:"memory"`
	Logs        *int `json:"logs"`
	Concurrency *int `json:"concurrency"`
}

// putAction makes or changes an action. The document that it returns has the code that was
// given.
func (c *Controller) putAction(ctx context.Context, n whisk.Name, body json.RawMessage, overwrite bool) (any, error) {
	var in actionPut
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if err := c.checkSizes(in.Parameters, in.Annotations); err != nil {
		return nil, err
	}
	if err := checkVersion(in.Version); err != nil {
		return nil, err
	}
	var code checkedExec
	if in.Exec != nil {
		var err error
		if code, err = c.checkExec(ctx, n.Namespace, *in.Exec); err != nil {
			return nil, err
		}
	}
	var doc, before action
	err := c.cfg.Store.Update(func(tx *store.Tx) (err error) {
		if err := writablePackage(tx, n); err != nil {
			return err
		}
		if in.Exec != nil && code.exec.Kind == whisk.Sequence {
			if err := c.checkSequence(ctx, tx, n, code.exec.Components); err != nil {
				return err
			}
		}
		doc, err = put(tx, key(whisk.Actions, n), overwrite,
			func() (action, error) { return c.makeAction(n, in, code) },
			func(old action) (action, error) { before = old; return c.changeAction(old, in, code) })
		if err == nil && in.Exec != nil {
			err = keepCode(tx, n, in.Exec.Code)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if before.Code != "" && !before.sameModel(doc) {
		c.abandon(n)
	}
	shown := doc.Action
	if in.Exec != nil {
		shown.Exec.Code = in.Exec.Code
	}
	return shown, nil
}

// sameModel says whether two actions make the same model of their code.
func (a action) sameModel(b action) bool {
	name := func(a action) string {
		_, parameters := a.Parameters.Split()
		return functionName(a.Code, a.Exec.Main, environment(parameters))
	}
	return a.Model == b.Model && name(a) == name(b)
}

// keepCode keeps the code of an action, or removes it.
func keepCode(tx *store.Tx, n whisk.Name, code *string) error {
	if code == nil || *code == "" {
		return tx.DeleteEntity(key(codeCollection, n))
	}
	return tx.PutEntity(key(codeCollection, n), []byte(*code))
}

// writablePackage refuses to write into a package that is not there or that is a binding.
func writablePackage(tx *store.Tx, n whisk.Name) error {
	if n.Package == "" {
		return nil
	}
	p, err := load[whisk.Package](tx, key(whisk.Packages, whisk.Name{Namespace: n.Namespace, Entity: n.Package}))
	if err == nil && p.Binding != (whisk.Binding{}) {
		err = invalid(notOnBinding)
	}
	return err
}

func (c *Controller) makeAction(n whisk.Name, in actionPut, code checkedExec) (action, error) {
	if in.Exec == nil {
		return action{}, invalid(execUndefined)
	}
	a := action{Action: whisk.Action{
		Namespace: n.Path(), Name: n.Entity, Version: firstVersion,
		Limits: whisk.Limits{
			Timeout: c.cfg.Timeout.Default, Memory: c.cfg.Memory.Default,
			Logs: c.cfg.Logs.Default, Concurrency: c.cfg.Concurrency.Default,
		},
		Annotations: whisk.KeyValues{}.With("provide-api-key", false),
	}}
	return c.changed(a, in, code)
}

func (c *Controller) changeAction(old action, in actionPut, code checkedExec) (action, error) {
	old.Version = nextVersion(old.Version)
	if in.Exec != nil && old.Exec.Kind == whisk.Sequence {
		old.Parameters = nil // those of a sequence are its components
	}
	return c.changed(old, in, code)
}

// changed is an action with what the body of a PUT says.
func (c *Controller) changed(a action, in actionPut, code checkedExec) (action, error) {
	if in.Exec != nil {
		a.Exec, a.Model, a.Code = code.exec, code.model, code.hash
	}
	if in.Parameters != nil && a.Exec.Kind != whisk.Sequence {
		a.Parameters = in.Parameters.Unique()
	}
	if in.Exec != nil && a.Exec.Kind == whisk.Sequence {
		a.Parameters = whisk.KeyValues{}.With("_actions", a.Exec.Components)
	}
	if in.Version != nil {
		a.Version = *in.Version
	}
	if in.Publish != nil {
		a.Publish = *in.Publish
	}
	a.Annotations = slices.DeleteFunc(slices.Clone(a.Annotations), func(kv whisk.KeyValue) bool {
		return slices.Contains(in.DeleteAnnotations, kv.Key)
	})
	if in.Annotations != nil {
		a.Annotations = a.Annotations.Merge(*in.Annotations)
	}
	a.Annotations = a.Annotations.With("exec", a.Exec.Kind)
	a.Updated = now()
	if a.Model != "" {
		for _, p := range a.Parameters {
			if p.Init {
				return a, invalid("parameter %s: a model is loaded once for all actions, so there are no parameters for its environment", p.Key)
			}
		}
	}
	return a, c.checkLimits(&a.Limits, in.Limits)
}

// checkLimits takes over the limits that a PUT sets, in the words of Limits.scala.
func (c *Controller) checkLimits(limits *whisk.Limits, in *limitsPut) error {
	if in == nil {
		return nil
	}
	const size = "%s size %d MB %s allowed threshold of %d MB"
	for _, l := range []struct {
		given  *int
		into   *int
		bounds Range
		text   func(n int, how string, bound int) string
	}{
		{in.Timeout, &limits.Timeout, c.cfg.Timeout, func(n int, how string, bound int) string {
			return fmt.Sprintf("duration %d milliseconds %s allowed threshold of %d milliseconds", n, how, bound)
		}},
		{in.Memory, &limits.Memory, c.cfg.Memory, func(n int, how string, bound int) string {
			return fmt.Sprintf(size, "memory", n, how, bound)
		}},
		{in.Logs, &limits.Logs, c.cfg.Logs, func(n int, how string, bound int) string {
			return fmt.Sprintf(size, "log", n, how, bound)
		}},
		{in.Concurrency, &limits.Concurrency, c.cfg.Concurrency, func(n int, how string, bound int) string {
			return fmt.Sprintf("concurrency %d %s allowed threshold of %d", n, how, bound)
		}},
	} {
		switch {
		case l.given == nil:
			continue
		case *l.given > l.bounds.Max:
			return invalid("%s", l.text(*l.given, "exceeds", l.bounds.Max))
		case *l.given < l.bounds.Min:
			return invalid("%s", l.text(*l.given, "below", l.bounds.Min))
		}
		*l.into = *l.given
	}
	return nil
}

// checkSizes refuses parameters and annotations that are too many, or without a key.
func (c *Controller) checkSizes(parameters, annotations *whisk.KeyValues) error {
	for _, kv := range []struct {
		name string
		list *whisk.KeyValues
	}{{"parameters", parameters}, {"annotations", annotations}} {
		if kv.list == nil {
			continue
		}
		size := int64(0)
		for _, pair := range *kv.list {
			if pair.Key == "" || pair.Value == nil {
				return malformed("%s malformed!", kv.name)
			}
			size += int64(len(pair.Key) + len(pair.Value))
		}
		if limit := c.cfg.MaxPayload; limit > 0 && size > limit {
			return tooLarge(kv.name, size, limit)
		}
	}
	return nil
}

// checkVersion refuses what is no version.
func checkVersion(version *string) error {
	if version == nil {
		return nil
	}
	parts := strings.Split(*version, ".")
	for _, part := range parts {
		if _, err := strconv.ParseUint(part, 10, 31); err != nil || len(parts) > 3 {
			return malformed("bad semantic version %.40q", *version)
		}
	}
	*version += strings.Repeat(".0", 3-len(parts))
	return nil
}

// nextVersion counts the last part of a version up.
func nextVersion(version string) string {
	i := strings.LastIndexByte(version, '.')
	patch, err := strconv.Atoi(version[i+1:])
	if err != nil {
		return firstVersion
	}
	return version[:i+1] + strconv.Itoa(patch+1)
}

// actionDocument is an action as GET shows it.
func (c *Controller) actionDocument(ctx context.Context, tx *store.Tx, n whisk.Name, code bool) (any, error) {
	r, err := c.resolve(ctx, tx, n)
	if err != nil {
		return nil, err
	}
	doc := r.action.Action
	if raw := tx.Entity(key(codeCollection, r.name)); code && raw != nil {
		text := string(raw)
		doc.Exec.Code = &text
	}
	return doc, nil
}

func deleteAction(tx *store.Tx, n whisk.Name) (any, error) {
	if err := writablePackage(tx, n); err != nil {
		return nil, err
	}
	doc, err := load[action](tx, key(whisk.Actions, n))
	if err != nil {
		return nil, err
	}
	return doc.Action, tx.DeleteEntity(key(codeCollection, n))
}

// An actionSummary is an action in a list.
type actionSummary struct {
	summary
	Limits whisk.Limits `json:"limits"`
	Exec   struct {
		Binary bool `json:"binary"`
	} `json:"exec"`
}

func summarizeAction(a action) listed {
	s := actionSummary{
		summary: summary{a.Namespace, a.Name, a.Version, a.Publish, a.Annotations, a.Updated}, Limits: a.Limits,
	}
	s.Exec.Binary = a.Exec.Binary
	return listed{a.Name, a.Updated, s}
}

// listActions lists the actions of a namespace, or those of one of its packages; of a
// binding those of the package that is bound.
func (c *Controller) listActions(ctx context.Context, tx *store.Tx, n whisk.Name) ([]listed, error) {
	if n.Package != "" {
		p, err := load[whisk.Package](tx, key(whisk.Packages, whisk.Name{Namespace: n.Namespace, Entity: n.Package}))
		if err != nil {
			return nil, err
		}
		if b := p.Binding; b != (whisk.Binding{}) {
			n = whisk.Name{Namespace: b.Namespace, Package: b.Name}
		}
		if n.Namespace == whisk.System {
			return c.listSystem(ctx, whisk.Actions, n)
		}
	}
	return listAll(tx, whisk.Actions, n, summarizeAction)
}
