package rows

import (
	"bytes"
	"fmt"
)

// read reads a record, calls f for each cell, and returns how many bytes it was, or what is wrong
// with it. A record that is wrong ends with its line, so that a quote too many costs one row
// and not all that follow.
func (t *table) read(f func(cell []byte)) (n int64, problem string, err error) {
	line, length, err := t.buffer.line(maxRow)
	switch {
	case err != nil:
		return 0, "", err
	case line == nil:
		n, err = t.skipLong(length)
		return n, fmt.Sprintf("the row has %d bytes; the most is %d", n, maxRow), err
	case bytes.IndexByte(line, '"') < 0:
		t.buffer.take(length)
		t.split(bytes.TrimSuffix(line, []byte("\r")), f)
		return int64(length), "", nil
	}
	before := t.record
	for {
		n, problem := t.parse(f)
		if n > 0 {
			t.buffer.take(n)
			return int64(n), "", nil
		}
		if problem == "" && len(t.buffer.data) > maxRow || problem == "" && t.buffer.end {
			problem = "there is a quote that nothing closes"
		}
		if problem != "" {
			t.buffer.take(length)
			return int64(length), problem, nil
		}
		if err := t.buffer.moreOf(); err != nil {
			return 0, "", err
		}
		t.record = record{json: t.record.json[:len(before.json)], cell: t.record.cell}
	}
}

// skipLong moves past a line over the limit, of which length is known or 0.
func (t *table) skipLong(length int) (int64, error) {
	if length > 0 {
		t.buffer.take(length)
		return int64(length), nil
	}
	return t.buffer.skipLine()
}

// split calls f for each cell of a line without quotes.
func (t *table) split(line []byte, f func(cell []byte)) {
	for {
		i := bytes.IndexByte(line, t.delimiter)
		if i < 0 {
			f(line)
			return
		}
		f(line[:i])
		line = line[i+1:]
	}
}

// parse calls f for each cell of the record that the buffer begins with, and returns how long that
// is. 0 means that it is wrong, or, without a problem, that more of it is needed.
func (t *table) parse(f func(cell []byte)) (n int, problem string) {
	data := t.buffer.data
	for {
		cell, size, problem := t.cellAt(data[n:])
		if size < 0 || problem != "" {
			return 0, problem
		}
		n += size
		rest := data[n:]
		switch {
		case len(rest) == 0 && !t.buffer.end || len(rest) == 1 && rest[0] == '\r' && !t.buffer.end:
			return 0, ""
		case len(rest) == 0 || len(rest) == 1 && rest[0] == '\r':
			f(cell)
			return len(data), ""
		case rest[0] == t.delimiter:
			f(cell)
			n++
		case rest[0] == '\n':
			f(cell)
			return n + 1, ""
		case rest[0] == '\r' && rest[1] == '\n':
			f(cell)
			return n + 2, ""
		default:
			return 0, "there is text behind the quote that ends a cell"
		}
	}
}

// cellAt returns the cell that data begins with, and how long it is there; -1 when more is needed.
func (t *table) cellAt(data []byte) (cell []byte, size int, problem string) {
	if len(data) > 0 && data[0] == '"' {
		return t.quotedAt(data)
	}
	end := bytes.IndexByte(data, '\n')
	if end < 0 && !t.buffer.end {
		return nil, -1, ""
	}
	if end < 0 {
		end = len(data)
	}
	if i := bytes.IndexByte(data[:end], t.delimiter); i >= 0 {
		end = i
	} else if end > 0 && data[end-1] == '\r' {
		end--
	}
	if bytes.IndexByte(data[:end], '"') >= 0 {
		return nil, 0, "there is a quote in a cell that does not begin with one"
	}
	return data[:end], end, ""
}

// quotedAt is cellAt of a cell in quotes, in which two are one.
func (t *table) quotedAt(data []byte) (cell []byte, size int, problem string) {
	t.record.cell = t.record.cell[:0]
	for i := 1; ; {
		end := bytes.IndexByte(data[i:], '"')
		if end < 0 {
			return nil, -1, ""
		}
		end += i
		if end+1 == len(data) && !t.buffer.end {
			return nil, -1, ""
		}
		if end+1 == len(data) || data[end+1] != '"' {
			if len(t.record.cell) == 0 {
				return data[i:end], end + 1, ""
			}
			t.record.cell = append(t.record.cell, data[i:end]...)
			return t.record.cell, end + 1, ""
		}
		t.record.cell = append(t.record.cell, data[i:end+1]...)
		i = end + 2
	}
}
