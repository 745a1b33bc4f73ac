package proxy

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

// initOnce is the answer to a second /init.
const initOnce = "Cannot initialize the action more than once."

// codeForms says what code may be that is JSON.
const codeForms = `code that is JSON is {"model": "name"} and names a model of the server`

// maxCode is how many bytes code may have, OpenWhisk's own limit.
const maxCode = 48 << 20

// diedLoading is what OpenWhisk says of code whose process ended while it was loaded. The
// launcher says it itself of code that calls sys.exit.
const diedLoading = "Command exited abruptly during initialization. "

// cannotStart begins what is said of code that cannot be run.
const cannotStart = "Cannot start action: "

// programEnded is what OpenWhisk's suites want to read when a program does not start. Why
// it did not is in the log.
const programEnded = "cannot start action: command exited"

// An action is what /run runs.
type action struct {
	model    string
	verb     actions.Verb
	imported bool // the code of /init
	program  bool // which is an executable
}

// init answers POST /init. The first one wins and later ones are refused, until it has
// failed.
func (s *Server) init(ctx context.Context, r *request) response {
	if crossSite(r) {
		s.metrics.refused("cross_site")
		return whiskText(http.StatusForbidden, otherSite)
	}
	started := time.Now()
	in, bad := parseInit(r.body)
	if bad != nil {
		return whiskText(http.StatusBadRequest, "Error unmarshaling request: "+bad.msg)
	}
	if err := r.takeDecoded(); err != nil {
		return failure(busyError())
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
	if deadline := in.deadline(); !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = s.withDeadline(ctx, started, deadline)
		defer cancel()
	}
	a, status, err := s.choose(ctx, in)
	if err == nil {
		status, err = http.StatusBadGateway, s.prepare(ctx, r, a)
	}
	if err != nil {
		return s.refuseInit(ctx, r, in, a, status, err)
	}
	done = true
	s.action.Store(&a)
	s.log.InfoContext(ctx, "initialized", "model", a.model, "verb", string(a.verb),
		"request_id", r.id, "seconds", time.Since(started).Seconds())
	return response{status: http.StatusOK, contentType: jsonType, body: []byte("{\"ok\":true}\n")}
}

// refuseInit answers an /init that failed. What code printed before it did is the log of
// this activation, and so is the error, because its author sees nothing else.
func (s *Server) refuseInit(ctx context.Context, r *request, in initValue, a action, status int, err error) response {
	e := asError(err, r.id)
	logs := e.Logs
	if e.Code == actions.Canceled {
		status = http.StatusServiceUnavailable
	} else if a.imported {
		shown := *e
		shown.Msg = cannotStart + message(e)
		if errors.Is(err, actions.ErrDiedLoading) {
			shown.Msg = cannotStart + diedLoading + message(e)
		}
		logs = append(slices.Clone(logs), actions.LogLine{Stream: actions.Stderr, Text: shown.Msg})
		if a.program && (e.Code == actions.Failed || e.Code == actions.Invalid) {
			shown.Msg = programEnded
		}
		e = &shown
	}
	s.log.WarnContext(ctx, "init refused", "model", short(a.model), "request_id", r.id, "error", err.Error())
	if len(logs) > 0 {
		s.printedBy(logs)
		s.activations.end(in.deadline(), logs)
	}
	return whiskError(status, e)
}

