package cloudevent

import (
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

// ParseStructured reads an event in the JSON format. Its Data may lie in the body. The error is
// an *actions.Error Invalid.
func ParseStructured(body []byte) (Event, error) {
	s := jsonscan.New(body)
	d := draft{}
	if s.Peek() != '{' || !s.Object(-1, d.member) || !s.AtEnd() || !utf8.Valid(body) {
		return Event{}, invalid("the body is no event in the JSON format, one object in UTF-8 (%s)", StructuredType)
	}
	if err := d.finish(); err != nil {
		return Event{}, err
	}
	return d.event, nil
}

// ParseBatch reads a batch of events in the JSON format, at most MaxBatch. wrong has, by the
// index of each event, an *actions.Error Invalid that says what is wrong with it, or nil; it is
// nil when nothing is. Of a wrong event there are its ID and Source alone, if they were found
// before what is wrong, and can be. err is Invalid when the body is no array, or TooLarge.
func ParseBatch(body []byte) (events []Event, wrong []error, err error) {
	s := jsonscan.New(body)
	var before *Event
	tooMany := false
	isArray := s.Array(func(s *jsonscan.Scanner) bool {
		if tooMany = len(events) == MaxBatch; tooMany {
			return false
		}
		start := s.Pos()
		d := draft{before: before}
		if !d.element(s) {
			return false
		}
		if events == nil { // the others may be as long
			events = make([]Event, 0, min(1+len(body)/(s.Pos()-start+1), MaxBatch))
		}
		fault := d.finish()
		if !utf8.Valid(s.Since(start)) {
			fault = invalid("the event is not in UTF-8")
		}
		if fault != nil {
			for len(wrong) < len(events) {
				wrong = append(wrong, nil)
			}
			d.event = d.event.known()
		}
		if fault != nil || wrong != nil {
			wrong = append(wrong, fault)
		}
		events = append(events, d.event)
		if fault == nil {
			before = &events[len(events)-1]
		}
		return true
	})
	switch {
	case tooMany:
		return nil, nil, actions.Errorf(actions.TooLarge, "the batch has more than %d events: send it in parts", MaxBatch)
	case !isArray || !s.AtEnd():
		return nil, nil, invalid("the body is no batch of events in the JSON format, an array (%s)", BatchType)
	}
	return events, wrong, nil
}

// known is what tells an event from others that is wrong.
func (e *Event) known() (known Event) {
	if checkText("id", e.ID) == nil {
		known.ID = e.ID
	}
	if checkText("source", e.Source) == nil && isReference(e.Source) {
		known.Source = e.Source
	}
	return known
}

// element moves past one element of a batch.
func (d *draft) element(s *jsonscan.Scanner) bool {
	if s.Peek() == '{' {
		return s.Object(-1, d.member)
	}
	d.fault(invalid("the event is no object"))
	return s.Value()
}

// member takes one member of an event in the JSON format. It returns false if it is no JSON;
// what else is wrong is in err.
func (d *draft) member(s *jsonscan.Scanner, name []byte) bool {
	raw, ok := s.Raw()
	if !ok || d.err != nil {
		return ok
	}
	switch string(name) {
	case "data":
		if d.once(data, name, "data") {
			d.data = raw
		}
		return true
	case "data_base64":
		if d.once(dataBase64, name, "data") && string(raw) != "null" {
			d.base64 = raw
		}
		return true
	}
	if string(raw) == "null" { // as good as not there
		return true
	}
	if field, bit := d.field(name); field != nil {
		d.attribute(field, bit, name, raw)
		return true
	}
	d.extension(name, raw)
	return true
}

// attribute takes an attribute that is a text.
func (d *draft) attribute(field *string, bit attribute, name, raw []byte) {
	if raw[0] != '"' {
		d.fault(invalid("the event's %s is no string", name))
		return
	}
	text := textOf(raw)
	if d.seen&bit == 0 && len(text) > 0 {
		d.seen |= bit
		*field = d.share(bit, text)
		return
	}
	d.once(bit, name, string(text))
}

// share makes a string of a text, which is that of the event before if it is the same: many
// events of a batch come from one source.
func (d *draft) share(bit attribute, text []byte) string {
	before := ""
	if d.before != nil {
		switch bit {
		case source:
			before = d.before.Source
		case eventType:
			before = d.before.Type
		case dataContentType:
			before = d.before.DataContentType
		case subject:
			before = d.before.Subject
		case eventTime:
			before = d.before.Time
		default: // ids differ
		}
	}
	switch {
	case string(text) == before:
		return before
	case string(text) == V1:
		return V1
	case string(text) == V03:
		return V03
	}
	return string(text)
}

// extension takes an extension of the JSON format.
func (d *draft) extension(name, raw []byte) {
	a := Attribute{Name: d.shareName(name)}
	switch c := raw[0]; {
	case c == '"':
		a.Value = string(textOf(raw))
	case c == 't', c == 'f':
		a.Kind, a.Value = Boolean, string(raw)
	case isInteger(string(raw)):
		a.Kind, a.Value = Integer, string(raw)
	default:
		d.fault(invalid("the event's %s is neither a string, a boolean nor a whole number of 32 bits", cut(a.Name)))
		return
	}
	d.extend(a)
}

// shareName is share for the name of an extension.
func (d *draft) shareName(name []byte) string {
	if i := len(d.event.Extensions); d.before != nil && i < len(d.before.Extensions) && d.before.Extensions[i].Name == string(name) {
		return d.before.Extensions[i].Name
	}
	return string(name)
}

// finish makes the event of what its members were, and checks it.
func (d *draft) finish() error {
	if err := d.settle(); err != nil {
		return err
	}
	if err := d.decode(); err != nil {
		return err
	}
	return d.event.Validate()
}

// decode sets the data.
func (d *draft) decode() error {
	e := &d.event
	switch {
	case d.base64 != nil && d.data != nil:
		return invalid("the event has both data and data_base64: give one of them")
	case d.base64 != nil && e.SpecVersion == V03:
		return invalid("the event has data_base64, which 0.3 does not know: it has datacontentencoding and data")
	case d.base64 != nil:
		return d.decodeBase64(d.base64, "data_base64")
	case d.data == nil:
		return nil
	case d.encoded:
		return d.decodeBase64(d.data, "data")
	case e.IsJSON():
		e.Data = d.data
	case d.data[0] == '"':
		e.Data = textOf(d.data)
	case string(d.data) != "null":
		e.Data = d.data
	}
	return nil
}

// decodeBase64 sets the data to what a member holds in base64.
func (d *draft) decodeBase64(raw []byte, name string) error {
	if raw[0] != '"' {
		return invalid("the event's %s is no string of base64", name)
	}
	text := textOf(raw)
	decoded := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(decoded, text)
	if err != nil {
		return invalid("the event's %s is no base64: %w", name, err)
	}
	d.event.Data = decoded[:n]
	return nil
}

// textOf returns the text of a string in JSON, which lies in it if it has no escapes.
func textOf(raw []byte) []byte {
	inner := raw[1 : len(raw)-1]
	if jsonscan.Plain(inner) == len(inner) {
		return inner
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil { // which the scanner has ruled out
		return inner
	}
	return []byte(text)
}
