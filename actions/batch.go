package actions

import (
	"encoding/json"
	"time"
)

// A Batch is a batch prediction: a model over all rows, or all files, of an input. Its zero
// values are the defaults that each field names.
type Batch struct {
	// Model is the name of the model.
	Model string `json:"model"`
	// Input is what is predicted on, Output where the answers go.
	Input  BatchInput  `json:"input"`
	Output BatchOutput `json:"output"`
	// Arguments are given to each prediction beside what the row has; the row's win.
	Arguments map[string]json.RawMessage `json:"arguments,omitempty"`
	// Map says which column is which argument: argument → column, or a path in it with dots
	// ("user.age"). Of an input of files the columns are "file" (the bytes), "name" and "key".
	// Empty gives each column to the argument of its name, and each file to the model's one
	// argument that is a file.
	Map map[string]string `json:"map,omitempty"`
	// Batching is how rows become calls; empty is what the model says of itself.
	Batching Batching `json:"batching,omitzero"`
	// Concurrency is how many calls are under way at the same time. The default is as many as
	// the model may have instances.
	Concurrency int `json:"concurrency,omitempty"`
	// ChunkRows and ChunkBytes bound a chunk, which is done as a whole or not at all. The
	// defaults are 10,000 rows, or 64 of an input of files, and 8 MiB of input.
	ChunkRows  int   `json:"chunk_rows,omitempty"`
	ChunkBytes Bytes `json:"chunk_bytes,omitempty"`
	// MaxErrors is how many rows may fail: "100", or a part of those that were done so far,
	// "1%", which is looked at from the thousandth on. The job stops with one more. The
	// default is any number, but a job without an answer has failed; "100%" is all of them.
	MaxErrors string `json:"max_errors,omitempty"`
	// Retries is how often a row is tried again when its error may go away (busy, unavailable).
	// The default is 5; a negative number means never.
	Retries int `json:"retries,omitempty"`
	// Through names who does the chunks: empty is the server that has the job; the URL of a
	// Knative Broker, or of any other that takes events, hands each out as an event
	// (cloudevent.BatchChunk); "openwhisk:/NAMESPACE/ACTION" as an activation.
	Through string `json:"through,omitempty"`
	// Sink is the URL that the events of the job go to. The default is the server's own.
	Sink string `json:"sink,omitempty"`
}

// The formats of inputs and outputs.
const (
	NDJSON  = "ndjson"  // a JSON object, or any other value, in each line
	CSV     = "csv"     // RFC 4180, with a line of names
	Parquet = "parquet" // a column each
	Tar     = "tar"     // a file each
	Zip     = "zip"     // a file each
	Objects = "objects" // an object each: of a prefix of the store, or of a folder
)

// A BatchInput is what is predicted on.
type BatchInput struct {
	// URL is an object, "s3://bucket/rows.ndjson", or all below a prefix, which ends in "/".
	// The schemes are those of the server's storage: file, s3, gs, azblob.
	URL string `json:"url"`
	// Format is one of those above. The default is told by the name: .ndjson, .jsonl, .csv,
	// .tsv, .parquet, .tar, .tgz, .zip, each also with .gz (not parquet and zip). A prefix whose
	// objects have no such name is Objects.
	Format string `json:"format,omitempty"`
	// Match is a pattern (path.Match) that the names below a prefix or in an archive have to
	// match, the last element of them when it has no slash. The default is all.
	Match string `json:"match,omitempty"`
	// Key is the column that says in the output which row it was. The default is the number of
	// the row in the input, from 0, and of an input of files their name.
	Key string `json:"key,omitempty"`
	// Delimiter is what separates the columns of CSV. The default is a comma, a tab for .tsv.
	Delimiter string `json:"delimiter,omitempty"`
	// Text are columns of CSV whose cells are texts as they are written, also empty ones and
	// those that look like numbers. The default are the columns of arguments that the model
	// says are texts, in which an empty cell is absent where the argument is optional.
	Text []string `json:"text,omitempty"`
}

// A BatchOutput is where the answers go.
type BatchOutput struct {
	// URL is a prefix, which ends in "/", and which nothing but this job uses.
	URL string `json:"url"`
	// Format is one of those above. The default is NDJSON.
	Format string `json:"format,omitempty"`
	// Join are columns of the input that each answer is given with; "*" is all.
	Join []string `json:"join,omitempty"`
	// Select are the members of the answer that are kept, paths with dots. The default is all.
	Select []string `json:"select,omitempty"`
}

// A Batching says how many rows one call of a model takes, and how.
type Batching struct {
	// Size is the most rows of one call; 1 is one call for each row. The default is 1000 with
	// an Argument or columns, else what the engine finds best.
	Size int `json:"size,omitempty"`
	// Argument is the one that takes a list of rows, each an object of a row's arguments.
	Argument string `json:"argument,omitempty"`
	// Columns says that every argument takes a list of the values of its rows.
	Columns bool `json:"columns,omitempty"`
	// Answer is the member of the answer, a path with dots, that has the list of the rows'
	// answers, or an object of such lists. Empty means that this is the whole answer.
	Answer string `json:"answer,omitempty"`
}

// Vectorised says that one call takes many rows.
func (b Batching) Vectorised() bool { return b.Argument != "" || b.Columns }

// A Chunk is a part of a Batch that is done as a whole or not at all: some rows of the input
// that follow each other. It says all that a replica needs to do it.
type Chunk struct {
	// Job is the id of the job, Index the number of the chunk in it, from 0.
	Job   string `json:"job"`
	Index int    `json:"index"`
	// Row is the number of its first row, At where that is in the input: a position of the
	// format, which nobody else reads.
	Row int64           `json:"row"`
	At  json.RawMessage `json:"at"`
	// Input tells that the input is the one that the job began with.
	Input string `json:"input"`
	Batch Batch  `json:"batch"`
}

// An Object is a file in a store.
type Object struct {
	// URL names it: scheme://bucket/key.
	URL  string `json:"url"`
	Size int64  `json:"size"`
	// ETag changes with the content; empty where the store has none.
	ETag     string    `json:"etag,omitempty"`
	Modified time.Time `json:"modified,omitzero"`
	// ContentType is empty in lists.
	ContentType string `json:"content_type,omitempty"`
}

// PutOptions say how an object is put.
type PutOptions struct {
	// ContentType is its media type; empty means application/octet-stream. A file has none.
	ContentType string
	// Once refuses to replace an object, with Conflict, and decides between several that put the
	// same at the same time: one of them wins.
	Once bool
}
