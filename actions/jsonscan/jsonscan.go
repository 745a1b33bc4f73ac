// Package jsonscan walks over JSON without decoding it. It is for payloads: strings of
// megabytes, of which a few members are wanted. encoding/json looks at each byte of those
// several times; this looks at eight bytes at once.
package jsonscan

import (
	"encoding/binary"
	"encoding/json"
	"unicode/utf8"
)

// MaxDepth is how deep the JSON may be nested that a Scanner takes; a worker in Python
// stops near there too.
const MaxDepth = 900

// A Scanner walks over JSON without decoding it. It accepts what encoding/json accepts, if
// it is not nested deeper than MaxDepth; the values it finds are slices of its data. Its methods
// return false, and leave it where that is seen, when the data are not what was wanted.
type Scanner struct {
	data  []byte
	pos   int
	depth int
}

// New returns a Scanner before the first value in data.
func New(data []byte) *Scanner {
	s := &Scanner{data: data}
	s.Space()
	return s
}

// Valid says whether data is one JSON value, in UTF-8 and nested at most MaxDepth.
func Valid(data []byte) bool {
	s := New(data)
	return s.Value() && s.AtEnd() && utf8.Valid(data)
}

// Pos returns how many bytes of the data are behind the Scanner, and Since what is between
// an earlier Pos and this one.
func (s *Scanner) Pos() int { return s.pos }

// Since returns the data from pos on that are behind the Scanner.
func (s *Scanner) Since(pos int) []byte { return s.data[pos:s.pos:s.pos] }

// Object moves past an object and calls member for each of its members, of which there
// may be limit, or any number if that is negative.
func (s *Scanner) Object(limit int, member func(s *Scanner, key []byte) bool) bool {
	if !s.open('{') {
		return false
	}
	if s.Peek() == '}' {
		return s.shut()
	}
	for n := 0; n != limit; n++ {
		key, ok := s.key()
		if !ok || !member(s, key) {
			return false
		}
		s.Space()
		switch s.Peek() {
		case ',':
			s.pos++
			s.Space()
		case '}':
			return s.shut()
		default:
			return false
		}
	}
	return false
}

// Array moves past an array and calls element before each of its elements, which moves it
// past that and returns whether to go on.
func (s *Scanner) Array(element func(s *Scanner) bool) bool {
	if !s.open('[') {
		return false
	}
	if s.Peek() == ']' {
		return s.shut()
	}
	for {
		if !element(s) {
			return false
		}
		s.Space()
		switch s.Peek() {
		case ',':
			s.pos++
			s.Space()
		case ']':
			return s.shut()
		default:
			return false
		}
	}
}

// Members moves past an object of at most limit members and puts them into m; the last of
// a name stays.
func (s *Scanner) Members(limit int, m map[string]json.RawMessage) bool {
	return s.Object(limit, func(s *Scanner, key []byte) bool {
		raw, ok := s.Raw()
		m[string(key)] = raw
		return ok
	})
}

// Raw moves past a value and returns it, a slice of data.
func (s *Scanner) Raw() (json.RawMessage, bool) {
	start := s.pos
	ok := s.Value()
	return s.Since(start), ok
}

// Value moves past one value of any type.
func (s *Scanner) Value() bool {
	switch c := s.Peek(); c {
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
func (s *Scanner) list(first, last byte) bool {
	if !s.open(first) {
		return false
	}
	if s.Peek() == last {
		return s.shut()
	}
	for {
		if first == '{' && (!s.text() || !s.colon()) || !s.Value() {
			return false
		}
		s.Space()
		switch s.Peek() {
		case ',':
			s.pos++
			s.Space()
		case last:
			return s.shut()
		default:
			return false
		}
	}
}

// open and shut move past the brackets of a list, and after open past the space.
func (s *Scanner) open(bracket byte) bool {
	if s.Peek() != bracket || s.depth == MaxDepth {
		return false
	}
	s.depth++
	s.pos++
	s.Space()
	return true
}

func (s *Scanner) shut() bool {
	s.depth--
	s.pos++
	return true
}

// key moves past a member's name and the colon.
func (s *Scanner) key() ([]byte, bool) {
	start := s.pos
	if !s.text() {
		return nil, false
	}
	quoted := s.data[start:s.pos]
	name := quoted[1 : len(quoted)-1]
	if Plain(name) == len(name) {
		return name, s.colon()
	}
	var key string
	err := json.Unmarshal(quoted, &key)
	return []byte(key), err == nil && s.colon()
}

func (s *Scanner) colon() bool {
	s.Space()
	if s.Peek() != ':' {
		return false
	}
	s.pos++
	s.Space()
	return true
}

// text moves past a string.
func (s *Scanner) text() bool {
	if s.Peek() != '"' {
		return false
	}
	s.pos++
	for {
		s.pos += Plain(s.data[s.pos:])
		switch s.Peek() {
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
func (s *Scanner) escape() bool {
	s.pos++
	if s.pos == len(s.data) {
		return false
	}
	c := s.Peek()
	s.pos++
	switch c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		for range 4 {
			c := s.Peek() | 0x20
			if (c < '0' || c > '9' || s.Peek() < '0') && (c < 'a' || c > 'f') {
				return false
			}
			s.pos++
		}
		return true
	default:
		return false
	}
}

// Plain returns how many bytes at the start of b stand for themselves in a JSON string:
// no quote, no backslash, no control character. It looks at eight bytes at a time,
// because the strings are files in base64.
func Plain(b []byte) int {
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
func (s *Scanner) number() bool {
	if s.Peek() == '-' {
		s.pos++
	}
	if s.Peek() == '0' {
		s.pos++
	} else if !s.digits() {
		return false
	}
	if s.Peek() == '.' {
		s.pos++
		if !s.digits() {
			return false
		}
	}
	if s.Peek()|0x20 == 'e' {
		s.pos++
		if c := s.Peek(); c == '+' || c == '-' {
			s.pos++
		}
		return s.digits()
	}
	return true
}

func (s *Scanner) digits() bool {
	start := s.pos
	for c := s.Peek(); c >= '0' && c <= '9'; c = s.Peek() {
		s.pos++
	}
	return s.pos > start
}

func (s *Scanner) word(w string) bool {
	if len(s.data)-s.pos < len(w) || string(s.data[s.pos:s.pos+len(w)]) != w {
		return false
	}
	s.pos += len(w)
	return true
}

// Space moves past white space.
func (s *Scanner) Space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// AtEnd says whether only space is left.
func (s *Scanner) AtEnd() bool {
	s.Space()
	return s.pos == len(s.data)
}

// Peek returns the next byte, 0 at the end.
func (s *Scanner) Peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}
