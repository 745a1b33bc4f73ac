package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// activationHeader has the id of the activation that a call has made.
const activationHeader = "X-Openwhisk-Activation-Id"

// activationEndpoint finds what answers a path of activations.
func (s *Server) activationEndpoint(c *apiCall, names []string, slash bool) (endpoint, error) {
	if len(names) == 0 {
		return endpoint{get: s.apiActivations}, c.ownOnly()
	}
	c.activation = names[0]
	if err := checkActivationID(c.activation); err != nil {
		return endpoint{}, err
	}
	part := strings.Join(names[1:], "/")
	switch {
	case part == "":
		return endpoint{get: s.apiActivation}, c.ownOnly()
	case part == "result" && !slash:
		return endpoint{get: s.apiResult}, c.ownOnly()
	case part == "logs" && !slash:
		return endpoint{get: s.apiLogs}, c.ownOnly()
	}
	return endpoint{}, nothingThere()
}

func checkActivationID(id string) error {
	const length = 32
	switch {
	case len(id) != length:
		return actions.Errorf(actions.Invalid, "Activation id length is %d but must be %d.", len(id), length)
	case strings.Trim(id, "0123456789abcdef") != "":
		return actions.Errorf(actions.Invalid, "The activation id is not valid.")
	}
	return nil
}

// apiActivations answers GET of the list of activations.
func (s *Server) apiActivations(ctx context.Context, c *apiCall) (response, error) {
	query, err := c.given.activations()
	if err != nil {
		return response{}, err
	}
	list, err := s.cfg.Controller.Activations(ctx, c.caller, query)
	if list.Documents != nil && err == nil {
		return s.documentList(c.id, list.Documents)
	}
	return listing(c.collection, query.Page, list), err
}

// apiActivation answers GET of an activation, apiResult and apiLogs that of a part.
func (s *Server) apiActivation(ctx context.Context, c *apiCall) (response, error) {
	a, err := s.recorded(ctx, c)
	return jsonResponse(http.StatusOK, a), err
}

func (s *Server) apiResult(ctx context.Context, c *apiCall) (response, error) {
	a, err := s.recorded(ctx, c)
	return jsonResponse(http.StatusOK, a.Response), err
}

func (s *Server) apiLogs(ctx context.Context, c *apiCall) (response, error) {
	a, err := s.recorded(ctx, c)
	return jsonResponse(http.StatusOK, map[string][]string{"logs": a.Logs}), err
}

func (s *Server) recorded(ctx context.Context, c *apiCall) (whisk.Activation, error) {
	a, err := s.cfg.Controller.Activation(ctx, c.caller, c.activation)
	return onWire(a), err
}

// onWire returns an activation as clients can read it, with a list of logs.
func onWire(a whisk.Activation) whisk.Activation {
	if a.Logs == nil {
		a.Logs = []string{}
	}
	return a
}

// arguments returns the arguments of an invocation, nil when there are none.
func (s *Server) arguments(c *apiCall) (json.RawMessage, error) {
	if err := s.checkSize(c.body); err != nil {
		return nil, err
	}
	return c.object()
}

// checkSize refuses arguments over the limit of a payload, in the platform's words, and
// says what else can be done.
func (s *Server) checkSize(args []byte) error {
	limit := s.cfg.MaxPayload
	if limit <= 0 || int64(len(args)) <= limit {
		return nil
	}
	e := actions.Errorf(actions.TooLarge, "Request larger than allowed: %d > %d bytes.", len(args), limit)
	if s.cfg.Storage != nil {
		e.Msg += ` Give what is large by reference, as {"url": "https://…"} or {"url": "s3://…"}.`
	}
	return e
}

// apiInvoke answers POST of an action.
func (s *Server) apiInvoke(ctx context.Context, c *apiCall) (response, error) {
	in := whisk.Invocation{Transaction: c.id}
	var err error
	if in.Blocking, err = c.given.flag("blocking", false); err != nil {
		return response{}, err
	}
	result, err := c.given.flag("result", false)
	if err != nil {
		return response{}, err
	}
	if in.Wait, err = c.given.wait(); err != nil {
		return response{}, err
	}
	if in.Args, err = s.arguments(c); err != nil {
		return response{}, err
	}
	out, err := s.cfg.Controller.Invoke(ctx, c.caller, c.name, in)
	if err != nil {
		return response{}, err
	}
	if !out.Done {
		return accepted(out.Activation.ID), nil
	}
	return outcome(out.Activation, result, c.id), nil
}

// accepted answers that an activation is under way.
func accepted(id string) response {
	resp := jsonResponse(http.StatusAccepted, map[string]string{"activationId": id})
	resp.header = http.Header{activationHeader: {id}}
	return resp
}

// outcome answers with an activation that has ended, or its result alone, which an array
// always is. Errors of the action are a 502, else clients take them for a success.
func outcome(a whisk.Activation, resultOnly bool, id string) response {
	status := http.StatusOK
	switch a.Response.Code {
	case whisk.ApplicationError, whisk.DeveloperError:
		status = http.StatusBadGateway
	case whisk.WhiskError:
		status = http.StatusInternalServerError
	}
	result := bytes.TrimSpace(a.Response.Result)
	if len(result) == 0 || string(result) == "null" {
		result = []byte("{}")
	}
	var resp response
	switch {
	case status == http.StatusInternalServerError:
		resp = whiskFailed(a, result, resultOnly, id)
	case resultOnly || result[0] == '[':
		resp = jsonResponse(status, json.RawMessage(result))
	default:
		resp = jsonResponse(status, onWire(a))
	}
	resp.header = http.Header{activationHeader: {a.ID}}
	return resp
}

// whiskFailed answers with an activation that the platform itself has failed, as an error
// with the activation's members, because clients read one only when it has a code.
func whiskFailed(a whisk.Activation, result json.RawMessage, resultOnly bool, id string) response {
	text := whisk.StatusName(whisk.WhiskError)
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(result, &said) == nil && said.Error != "" {
		text = said.Error
	}
	doc := &document{}
	if !resultOnly {
		doc.merge(jsonResponse(http.StatusInternalServerError, onWire(a)).body)
	}
	doc.set("error", text)
	doc.set("code", id)
	return jsonResponse(http.StatusInternalServerError, doc)
}

// headersArgument has the headers of the request that fired a trigger.
const headersArgument = "__ow_headers"

// withHeaders adds the headers of a call to the arguments of a trigger, as actions behind
// one get them (Triggers.scala); what is there already stays. The key is not told to them.
func (c *apiCall) withHeaders(args json.RawMessage) json.RawMessage {
	headers := make(map[string]string)
	c.header("", func(name, value string) {
		if name = strings.ToLower(name); name != "authorization" {
			headers[name] = value
		}
	})
	given := make(map[string]json.RawMessage)
	if len(args) > 0 && json.Unmarshal(args, &given) != nil {
		return args
	}
	if _, ok := given[headersArgument]; !ok {
		given[headersArgument], _ = json.Marshal(headers) // of strings alone
	}
	all, err := json.Marshal(given)
	if err != nil {
		return args
	}
	return all
}

// apiFire answers POST of a trigger: 204 if no rule has run.
func (s *Server) apiFire(ctx context.Context, c *apiCall) (response, error) {
	args, err := s.arguments(c)
	if err != nil {
		return response{}, err
	}
	id, err := s.cfg.Controller.Fire(ctx, c.caller, c.name, c.withHeaders(args))
	switch {
	case err != nil:
		return response{}, err
	case id == "":
		return response{status: http.StatusNoContent}, nil
	}
	return accepted(id), nil
}
