package cloudevent

import (
	"encoding/base64"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions/jsonscan"
)

// AppendJSON appends the event in the JSON format to b, without a newline. Data that are
// neither JSON nor text are in base64. An event whose Validate has an error gives JSON that
// cannot be read as one.
func (e *Event) AppendJSON(b []byte) []byte {
	b = append(b, `{"specversion":`...)
	b = appendString(b, e.version())
	b = appendMember(b, "id", e.ID)
	b = appendMember(b, "source", e.Source)
	b = appendMember(b, "type", e.Type)
	for _, a := range [...]struct{ name, value string }{
		{"subject", e.Subject},
		{"time", e.Time},
		{"datacontenttype", e.DataContentType},
		{e.schemaName(), e.DataSchema},
	} {
		if a.value != "" {
			b = appendMember(b, a.name, a.value)
		}
	}
	for _, a := range e.Extensions {
		if a.Kind == String {
			b = appendMember(b, a.Name, a.Value)
			continue
		}
		b = append(appendName(b, a.Name), a.Value...)
	}
	return append(e.appendData(b), '}')
}

// AppendBatch appends a batch of events in the JSON format to b, without a newline.
func AppendBatch(b []byte, events []Event) []byte {
	b = append(b, '[')
	for i := range events {
		if i > 0 {
			b = append(b, ',')
		}
		b = events[i].AppendJSON(b)
	}
	return append(b, ']')
}

// appendData appends the member that has the data, if there are any.
func (e *Event) appendData(b []byte) []byte {
	switch isJSON := e.IsJSON(); {
	case e.Data == nil:
		return b
	case isJSON && jsonscan.Valid(e.Data):
		return append(appendName(b, "data"), e.Data...)
	case !isJSON && utf8.Valid(e.Data):
		return appendString(appendName(b, "data"), e.Data)
	case e.SpecVersion == V03:
		b = append(b, `,"datacontentencoding":"base64","data":"`...)
	default:
		b = append(b, `,"data_base64":"`...)
	}
	return append(base64.StdEncoding.AppendEncode(b, e.Data), '"')
}

func appendMember(b []byte, name, value string) []byte {
	return appendString(appendName(b, name), value)
}

func appendName(b []byte, name string) []byte {
	return append(appendString(append(b, ','), name), ':')
}

// appendString appends a JSON string. What is no UTF-8 becomes U+FFFD.
func appendString[T string | []byte](b []byte, text T) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRuneInString(string(text[i:min(i+utf8.UTFMax, len(text))])); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		b = append(b, text[start:i]...)
		switch {
		case c == '"', c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&0xf])
		default:
			b = append(b, "\ufffd"...)
		}
		i += size
		start = i
	}
	return append(append(b, text[start:]...), '"')
}
