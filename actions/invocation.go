package actions

import (
	"encoding/json"
	"time"
)

// A Verb is what is asked of a model.
type Verb string

// The verbs of a model, as the DEEPaaS V2 model API names them.
const (
	Predict  Verb = "predict"
	Train    Verb = "train"
	Metadata Verb = "metadata"
)

// A Request is one invocation of a model. Its bytes belong to the caller again when
// the call has returned.
type Request struct {
	// Model is the name of the model.
	Model string
	// Verb is what is asked of it. The zero value means Predict.
	Verb Verb
	// ID is the caller's id of the invocation (OpenWhisk's activation id, a request
	// id), for logs. It may be empty.
	ID string
	// Args are the arguments that are not files, one JSON object. Nil means {}.
	Args json.RawMessage
	// Files are the arguments that are bytes, by argument name. A name may occur more
	// than once.
	Files []File
	// Accept is the media type that the caller wants, in the syntax of HTTP's Accept
	// header. Empty means the model's first choice.
	Accept string
}

// A File is an argument or an answer that is bytes.
type File struct {
	// Name is the argument's name.
	Name string
	// Filename and ContentType are what the sender said; both may be empty.
	Filename    string
	ContentType string
	Data        []byte
}

// A Response is a model's answer.
type Response struct {
	// ContentType is the media type of Data, "application/json" for most models.
	ContentType string
	// Filename is a name for Data when it is a file; may be empty.
	Filename string
	Data     []byte
	// Logs are the lines that the model printed while it worked on the request.
	Logs []LogLine
	// Timing says where the time went.
	Timing Timing
}

// A Stream is where a line was printed.
type Stream uint8

// The two streams of a process.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// A LogLine is one line that a model printed, without its newline.
type LogLine struct {
	Stream Stream
	Text   string
}

// Timing says where the time of an invocation went.
type Timing struct {
	// Queue is the wait for a free instance, without Start.
	Queue time.Duration
	// Start is the part of the wait during which an instance was being started for
	// this request. Cold says that it had to be.
	Start time.Duration
	Cold  bool
	// Run is the call of the warm instance.
	Run time.Duration
}
