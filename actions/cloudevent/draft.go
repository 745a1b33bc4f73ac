package cloudevent

import (
	"github.com/deepfn/deepfn/actions"
)

// A draft is an event that is being read. Which of its attributes are extensions is only known
// when its version is, which may come last.
type draft struct {
	event Event
	// before is the event that was read before it, whose strings it shares. May be nil.
	before *Event
	seen   attribute
	err    error // what was wrong first
	// data and base64 are the members of that name of the JSON format, nil when they are not
	// there.
	data, base64 []byte
	// encoded says that the data are in base64 because of 0.3's datacontentencoding.
	encoded bool
}

// An attribute is a bit for each that an event has one field for.
type attribute uint16

const (
	specVersion attribute = 1 << iota
	id
	source
	eventType
	subject
	eventTime
	dataContentType
	data
	dataBase64
)

// field returns where an attribute is put that every version has, nil of all others.
func (d *draft) field(name []byte) (*string, attribute) {
	switch string(name) {
	case "specversion":
		return &d.event.SpecVersion, specVersion
	case "id":
		return &d.event.ID, id
	case "source":
		return &d.event.Source, source
	case "type":
		return &d.event.Type, eventType
	case "subject":
		return &d.event.Subject, subject
	case "time":
		return &d.event.Time, eventTime
	case "datacontenttype":
		return &d.event.DataContentType, dataContentType
	}
	return nil, 0
}

// once says whether an attribute with a value may be taken: it is the first of its name, and
// no empty text. The copies of name are for its room to stay on the stack of a caller.
func (d *draft) once(bit attribute, name []byte, value string) bool {
	switch {
	case d.seen&bit != 0:
		d.fault(twice(string(name)))
		return false
	case value == "":
		d.fault(invalid("the event's %s is empty: give it a value, or leave it out if it is optional", string(name)))
		return false
	}
	d.seen |= bit
	return true
}

// extend takes an extension, or what may turn out to be one.
func (d *draft) extend(a Attribute) {
	if len(d.event.Extensions) == maxExtensions {
		d.fault(invalid("the event has more than %d extensions", maxExtensions))
		return
	}
	for i := range d.event.Extensions {
		if d.event.Extensions[i].Name == a.Name {
			d.fault(twice(a.Name))
			return
		}
	}
	if d.event.Extensions == nil {
		d.event.Extensions = make([]Attribute, 0, 4)
	}
	d.event.Extensions = append(d.event.Extensions, a)
}

// fault keeps what is wrong, if it is the first.
func (d *draft) fault(err error) {
	if d.err == nil {
		d.err = err
	}
}

// settle puts the attributes that only one version has into their place.
func (d *draft) settle() error {
	if d.err != nil {
		return d.err
	}
	schema := ""
	switch d.event.SpecVersion {
	case V1:
		schema = "dataschema"
	case V03:
		schema = "schemaurl"
		if coding, ok := d.take("datacontentencoding"); ok {
			if coding.Value != "base64" && coding.Value != "Base64" {
				return invalid("the event's datacontentencoding is %q: the only one is base64", cut(coding.Value))
			}
			d.encoded = true
		}
	case "":
		return invalid("the event has no specversion: it is 1.0 or 0.3")
	default:
		return invalid("the event's specversion is %q: 1.0 and 0.3 are taken", cut(d.event.SpecVersion))
	}
	if a, ok := d.take(schema); ok {
		if a.Value == "" || a.Kind != String {
			return invalid("the event's %s is no URI: give it as a text, or leave it out", schema)
		}
		d.event.DataSchema = a.Value
	}
	return nil
}

// take takes an attribute out of the extensions.
func (d *draft) take(name string) (Attribute, bool) {
	for i, a := range d.event.Extensions {
		if a.Name == name {
			d.event.Extensions = append(d.event.Extensions[:i], d.event.Extensions[i+1:]...)
			if len(d.event.Extensions) == 0 {
				d.event.Extensions = nil
			}
			return a, true
		}
	}
	return Attribute{}, false
}

func invalid(format string, args ...any) error {
	return actions.Errorf(actions.Invalid, format, args...)
}

func twice(name string) error {
	return invalid("the event has %s twice: give it once", cut(name))
}

// cut bounds what a message repeats of an event.
func cut(text string) string {
	const most = 64
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}
