package rows

import (
	"io"
	"slices"

	"github.com/deepfn/deepfn/actions"
)

// An Answer is what a model says to one row.
type Answer struct {
	Row *Row
	// Data is one prediction, of the media type ContentType; empty means JSON.
	Data        []byte
	ContentType string
	// Filename is the model's name for Data when it is a file; may be empty.
	Filename string
}

// A Writer writes answers. The same answers give the same bytes. It is used by one goroutine at
// a time.
type Writer interface {
	// Write writes an answer, whose bytes are the caller's again when it returns. An
	// *actions.Error Invalid says that the answer is none of this output's: nothing of it was
	// written, and the next may be. Any other error is the file's, which is lost.
	Write(a Answer) error
	// Close writes what is left. It does not close what is written to.
	Close() error
	// Rows is how many answers were written.
	Rows() int64
}

// NewWriter writes a part of an output to w. CSV and Parquet need the columns; the others take
// nil. Outputs of Objects have no parts: Files says what each object is. The errors are those of
// Check.
func NewWriter(w io.Writer, out actions.BatchOutput, s *Schema) (Writer, error) {
	if err := Check(out); err != nil {
		return nil, err
	}
	isTable := Format(out) == actions.CSV || Format(out) == actions.Parquet
	if isTable && s == nil {
		return nil, actions.Errorf(actions.Internal, "rows: an output of %s needs its columns", Format(out))
	}
	switch Format(out) {
	case actions.NDJSON:
		return &lines{w: w, answers: newAnswers(out)}, nil
	case actions.CSV:
		return newCSVWriter(w, newCells(out, s)), nil
	case actions.Parquet:
		return newParquetWriter(w, newCells(out, s)), nil
	case actions.Tar:
		return newTarWriter(w, newFiles(out)), nil
	case actions.Zip:
		return newZipWriter(w, newFiles(out)), nil
	}
	return nil, actions.Errorf(actions.Internal, "rows: there are no parts of an output of %s", Format(out))
}

// Check refuses an output that cannot be, with an *actions.Error Invalid.
func Check(out actions.BatchOutput) error {
	switch f := Format(out); f {
	case actions.NDJSON, actions.CSV, actions.Parquet:
	case actions.Tar, actions.Zip, actions.Objects:
		if len(out.Join) > 0 {
			return invalid("output.join", "is for outputs of rows; each answer of %s is a file", f)
		}
	default:
		return invalid("output.format", "is %.40q, but the formats are %s", f, formats)
	}
	if slices.Contains(out.Join, "") || slices.Contains(out.Select, "") {
		return invalid("output", "names a column without a name")
	}
	return nil
}

// Format is the format of an output.
func Format(out actions.BatchOutput) string {
	if out.Format == "" {
		return actions.NDJSON
	}
	return out.Format
}

// Extension is what the names of an output's parts end in, with its dot. Objects have none.
func Extension(out actions.BatchOutput) string {
	if Format(out) == actions.Objects {
		return ""
	}
	return "." + Format(out)
}

// ContentType is the media type of an output's parts.
func ContentType(out actions.BatchOutput) string {
	switch Format(out) {
	case actions.NDJSON:
		return "application/x-ndjson"
	case actions.CSV:
		return "text/csv; charset=utf-8"
	case actions.Parquet:
		return "application/vnd.apache.parquet"
	case actions.Tar:
		return "application/x-tar"
	case actions.Zip:
		return "application/zip"
	}
	return "application/octet-stream"
}
