package rows

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"slices"
	"strconv"

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
// nil. Outputs of Objects have no parts: Name says how each is called, and Content what is in it.
// The errors are those of Check.
func NewWriter(w io.Writer, out actions.BatchOutput, s *Schema) (Writer, error) {
	if err := Check(out); err != nil {
		return nil, err
	}
	a := newAnswers(out)
	switch Format(out) {
	case actions.NDJSON:
		return &lines{w: w, answers: a}, nil
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

// answers brings answers into the form of an output.
type answers struct {
	join     []lookup
	joinAll  bool
	selected []lookup
}

func newAnswers(out actions.BatchOutput) answers {
	var a answers
	for _, column := range out.Join {
		if column == "*" {
			a.joinAll = true
		} else {
			a.join = append(a.join, newLookup(column))
		}
	}
	for _, path := range out.Select {
		a.selected = append(a.selected, newLookup(path))
	}
	return a
}

// appendPrediction appends what is kept of an answer, one line of JSON. Bytes are an object with
// their media type, name and base64, as a result of /run has them.
func (a *answers) appendPrediction(b []byte, answer *Answer) ([]byte, error) {
	if !isJSON(answer) {
		if len(a.selected) > 0 {
			return b, notSelected("is " + answer.ContentType)
		}
		return appendFile(b, answer), nil
	}
	value := bytes.TrimSpace(answer.Data)
	if len(a.selected) == 0 {
		return appendLine(b, value)
	}
	if len(value) == 0 || value[0] != '{' {
		return b, notSelected("is no JSON object")
	}
	start := len(b)
	b = append(b, '{')
	for i := range a.selected {
		kept := a.selected[i].find(value)
		if kept == nil {
			continue
		}
		var line []byte
		line, err := appendLine(nil, kept)
		if err != nil {
			return b[:start], err
		}
		b = appendMember(b, a.selected[i].path, line)
	}
	return append(b, '}'), nil
}

func notSelected(what string) error {
	return actions.Errorf(actions.Invalid, "the answer %s, so that nothing of it can be selected", what)
}

func isJSON(a *Answer) bool { return a.ContentType == "" || actions.IsJSON(a.ContentType) }

// appendLine appends JSON in one line.
func appendLine(b, value []byte) ([]byte, error) {
	if len(value) == 0 {
		return b, actions.Errorf(actions.Invalid, "the answer is empty, which is no JSON")
	}
	if bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, '\r') < 0 {
		return append(b, value...), nil
	}
	line := bytes.NewBuffer(b)
	if err := json.Compact(line, value); err != nil {
		return b, actions.Errorf(actions.Invalid, "the answer is no JSON: %w", err)
	}
	return line.Bytes(), nil
}

// appendFile appends an answer that is bytes.
func appendFile(b []byte, a *Answer) []byte {
	b = append(b, '{')
	b = appendMember(b, "content_type", quote(a.ContentType))
	if a.Filename != "" {
		b = appendMember(b, "filename", quote(a.Filename))
	}
	b = append(b, `,"data":"`...)
	b = base64.StdEncoding.AppendEncode(b, a.Data)
	return append(b, `"}`...)
}

// columns calls f for each column of the input that an answer is given with: those that were
// asked for, in that order, and of "*" all, in theirs.
func (a *answers) columns(r *Row, f func(name string, value json.RawMessage)) {
	columns := r.Columns
	if r.File != nil {
		columns = appendMember(append(make([]byte, 0, 64), '{'), nameColumn, quote(r.File.Filename))
		columns = append(appendMember(columns, keyColumn, r.Key), '}')
	}
	for i := range a.join {
		if value := a.join[i].find(columns); value != nil {
			f(a.join[i].path, value)
		}
	}
	if a.joinAll {
		members(columns, func(name []byte, value json.RawMessage) bool {
			isKey := r.File != nil && string(name) == keyColumn
			if !isKey && !a.isJoined(name) {
				f(string(name), value)
			}
			return true
		})
	}
}

// isJoined says whether a column was asked for by name.
func (a *answers) isJoined(name []byte) bool {
	return slices.ContainsFunc(a.join, func(l lookup) bool { return l.path == string(name) })
}

// inputName is what a joined column is called in the output, where key and prediction have
// their own place.
func inputName(name string) string {
	if name == keyColumn || name == predictionColumn {
		return "input_" + name
	}
	return name
}

const predictionColumn = "prediction"

// lines writes NDJSON: {"key":…, the joined columns, "prediction":…}.
type lines struct {
	w       io.Writer
	answers answers
	buffer  []byte
	rows    int64
}

func (l *lines) Rows() int64 { return l.rows }

func (l *lines) Write(a Answer) error {
	start := len(l.buffer)
	b := append(l.buffer, `{"key":`...)
	b = append(b, a.Row.Key...)
	l.answers.columns(a.Row, func(name string, value json.RawMessage) {
		b = appendMember(b, inputName(name), value)
	})
	b = append(b, `,"prediction":`...)
	b, err := l.answers.appendPrediction(b, &a)
	if err != nil {
		l.buffer = b[:start]
		return err
	}
	l.buffer = append(b, "}\n"...)
	l.rows++
	if len(l.buffer) < writeSize {
		return nil
	}
	return l.flush()
}

func (l *lines) flush() error {
	_, err := l.w.Write(l.buffer)
	l.buffer = l.buffer[:0]
	if cap(l.buffer) > 4*writeSize {
		l.buffer = nil
	}
	return err
}

func (l *lines) Close() error { return l.flush() }

// writeSize is how much is written at once.
const writeSize = 64 << 10

// AppendError appends the line that the errors file has of a row.
func AppendError(b []byte, r *Row, e *actions.Error) []byte {
	b = append(b, `{"row":`...)
	b = strconv.AppendInt(b, r.Number, 10)
	b = append(append(b, `,"key":`...), r.Key...)
	b = append(b, `,"code":`...)
	b = appendQuoted(b, []byte(e.Code))
	b = append(b, `,"error":`...)
	b = appendQuoted(b, []byte(e.Error()))
	return append(b, "}\n"...)
}
