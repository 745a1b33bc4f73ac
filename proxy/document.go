package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions/jsonscan"
)

// A document is a JSON object whose members keep their order.
type document struct{ members []member }

type member struct {
	name  string
	value any
}

// set sets a member. One that is there already keeps its place, as in a dict of Python.
func (d *document) set(name string, value any) {
	for i := range d.members {
		if d.members[i].name == name {
			d.members[i].value = value
			return
		}
	}
	d.members = append(d.members, member{name, value})
}

// add sets a member unless there is one of that name.
func (d *document) add(name string, value any) {
	for i := range d.members {
		if d.members[i].name == name {
			return
		}
	}
	d.members = append(d.members, member{name, value})
}

// merge sets all members of a JSON object; of anything else it takes nothing.
func (d *document) merge(object json.RawMessage) {
	_ = scanObject(object, func(s *jsonscan.Scanner, key []byte) bool {
		raw, ok := s.Raw()
		if ok {
			d.set(string(key), raw)
		}
		return ok
	})
}

// MarshalJSON implements json.Marshaler.
func (d *document) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, m := range d.members {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := enc.Encode(m.name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := enc.Encode(m.value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// pageResponse answers with a document as DEEPaaS writes it.
func pageResponse(v any) response {
	resp := jsonResponse(http.StatusOK, v)
	if resp.status == http.StatusOK {
		resp.body = pythonJSON(resp.body)
	}
	return resp
}

// pythonJSON writes JSON as Python's json.dumps does: a space after each comma and
// colon, ASCII only, no newline at the end.
func pythonJSON(data []byte) []byte {
	out := make([]byte, 0, len(data)+len(data)/8)
	quoted := false
	for i := 0; i < len(data); {
		c := data[i]
		switch {
		case c >= utf8.RuneSelf || c == 0x7f:
			r, size := utf8.DecodeRune(data[i:])
			out = appendEscaped(out, r)
			i += size
			continue
		case quoted && c == '\\' && i+1 < len(data):
			out = append(out, c, data[i+1])
			i += 2
			continue
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
			continue
		case c == ',' || c == ':':
			out = append(out, c)
			c = ' '
		}
		out = append(out, c)
		i++
	}
	return out
}

func appendEscaped(out []byte, r rune) []byte {
	if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
		return fmt.Appendf(out, "\\u%04x\\u%04x", high, low)
	}
	return fmt.Appendf(out, "\\u%04x", r)
}
