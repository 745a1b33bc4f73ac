package proxy

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// initOnce is the answer to a second /init.
const initOnce = "Cannot initialize the action more than once."

// codeForms says what the code of an action may be.
const codeForms = `the code of an action is {"model": "name"}, as JSON or in base64, and names a model of the server`

// maxCode is how long code may be, in JSON; no model's name is as long.
const maxCode = 64 << 10

// An action is what /run runs.
type action struct {
	model string
	verb  actions.Verb
}

// init answers POST /init. The first one wins and later ones are refused, until it has
// failed.
func (s *Server) init(ctx context.Context, r *request) response {
	started := time.Now()
	in, bad := parseInit(r.body)
	if bad != nil {
		return whiskText(http.StatusBadRequest, "Error unmarshaling request: "+bad.msg)
	}
	if !s.initialized.CompareAndSwap(false, true) {
		s.activations.say(initOnce)
		return whiskText(http.StatusForbidden, initOnce)
	}
	done := false
	defer func() { // also after a panic
		if !done {
			s.initialized.Store(false)
		}
	}()
	a, status, err := s.choose(in)
	if err == nil {
		status, err = http.StatusBadGateway, s.prepare(ctx, started, in, a)
	}
	if err != nil {
		e := asError(err, r.id)
		if e.Code == actions.Canceled {
			status = http.StatusServiceUnavailable
		}
		s.log.WarnContext(ctx, "init refused", "model", short(a.model), "request_id", r.id, "error", err.Error())
		if len(e.Logs) > 0 {
			s.activations.end(parseDeadline(json.RawMessage(in.env["__OW_DEADLINE"])), e.Logs)
		}
		return whiskError(status, e)
	}
	done = true
	s.action.Store(&a)
	s.log.InfoContext(ctx, "initialized", "model", a.model, "verb", string(a.verb),
		"request_id", r.id, "seconds", time.Since(started).Seconds())
	return response{status: http.StatusOK, contentType: jsonType, body: []byte("{\"ok\":true}\n")}
}

// prepare makes the model of an action ready for the first /run.
func (s *Server) prepare(ctx context.Context, started time.Time, in initValue, a action) error {
	if _, err := s.model(ctx, a.model); err != nil {
		return err
	}
	if s.cfg.Warm == nil {
		return nil
	}
	if deadline := parseDeadline(json.RawMessage(in.env["__OW_DEADLINE"])); !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = s.withDeadline(ctx, started, deadline)
		defer cancel()
	}
	err := ctx.Err()
	if err == nil {
		err = s.cfg.Warm(ctx, a.model)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	late := &actions.Error{
		Code: actions.Deadline, Err: err,
		Msg: fmt.Sprintf("the model %s was not ready before the deadline of /init", a.model),
	}
	if e, ok := errors.AsType[*actions.Error](err); ok {
		late.Logs = e.Logs
	}
	return late
}

// choose says which action an /init asks for, or with which status it is refused.
func (s *Server) choose(in initValue) (a action, status int, err error) {
	verb, err := entryPoint(in.main)
	if err != nil {
		return action{}, http.StatusBadGateway, err
	}
	a = action{model: s.cfg.Model, verb: verb}
	if a.model == "" {
		a.model = in.env["DEEPFN_MODEL"]
	}
	if a.model != "" {
		return a, 0, nil
	}
	if len(in.code) > maxCode {
		return a, http.StatusBadGateway, actions.Errorf(actions.Invalid,
			"Cannot start action: the code has %d bytes; %s", len(in.code), codeForms)
	}
	code := strings.TrimSpace(jsonText(in.code))
	if code == "" {
		return a, http.StatusForbidden, actions.Errorf(actions.Invalid, "Missing main/no code to execute.")
	}
	document := []byte(code)
	if in.binary && code[0] != '{' {
		if document, err = base64.StdEncoding.DecodeString(code); err != nil {
			return a, http.StatusBadRequest, actions.Errorf(actions.Invalid, "cannot decode the request: %w", err)
		}
	}
	if a.model, err = parseCode(document); err != nil {
		return a, http.StatusBadGateway, err
	}
	return a, 0, nil
}

// entryPoint maps the entry point of an action to a verb.
func entryPoint(main string) (actions.Verb, error) {
	switch main {
	case "", "main", string(actions.Predict):
		return actions.Predict, nil
	case string(actions.Train):
		return actions.Train, nil
	case string(actions.Metadata):
		return actions.Metadata, nil
	}
	return "", actions.Errorf(actions.Invalid,
		"Cannot start action: there is no entry point %q; main is predict, train or metadata", short(main))
}

// parseCode reads {"model": "name"}.
func parseCode(code []byte) (string, error) {
	var doc struct {
		Model string `json:"model"`
	}
	if bytes.HasPrefix(code, []byte("PK\x03\x04")) {
		return "", actions.Errorf(actions.Invalid, "Cannot start action: the code is a zip archive; %s", codeForms)
	}
	dec := json.NewDecoder(bytes.NewReader(code))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil || dec.More() || doc.Model == "" {
		return "", actions.Errorf(actions.Invalid, "Cannot start action: %s", codeForms)
	}
	return doc.Model, nil
}

// An initValue is the value of an /init.
type initValue struct {
	code   json.RawMessage // a string, or absent; it is decoded only if it counts
	binary bool
	main   string
	env    map[string]string
}

// parseInit reads the body of an /init. Everything may be absent or null.
func parseInit(body []byte) (initValue, *jsonError) {
	var in initValue
	value := make(map[string]json.RawMessage)
	kind := byte('n')
	bad := scanObject(body, func(s *scanner, key []byte) bool {
		if string(key) == "value" {
			if kind = s.peek(); kind == '{' {
				return s.members(value)
			}
		}
		return s.value()
	})
	if bad == nil && kind != '{' && kind != 'n' {
		bad = &jsonError{msg: "value is not an object"}
	}
	if bad != nil {
		return in, bad
	}
	in.code = value["code"]
	if len(in.code) > 0 && in.code[0] != '"' && in.code[0] != 'n' {
		return in, &jsonError{msg: "value.code is not a string"}
	}
	for _, field := range []struct {
		name, is string
		into     any
	}{{"main", "a string", &in.main}, {"binary", "a boolean", &in.binary}} {
		if raw := value[field.name]; raw != nil && json.Unmarshal(raw, field.into) != nil {
			return in, &jsonError{msg: "value." + field.name + " is not " + field.is}
		}
	}
	in.env, bad = parseEnv(value["env"])
	return in, bad
}

// parseEnv reads the environment. A value that is not a string becomes one: null the
// empty one, everything else its JSON.
func parseEnv(raw json.RawMessage) (map[string]string, *jsonError) {
	env := make(map[string]string)
	if len(raw) == 0 || raw[0] == 'n' {
		return env, nil
	}
	bad := scanObject(raw, func(s *scanner, key []byte) bool {
		value, ok := s.raw()
		if !ok {
			return false
		}
		env[string(key)], ok = textOf(value)
		return ok
	})
	if bad != nil {
		bad = &jsonError{msg: "value.env: " + bad.msg}
	}
	return env, bad
}

// textOf makes a text of a JSON value: of a string what it says, of null nothing, of
// everything else its JSON.
func textOf(value json.RawMessage) (text string, ok bool) {
	switch value[0] {
	case '"':
		return jsonText(value), true
	case 'n':
		return "", true
	}
	var b bytes.Buffer
	err := json.Compact(&b, value)
	return b.String(), err == nil
}