// prepare makes the model of an action ready for the first /run.
func (s *Server) prepare(ctx context.Context, r *request, a action) error {
	if _, err := s.model(ctx, a.model); err != nil {
		return err
	}
	if s.cfg.Warm == nil {
		return nil
	}
	err := ctx.Err()
	if err == nil {
		from, began := s.tier(a.model), time.Now()
		err = s.cfg.Warm(ctx, a.model)
		r.noteInit(a.model, from, began, err)
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

// tier is where a model is now. Of one without an instance nobody knows more than that it is
// on the disk.
func (s *Server) tier(model string) actions.Tier {
	pools := s.cfg.Invoker.Stats()
	i := slices.IndexFunc(pools, func(p actions.PoolStats) bool { return p.Model == model })
	switch {
	case i >= 0 && pools[i].Idle+pools[i].InUse > 0:
		return actions.TierWarm
	case i >= 0 && pools[i].Suspended > 0:
		return actions.TierHost
	}
	return actions.TierDisk
}

// choose says which action an /init asks for, or with which status it is refused: the
// server's own model, one that the environment or the code names, or the code itself.
func (s *Server) choose(ctx context.Context, in initValue) (a action, status int, err error) {
	if a.model = s.cfg.Model; a.model == "" {
		a.model = in.env["DEEPFN_MODEL"]
	}
	if a.model == "" {
		code, status, err := in.source()
		if err != nil {
			return a, status, err
		}
		if !isJSONObject(code) {
			return s.importCode(ctx, in, code)
		}
		if a.model, err = parseCode(code); err != nil {
			return a, http.StatusBadGateway, err
		}
	}
	a.verb, err = entryPoint(in.main)
	return a, http.StatusBadGateway, err
}

// importCode makes the code of an /init a model.
func (s *Server) importCode(ctx context.Context, in initValue, code []byte) (action, int, error) {
	name := in.name
	if name == "" {
		name = in.env["__OW_ACTION_NAME"]
	}
	a := action{verb: actions.Predict, imported: true}
	m, err := s.cfg.Catalog.Import(ctx, actions.Source{Name: name, Main: in.main, Data: code, Env: in.env})
	a.model, a.program = m.Name, m.Runtime == actions.Executable
	return a, http.StatusBadGateway, err
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
		cannotStart+"there is no entry point %q; main is predict, train or metadata", short(main))
}

// isJSONObject says whether code is no code.
func isJSONObject(code []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(code, " \t\r\n"), []byte("{")) && json.Valid(code)
}

// parseCode reads {"model": "name"}.
func parseCode(code []byte) (string, error) {
	var doc struct {
		Model string `json:"model"`
	}
	dec := json.NewDecoder(bytes.NewReader(code))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil || doc.Model == "" {
		return "", actions.Errorf(actions.Invalid, cannotStart+"%s", codeForms)
	}
	return doc.Model, nil
}

// An initValue is the value of an /init.
type initValue struct {
	code   json.RawMessage // a string, or absent; it is decoded only if it counts
	binary bool
	name   string
	main   string
	env    map[string]string
}

// deadline is the platform's, zero when there is none.
func (in *initValue) deadline() time.Time {
	return parseDeadline(json.RawMessage(in.env["__OW_DEADLINE"]))
}

// source decodes the code, or says with which status it is refused.
func (in *initValue) source() (code []byte, status int, err error) {
	if len(in.code) > 2 && in.code[0] == '"' {
		code = in.code[1 : len(in.code)-1]
	}
	if len(code) > maxCode/3*4+1024 {
		return nil, http.StatusBadGateway, longCode(len(code))
	}
	if jsonscan.Plain(code) != len(code) {
		code = []byte(jsonText(in.code))
	}
	trimmed := bytes.TrimSpace(code)
	switch {
	case len(trimmed) == 0:
		return nil, http.StatusForbidden, actions.Errorf(actions.Invalid, "Missing main/no code to execute.")
	case in.binary && trimmed[0] != '{':
		decoded := make([]byte, base64.StdEncoding.DecodedLen(len(trimmed)))
		n, err := base64.StdEncoding.Decode(decoded, trimmed)
		if err != nil {
			return nil, http.StatusBadRequest, actions.Errorf(actions.Invalid, "cannot decode the request: %w", err)
		}
		code = decoded[:n]
	}
	if len(code) > maxCode {
		return nil, http.StatusBadGateway, longCode(len(code))
	}
	return code, 0, nil
}

func longCode(n int) error {
	return actions.Errorf(actions.TooLarge, cannotStart+"the code has %d bytes, the limit is %d", n, maxCode)
}

// parseInit reads the body of an /init. Everything may be absent or null.
func parseInit(body []byte) (initValue, *jsonError) {
	var in initValue
	value := make(map[string]json.RawMessage)
	kind := byte('n')
	bad := scanObject(body, func(s *jsonscan.Scanner, key []byte) bool {
		if string(key) == "value" {
			if kind = s.Peek(); kind == '{' {
				return s.Members(maxMembers, value)
			}
		}
		return s.Value()
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
	}{{"main", "a string", &in.main}, {"name", "a string", &in.name}, {"binary", "a boolean", &in.binary}} {
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
	bad := scanObject(raw, func(s *jsonscan.Scanner, key []byte) bool {
		value, ok := s.Raw()
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
