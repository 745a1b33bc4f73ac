package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

const (
	// firstPause and lastPause are between the attempts of an accepted activation while all
	// is busy. An activation that has not begun after maxQueued never will.
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
	maxQueued  = 10 * time.Minute
)

// An outcome is how the run of an action ended.
type outcome struct {
	response       whisk.Response
	logs           []actions.LogLine
	timing         actions.Timing
	imported       time.Duration // what making a model of code took, if it was
	timeout        bool
	started, ended time.Time
}

// failure is the response of an activation that failed.
func failure(code int, text string) whisk.Response {
	result, _ := encode(map[string]string{"error": text}) // text is JSON
	return whisk.Response{Code: code, Result: result}
}

// run runs what is no sequence. The error is Busy, when nobody was told of the activation.
func (c *Controller) run(ctx context.Context, f *flight) (outcome, error) {
	defer c.letGo(f)
	wait, queued := firstPause, time.Now()
	for {
		o, err := c.attempt(ctx, f)
		if c.open().Err() != nil && f.top().postpone() {
			return o, errPostponed
		}
		if err == nil || errors.Is(err, errQueued) || !f.waits() || time.Since(queued) > maxQueued {
			return o, err
		}
		select {
		case <-time.After(wait):
		case <-c.closing(f):
		case <-ctx.Done():
			return c.ended(), nil
		}
		wait = min(2*wait, lastPause)
	}
}

// waits says whether an activation waits while all is busy: one that was accepted, and one
// within a sequence.
func (f *flight) waits() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.begun || f.inSequence
}

// ended is the outcome of an activation that Close has ended.
func (c *Controller) ended() outcome {
	now := time.Now()
	return outcome{response: failure(whisk.WhiskError, endedBeforeDone), started: now, ended: now}
}

// attempt runs an action once. The error is Busy.
func (c *Controller) attempt(ctx context.Context, f *flight) (outcome, error) {
	o := outcome{started: time.Now()}
	limit := time.Duration(min(f.found.action.Limits.Timeout, c.cfg.Timeout.Max)) * time.Millisecond
	in, err := c.prepare(ctx, f, &o, limit)
	if err != nil {
		c.unprepared(ctx, f, &o, in.Model, err)
		return o, nil
	}
	in.Context, in.Limit = c.words(f, time.Now().Add(limit)), limit
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.AfterFunc(maxQueued, func() { cancel(errQueued) })
	defer patience.Stop()
	var refused error // which Run may return in other words
	in.Begin = func(context.Context) error {
		if begun, _ := f.hasBegun(time.Now()); !begun && !patience.Stop() {
			refused = errQueued
			return refused
		}
		refused = c.begin(ctx, f)
		return refused
	}
	defer context.AfterFunc(c.open(), func() { // which is the server's end
		if f.top().postpone() {
			cancel(errPostponed)
		}
	})()
	resp, err := c.call(waiting, in)
	o.ended = time.Now()
	o.logs, o.timing = resp.Logs, resp.Timing
	if err == nil {
		o.response = c.answer(resp.Data)
		return o, nil
	}
	for _, why := range []error{errQueued, errPostponed} {
		if errors.Is(context.Cause(waiting), why) || errors.Is(refused, why) {
			return o, why
		}
	}
	return o, c.runFailed(ctx, f, &o, in, err)
}

// errQueued is the end of a wait that has taken too long.
var errQueued = actions.Errorf(actions.Busy, overloaded)

// runFailed makes the outcome of a run that failed. The error is Busy.
func (c *Controller) runFailed(ctx context.Context, f *flight, o *outcome, in actions.Activation, err error) error {
	e, ok := errors.AsType[*actions.Error](err)
	if !ok {
		e = &actions.Error{Code: actions.Internal, Err: err}
	}
	o.logs = e.Logs
	begun, ran := f.hasBegun(o.ended)
	switch {
	case e.Code == actions.Busy && !begun:
		return err
	case errors.Is(context.Cause(ctx), errEnded):
		o.response = failure(whisk.WhiskError, endedBeforeDone)
	case e.Code == actions.Deadline && ran >= in.Limit:
		o.timeout = true
		o.response = failure(whisk.DeveloperError, fmt.Sprintf("The action exceeded its time limits of %d milliseconds.", in.Limit.Milliseconds()))
	default:
		o.response = c.failed(ctx, f, in.Model, e)
	}
	return nil
}

