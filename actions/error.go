package actions

import (
	"errors"
	"fmt"
	"time"
)

// A Code says what kind of error it is. Programs decide by it, and each protocol maps
// it to its own statuses in one switch.
type Code string

// The codes of an Error.
const (
	// Invalid: the request is wrong and will be as wrong when it is sent again.
	Invalid Code = "invalid"
	// NotFound: there is no such model, route or file.
	NotFound Code = "not_found"
	// Unsupported: the model has no such ability (train, a media type).
	Unsupported Code = "unsupported"
	// TooLarge: the request or the answer is over a limit, which Msg names.
	TooLarge Code = "too_large"
	// Conflict: the state forbids it, as a second /init.
	Conflict Code = "conflict"
	// Busy: the queue is full. Later it will do.
	Busy Code = "busy"
	// Unavailable: there is no instance that could answer: it did not start, it died
	// during the request, or the server is shutting down.
	Unavailable Code = "unavailable"
	// Deadline: the time that the caller gave is over.
	Deadline Code = "deadline"
	// Canceled: the caller has gone.
	Canceled Code = "canceled"
	// Unauthorized: the caller has no key, or a wrong one.
	Unauthorized Code = "unauthorized"
	// Forbidden: the caller's key, or the server, does not allow it.
	Forbidden Code = "forbidden"
	// Failed: the model itself raised an error.
	Failed Code = "failed"
	// NoAnswer: the function returned what is no result of an action, neither an object
	// nor an array.
	NoAnswer Code = "no_answer"
	// Exited: the function ended its own process. It is for those that OpenWhisk calls; of
	// other models this is Unavailable with ErrDied.
	Exited Code = "exited"
	// Internal: deepfn is at fault.
	Internal Code = "internal"
)

// ErrDied is in the chain of an Unavailable when the process of a model has exited during
// the request, and was not ended by the server or by a signal.
var ErrDied = errors.New("the process of the model died")

// An Error is an error that a caller can act on.
type Error struct {
	Code Code
	// Msg is for people: what was tried, what is wrong, what to do.
	Msg string
	// Fields name what is wrong with each argument, for Invalid. May be nil.
	Fields map[string][]string
	// Status is the HTTP status that the model itself asked for, 400 to 599; 0 when it
	// asked for none and the protocol decides by Code.
	Status int
	// RetryAfter is when to try again, for Busy and Unavailable. Zero means unknown.
	RetryAfter time.Duration
	// Logs are the lines that the model printed before the error. May be nil.
	Logs []LogLine
	// Err is the cause, for the log; it is never sent to a caller. May be nil.
	Err error
}

// Errorf makes an Error with a formatted message. If an argument of a %w is an error,
// that error is its cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Msg: err.Error(), Err: errors.Unwrap(err)}
}

// Error returns the message, or the cause when there is none.
func (e *Error) Error() string {
	if e.Msg == "" && e.Err != nil {
		return e.Err.Error()
	}
	return e.Msg
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of err: that of the first Error in its chain, else Internal.
// It returns "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}

// ErrDiedLoading is in the chain of the error of a start whose process ended by itself, or
// was killed by the system, before its model was loaded.
var ErrDiedLoading = errors.New("the process ended while the model was loaded")
