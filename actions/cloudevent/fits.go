package cloudevent

// maxHeader is how many bytes of attributes go into a header: servers and proxies take 16 KiB of
// one, or less.
const maxHeader = 8 << 10

// FitsBinary says whether the event can go in binary mode: its attributes are few enough for the
// header of a message wherever that may go, and its data are no event, which a reader would take
// for the whole. In structured mode everything can.
func (e *Event) FitsBinary() bool {
	if hasPrefixFold(e.DataContentType, "application/cloudevents") {
		return false
	}
	n := len(e.ID) + len(e.Source) + len(e.Type) + len(e.Subject) + len(e.Time) + len(e.DataSchema) + 128
	for i := range e.Extensions {
		n += len(e.Extensions[i].Name) + len(e.Extensions[i].Value) + len("ce-: \r\n")
	}
	if 3*n <= maxHeader { // also if each byte is encoded
		return true
	}
	n = 0
	e.BinaryHeader(func(name, value string) { n += len(name) + len(value) + len(": \r\n") })
	return n <= maxHeader
}
