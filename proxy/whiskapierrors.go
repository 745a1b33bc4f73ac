package proxy

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// An apiError is what an error of OpenWhisk's API looks like (ErrorResponse.scala). Its
// code is the id of the transaction; without it clients take an answer for a broken one.
type apiError struct {
	Error string `json:"error"`
	Code  string `json:"code"`
}

// apiFailure answers an error in the words of OpenWhisk's API.
func apiFailure(e *actions.Error, id string) response {
	status := whiskStatus(e.Code)
	resp := jsonResponse(status, apiError{message(e), id})
	resp.retryAfter = retryAfter(e, status)
	if status == http.StatusUnauthorized {
		resp.header = http.Header{"Www-Authenticate": {`Basic realm="OpenWhisk secure realm"`}}
	}
	return resp
}

// whiskStatus maps an error to the status that OpenWhisk's API answers with, from which
// wsk makes its exit code.
func whiskStatus(code actions.Code) int {
	switch code {
	case actions.Invalid, actions.Unsupported:
		return http.StatusBadRequest
	case actions.Unauthorized:
		return http.StatusUnauthorized
	case actions.Forbidden:
		return http.StatusForbidden
	case actions.NotFound:
		return http.StatusNotFound
	case actions.Conflict:
		return http.StatusConflict
	case actions.TooLarge:
		return http.StatusRequestEntityTooLarge
	case actions.Busy:
		return http.StatusTooManyRequests
	case actions.Failed, actions.NoAnswer, actions.Exited:
		return http.StatusBadGateway
	case actions.Unavailable, actions.Canceled:
		return http.StatusServiceUnavailable
	case actions.Deadline:
		return http.StatusGatewayTimeout
	case actions.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

func nothingThere() error {
	return actions.Errorf(actions.NotFound, "The requested resource could not be found.")
}

// malformedContent refuses a body, malformedQuery a parameter of the query string.
func malformedContent(why string) error {
	return actions.Errorf(actions.Invalid, "The request content was malformed:\n%s", why)
}

func malformedQuery(name, why string) error {
	return actions.Errorf(actions.Invalid, "The query parameter '%s' was malformed:\n%s", name, why)
}

// apiMethodNotAllowed answers a method that a path of the API does not know.
func apiMethodNotAllowed(c *apiCall, ep endpoint) response {
	var allow []string
	for _, m := range []struct {
		names []string
		do    apiHandler
	}{
		{[]string{http.MethodGet, http.MethodHead}, ep.get},
		{[]string{http.MethodPut}, ep.put},
		{[]string{http.MethodPost}, ep.post},
		{[]string{http.MethodDelete}, ep.del},
	} {
		if m.do != nil {
			allow = append(allow, m.names...)
		}
	}
	list := strings.Join(allow, ", ")
	resp := jsonResponse(http.StatusMethodNotAllowed, apiError{
		fmt.Sprintf("HTTP method not allowed, supported methods: %s", list), c.id,
	})
	resp.allow = list
	return resp
}
