package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
)

// An errorBody is what an error looks like on the wire.
type errorBody struct {
	Error string       `json:"error"`
	Code  actions.Code `json:"code,omitempty"`
}

// failure answers an error in DEEPaaS' words, which are those of every route that is
// not OpenWhisk's.
func failure(e *actions.Error) response {
	status := deepaasStatus(e)
	var resp response
	if status == http.StatusUnprocessableEntity && len(e.Fields) > 0 {
		resp = jsonResponse(status, shortNames(e.Fields))
	} else {
		resp = jsonResponse(status, errorBody{Error: message(e), Code: e.Code})
	}
	resp.retryAfter = retryAfter(e, status)
	return resp
}

// deepaasStatus maps an error to the status that the DEEPaaS routes answer with.
func deepaasStatus(e *actions.Error) int {
	if e.Status >= 400 && e.Status < 600 {
		return e.Status // the model's own
	}
	switch e.Code {
	case actions.Invalid:
		if len(e.Fields) > 0 {
			return http.StatusUnprocessableEntity
		}
		return http.StatusBadRequest
	case actions.NotFound:
		return http.StatusNotFound
	case actions.Unsupported:
		return http.StatusNotImplemented
	case actions.TooLarge:
		return http.StatusRequestEntityTooLarge
	case actions.Conflict:
		return http.StatusConflict
	case actions.Busy:
		return http.StatusTooManyRequests
	case actions.Unavailable, actions.Canceled:
		return http.StatusServiceUnavailable
	case actions.Deadline:
		return http.StatusGatewayTimeout
	case actions.Unauthorized:
		return http.StatusUnauthorized
	case actions.Forbidden:
		return http.StatusForbidden
	case actions.Failed, actions.NoAnswer, actions.Exited, actions.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

// runStatus maps an error to the status that /run answers with. OpenWhisk throws the
// container away for anything but 200; it sends the activation elsewhere for 503, which
// is right for a request that this server gave up while it shut down.
func runStatus(code actions.Code) int {
	switch code {
	case actions.Canceled:
		return http.StatusServiceUnavailable
	case actions.NoAnswer:
		return http.StatusBadGateway
	case actions.Exited:
		return http.StatusBadRequest
	case actions.Invalid, actions.NotFound, actions.Unsupported, actions.TooLarge, actions.Conflict, actions.Unauthorized,
		actions.Forbidden, actions.Busy, actions.Unavailable, actions.Deadline, actions.Failed, actions.Internal:
		return http.StatusOK
	}
	return http.StatusOK
}

// retryAfter returns the seconds after which the caller may try again, 0 when the
// status has no such header.
func retryAfter(e *actions.Error, status int) int {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return 0
	}
	return max(1, int(math.Ceil(e.RetryAfter.Seconds())))
}

// asError makes an Error of what a call returned, for the request with the given id.
// Of an internal error only the log sees the cause.
func asError(err error, id string) *actions.Error {
	e, ok := errors.AsType[*actions.Error](err)
	switch {
	case ok && e.Code != actions.Internal:
		return e
	case ok:
		in := internalError(id)
		in.Err, in.Logs, in.Status = err, e.Logs, e.Status
		return in
	case errors.Is(err, context.DeadlineExceeded):
		return &actions.Error{Code: actions.Deadline, Msg: "the model did not answer before the deadline", Err: err}
	case errors.Is(err, context.Canceled):
		return &actions.Error{Code: actions.Canceled, Msg: "the request was given up", Err: err}
	}
	in := internalError(id)
	in.Err = err
	return in
}

func internalError(id string) *actions.Error {
	return actions.Errorf(actions.Internal, "internal error; the log has its cause under request id %s", id)
}

func drainingError() *actions.Error {
	return &actions.Error{
		Code: actions.Unavailable, Msg: "the server is shutting down, try another", RetryAfter: time.Second,
	}
}

func busyError() *actions.Error {
	return &actions.Error{
		Code: actions.Busy, RetryAfter: time.Second,
		Msg: "the requests in progress are larger together than the server takes; try again later",
	}
}

func (s *Server) tooLargeError() *actions.Error {
	return actions.Errorf(actions.TooLarge,
		`the request body is over the limit of %d bytes; send less, give large arguments as {"url": "https://…"}, or raise the limit of the server`, s.cfg.MaxBody)
}

// message is the text of an error for people.
func message(e *actions.Error) string {
	if e.Msg == "" {
		return string(e.Code)
	}
	return e.Msg
}

// maxShown is how many bytes of what a caller sent are in one message or log line.
const maxShown = 200

// short cuts what a caller sent for a message.
func short(s string) string { return cut(s, maxShown) }

// cut cuts a text to a number of bytes, and marks that it did.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const more = "…"
	end := limit - len(more)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + more
}

// shortNames cuts the names of arguments, which may be the caller's.
func shortNames(fields map[string][]string) map[string][]string {
	for name := range fields {
		if len(name) > maxShown {
			kept := make(map[string][]string, len(fields))
			for name, texts := range fields {
				kept[short(name)] = append(kept[short(name)], texts...)
			}
			return kept
		}
	}
	return fields
}

// jsonResponse answers with a document and a newline.
func jsonResponse(status int, v any) response {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil { // only a json.RawMessage from elsewhere can do that
		return response{
			status: http.StatusInternalServerError, contentType: jsonType,
			body: []byte(`{"error":"the answer is not valid JSON","code":"internal"}` + "\n"),
		}
	}
	return response{status: status, contentType: jsonType, body: b.Bytes()}
}
