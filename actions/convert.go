package actions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// phrase is the type with its article, "" when there is no such type.
func (t ArgumentType) phrase() string {
	switch t {
	case TypeFile:
		return `a file: a base64 string, a data: URI or {"data": base64, "filename", "content_type"}`
	case TypeString:
		return "a string"
	case TypeInteger:
		return "an integer"
	case TypeNumber:
		return "a number"
	case TypeBoolean:
		return "a boolean"
	case TypeArray:
		return "an array"
	case TypeObject:
		return "an object"
	case TypeAny:
		return "any JSON value"
	}
	return ""
}

// fromText converts the values of a query string or a form.
func (a Argument) fromText(texts []string) (json.RawMessage, []File, error) {
	if a.Type != TypeString {
		texts = nonEmpty(texts)
	}
	switch {
	case len(texts) == 0:
		return nil, nil, nil
	case a.Type == TypeFile:
		files, err := a.filesFromText(texts)
		return nil, files, err
	case len(texts) == 1:
		if a.Type != TypeString {
			texts[0] = strings.TrimSpace(texts[0])
		}
		value, err := a.Type.parse(texts[0])
		return value, nil, err
	case a.Type == TypeArray || a.Type == TypeAny:
		return arrayOf(texts), nil, nil
	}
	return nil, nil, fmt.Errorf("must be one value, but is given %d times", len(texts))
}

// nonEmpty returns the texts that are more than white space. A form sends an empty
// text for each field that was left alone.
func nonEmpty(texts []string) []string {
	var kept []string
	for _, s := range texts {
		if strings.TrimSpace(s) != "" {
			kept = append(kept, s)
		}
	}
	return kept
}

// parse makes a JSON value of the type from one text.
func (t ArgumentType) parse(s string) (json.RawMessage, error) {
	switch t {
	case TypeString:
		if !utf8.ValidString(s) {
			return nil, errors.New("is not valid UTF-8")
		}
		return quote(s), nil
	case TypeInteger, TypeNumber:
		return t.parseNumber(s)
	case TypeBoolean:
		switch strings.ToLower(s) {
		case "true", "1", "yes", "on":
			return json.RawMessage("true"), nil
		case "false", "0", "no", "off":
			return json.RawMessage("false"), nil
		}
		return nil, fmt.Errorf("must be true or false, not %q", shorten(s))
	case TypeArray:
		if s[0] != '[' {
			return arrayOf([]string{s}), nil
		}
	case TypeAny:
		return element(s), nil
	case TypeObject, TypeFile:
	}
	if err := checkJSON([]byte(s)); err != nil {
		return nil, err
	}
	return t.check(json.RawMessage(s))
}

// parseNumber reads a number as people write it: also +1, 007 and .5.
func (t ArgumentType) parseNumber(s string) (json.RawMessage, error) {
	if strings.Trim(s, "+-.0123456789eE") == "" && !json.Valid([]byte(s)) {
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			s = strconv.FormatFloat(f, 'g', -1, 64)
		}
	}
	if !json.Valid([]byte(s)) {
		return nil, fmt.Errorf("must be %s, not %q", t.phrase(), shorten(s))
	}
	return t.check(json.RawMessage(s))
}

// arrayOf makes a JSON array of repeated texts.
func arrayOf(texts []string) json.RawMessage {
	array := json.RawMessage{'['}
	for i, s := range texts {
		if i > 0 {
			array = append(array, ',')
		}
		array = append(array, element(s)...)
	}
	return append(array, ']')
}

// element is s when that is JSON, else the JSON string of it.
func element(s string) json.RawMessage {
	if json.Valid([]byte(s)) {
		return json.RawMessage(s)
	}
	return quote(s)
}

// fromJSON checks one member of a JSON object. Null is no value.
func (a Argument) fromJSON(value json.RawMessage) (json.RawMessage, []File, error) {
	value = bytes.TrimSpace(value)
	switch {
	case len(value) == 0, string(value) == "null":
		return nil, nil, nil
	case a.Type == TypeFile:
		files, err := a.filesFromJSON(value)
		return nil, files, err
	}
	value, err := a.Type.check(value)
	return value, nil, err
}

// check checks a JSON value against the type, by its first byte where that decides. It
// returns the value: an integer that was written as 3.0 becomes 3.
func (t ArgumentType) check(value json.RawMessage) (json.RawMessage, error) {
	ok := false
	switch t {
	case TypeAny:
		ok = true
	case TypeString:
		ok = value[0] == '"'
	case TypeArray:
		ok = value[0] == '['
	case TypeObject:
		ok = value[0] == '{'
	case TypeBoolean:
		ok = string(value) == "true" || string(value) == "false"
	case TypeInteger, TypeNumber:
		if value[0] == '-' || value[0] >= '0' && value[0] <= '9' {
			return t.checkNumber(value)
		}
	case TypeFile:
	}
	if !ok {
		return nil, fmt.Errorf("must be %s, not %s", t.phrase(), show(value))
	}
	return value, nil
}

// checkNumber checks a JSON number, which must fit a float64 so that every model can
// read it.
func (t ArgumentType) checkNumber(value json.RawMessage) (json.RawMessage, error) {
	f, err := strconv.ParseFloat(string(value), 64)
	if errors.Is(err, strconv.ErrRange) {
		return nil, fmt.Errorf("is out of range: %s", shorten(string(value)))
	}
	whole := t == TypeNumber || f == math.Trunc(f)
	if err != nil || !whole {
		return nil, fmt.Errorf("must be %s, not %s", t.phrase(), shorten(string(value)))
	}
	if t == TypeInteger && bytes.ContainsAny(value, ".eE") {
		if math.Abs(f) > 1<<53 {
			return nil, fmt.Errorf("is out of range: write %s with all its digits", shorten(string(value)))
		}
		return strconv.AppendInt(nil, int64(f), 10), nil
	}
	return value, nil
}

// chosen reports whether value is one of the argument's choices, if there are any. 3
// and 3.0 are the same choice.
func (a Argument) chosen(value json.RawMessage) bool {
	if len(a.Choices) == 0 {
		return true
	}
	var got any
	if json.Unmarshal(value, &got) != nil {
		return false
	}
	for _, c := range a.Choices {
		var choice any
		if json.Unmarshal(c, &choice) == nil && reflect.DeepEqual(got, choice) {
			return true
		}
	}
	return false
}

// checkJSON says where data stops being JSON.
func checkJSON(data []byte) error {
	var raw json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return fmt.Errorf("is not JSON: %w", err)
	}
	return nil
}

// quote is the JSON string of s, with < and > as they are.
func quote(s string) json.RawMessage {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string has always a JSON form
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// show is a JSON value for an error message: short ones as they are.
func show(value json.RawMessage) string {
	if len(value) > maxShown && value[0] == '[' {
		return "an array"
	}
	if len(value) > maxShown && value[0] == '{' {
		return "an object"
	}
	return shorten(string(value))
}

// maxShown is how many bytes of a caller's value an error message shows.
const maxShown = 60

// shorten cuts s for an error message.
func shorten(s string) string {
	if len(s) <= maxShown {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "…"
}
