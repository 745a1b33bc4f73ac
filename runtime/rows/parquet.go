package rows

import (
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"

	"github.com/deepfn/deepfn/actions"
)

const (
	// parquetRows and parquetBytes are how much is read at once.
	parquetRows  = 256
	parquetBytes = 4 << 20
	// maxFooter is how many bytes the description of a Parquet file may have.
	maxFooter = 128 << 20
)

// A parquetFile reads the rows of a Parquet file. An offset is the number of a row. Row groups
// before it, and pages where there is an index of them, are not read.
//
// A row counts as many bytes as those of its row group do on average, so that where a part ends
// does not depend on what was read.
type parquetFile struct {
	object object
	from   *ranged
	groups []parquet.RowGroup
	ends   []int64 // the number of the first row after each group
	sizes  []int64 // the bytes of a row of each group
	shape  *shape
	key    lookup
	row    int64
	group  int // the row group of the row
	// open are the rows of the group that is open, buffer the ones that were read of it.
	open    parquet.Rows
	buffer  []parquet.Row
	scratch []byte
}

func newParquet(o object, offset int64) (r reader, err error) {
	p := &parquetFile{object: o, from: newRanged(o), row: offset, key: newLookup(o.key)}
	defer func() { err = p.fault(recover(), err) }()
	if err := p.checkFooter(); err != nil {
		return nil, err
	}
	f, err := parquet.OpenFile(p.from, o.size,
		parquet.SkipMagicBytes(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(rangedBlock/4))
	if err != nil {
		return nil, err
	}
	if p.shape, err = newShape(f); err != nil {
		return nil, o.damaged("%w", err)
	}
	if err := o.check(p.shape.names(), p.shape.has); err != nil {
		return nil, err
	}
	total := int64(0)
	for i, g := range f.RowGroups() {
		n := g.NumRows()
		if n < 0 || n > 1<<40 {
			return nil, o.damaged("a row group has %d rows", n)
		}
		total += n
		p.groups, p.ends = append(p.groups, g), append(p.ends, total)
		p.sizes = append(p.sizes, max(1, f.Metadata().RowGroups[i].TotalByteSize/max(1, n)))
	}
	if offset > total {
		return nil, o.damaged("there is no row %d among %d", offset, total)
	}
	return p, nil
}

// checkFooter looks at how long the description is before memory is made for it.
func (p *parquetFile) checkFooter() error {
	var end [8]byte
	if p.object.size < 12 {
		return p.object.damaged("it is no Parquet file: it has %d bytes", p.object.size)
	}
	if _, err := p.from.ReadAt(end[:], p.object.size-8); err != nil {
		return err
	}
	size := int64(end[0]) | int64(end[1])<<8 | int64(end[2])<<16 | int64(end[3])<<24
	switch {
	case string(end[4:]) == "PARE":
		return p.object.damaged("it is encrypted: write it without a key")
	case string(end[4:]) != "PAR1":
		return p.object.damaged("it is no Parquet file: it does not end in PAR1")
	case size > min(maxFooter, p.object.size-12):
		return p.object.damaged("its description has %d bytes, of %d in all", size, p.object.size)
	}
	return nil
}

// fault makes one error of what the library said and panicked with: it panics at files that are
// damaged.
func (p *parquetFile) fault(panicked any, err error) error {
	switch {
	case panicked != nil && p.from.err == nil:
		return p.object.damaged("it is damaged: %.200v", panicked)
	case panicked != nil:
		return p.from.err
	case err != nil:
		return p.from.fault(err)
	}
	return nil
}

func (p *parquetFile) more() (bool, error) { return p.row < p.count(), nil }
func (p *parquetFile) offset() int64       { return p.row }

// count is how many rows the file has.
func (p *parquetFile) count() int64 {
	if len(p.ends) == 0 {
		return 0
	}
	return p.ends[len(p.ends)-1]
}

// consumed spreads the bytes of the file over its rows.
func (p *parquetFile) consumed() int64 {
	return int64(float64(p.object.size) * float64(p.row) / float64(max(1, p.count())))
}

func (p *parquetFile) Close() error {
	var err error
	if p.open != nil {
		err = p.open.Close()
	}
	p.open, p.buffer = nil, nil
	return err
}

func (p *parquetFile) next(a *arena, r *Row) (n int64, err error) {
	defer func() { err = p.fault(recover(), err) }()
	for p.row >= p.ends[p.group] {
		p.group++
	}
	group := p.group
	if r == nil { // the pages are passed over when a row is wanted
		p.row++
		return p.sizes[group], p.Close()
	}
	if len(p.buffer) == 0 {
		if err := p.fill(group); err != nil {
			return 0, err
		}
	}
	p.render(a, r)
	p.buffer = p.buffer[1:]
	if p.row++; p.row == p.ends[group] {
		return p.sizes[group], p.Close()
	}
	return p.sizes[group], nil
}

// fill reads some rows of a group.
func (p *parquetFile) fill(group int) error {
	if p.open == nil {
		start := p.ends[group] - p.groups[group].NumRows()
		p.open = p.groups[group].Rows()
		if p.row > start {
			if err := p.open.SeekToRow(p.row - start); err != nil {
				return err
			}
		}
	}
	rows := max(1, min(parquetRows, parquetBytes/p.sizes[group]))
	buffer := make([]parquet.Row, min(rows, p.ends[group]-p.row))
	n, err := p.open.ReadRows(buffer)
	if n == 0 {
		if err == nil || errors.Is(err, io.EOF) {
			return fmt.Errorf("it has fewer rows than it says: %w", io.ErrUnexpectedEOF)
		}
		return err
	}
	p.buffer = buffer[:n]
	return nil
}

// render makes a row of the first in the buffer.
func (p *parquetFile) render(a *arena, r *Row) {
	columns, ok := p.shape.append(p.scratch[:0], p.buffer[0])
	p.scratch = columns
	switch {
	case !ok:
		r.Err = actions.Errorf(actions.Invalid, "the row is damaged: its values do not make a row of the file's columns")
		return
	case len(columns) > maxFile:
		r.Err = actions.Errorf(actions.Invalid, "the row has %d bytes; the most is %d", len(columns), maxFile)
		return
	}
	r.Columns = a.copy(columns)
	if p.object.key == "" {
		return
	}
	if key := p.key.find(r.Columns); key != nil {
		r.Key = key
		return
	}
	r.Columns = nil
	r.Err = actions.Errorf(actions.Invalid, "the row has no column %q, which is to be its key", p.object.key)
}
