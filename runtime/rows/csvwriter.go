package rows

import (
	"bytes"
	"io"
)

// A csvWriter writes CSV as RFC 4180 has it, but with a newline alone at the end of a line. A
// value that is absent is an empty cell, an empty text two quotes; what is neither text nor a
// number nor true nor false is its JSON.
type csvWriter struct {
	w      io.Writer
	cells  *cells
	buffer []byte
	rows   int64
}

func newCSVWriter(w io.Writer, c *cells) *csvWriter {
	out := &csvWriter{w: w, cells: c}
	for i, column := range c.columns {
		out.separate(i)
		out.buffer = appendCell(out.buffer, []byte(column.Name))
	}
	out.buffer = append(out.buffer, '\n')
	return out
}

func (c *csvWriter) Rows() int64 { return c.rows }

// separate writes what is before a cell.
func (c *csvWriter) separate(i int) {
	if i > 0 {
		c.buffer = append(c.buffer, ',')
	}
}

func (c *csvWriter) Write(a Answer) error {
	values, err := c.cells.of(&a)
	if err != nil {
		return err
	}
	for i, value := range values {
		c.separate(i)
		switch {
		case value == nil:
		case value[0] == '"':
			c.buffer = appendCell(c.buffer, []byte(text(value)))
		default:
			c.buffer = appendCell(c.buffer, value)
		}
	}
	c.buffer = append(c.buffer, '\n')
	c.rows++
	if len(c.buffer) < writeSize {
		return nil
	}
	return c.Close()
}

func (c *csvWriter) Close() error {
	_, err := c.w.Write(c.buffer)
	c.buffer = c.buffer[:0]
	if cap(c.buffer) > 4*writeSize {
		c.buffer = nil
	}
	return err
}

// appendCell appends a cell, in quotes if it would not be one otherwise.
func appendCell(b, cell []byte) []byte {
	if len(cell) > 0 && !bytes.ContainsAny(cell, "\",\r\n") && cell[0] != ' ' && cell[len(cell)-1] != ' ' {
		return append(b, cell...)
	}
	b = append(b, '"')
	for {
		i := bytes.IndexByte(cell, '"')
		if i < 0 {
			b = append(b, cell...)
			return append(b, '"')
		}
		b = append(append(b, cell[:i+1]...), '"')
		cell = cell[i+1:]
	}
}
