package rows

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
)

// A table reads CSV as RFC 4180 has it: the first record of each object are the names of the
// columns. A cell becomes a JSON number, true or false if it is written exactly as one, and no
// member at all if it is empty; every other is text, and so is each cell of a column that somebody
// has said to be text. Quotes say nothing of the type, because there are programs that put all
// cells into them.
type table struct {
	buffer    *buffer
	delimiter byte
	// names are the columns' names, quoted and with a colon; nil of a column without a name,
	// which is left out. key is the column of the key, -1 without one.
	names [][]byte
	key   int
	// readings are how the cells of the columns are read.
	readings []reading
	// record is the row that is being read.
	record record
}

// record is a row of a table, as far as it was read.
type record struct {
	json  []byte // the columns
	cells int
	// key is where in json the value of the key is; empty says that its cell is.
	keyStart, keyEnd int
	// text says that a cell is not UTF-8.
	broken bool
	cell   []byte // a quoted cell without its quotes
}

func newCSV(o object, offset int64, delimiter byte) (reader, error) {
	t := &table{delimiter: delimiter, key: -1}
	if err := t.open(o, 0); err != nil {
		return nil, err
	}
	err := t.header(o)
	if err == nil && offset > t.buffer.at {
		err = t.goTo(o, offset)
	}
	if err != nil {
		_ = t.Close() // the error above says more
		return nil, err
	}
	return t, nil
}

func (t *table) open(o object, offset int64) error {
	s, err := newStream(o, offset)
	if err == nil {
		t.buffer = newBuffer(s)
	}
	return err
}

// goTo moves to a position behind the header.
func (t *table) goTo(o object, offset int64) error {
	if ahead := offset - t.buffer.at; ahead <= int64(len(t.buffer.data)) {
		t.buffer.take(int(ahead))
		return nil
	}
	_ = t.Close() // it was only read
	return t.open(o, offset)
}

// header reads the names of the columns. What is wrong with them is wrong with each row.
func (t *table) header(o object) error {
	if more, err := t.more(); !more || err != nil {
		return err
	}
	var names []string
	_, problem, err := t.read(func(cell []byte) { names = append(names, string(cell)) })
	if err != nil {
		return err
	}
	if problem != "" {
		return o.damaged("the line of the columns' names: %s", problem)
	}
	if err := t.suspect(o, names); err != nil {
		return err
	}
	seen := make(map[string]bool, len(names))
	for i, name := range names {
		t.readings = append(t.readings, o.readingOf(name))
		switch {
		case !utf8.ValidString(name):
			return o.damaged("the name of column %d is not UTF-8", i+1)
		case name == "":
			t.names = append(t.names, nil)
			continue
		case seen[name]:
			return o.damaged("there are two columns %.100q: give each a name of its own", name)
		}
		seen[name] = true
		t.names = append(t.names, append(quote(name), ':'))
		if name == o.key {
			t.key = i
		}
	}
	return o.check(names, func(l lookup) bool { return seen[l.path] })
}

// suspect refuses a line of names that is one of another kind of CSV, of which each row would be
// read wrong without anybody being told.
func (t *table) suspect(o object, names []string) error {
	for _, name := range names {
		if strings.Contains(strings.ReplaceAll(name, "\r\n", ""), "\r") {
			return o.damaged("its lines end in a carriage return alone: write it with newlines")
		}
	}
	if len(names) != 1 || o.delimited {
		return nil
	}
	for _, d := range []string{";", "\t", "|", ","} {
		if d != string(t.delimiter) && strings.Contains(names[0], d) {
			return o.damaged("it has one column, %.100q: if %q separates its columns, input.delimiter has to say so, else that it is %q",
				names[0], d, string(t.delimiter))
		}
	}
	return nil
}

func (t *table) more() (bool, error) {
	if err := t.buffer.skipMark(); err != nil {
		return false, err
	}
	return t.buffer.skipSpace("\r\n")
}

func (t *table) offset() int64   { return t.buffer.at }
func (t *table) consumed() int64 { return t.buffer.stream.consumed(t.buffer.at) }
func (t *table) Close() error    { return t.buffer.stream.Close() }

func (t *table) next(a *arena, r *Row) (int64, error) {
	rec := &t.record
	*rec = record{json: append(rec.json[:0], '{'), cell: rec.cell}
	n, problem, err := t.read(t.cell)
	if err != nil || r == nil {
		return n, err
	}
	switch {
	case problem != "":
		r.Err = actions.Errorf(actions.Invalid, "%s", problem)
	case rec.broken:
		r.Err = actions.Errorf(actions.Invalid, "the row is not UTF-8")
	case rec.cells != len(t.names):
		r.Err = actions.Errorf(actions.Invalid, "the row has %d cells, but there are %d columns", rec.cells, len(t.names))
	default:
		rec.json = append(rec.json, '}')
		r.Columns, r.names = a.copy(rec.json), t.names
		if t.key >= 0 {
			r.Key = json.RawMessage("null")
		}
		if rec.keyEnd > 0 {
			r.Key = csvKey(r.Columns[rec.keyStart:rec.keyEnd:rec.keyEnd])
		}
	}
	return n, nil
}

// cell adds a cell to the record.
func (t *table) cell(text []byte) {
	rec, i := &t.record, t.record.cells
	rec.cells++
	if i >= len(t.names) || t.names[i] == nil || len(text) == 0 && t.readings[i] != textual {
		return
	}
	if len(rec.json) > 1 {
		rec.json = append(rec.json, ',')
	}
	rec.json = append(rec.json, t.names[i]...)
	start := len(rec.json)
	switch {
	case t.readings[i] == guessed && (isNumber(text) || string(text) == "true" || string(text) == "false"):
		rec.json = append(rec.json, text...)
	case utf8.Valid(text):
		rec.json = appendQuoted(rec.json, text)
	default:
		rec.broken = true
	}
	if i == t.key {
		rec.keyStart, rec.keyEnd = start, len(rec.json)
	}
}

// maxDigits is how many digits a whole number may have: more are an identifier, which a number
// would round.
const maxDigits = 18

// isNumber says whether text is a number as JSON writes it.
func isNumber(text []byte) bool {
	digits := func(b []byte) int {
		n := 0
		for n < len(b) && b[n] >= '0' && b[n] <= '9' {
			n++
		}
		return n
	}
	b := bytes.TrimPrefix(text, []byte("-"))
	n := digits(b)
	if n == 0 || n > 1 && b[0] == '0' {
		return false
	}
	whole := n
	if b = b[n:]; len(b) > 0 && b[0] == '.' {
		if n = digits(b[1:]); n == 0 {
			return false
		}
		b = b[1+n:]
	} else if len(b) == 0 {
		return whole <= maxDigits
	}
	if len(b) > 0 && b[0]|0x20 == 'e' {
		if b = b[1:]; len(b) > 0 && (b[0] == '+' || b[0] == '-') {
			b = b[1:]
		}
		if n = digits(b); n == 0 {
			return false
		}
		b = b[n:]
	}
	return len(b) == 0
}
