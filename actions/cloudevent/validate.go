package cloudevent

import (
	"strings"
)

// What an event may have at most. Servers bound headers and bodies beside that.
const (
	// MaxBatch is how many events a batch may have.
	MaxBatch = 10000
	// maxExtensions is how many extensions an event may have: 100, and those that an answer has
	// beside the ones of its event.
	maxExtensions = 128
	// maxName is how long the name of an extension may be; the specification has 20 in mind.
	maxName = 64
	// maxValue is how many bytes an attribute may have: an event of 64 KiB passes everywhere.
	maxValue = 64 << 10
)

// version is the version that the event is written in.
func (e *Event) version() string {
	if e.SpecVersion == "" {
		return V1
	}
	return e.SpecVersion
}

// schemaName is what the version of the event calls DataSchema.
func (e *Event) schemaName() string {
	if e.SpecVersion == V03 {
		return "schemaurl"
	}
	return "dataschema"
}

// IsJSON says whether the data are JSON, as far as DataContentType says that. Without it they
// are, which is the rule of the JSON format.
func (e *Event) IsJSON() bool {
	mediaType, _, _ := strings.Cut(e.DataContentType, ";")
	mediaType = strings.TrimSpace(mediaType)
	if mediaType == "" || mediaType == "application/json" {
		return true
	}
	_, subtype, _ := strings.Cut(mediaType, "/")
	const suffix = "+json"
	return strings.EqualFold(subtype, "json") ||
		len(subtype) > len(suffix) && strings.EqualFold(subtype[len(subtype)-len(suffix):], suffix)
}

// Validate says what the specification forbids of the event, an *actions.Error Invalid.
func (e *Event) Validate() error {
	if v := e.version(); v != V1 && v != V03 {
		return invalid("the event's specversion is %q: 1.0 and 0.3 are taken", cut(v))
	}
	for _, a := range [...]struct{ name, value string }{{"id", e.ID}, {"source", e.Source}, {"type", e.Type}} {
		if a.value == "" {
			return invalid("the event has no %s: it needs one that is not empty", a.name)
		}
		if err := checkText(a.name, a.value); err != nil {
			return err
		}
	}
	for _, a := range [...]struct{ name, value string }{{"subject", e.Subject}, {"datacontenttype", e.DataContentType}, {e.schemaName(), e.DataSchema}} {
		if err := checkText(a.name, a.value); err != nil {
			return err
		}
	}
	switch {
	case !isReference(e.Source):
		return invalid("the event's source is %q, which is no URI-reference", cut(e.Source))
	case e.Time != "" && !isTime(e.Time):
		return invalid("the event's time is %q: want RFC 3339, as 2026-01-31T23:59:59Z", cut(e.Time))
	case e.DataContentType != "" && !isMediaType(e.DataContentType):
		return invalid("the event's datacontenttype is %q, which is no media type, as application/json", cut(e.DataContentType))
	case e.DataSchema != "" && !e.isSchema(e.DataSchema):
		return invalid("the event's %s is %q, which is no URI", e.schemaName(), cut(e.DataSchema))
	}
	return e.validateExtensions()
}

// isSchema says whether a text can be a DataSchema: a URI since 1.0, before that a
// URI-reference.
func (e *Event) isSchema(text string) bool {
	return isReference(text) && (e.SpecVersion == V03 || hasScheme(text))
}

func (e *Event) validateExtensions() error {
	if len(e.Extensions) > maxExtensions {
		return invalid("the event has more than %d extensions", maxExtensions)
	}
	for i, a := range e.Extensions {
		switch {
		case !isName(a.Name):
			return invalid("the event has an attribute %q: names have 1 to %d lower-case letters and digits", cut(a.Name), maxName)
		case e.isReserved(a.Name):
			return invalid("the event has an extension %q, which is the name of what every event may have", a.Name)
		case a.Kind == Boolean && a.Value != "true" && a.Value != "false",
			a.Kind == Integer && !isInteger(a.Value):
			return invalid("the event's %s is %q, which is not of its kind", a.Name, cut(a.Value))
		}
		if err := checkText(a.Name, a.Value); err != nil {
			return err
		}
		for _, b := range e.Extensions[:i] {
			if a.Name == b.Name {
				return twice(a.Name)
			}
		}
	}
	return nil
}

// isReserved says whether a name belongs to an attribute that the specification has, so that
// no extension can be called so.
func (e *Event) isReserved(name string) bool {
	var d draft
	field, _ := d.field([]byte(name))
	return field != nil || name == "data" || name == e.schemaName() || e.SpecVersion == V03 && name == "datacontentencoding"
}
