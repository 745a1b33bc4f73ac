// Package cloudevent reads and writes CloudEvents over HTTP, in all three modes of their HTTP
// binding, without a copy of their data. It is the one place that knows the format:
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md, the HTTP binding and the
// JSON format beside it, and the same of version 0.3.
package cloudevent

// The versions of the specification that are read. What is written is that of the Event.
const (
	V1  = "1.0"
	V03 = "0.3"
)

// The media types of structured and batched mode, in the JSON format.
const (
	StructuredType = "application/cloudevents+json"
	BatchType      = "application/cloudevents-batch+json"
)

// The types of the events that deepfn sends, and of those that mean something to it.
const (
	// Prediction is a model's answer to an event; Failure says that there is none, and why:
	// its data are {"error", "code"}.
	Prediction = "dev.deepfn.prediction"
	Failure    = "dev.deepfn.failure"
	// BatchRequested asks for a batch prediction, an actions.Batch. It is answered with
	// BatchAccepted; BatchProgress, then one of BatchDone, BatchFailed and BatchCancelled follow
	// to the sink. Their data are an actions.Job, their subject is its id.
	BatchRequested = "dev.deepfn.batch.requested"
	BatchAccepted  = "dev.deepfn.batch.accepted"
	BatchProgress  = "dev.deepfn.batch.progress"
	BatchDone      = "dev.deepfn.batch.done"
	BatchFailed    = "dev.deepfn.batch.failed"
	BatchCancelled = "dev.deepfn.batch.cancelled"
	// BatchChunk hands one chunk of a batch to whichever replica takes it, an actions.Chunk.
	BatchChunk = "dev.deepfn.batch.chunk"
)

// An Event is one CloudEvent. Its bytes may lie in the body that it was read from, and are valid
// as long as that is.
type Event struct {
	// SpecVersion is V1 or V03. Empty means V1 where an event is written.
	SpecVersion string
	// ID, Source and Type are never empty in an event that was read.
	ID, Source, Type string
	// Subject, DataSchema (0.3: schemaurl) and Time, an RFC 3339 timestamp as it came, may be
	// empty.
	Subject, DataSchema, Time string
	// DataContentType is the media type of Data as it came; empty means application/json in
	// the JSON format, and unknown in binary mode.
	DataContentType string
	// Extensions are all other attributes, in the order in which they came.
	Extensions []Attribute
	// Data are the bytes of the data: of a JSON member data the JSON itself, or the text of a
	// string when DataContentType is not JSON; of data_base64 (and of 0.3's
	// datacontentencoding) what it decodes to. Nil means that there are none.
	Data []byte
}

// A Kind is the type of an attribute's value in the JSON format.
type Kind uint8

// The kinds of a value.
const (
	String Kind = iota
	Integer
	Boolean
)

// An Attribute is an extension of an event.
type Attribute struct {
	// Name has lower-case letters and digits.
	Name string
	// Value is its canonical text: "true", "-7".
	Value string
	Kind  Kind
}

// Extension returns the value of an extension, "" when there is none.
func (e *Event) Extension(name string) string {
	for _, a := range e.Extensions {
		if a.Name == name {
			return a.Value
		}
	}
	return ""
}

// SetExtension sets an extension that is a text, in the place of one of that name.
func (e *Event) SetExtension(name, value string) {
	for i := range e.Extensions {
		if e.Extensions[i].Name == name {
			e.Extensions[i] = Attribute{Name: name, Value: value}
			return
		}
	}
	e.Extensions = append(e.Extensions, Attribute{Name: name, Value: value})
}