// prepare says what is to be run, and makes code ready to be.
func (c *Controller) prepare(ctx context.Context, f *flight, o *outcome, limit time.Duration) (in actions.Activation, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	a := f.found.action
	in = actions.Activation{ID: f.id, Model: a.Model}
	switch {
	case a.Code != "" && a.Model == "":
		began := time.Now()
		var fresh bool
		if in.Model, fresh, err = c.importCode(ctx, f); fresh {
			o.imported = time.Since(began)
		}
	case a.Model == "":
		in.Model, err = c.imageModel(ctx, a.Exec.Image)
		fallthrough
	default:
		if err == nil {
			in.Verb, err = entryPoint(a.Exec.Main)
		}
	}
	if err == nil {
		in.Value, err = merge(a.Parameters, f.args)
	}
	if err == nil && a.Batch {
		in.Value, err = batchValue(a.Model, in.Value)
	}
	return in, err
}

// unprepared is the outcome of an action that could not be prepared.
func (c *Controller) unprepared(ctx context.Context, f *flight, o *outcome, model string, err error) {
	o.ended = time.Now()
	e, ok := errors.AsType[*actions.Error](err)
	if !ok {
		e = &actions.Error{Code: actions.Internal, Err: err}
	}
	o.logs = e.Logs
	text := f.say(model, err)
	switch code := e.Code; {
	case errors.Is(context.Cause(ctx), errEnded):
		o.response = failure(whisk.WhiskError, endedBeforeDone)
	case code == actions.Deadline:
		o.timeout = true
		o.response = failure(whisk.DeveloperError, fmt.Sprintf(
			"The action exceeded its time limits of %d milliseconds during initialization.", f.found.action.Limits.Timeout))
	case code == actions.NotFound:
		o.response = failure(whisk.DeveloperError, text)
	case code == actions.Invalid && f.found.action.Batch:
		o.response = failure(whisk.ApplicationError, text)
	case code == actions.Internal, code == actions.Canceled:
		o.response = c.failed(ctx, f, model, e)
	case code == actions.Busy, code == actions.Unavailable:
		o.response = failure(whisk.WhiskError, "The action could not be prepared: "+text)
	default:
		o.response = failure(whisk.DeveloperError, "The action failed during initialization: "+text)
	}
}

// say is what an error says to who invoked an action: he does not know the model that its
// code has become.
func (f *flight) say(model string, err error) string {
	text := err.Error()
	if MadeOfCode(model) {
		text = strings.ReplaceAll(text, model, f.found.name.String())
	}
	return text
}

// merge merges parameters with arguments, which win. What is for the environment is not
// among them, and an array takes no parameters.
func merge(parameters whisk.KeyValues, args json.RawMessage) (json.RawMessage, error) {
	if len(parameters) == 0 || len(args) > 0 && args[0] == '[' {
		return args, nil
	}
	members := make(map[string]json.RawMessage)
	if len(args) > 0 {
		if err := decode(args, &members); err != nil {
			return nil, err
		}
	}
	for _, p := range parameters {
		if p.Init {
			delete(members, p.Key)
		} else if _, given := members[p.Key]; !given {
			members[p.Key] = p.Value
		}
	}
	return encode(members)
}

