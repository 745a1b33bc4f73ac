package rows

import (
	"encoding/json"
	"strings"

	"github.com/deepfn/deepfn/actions/jsonscan"
)

// A lookup finds a value in a JSON object: the member of the whole name, else a path of names
// with dots between them. Numbers in a path are indexes of arrays.
type lookup struct {
	path string
	// head is the first name of the path, rest the others; rest is empty without dots.
	head string
	rest []string
}

func newLookup(path string) lookup {
	names := strings.Split(path, ".")
	return lookup{path: path, head: names[0], rest: names[1:]}
}

// scan moves past an object and finds the value, which stays nil when there is none. Of members
// of one name the last counts.
func (l lookup) scan(s *jsonscan.Scanner, value *json.RawMessage) bool {
	var whole, within json.RawMessage
	ok := s.Object(-1, func(s *jsonscan.Scanner, key []byte) bool {
		raw, ok := s.Raw()
		l.take(key, raw, &whole, &within)
		return ok
	})
	if *value = whole; whole == nil && within != nil {
		*value = descend(within, l.rest)
	}
	return ok
}

// take keeps a member if it is the value, or has it.
func (l lookup) take(key []byte, raw json.RawMessage, whole, within *json.RawMessage) {
	if string(key) == l.path {
		*whole = raw
	} else if string(key) == l.head {
		*within = raw
	}
}

// find returns the value in a valid JSON object, nil when there is none.
func (l lookup) find(columns json.RawMessage) (value json.RawMessage) {
	l.scan(jsonscan.New(columns), &value)
	return value
}

// descend follows the names into a valid JSON value.
func descend(value json.RawMessage, names []string) json.RawMessage {
	for _, name := range names {
		var found json.RawMessage
		s := jsonscan.New(value)
		switch s.Peek() {
		case '{':
			s.Object(-1, func(s *jsonscan.Scanner, key []byte) bool {
				raw, ok := s.Raw()
				if string(key) == name {
					found = raw
				}
				return ok
			})
		case '[':
			found = element(s, name)
		}
		if found == nil {
			return nil
		}
		value = found
	}
	return value
}

// element returns the element of an array whose index is written in name.
func element(s *jsonscan.Scanner, name string) (found json.RawMessage) {
	want := 0
	for _, c := range []byte(name) {
		if c < '0' || c > '9' || want > maxRow {
			return nil
		}
		want = want*10 + int(c-'0')
	}
	if name == "" {
		return nil
	}
	i := 0
	s.Array(func(s *jsonscan.Scanner) bool {
		raw, ok := s.Raw()
		if i == want {
			found = raw
		}
		i++
		return ok
	})
	return found
}
