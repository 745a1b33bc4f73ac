package proxy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

// notArguments is what is said of a value that holds no arguments.
const notArguments = "The action did not receive a dictionary or array as an argument."

// Activate runs one activation as /run does, without HTTP and without sentinels: whoever
// calls it keeps the logs. The bytes of in are the caller's again when it returns.
//
// Data of the response is the result, a JSON object or array, and the caller's; Logs and
// Timing say what was printed and where the time went, Timing also with an error. An error
// is an *actions.Error with the logs, of any code: Invalid for a value that holds no arguments and for arguments that
// the model does not take, NotFound for an unknown model, TooLarge for a result over
// Config.MaxPayload, Deadline and Canceled when ctx ends, NoAnswer and Exited of a
// function, and what Config.Invoker returns. Many may call it at the same time, before
// Serve and during the drain too.
func (s *Server) Activate(ctx context.Context, in actions.Activation) (resp actions.Response, err error) {
	ctx = context.WithValue(ctx, forActions{}, terms{in.Limit, in.Begin})
	r := request{id: cmp.Or(cleanID(in.ID), s.newID()), body: in.Value, bodies: s.bodies}
	defer func() { s.bodies.give(r.taken) }()
	c := call{
		protocol: openwhisk, requestID: r.id, start: time.Now(),
		request: actions.Request{Model: in.Model, Verb: cmp.Or(in.Verb, actions.Predict), ID: r.id},
	}
	ended := s.beginActivation(ctx, &c)
	done, err := s.guarded(ctx, &c, func() (response, error) {
		a, err := valueOf(in.Value)
		if err != nil {
			return response{}, err
		}
		a.context = in.Context
		if slices.ContainsFunc(in.Context, func(t actions.Text) bool { return t.Name == activationID }) {
			a.id = r.id
		}
		return s.perform(ctx, &c, &a, &r)
	})
	e := s.observe(ctx, &c, err)
	ended(e)
	if e != nil {
		told := *e // the invoker's may be shared
		if len(told.Logs) == 0 {
			told.Logs = c.response.Logs
		}
		return actions.Response{Timing: c.response.Timing}, &told
	}
	return actions.Response{
		ContentType: jsonType, Data: done.body, Logs: c.response.Logs, Timing: c.response.Timing,
	}, nil
}

// guarded runs an activation whose caller is no HTTP server; a panic becomes an error.
func (s *Server) guarded(ctx context.Context, c *call, run func() (response, error)) (resp response, err error) {
	defer func() {
		if v := recover(); v != nil {
			s.metrics.panics.Inc()
			s.log.ErrorContext(ctx, "activation panicked", "request_id", c.requestID,
				"panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			resp, err = response{}, actions.Errorf(actions.Internal, "panic: %v", v)
		}
	}()
	return run()
}

// valueOf takes the value of an activation apart.
func valueOf(value json.RawMessage) (activation, error) {
	if len(value) == 0 {
		return activation{}, nil
	}
	var a activation
	sc := jsonscan.New(value)
	if !a.takeValue(sc) || !sc.AtEnd() {
		return a, actions.Errorf(actions.Invalid, "Error unmarshaling request: %s", notScanned(value).msg)
	}
	if !utf8.Valid(value) {
		return a, actions.Errorf(actions.Invalid, "Error unmarshaling request: the body is not UTF-8")
	}
	return a, nil
}

// perform is the middle of every activation: the model is found, the arguments are taken,
// the model is invoked and its answer made the result. With an error it may return the
// response that the contract wants for it.
func (s *Server) perform(ctx context.Context, c *call, a *activation, r *request) (response, error) {
	switch a.kind {
	case '{', '[', 'n', 0: // the arguments, null, no value
	default:
		return whiskText(http.StatusNotFound, notArguments), actions.Errorf(actions.Invalid, notArguments)
	}
	m, err := s.lookUp(ctx, c)
	if ctx.Err() != nil {
		return response{}, ctx.Err()
	}
	if err != nil {
		return response{}, err
	}
	if resp, done, err := s.batchActivation(ctx, m.Name, a); done {
		return resp, err
	}
	if resp, done, err := s.webAction(ctx, c, a, m); done {
		return resp, err
	}
	if c.request.Verb == actions.Metadata {
		return jsonResponse(http.StatusOK, s.modelDocument(r, m, s.current(ctx, m, r))), nil
	}
	if !m.ParsesArguments() {
		if err := r.takeDecoded(); err != nil {
			return response{}, err
		}
	}
	if err := c.take(a, m); err != nil {
		return response{}, err
	}
	c.request.Buffer = r.room()
	if err := s.invoke(ctx, c, m); err != nil {
		return response{}, s.exited(m, err)
	}
	return s.result(&c.response)
}

// exited makes OpenWhisk's error of the end of a function's process in the midst of a run,
// which is the function's own doing; how it ended is for its author, in the logs. The
// process of every other model is the server's affair, which starts another one.
func (s *Server) exited(m actions.Model, err error) error {
	e, ok := errors.AsType[*actions.Error](err)
	switch {
	case !ok:
		return err
	case e.Code == actions.Exited:
	case e.Code == actions.Unavailable && errors.Is(err, actions.ErrDied) && s.describedAsFunction(m):
	default:
		return err
	}
	how := actions.LogLine{Stream: actions.Stderr, Text: "deepfn: " + e.Msg}
	return &actions.Error{Code: actions.Exited, Msg: "command exited", Logs: append(slices.Clone(e.Logs), how), Err: err}
}

// describedAsFunction says whether a model that was started before is a function.
func (s *Server) describedAsFunction(m actions.Model) bool {
	if m.Runtime == actions.Executable {
		return true
	}
	d := s.description(m)
	return d != nil && d.Function
}

// take takes the arguments of an activation.
func (c *call) take(a *activation, m actions.Model) (err error) {
	switch {
	case m.ParsesArguments():
		c.given, err = a.given(c.request.ID)
	case a.kind == '[':
		return actions.Errorf(actions.Invalid, "%s takes named arguments: value must be an object, not an array", m.Name)
	case a.many:
		return actions.Errorf(actions.Invalid, "Error unmarshaling request: %s", errTooMany())
	default:
		c.values.JSON = a.values
	}
	c.accept = jsonText(a.values["accept"])
	return err
}
