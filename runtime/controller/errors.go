package controller

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/deepfn/deepfn/actions"
)

// The texts of ErrorResponse.scala, and of the files of apache/openwhisk that have some of
// their own.
const (
	alreadyExists        = "resource already exists"
	notInCollection      = "Resource by this name exists but is not in this collection."
	doesNotExist         = "The requested resource does not exist."
	notAuthorized        = "The supplied authentication is not authorized to access this resource."
	badFullName          = "The fully qualified name of the entity must contain at least the namespace and the name of the entity."
	sequenceTooLong      = "Too many actions in the sequence."
	sequenceEmpty        = "No component specified for the sequence."
	sequenceCyclic       = "Sequence may not refer to itself."
	componentMissing     = "Sequence component does not exist."
	noSuchBinding        = "Binding references a package that does not exist."
	packageNoBinding     = "Resource is a package and cannot be converted into a binding."
	bindingOfBinding     = "Cannot bind to another package binding."
	bindingNoPackage     = "Cannot bind to a resource that is not a package."
	notOnBinding         = "Operation not permitted on package binding."
	finalParameters      = "Request defines parameters that are not allowed (e.g., reserved properties)."
	overloaded           = "System is overloaded, try again later."
	ruleNeedsBoth        = "rule requires a valid trigger and a valid action"
	ruleNeedsTrigger     = "Only rules with existing triggers can be activated"
	feedInvalid          = "Feed name is not valid"
	execUndefined        = "exec undefined"
	abnormalRun          = "The action did not produce a valid response and exited unexpectedly."
	endedBeforeDone      = "The server ended before the activation was done."
	byReference          = ` A result that is large can be put elsewhere: give "result_to": "https://…" or "s3://…" with the arguments.`
	argumentsByReference = ` Give what is large by reference, as {"url": "https://…"} or {"url": "s3://…"}.`
	malformedContents    = "The request content was malformed:\n"
)

func notFound() error  { return actions.Errorf(actions.NotFound, doesNotExist) }
func forbidden() error { return actions.Errorf(actions.Forbidden, notAuthorized) }

func invalid(format string, args ...any) error {
	return actions.Errorf(actions.Invalid, format, args...)
}

func conflict(text string) error { return &actions.Error{Code: actions.Conflict, Msg: text} }

func malformed(format string, args ...any) error {
	return actions.Errorf(actions.Invalid, malformedContents+format, args...)
}

// tooLarge refuses a part of an entity that has more bytes than it may.
func tooLarge(what string, size, limit int64) error {
	return actions.Errorf(actions.TooLarge, "%s larger than allowed: %d > %d bytes.", what, size, limit)
}

// decode reads the body of a request.
func decode(body json.RawMessage, into any) error {
	err := json.Unmarshal(body, into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		what := "the content"
		if wrong.Field != "" {
			what = "'" + wrong.Field + "'"
		}
		return malformed("%s cannot be a JSON %s", what, wrong.Value)
	}
	if err != nil {
		return malformed("%s", err)
	}
	return nil
}

// broken is an entity that is not what it was when it was kept.
func broken(what string, err error) error {
	return &actions.Error{
		Code: actions.Internal, Err: fmt.Errorf("controller: %s: %w", what, err),
		Msg: "Resource is corrupted and cannot be read.",
	}
}
