package many

import (
	"bytes"
	"encoding/json"

	"github.com/deepfn/deepfn/actions/jsonscan"
)

// list writes the rows as an array of objects, which is the value of an argument if that has
// a name.
func (w *worker) list(rows []int, argument string) json.RawMessage {
	b := w.args[:0]
	if argument != "" {
		b = append(b, '{')
		b = appendName(b, argument)
	}
	b = append(b, '[')
	for n, i := range rows {
		if n > 0 {
			b = append(b, ',')
		}
		if args := w.rows[i].Args; args != nil {
			b = append(b, args...)
		} else {
			b = append(b, '{', '}')
		}
	}
	b = append(b, ']')
	if argument != "" {
		b = append(b, '}')
	}
	w.args = b
	return b
}

// A table are rows, column by column. Its memory is used again.
type table struct {
	columns []column
	used    int // how many of columns this table has
}

// A column is a JSON array without its end.
type column struct {
	name []byte
	data []byte
	rows int // how many rows it has values of
	last int // where in data the value of the last of them begins
}

// table writes the rows as an object of arrays. Where a row has no value it is null.
func (w *worker) table(rows []int) json.RawMessage {
	t := &w.columns
	t.used = 0
	for n, i := range rows {
		args := w.rows[i].Args
		if args == nil {
			continue
		}
		place := 0
		jsonscan.New(args).Object(-1, func(s *jsonscan.Scanner, key []byte) bool {
			value, ok := s.Raw()
			place = t.find(key, place)
			t.columns[place].put(n, value)
			place++
			return ok
		})
	}
	b := append(w.args[:0], '{')
	for n := range t.used {
		c := &t.columns[n]
		c.fill(len(rows))
		if n > 0 {
			b = append(b, ',')
		}
		b = appendName(b, string(c.name))
		b = append(b, c.data...)
		b = append(b, ']')
	}
	w.args = append(b, '}')
	return w.args
}

// find returns the number of the column of a name, which is made if there is none. Rows mostly
// have their columns in one order: at is where it is then.
func (t *table) find(name []byte, at int) int {
	if at < t.used && bytes.Equal(t.columns[at].name, name) {
		return at
	}
	for i := range t.used {
		if bytes.Equal(t.columns[i].name, name) {
			return i
		}
	}
	if t.used == len(t.columns) {
		t.columns = append(t.columns, column{})
	}
	c := &t.columns[t.used]
	c.name, c.data, c.rows, c.last = append(c.name[:0], name...), append(c.data[:0], '['), 0, 1
	t.used++
	return t.used - 1
}

// put sets the value of the row of a number; the last of a row stays.
func (c *column) put(row int, value []byte) {
	if c.rows == row+1 {
		c.data = append(c.data[:c.last], value...)
		return
	}
	c.fill(row)
	c.next()
	c.data = append(c.data, value...)
}

// fill makes the rows before a number that have no value null.
func (c *column) fill(rows int) {
	for c.rows < rows {
		c.next()
		c.data = append(c.data, "null"...)
	}
}

func (c *column) next() {
	if c.rows > 0 {
		c.data = append(c.data, ',')
	}
	c.last = len(c.data)
	c.rows++
}

// appendName appends the name of a member and the colon.
func appendName(b []byte, name string) []byte {
	if jsonscan.Plain([]byte(name)) == len(name) {
		b = append(b, '"')
		b = append(b, name...)
		return append(b, '"', ':')
	}
	quoted, err := json.Marshal(name)
	if err != nil { // no text is refused
		quoted = []byte(`""`)
	}
	return append(append(b, quoted...), ':')
}