// words are what an action is told of its activation.
func (c *Controller) words(f *flight, deadline time.Time) []actions.Text {
	var words []actions.Text
	say := func(name, value string) {
		words = append(words, actions.Text{Origin: actions.FromContext, Name: "__OW_" + name, Value: value})
	}
	if c.cfg.APIHost != "" {
		say("API_HOST", c.cfg.APIHost)
	}
	if f.found.action.Annotations.Truthy("provide-api-key") {
		say("API_KEY", c.cfg.Auth)
	}
	say("NAMESPACE", f.caller)
	say("ACTION_NAME", f.found.name.String())
	say("ACTION_VERSION", f.found.action.Version)
	say("ACTIVATION_ID", f.id)
	say("TRANSACTION_ID", f.transaction)
	say("DEADLINE", strconv.FormatInt(deadline.UnixMilli(), 10))
	return words
}

// call calls Config.Run. A panic is an error, because nobody above would take it.
func (c *Controller) call(ctx context.Context, in actions.Activation) (resp actions.Response, err error) {
	defer func() {
		if v := recover(); v != nil {
			resp, err = actions.Response{}, actions.Errorf(actions.Internal, "panic: %v", v)
		}
	}()
	return c.cfg.Run(ctx, in)
}

// answer is the response of an action that answered (ActivationResult.scala).
func (c *Controller) answer(data []byte) whisk.Response {
	data = bytes.TrimSpace(data)
	if size, limit := int64(len(data)), c.cfg.MaxPayload; limit > 0 && size > limit {
		text := fmt.Sprintf("The action produced a response that exceeded the allowed length: %d > %d bytes.", size, limit)
		if c.cfg.ByReference {
			text += byReference
		}
		return failure(whisk.ApplicationError, text)
	}
	if len(data) == 0 || data[0] != '{' && data[0] != '[' || !json.Valid(data) {
		return failure(whisk.DeveloperError, "The action did not produce a valid JSON or JSON Array response.")
	}
	if text := errorMember(data); text != nil {
		result, err := encode(map[string]json.RawMessage{"error": text})
		if err == nil {
			return whisk.Response{Code: whisk.ApplicationError, Result: result}
		}
	}
	return whisk.Response{Code: whisk.Success, Result: data}
}

// errorMember is the member error of a JSON object, nil if there is none.
func errorMember(data []byte) json.RawMessage {
	// Most have none, and most results are not worth a second reading.
	if data[0] != '{' || !bytes.Contains(data, []byte(`error"`)) && !bytes.Contains(data, []byte(`\u`)) {
		return nil
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(data, &members) != nil {
		return nil
	}
	return members["error"]
}

// failed is the response of an action whose run failed.
func (c *Controller) failed(ctx context.Context, f *flight, model string, e *actions.Error) whisk.Response {
	text := f.say(model, e)
	switch e.Code {
	case actions.Invalid, actions.Unsupported, actions.TooLarge, actions.Failed, actions.NotFound,
		actions.Conflict, actions.Forbidden, actions.Unauthorized, actions.Deadline:
		return failure(whisk.ApplicationError, text)
	case actions.NoAnswer, actions.Exited, actions.Unavailable:
		if text == "" {
			text = abnormalRun
		}
		return failure(whisk.DeveloperError, text)
	case actions.Internal, actions.Busy, actions.Canceled:
	}
	c.log.ErrorContext(ctx, "activation failed", "activation_id", f.id, "action", f.found.name.String(), "error", text)
	return failure(whisk.WhiskError, "There was an internal error: activation "+f.id+" is in the server's log.")
}

// record is the activation of a run.
func (f *flight) record(o outcome) whisk.Activation {
	took := o.ended.Sub(o.started)
	if run := o.timing.Start + o.timing.Run; run > 0 {
		took = min(took, run+o.imported)
	}
	start := o.ended.Add(-took)
	a := f.activation()
	a.Start, a.End = start.UnixMilli(), o.ended.UnixMilli()
	a.Duration = a.End - a.Start
	a.Response = o.response
	a.Annotations = a.Annotations.With("waitTime", max(start.Sub(f.asked), 0).Milliseconds()).With("timeout", o.timeout)
	if o.timing.Cold || o.imported > 0 {
		a.Annotations = a.Annotations.With("initTime", (o.timing.Start + o.imported).Milliseconds())
	}
	return a
}
