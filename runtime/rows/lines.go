package rows

import (
	"encoding/json"
	"io"
	"strconv"

	"github.com/deepfn/deepfn/actions"
)

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
