package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions/jsonscan"
)

// maxMembers is how many members the objects may have that are taken apart.
const maxMembers = 1000

// A jsonError says why data is not the JSON object that was wanted. Each protocol puts
// that into its own words.
type jsonError struct {
	msg string
	// offset is the byte at which it was noticed; 0 is unknown.
	offset int64
	// valid says that data is JSON, though of another type.
	valid bool
}

// scanObject walks over data, which must be one JSON object. It calls member for each
// member, with the scanner before the member's value; member moves it past that, with
// Value or Object, and returns what these returned. The key is valid until it returns.
func scanObject(data []byte, member func(s *jsonscan.Scanner, key []byte) bool) *jsonError {
	return scanMembers(data, maxMembers, member)
}

// scanMembers is scanObject with another limit of the number of members, -1 for none.
func scanMembers(data []byte, limit int, member func(s *jsonscan.Scanner, key []byte) bool) *jsonError {
	s := jsonscan.New(data)
	if s.Peek() != '{' && json.Valid(data) {
		return &jsonError{msg: "the body is not a JSON object", valid: true}
	}
	if !s.Object(limit, member) || !s.AtEnd() {
		return notScanned(data)
	}
	if !utf8.Valid(data) {
		return &jsonError{msg: "the body is not UTF-8"}
	}
	return nil
}

// notScanned says what is wrong with data, in encoding/json's words.
func notScanned(data []byte) *jsonError {
	var raw json.RawMessage
	err := json.Unmarshal(data, &raw)
	if bad, ok := errors.AsType[*json.SyntaxError](err); ok {
		return &jsonError{msg: err.Error(), offset: bad.Offset}
	}
	return &jsonError{msg: errTooMany()}
}

func errTooMany() string {
	return fmt.Sprintf("the body is nested deeper than %d levels or has more than %d members", jsonscan.MaxDepth, maxMembers)
}
