package proxy

import (
	"errors"
	"net/http"

	"github.com/deepfn/deepfn/actions"
)

// eventStatus maps an error to the status that the sender of an event gets. Knative's senders,
// as most, try again after 404, 408, 409, 429 and 5xx, and after no other: so these are for
// what may go away, and all that will not change is another 4xx.
func eventStatus(e *actions.Error) int {
	passing := false
	status := http.StatusUnprocessableEntity
	switch e.Code {
	case actions.Invalid, actions.NotFound:
		status = http.StatusBadRequest
	case actions.TooLarge:
		status = http.StatusRequestEntityTooLarge
	case actions.Unauthorized:
		status = http.StatusUnauthorized
	case actions.Forbidden:
		status = http.StatusForbidden
	case actions.Busy:
		passing, status = true, http.StatusTooManyRequests
	case actions.Unavailable, actions.Canceled:
		passing, status = true, http.StatusServiceUnavailable
		if errors.Is(e, actions.ErrDied) {
			status = http.StatusBadGateway
		}
	case actions.Deadline:
		passing, status = true, http.StatusGatewayTimeout
	case actions.Internal:
		passing, status = true, http.StatusInternalServerError
	case actions.Unsupported, actions.Conflict, actions.Failed, actions.NoAnswer, actions.Exited:
		// The model would say the same of the same event.
	}
	switch own := e.Status; { // the model's
	case own < 400 || own > 599:
	case own == http.StatusRequestTimeout, own == http.StatusTooManyRequests, own == http.StatusBadGateway,
		own == http.StatusServiceUnavailable, own == http.StatusGatewayTimeout, own >= 500 && passing:
		return own // which say that it may go away
	case own >= 500, own == http.StatusNotFound, own == http.StatusConflict:
		// It does not say so, and would be tried again in vain.
	case !passing:
		return own
	}
	return status
}

// maySucceed says whether the sender of an event will try again after a status.
func maySucceed(status int) bool {
	switch status {
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return status >= http.StatusInternalServerError
}

// passes says whether there may be an answer when the event comes again.
func (o *eventOutcome) passes() bool { return o.err != nil && maySucceed(eventStatus(o.err)) }

// mayChange says whether there may be another answer later, though nobody is told to come again:
// when what the event names, or the object that it tells of, is not there or not allowed.
func (o *eventOutcome) mayChange(object string) bool {
	switch {
	case o.err == nil:
		return false
	case object != "" && (o.err.Code == actions.Invalid || o.err.Code == actions.Forbidden):
		return true
	}
	return o.err.Code == actions.NotFound
}

// eventFailure answers an event that there is no answer to. Its body is no event, which a
// sender does not look for in an error.
func eventFailure(e *actions.Error) response {
	status := eventStatus(e)
	resp := jsonResponse(status, errorBody{Error: message(e), Code: e.Code})
	resp.retryAfter = retryAfter(e, status)
	return resp
}
