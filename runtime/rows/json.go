package rows

import (
	"encoding/json"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions/jsonscan"
)

// quote returns a JSON string of text; bytes of it that are not UTF-8 become U+FFFD.
func quote[T string | []byte](text T) json.RawMessage {
	return appendQuoted(make([]byte, 0, len(text)+2), []byte(text))
}

// appendQuoted appends a JSON string of text. Nothing is escaped that need not be.
func appendQuoted(b, text []byte) []byte {
	if !utf8.Valid(text) {
		text = []byte(string([]rune(string(text))))
	}
	b = append(b, '"')
	for {
		n := jsonscan.Plain(text)
		b = append(b, text[:n]...)
		if n == len(text) {
			return append(b, '"')
		}
		b = appendEscaped(b, text[n])
		text = text[n+1:]
	}
}

// appendEscaped appends the escape of a quote, a backslash or a control character.
func appendEscaped(b []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

// appendMember appends a member to an object that is open: a comma, unless it is the first, the
// quoted name and the value.
func appendMember(b []byte, name string, value []byte) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = appendQuoted(b, []byte(name))
	b = append(b, ':')
	return append(b, value...)
}

// members calls f for each member of a valid JSON object, in their order, until it returns
// false.
func members(object json.RawMessage, f func(name []byte, value json.RawMessage) bool) {
	jsonscan.New(object).Object(-1, func(s *jsonscan.Scanner, key []byte) bool {
		raw, ok := s.Raw()
		return ok && f(key, raw)
	})
}

// text returns what a valid JSON string says.
func text(value json.RawMessage) string {
	inner := value[1 : len(value)-1]
	if jsonscan.Plain(inner) == len(inner) {
		return string(inner)
	}
	var s string
	_ = json.Unmarshal(value, &s) // it is valid
	return s
}
