package proxy

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

const (
	// maxDepth is how deep JSON may be nested; a worker in Python stops near there too.
	maxDepth = 900
	// maxMembers is how many members the objects may have that are taken apart.
	maxMembers = 1000
)

// A jsonError says why data is not the JSON object that was wanted. Each protocol puts
// that into its own words.
type jsonError struct {
	msg string
	// offset is the byte at which it was noticed; 0 is unknown.
	offset int64
	// valid says that data is JSON, though of another type.
	valid bool
}

// A scanner walks over JSON without decoding it. It accepts what encoding/json accepts,
// if it is UTF-8 and not nested too deep; the values it finds are slices of data.
type scanner struct {
	data  []byte
	pos   int
	depth int
}

// scanObject walks over data, which must be one JSON object. It calls member for each
// member, with the scanner before the member's value; member moves it past that, with
// value or object, and returns what these returned. The key is valid until it returns.
func scanObject(data []byte, member func(s *scanner, key []byte) bool) *jsonError {
	return scanMembers(data, maxMembers, member)
}

// scanMembers is scanObject with another limit of the number of members, -1 for none.
func scanMembers(data []byte, limit int, member func(s *scanner, key []byte) bool) *jsonError {
	s := &scanner{data: data}
	s.space()
	if s.peek() != '{' && json.Valid(data) {
		return &jsonError{msg: "the body is not a JSON object", valid: true}
	}
	if !s.object(limit, member) || !s.atEnd() {
		return s.reason()
	}
	if !utf8.Valid(data) {
		return &jsonError{msg: "the body is not UTF-8"}
	}
	return nil
}

// reason says what is wrong with data, in encoding/json's words.
func (s *scanner) reason() *jsonError {
	var raw json.RawMessage
	err := json.Unmarshal(s.data, &raw)
	if bad, ok := errors.AsType[*json.SyntaxError](err); ok {
		return &jsonError{msg: err.Error(), offset: bad.Offset}
	}
	return &jsonError{msg: errTooMany()}
}

func errTooMany() string {
	return fmt.Sprintf("the body is nested deeper than %d levels or has more than %d members", maxDepth, maxMembers)
}

// object moves past an object and calls member for each of its members, of which there
// may be limit, or any number if that is negative.
func (s *scanner) object(limit int, member func(s *scanner, key []byte) bool) bool {
	if !s.open('{') {
		return false
	}
	if s.peek() == '}' {
		return s.shut()
	}
	for n := 0; n != limit; n++ {
		key, ok := s.key()
		if !ok || !member(s, key) {
			return false
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
			s.space()
		case '}':
			return s.shut()
		default:
			return false
		}
	}
	return false
}

// members moves past an object and puts its members into m; the last of a name stays.
func (s *scanner) members(m map[string]json.RawMessage) bool {
	return s.object(maxMembers, func(s *scanner, key []byte) bool {
		raw, ok := s.raw()
		m[string(key)] = raw
		return ok
	})
}

// raw moves past a value and returns it, a slice of data.
func (s *scanner) raw() (json.RawMessage, bool) {
	start := s.pos
	ok := s.value()
	return s.data[start:s.pos:s.pos], ok
}

// value moves past one value of any type.
func (s *scanner) value() bool {
	switch c := s.peek(); c {
	case '{':
		return s.list('{', '}')
	case '[':
		return s.list('[', ']')
	case '"':
		return s.text()
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

// list moves past an object or an array of any length.
func (s *scanner) list(first, last byte) bool {
	if !s.open(first) {
		return false
	}
	if s.peek() == last {
		return s.shut()
	}
	for {
		if first == '{' && (!s.text() || !s.colon()) || !s.value() {
			return false
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
			s.space()
		case last:
			return s.shut()
		default:
			return false
		}
	}
}

// open and shut move past the brackets of a list, and after open past the space.
func (s *scanner) open(bracket byte) bool {
	if s.peek() != bracket || s.depth == maxDepth {
		return false
	}
	s.depth++
	s.pos++
	s.space()
	return true
}

func (s *scanner) shut() bool {
	s.depth--
	s.pos++
	return true
}

// key moves past a member's name and the colon.
func (s *scanner) key() ([]byte, bool) {
	start := s.pos
	if !s.text() {
		return nil, false
	}
	quoted := s.data[start:s.pos]
	name := quoted[1 : len(quoted)-1]
	if plain(name) == len(name) {
		return name, s.colon()
	}
	var key string
	err := json.Unmarshal(quoted, &key)
	return []byte(key), err == nil && s.colon()
}

func (s *scanner) colon() bool {
	s.space()
	if s.peek() != ':' {
		return false
	}
	s.pos++
	s.space()
	return true
}

// text moves past a string.
func (s *scanner) text() bool {
	if s.peek() != '"' {
		return false
	}
	s.pos++
	for {
		s.pos += plain(s.data[s.pos:])
		switch s.peek() {
		case '"':
			s.pos++
			return true
		case '\\':
			if !s.escape() {
				return false
			}
		default: // the end, or a control character
			return false
		}
	}
}

// escape moves past a backslash and what belongs to it.
func (s *scanner) escape() bool {
	s.pos++
	if s.pos == len(s.data) {
		return false
	}
	c := s.peek()
	s.pos++
	switch c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		for range 4 {
			c := s.peek() | 0x20
			if (c < '0' || c > '9' || s.peek() < '0') && (c < 'a' || c > 'f') {
				return false
			}
			s.pos++
		}
		return true
	default:
		return false
	}
}

// plain returns how many bytes at the start of b stand for themselves in a JSON string:
// no quote, no backslash, no control character. It looks at eight bytes at a time,
// because the strings are files in base64.
func plain(b []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, backslash := w^ones*'"', w^ones*'\\'
		if ((w-ones*0x20)&^w|(quote-ones)&^quote|(backslash-ones)&^backslash)&highs != 0 {
			break
		}
	}
	for i < len(b) && b[i] >= 0x20 && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// number moves past a number.
func (s *scanner) number() bool {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !s.digits() {
		return false
	}
	if s.peek() == '.' {
		s.pos++
		if !s.digits() {
			return false
		}
	}
	if s.peek()|0x20 == 'e' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		return s.digits()
	}
	return true
}

func (s *scanner) digits() bool {
	start := s.pos
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.pos++
	}
	return s.pos > start
}

func (s *scanner) word(w string) bool {
	if len(s.data)-s.pos < len(w) || string(s.data[s.pos:s.pos+len(w)]) != w {
		return false
	}
	s.pos += len(w)
	return true
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// atEnd says whether only space is left.
func (s *scanner) atEnd() bool {
	s.space()
	return s.pos == len(s.data)
}

// peek returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}
