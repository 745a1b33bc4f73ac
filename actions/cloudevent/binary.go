package cloudevent

import (
	"encoding/base64"
	"strings"
)

// ParseBinary reads the event of a message in binary mode: its attributes from the headers,
// the body as its data. The event's strings are those of the headers, and its Data are the
// body. The error is an *actions.Error Invalid.
func ParseBinary(contentType string, header Header, body []byte) (Event, error) {
	var d draft
	header(d.header)
	return d.binary(contentType, body)
}

// ParseAttributes is ParseBinary for headers that are there as a list, in which it takes less
// memory. Their Kind means nothing.
func ParseAttributes(contentType string, headers []Attribute, body []byte) (Event, error) {
	var d draft
	for i := range headers {
		d.header(headers[i].Name, headers[i].Value)
	}
	return d.binary(contentType, body)
}

// binary ends the reading of an event in binary mode, when all headers were read.
func (d *draft) binary(contentType string, body []byte) (Event, error) {
	if contentType != "" {
		d.event.DataContentType = contentType
	}
	if len(body) > 0 {
		d.event.Data = body
	}
	if err := d.settle(); err != nil {
		return Event{}, err
	}
	if d.encoded {
		data, err := base64.StdEncoding.AppendDecode(nil, body)
		if err != nil {
			return Event{}, invalid("the body is no base64, as ce-datacontentencoding says")
		}
		d.event.Data = data
	}
	if err := d.event.Validate(); err != nil {
		return Event{}, err
	}
	return d.event, nil
}

// header takes one header of a message in binary mode.
func (d *draft) header(name, value string) {
	if d.err != nil || !hasPrefixFold(name, prefix) {
		return
	}
	name = name[len(prefix):]
	if len(name) > maxName {
		d.err = invalid("the name of the header ce-%s is longer than %d characters", cut(name), maxName)
		return
	}
	var room [maxName]byte
	key := room[:0]
	for _, c := range []byte(name) {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		key = append(key, c)
	}
	if string(key) == "datacontenttype" {
		d.err = invalid("the header ce-datacontenttype is none of binary mode: Content-Type says it")
		return
	}
	value, ok := decodeHeader(value)
	if !ok {
		d.err = invalid("the header ce-%s has a %% that no two hexadecimal digits follow, bytes that are no UTF-8, or an open quote: encode it as the HTTP binding says", string(key))
		return
	}
	if field, bit := d.field(key); field != nil {
		if d.once(bit, key, value) {
			*field = value
		}
		return
	}
	if string(key) != name { // the header's name may serve as it is
		name = string(key)
	}
	d.extend(Attribute{Name: name, Value: value})
}

// decodeHeader decodes the value of a header: quotes, then percent-encoding, each once.
func decodeHeader(value string) (string, bool) {
	value = strings.Trim(value, " \t")
	if len(value) > 0 && value[0] == '"' {
		var ok bool
		if value, ok = unquote(value); !ok {
			return "", false
		}
	}
	if strings.IndexByte(value, '%') < 0 {
		return value, true
	}
	b := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c == '%' {
			if i+2 >= len(value) {
				return "", false
			}
			high, low := unhex(value[i+1]), unhex(value[i+2])
			if high|low > 0xf {
				return "", false
			}
			c = high<<4 | low
			i += 2
		}
		b = append(b, c)
	}
	return string(b), true
}

// unquote undoes the quoted-string of RFC 9110.
func unquote(value string) (string, bool) {
	b := make([]byte, 0, len(value))
	for i := 1; i < len(value); i++ {
		switch value[i] {
		case '"':
			return string(b), i == len(value)-1
		case '\\':
			if i++; i == len(value) {
				return "", false
			}
		}
		b = append(b, value[i])
	}
	return "", false
}

// unhex returns the value of a hexadecimal digit, 0xff of what is none.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// BinaryHeader calls each for all headers of the event in binary mode but Content-Type, which
// is DataContentType. The body is Data. The values are encoded as headers have to be.
func (e *Event) BinaryHeader(each func(name, value string)) {
	each("ce-specversion", e.version())
	each("ce-id", encodeHeader(e.ID))
	each("ce-source", encodeHeader(e.Source))
	each("ce-type", encodeHeader(e.Type))
	if e.Subject != "" {
		each("ce-subject", encodeHeader(e.Subject))
	}
	if e.Time != "" {
		each("ce-time", encodeHeader(e.Time))
	}
	if e.DataSchema != "" {
		each(prefix+e.schemaName(), encodeHeader(e.DataSchema))
	}
	for _, a := range e.Extensions {
		each(prefix+a.Name, encodeHeader(a.Value))
	}
}

// encodeHeader encodes what a header cannot hold, and what would be decoded again.
func encodeHeader(value string) string {
	const digits = "0123456789ABCDEF"
	special := func(c byte) bool { return c <= ' ' || c > '~' || c == '"' || c == '%' }
	n := 0
	for i := range len(value) {
		if special(value[i]) {
			n++
		}
	}
	if n == 0 {
		return value
	}
	b := make([]byte, 0, len(value)+2*n)
	for i := range len(value) {
		if c := value[i]; special(c) {
			b = append(b, '%', digits[c>>4], digits[c&0xf])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}
