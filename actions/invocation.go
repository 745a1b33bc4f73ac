package actions

import (
	"context"
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
	// PredictMany is Predict for many rows in one call: Args is an array of the arguments of
	// each, the answer an array as long of {"value": …} or {"error": …, "code": …}, so that a row
	// that fails is no harm to the others. A model that has no such ability answers
	// Unsupported; package many is for all.
	PredictMany Verb = "predict-many"
	// Suspend has the model leave the device's memory and stay in the host's, and Resume
	// takes that back. They are asked by the pool, never by callers; a model that has no
	// such ability answers Unsupported.
	Suspend Verb = "suspend"
	Resume  Verb = "resume"
	// ParseTrain parses the arguments of a train, which does not run, and answers them as
	// they would be shown in its status.
	ParseTrain Verb = "parse-train"
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
	// Args are the arguments that are not files, one JSON value: an object, or what the
	// caller sent to a model that parses its own arguments. Nil means {}.
	Args json.RawMessage
	// Texts are arguments that are text and where they were found, for models that
	// parse their own arguments. A name may occur more than once.
	Texts []Text
	// Files are the arguments that are bytes, by argument name. A name may occur more
	// than once.
	Files []File
	// Trace is the trace context that the invocation belongs to.
	Trace Trace
	// Accept is the media type that the caller wants, in the syntax of HTTP's Accept
	// header. Empty means the model's first choice.
	Accept string
	// Buffer is room that the answer's Data may be put into, from its beginning up to its
	// capacity; what it holds is lost. Nil is fine: Data then lie in memory of their own.
	Buffer []byte
	// Limit is the most time of the call of the model itself: the wait for an instance and
	// its start do not count. The text __OW_DEADLINE of the platform, if there is one, is
	// set to its end. Zero is none.
	Limit time.Duration
	// Begin is called when there is an instance, before the call; with an error there is no
	// call, and the error is the request's. Nil is fine.
	Begin func(ctx context.Context) error
}

// A Trace is a trace context in the form of https://www.w3.org/TR/trace-context/: the two
// headers of that name. Both may be empty; State is nothing without Parent.
type Trace struct {
	Parent string // "00-<trace id>-<parent id>-<flags>"
	State  string // "vendor=value,…"
}

// An Origin is the part of a request in which a Text was found.
type Origin uint8

// The origins of a Text.
const (
	// FromQuery is the query string of the URL.
	FromQuery Origin = 1
	// FromForm is a form in the body.
	FromForm Origin = 2
	// FromHeader is a header of the request.
	FromHeader Origin = 3
	// FromContext is the platform: what OpenWhisk says of an activation beside its
	// arguments, by the name that its documentation gives the variable, "__OW_API_KEY".
	FromContext Origin = 4
)

// A Text is an argument that is text.
type Text struct {
	Origin Origin
	Name   string
	Value  string
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
	// Data are the caller's. They may lie in Request.Buffer.
	Data []byte
	// Whole says that Data is a whole document, which the DEEPaaS API does not put into
	// an envelope: the module has a schema for its answers.
	Whole bool
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
	// Start is the part of the wait during which an instance was being started, or
	// resumed, for this request. Cold says that one had to be started.
	Start time.Duration
	Cold  bool
	// From is where the model was when its instance was wanted. It is empty when no
	// instance was found.
	From Tier
	// Run is the call of the warm instance.
	Run time.Duration
}

// A Tier is where a model is kept, from the warmest to the coldest.
type Tier string

// The tiers of a model.
const (
	// TierWarm is an instance that can answer at once: on a GPU its context and weights are
	// in the device's memory.
	TierWarm Tier = "warm"
	// TierHost is an instance that is suspended: its weights are in the host's memory.
	TierHost Tier = "host"
	// TierCache is no instance, but the files of the model are in the page cache.
	TierCache Tier = "cache"
	// TierDisk is no instance, and files on disk, or nobody knows where.
	TierDisk Tier = "disk"
)
