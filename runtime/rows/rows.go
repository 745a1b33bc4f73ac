// Package rows reads the input of a batch prediction row by row, from any position, and writes
// its answers: NDJSON, CSV, Parquet, the files of a tar or zip, and the objects of a store.
package rows

import (
	"context"
	"encoding/json"
	"io"
	"iter"

	"github.com/deepfn/deepfn/actions"
)

// A Store has the objects of an input; *storage.Storage is one. Its errors are *actions.Error.
type Store interface {
	// Stat describes the object at a URL.
	Stat(ctx context.Context, url string) (actions.Object, error)
	// List returns all objects below a prefix, a URL that ends in "/", in the order of their
	// keys' bytes. It ends with an error.
	List(ctx context.Context, prefix string) iter.Seq2[actions.Object, error]
	// Open reads length bytes of an object from offset on, all that follow when length is
	// negative. They are the bytes as they are stored.
	Open(ctx context.Context, url string, offset, length int64) (io.ReadCloser, error)
}

// A Row is one row, or one file, of an input.
type Row struct {
	// Number is its place in the input, from 0.
	Number int64
	// Key is what the output calls it, a JSON value.
	Key json.RawMessage
	// Columns are its columns, a JSON object in their order. Nil of a file.
	Columns json.RawMessage
	// File is the file, with Filename and ContentType; nil of a row.
	File *actions.File
	// Err says that the row cannot be read, an *actions.Error Invalid; it has a Number and a
	// Key all the same.
	Err error

	// names are the columns of a CSV, also those without a value here; nil of all other inputs.
	names [][]byte
}

// A Limit bounds a Part: the most rows, and the bytes of input after which no further row
// begins. Neither is 0.
type Limit struct {
	Rows  int
	Bytes int64
	// Skip counts the rows and leaves them out of the Part, and does not fetch the files that
	// they are, if where the part ends can be told without.
	Skip bool
}

// A Part are some rows of an input that follow each other.
type Part struct {
	Rows []Row
	// Count is how many rows the part has: len(Rows), unless they were skipped.
	Count int64
	// Next is where the next part begins, nil at the end of the input.
	Next json.RawMessage
	// Bytes is how many bytes of the input the part is, of Source.Size.
	Bytes int64
}
