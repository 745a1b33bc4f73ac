package rows

import (
	"encoding/json"
	"io"
	"reflect"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"github.com/deepfn/deepfn/actions"
)

// maxGroupBytes is after how many bytes of values a row group is written, since all of it is in
// memory until then.
const maxGroupBytes = 32 << 20

// A parquetWriter writes Parquet: a column for each of the Schema, all of them optional.
type parquetWriter struct {
	out    *parquet.GenericWriter[any]
	cells  *cells
	row    parquet.Row
	group  int // bytes of the row group so far
	rows   int64
	closed bool
}

func newParquetWriter(w io.Writer, c *cells) *parquetWriter {
	root := &orderedGroup{Group: parquet.Group{}}
	// Statistics have whole values, and a value may be a file.
	options := []parquet.WriterOption{parquet.DataPageStatistics(false)}
	for _, column := range c.columns {
		node := parquet.Compressed(parquet.Optional(nodeOf(column.Type)), &parquet.Snappy)
		root.Group[column.Name] = node
		root.fields = append(root.fields, &orderedField{Node: node, name: column.Name})
		switch column.Type {
		case stringType, jsonType, textType:
			options = append(options, parquet.SkipPageBounds(column.Name))
		}
	}
	options = append(options, parquet.NewSchema("answers", root), parquet.CreatedBy("deepfn", "1", "0"))
	return &parquetWriter{
		out:   parquet.NewGenericWriter[any](w, options...),
		cells: c, row: make(parquet.Row, 0, len(c.columns)),
	}
}

// nodeOf is the column of a type.
func nodeOf(t string) parquet.Node {
	switch t {
	case booleanType:
		return parquet.Leaf(parquet.BooleanType)
	case integerType:
		return parquet.Leaf(parquet.Int64Type)
	case numberType:
		return parquet.Leaf(parquet.DoubleType)
	case stringType, textType:
		return parquet.String()
	}
	return parquet.JSON()
}

// An orderedGroup is a group whose fields are in the order of the Schema, and not of their names.
type orderedGroup struct {
	parquet.Group
	fields []parquet.Field
}

// Fields returns the fields in their order.
func (g *orderedGroup) Fields() []parquet.Field { return g.fields }

// An orderedField is a field of an orderedGroup.
type orderedField struct {
	parquet.Node
	name string
}

// Name is the name of the column.
func (f *orderedField) Name() string { return f.name }

// Value is for rows that are Go values, which ours are not.
func (f *orderedField) Value(base reflect.Value) reflect.Value {
	return base.MapIndex(reflect.ValueOf(f.name))
}

func (p *parquetWriter) Rows() int64 { return p.rows }

func (p *parquetWriter) Write(a Answer) error {
	values, err := p.cells.of(&a)
	if err != nil {
		return err
	}
	p.row = p.row[:0]
	size := 0
	for i, value := range values {
		v, err := parquetValue(p.cells.columns[i], value)
		if err != nil {
			return err
		}
		level := 1
		if v.IsNull() {
			level = 0
		}
		p.row = append(p.row, v.Level(0, level, i))
		size += len(value)
	}
	if _, err := p.out.WriteRows([]parquet.Row{p.row}); err != nil {
		return err
	}
	p.rows++
	if p.group += size; p.group < maxGroupBytes {
		return nil
	}
	p.group = 0
	return p.out.Flush()
}

func (p *parquetWriter) Close() error {
	if p.closed {
		return nil
	}
	p.closed = true
	return p.out.Close()
}

// parquetValue is a JSON value in a column, null where there is none. It is never another value: the
// error is Invalid.
func parquetValue(c column, value json.RawMessage) (parquet.Value, error) {
	if value == nil {
		return parquet.NullValue(), nil
	}
	isText := value[0] == '"'
	switch {
	case isText && (c.Type == textType || c.Type == stringType):
		return parquet.ByteArrayValue([]byte(text(value))), nil
	case c.Type == textType || c.Type == jsonType:
		return parquet.ByteArrayValue(value), nil
	}
	is := typeOf(value)
	switch {
	case c.Type == booleanType && is == booleanType:
		return parquet.BooleanValue(value[0] == 't'), nil
	case c.Type == integerType && (is == integerType || is == longType):
		n, _ := strconv.ParseInt(string(value), 10, 64) // that it is one, typeOf has said
		return parquet.Int64Value(n), nil
	case c.Type == numberType && (is == integerType || is == numberType):
		f, _ := strconv.ParseFloat(string(value), 64)
		return parquet.DoubleValue(f), nil
	}
	return parquet.Value{}, actions.Errorf(actions.Invalid, "the column %.100q of the output is of the type %s, as the first rows have it, and %.100s is none", c.Name, described(c.Type), value)
}

// described is a type as people are told it.
func described(t string) string {
	if t == numberType {
		return "number (a float of 64 bits)"
	}
	return t
}
