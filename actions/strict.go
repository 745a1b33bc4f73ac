package actions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// DecodeStrict decodes one JSON value, as a section of an action, into what v points to.
// A key that v does not have is an error that lists those that there are, and a value of
// a wrong type one that names its key. Nothing may stand behind the value.
func DecodeStrict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return strictError(err, data, keysOf(reflect.TypeOf(v).Elem()))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind the section's end")
	}
	return nil
}

// strictError says what is wrong in the words of the one who wrote the section.
func strictError(err error, data []byte, keys []string) error {
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if isMember(data, name, keys) {
			return fmt.Errorf("unknown key %s; there are %s", name, strings.Join(keys, ", "))
		}
		return fmt.Errorf("unknown key %s", name) // in an object within
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		switch {
		case e.Field != "":
			return fmt.Errorf("%s: got %s, want %s", e.Field, e.Value, wordsOf(e.Type))
		case len(keys) > 0:
			return fmt.Errorf("got %s, want an object with some of the keys %s", e.Value, strings.Join(keys, ", "))
		}
		return fmt.Errorf("got %s, want %s", e.Value, wordsOf(e.Type))
	}
	if errors.Is(err, io.EOF) {
		return errors.New("the section is missing")
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

// isMember reports whether an unknown key, in quotes, is one of the outermost object.
func isMember(data []byte, quoted string, keys []string) bool {
	var members map[string]json.RawMessage
	var name string
	if json.Unmarshal(data, &members) != nil || json.Unmarshal([]byte(quoted), &name) != nil {
		return false
	}
	known := func(key string) bool { return strings.EqualFold(key, name) }
	return members[name] != nil && !slices.ContainsFunc(keys, known)
}

// keysOf returns the keys of a struct in JSON, in its order; none of another type.
func keysOf(t reflect.Type) []string {
	var names []string
	if t.Kind() != reflect.Struct {
		return nil
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// wordsOf says what values a Go type has in JSON.
func wordsOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Pointer:
		return wordsOf(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.String {
			return "a list of strings"
		}
		return "a list"
	case reflect.Map:
		if t.Elem().Kind() == reflect.String {
			return "an object of strings"
		}
		return "an object"
	default:
		return "an object"
	}
}
