package controller

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"regexp"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// functionPrefix begins the name of a model that is made of code.
const functionPrefix = "fn-"

// functionNames are the names that functionName makes.
var functionNames = regexp.MustCompile(`^` + functionPrefix + `[0-9a-f]{16}$`)

// MadeOfCode says whether a model has a name as the code of an action gets it.
func MadeOfCode(model string) bool { return functionNames.MatchString(model) }

// functionName names the model of code. What would be another function has another name.
func functionName(hash, main string, env map[string]string) string {
	sum := sha256.New()
	// Maps are written in the order of their keys.
	_ = json.NewEncoder(sum).Encode([]any{hash, main, env}) // a hash takes all
	return functionPrefix + hex.EncodeToString(sum.Sum(nil))[:16]
}

// environment is what parameters for the environment are in it: text as it is, null
// nothing, everything else as JSON (WhiskAction.containerInitializer).
func environment(parameters whisk.KeyValues) map[string]string {
	if len(parameters) == 0 {
		return nil
	}
	env := make(map[string]string, len(parameters))
	for _, p := range parameters {
		text := ""
		if json.Unmarshal(p.Value, &text) != nil { // null leaves it empty
			var b bytes.Buffer
			_ = json.Compact(&b, p.Value) // it was read as JSON
			text = b.String()
		}
		env[p.Key] = text
	}
	return env
}

// importCode makes the code of an action a model, once, has it loaded, and returns its name.
// It is there until letGo. fresh says that it was not there.
func (c *Controller) importCode(ctx context.Context, f *flight) (name string, fresh bool, err error) {
	r := f.found
	_, parameters := r.action.Parameters.Split()
	env := environment(parameters)
	name = functionName(r.action.Code, r.action.Exec.Main, env)
	in := c.hold(f, name)
	select {
	case in.turn <- struct{}{}:
		defer func() { <-in.turn }()
	case <-ctx.Done():
		return name, false, actions.Errorf(actions.Deadline, "waiting for the first run: %w", ctx.Err())
	}
	if in.done {
		return name, false, nil
	}
	code, err := c.code(r)
	if err != nil {
		return name, true, err
	}
	_, err = c.cfg.Catalog.Import(ctx, actions.Source{Name: name, Main: r.action.Exec.Main, Data: code, Env: env})
	if err == nil {
		err = c.warm(ctx, name)
	}
	in.done = err == nil
	return name, true, err
}

// warm loads a model. That it does not start is the fault of its code.
func (c *Controller) warm(ctx context.Context, model string) error {
	if c.cfg.Warm == nil {
		return nil
	}
	err := c.cfg.Warm(ctx, model)
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*actions.Error](err)
	if !ok {
		e = &actions.Error{Code: actions.Internal, Err: err}
	}
	failed := *e
	switch {
	case ctx.Err() != nil:
		failed.Code = actions.Deadline
	case failed.Code == actions.Unavailable:
		failed.Code = actions.Failed
	}
	return &failed
}

// code reads the code of an action. One that was changed meanwhile is another action.
func (c *Controller) code(r resolution) ([]byte, error) {
	var raw []byte
	err := c.cfg.Store.View(func(tx *store.Tx) error {
		raw = tx.Entity(key(codeCollection, r.name))
		return nil
	})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	if hex.EncodeToString(sum[:]) != r.action.Code {
		return nil, actions.Errorf(actions.NotFound, "Action could not be found or may have been deleted.")
	}
	if !r.action.Exec.Binary {
		return raw, nil
	}
	return decodeCode(string(raw))
}

// decodeCode decodes base64 that isBinary has seen.
func decodeCode(code string) ([]byte, error) {
	data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(code))
	if err != nil {
		return nil, actions.Errorf(actions.Invalid, "cannot decode the code: %w", err)
	}
	return data, nil
}
