package rows

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

// jsonSpace is white space between JSON values.
const jsonSpace = " \t\r\n"

// An ndjson reads a JSON value in each line. Lines of white space are no rows.
type ndjson struct {
	buffer *buffer
	key    lookup
	hasKey bool
}

func newNDJSON(o object, offset int64) (reader, error) {
	s, err := newStream(o, offset)
	if err != nil {
		return nil, err
	}
	return &ndjson{buffer: newBuffer(s), key: newLookup(o.key), hasKey: o.key != ""}, nil
}

func (d *ndjson) more() (bool, error) {
	if err := d.buffer.skipMark(); err != nil {
		return false, err
	}
	return d.buffer.skipSpace(jsonSpace)
}

func (d *ndjson) offset() int64   { return d.buffer.at }
func (d *ndjson) consumed() int64 { return d.buffer.stream.consumed(d.buffer.at) }
func (d *ndjson) Close() error    { return d.buffer.stream.Close() }

func (d *ndjson) next(a *arena, r *Row) (int64, error) {
	line, n, err := d.buffer.line(maxRow)
	if err != nil {
		return 0, err
	}
	if line == nil && n == 0 {
		length, err := d.buffer.skipLine()
		tooLong(r, length)
		return length, err
	}
	d.buffer.take(n)
	switch {
	case r == nil:
	case line == nil:
		tooLong(r, int64(n))
	default:
		d.parse(a, r, line)
	}
	return int64(n), nil
}

// tooLong says of a row that it is over the limit.
func tooLong(r *Row, n int64) {
	if r != nil {
		r.Err = actions.Errorf(actions.Invalid, "the row has %d bytes; the most is %d", n, maxRow)
	}
}

// parse makes a row of a line that is not empty.
func (d *ndjson) parse(a *arena, r *Row, line []byte) {
	line = bytes.TrimRight(line, jsonSpace)
	s := jsonscan.New(line)
	isObject := s.Peek() == '{'
	var key json.RawMessage
	ok := false
	if isObject && d.hasKey {
		ok = d.key.scan(s, &key)
	} else {
		ok = s.Value()
	}
	if !ok || !s.AtEnd() {
		r.Err = actions.Errorf(actions.Invalid, "the line is no JSON: it is wrong at its byte %d", s.Pos()+1)
		return
	}
	if !utf8.Valid(line) {
		r.Err = actions.Errorf(actions.Invalid, "the line is not UTF-8")
		return
	}
	if isObject {
		r.Columns = a.copy(line)
	} else {
		r.Columns = a.copy(append(append([]byte(`{"value":`), line...), '}'))
	}
	if !d.hasKey {
		return
	}
	if key == nil {
		r.Columns = nil
		r.Err = actions.Errorf(actions.Invalid, "the row has no column %q, which is to be its key", d.key.path)
		return
	}
	r.Key = a.copy(key)
}
