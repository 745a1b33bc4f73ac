package rows

import (
	"errors"
	"fmt"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// maxColumns is how many columns a Parquet file may have, maxNesting how deep they may be nested.
const (
	maxColumns = 10_000
	maxNesting = 64
)

// A kind is what a column is in JSON.
type kind uint8

// The kinds of a column.
const (
	leafColumn kind = iota
	groupColumn
	listColumn
	mapColumn
)

// A shape is a column of a Parquet file and how it is written in JSON. Values lie in leaves, each
// with two levels: which of the repeated columns above it begins anew, and how many of the
// columns above it, those that may be absent, are there.
type shape struct {
	name     []byte // quoted, with a colon
	kind     kind
	optional bool
	repeated bool
	// repetition and definition are the levels of the column itself.
	repetition, definition int
	fields                 []*shape
	leaf                   int // the number of the first leaf in it
	leaves                 int
	value                  func(b []byte, v parquet.Value) []byte // of a leaf
	json                   bool                                   // the value of a leaf is JSON, in which there may be more
}

// newShape makes the shape of a file.
func newShape(f *parquet.File) (*shape, error) {
	next := 0
	s, err := shapeOf(f.Root(), 0, 0, 0, &next)
	if err == nil {
		s.halves(f.Metadata().Schema)
	}
	if err == nil && next == 0 {
		return nil, errors.New("it has no columns")
	}
	return s, err
}

func shapeOf(c *parquet.Column, depth, repetition, definition int, next *int) (*shape, error) {
	if depth > maxNesting || *next > maxColumns {
		return nil, fmt.Errorf("it has more than %d columns, or some nested deeper than %d", maxColumns, maxNesting)
	}
	s := &shape{name: append(quote(c.Name()), ':'), leaf: *next}
	if depth > 0 {
		s.optional, s.repeated = c.Optional(), c.Repeated()
	}
	if s.optional || s.repeated {
		definition++
	}
	if s.repeated {
		repetition++
	}
	s.repetition, s.definition = repetition, definition
	if c.Leaf() {
		s.value, s.leaves, s.json = valueOf(c.Type()), 1, isJSONColumn(c.Type())
		*next++
		return s, nil
	}
	for _, child := range c.Columns() {
		f, err := shapeOf(child, depth+1, repetition, definition, next)
		if err != nil {
			return nil, err
		}
		s.fields = append(s.fields, f)
	}
	s.leaves = *next - s.leaf
	if s.leaves == 0 {
		return nil, fmt.Errorf("its column %.100q has nothing in it", c.Name())
	}
	s.kind = groupColumn
	s.annotate(c)
	return s, nil
}

// halves sets how floats of 16 bits are written, which the library takes for bytes. The elements
// are those of the file, in the order of the columns.
func (s *shape) halves(elements []format.SchemaElement) {
	leaf := 0
	for _, e := range elements {
		if !e.Type.Valid {
			continue
		}
		if _, ok := e.LogicalType.Value.(*format.Float16Type); ok {
			if c := s.at(leaf); c != nil {
				c.value = appendHalf
			}
		}
		leaf++
	}
}

// at returns the leaf of a number.
func (s *shape) at(leaf int) *shape {
	if s.kind == leafColumn {
		return s
	}
	for _, f := range s.fields {
		if leaf < f.leaf+f.leaves {
			return f.at(leaf)
		}
	}
	return nil
}

// annotate recognises lists and maps, which are groups around a repeated column.
func (s *shape) annotate(c *parquet.Column) {
	t := c.Type().LogicalType()
	if t == nil || len(s.fields) != 1 || !s.fields[0].repeated {
		return
	}
	switch t.Value.(type) {
	case *format.ListType:
		s.kind = listColumn
	case *format.MapType:
		if inner := s.fields[0]; inner.kind == groupColumn && len(inner.fields) == 2 && inner.fields[0].kind == leafColumn {
			s.kind = mapColumn
		}
	}
}

// cursors are the values of a row that are left, by leaf.
type cursors [][]parquet.Value

// append appends a row, and says whether its values made one.
func (s *shape) append(b []byte, row parquet.Row) ([]byte, bool) {
	left := make(cursors, s.leaves)
	ok := true
	row.Range(func(column int, values []parquet.Value) bool {
		if ok = column < len(left); ok {
			left[column] = values
		}
		return ok
	})
	if !ok {
		return b, false
	}
	return s.group(b, left)
}

// one appends one occurrence of the column.
func (s *shape) one(b []byte, left cursors) ([]byte, bool) {
	if s.optional && !s.present(left) {
		return append(b, "null"...), s.drop(left)
	}
	return s.content(b, left)
}

// present says whether the next occurrence of the column is there.
func (s *shape) present(left cursors) bool {
	values := left[s.leaf]
	return len(values) > 0 && values[0].DefinitionLevel() >= s.definition
}

// drop moves past an occurrence that is not there: a null in each leaf.
func (s *shape) drop(left cursors) bool {
	for i := s.leaf; i < s.leaf+s.leaves; i++ {
		if len(left[i]) == 0 {
			return false
		}
		left[i] = left[i][1:]
	}
	return true
}

// content appends what is in a column that is there.
func (s *shape) content(b []byte, left cursors) ([]byte, bool) {
	switch s.kind {
	case leafColumn:
		values := left[s.leaf]
		if len(values) == 0 {
			return b, false
		}
		left[s.leaf] = values[1:]
		if values[0].IsNull() {
			return append(b, "null"...), true
		}
		return s.value(b, values[0]), true
	case listColumn:
		return s.fields[0].list(b, left, '[', s.fields[0].element)
	case mapColumn:
		return s.fields[0].list(b, left, '{', s.fields[0].entry)
	case groupColumn:
	}
	return s.group(b, left)
}

func (s *shape) group(b []byte, left cursors) ([]byte, bool) {
	b = append(b, '{')
	for i, f := range s.fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, f.name...)
		ok := false
		if f.repeated {
			b, ok = f.list(b, left, '[', f.content)
		} else {
			b, ok = f.one(b, left)
		}
		if !ok {
			return b, false
		}
	}
	return append(b, '}'), true
}

// list appends all occurrences of a repeated column, which may be none.
func (s *shape) list(b []byte, left cursors, bracket byte, each func([]byte, cursors) ([]byte, bool)) ([]byte, bool) {
	b = append(b, bracket)
	shut := bracket + 2 // ']' or '}'
	if !s.present(left) {
		return append(b, shut), s.drop(left)
	}
	for {
		ok := false
		if b, ok = each(b, left); !ok {
			return b, false
		}
		values := left[s.leaf]
		if len(values) == 0 || values[0].RepetitionLevel() < s.repetition {
			return append(b, shut), true
		}
		b = append(b, ',')
	}
}

// element appends an element of a list: the repeated column is a group around it, or, in old
// files, it itself.
func (s *shape) element(b []byte, left cursors) ([]byte, bool) {
	if s.kind == groupColumn && len(s.fields) == 1 && !s.fields[0].repeated {
		return s.fields[0].one(b, left)
	}
	return s.content(b, left)
}

// entry appends an entry of a map: the key as text.
func (s *shape) entry(b []byte, left cursors) ([]byte, bool) {
	start := len(b)
	b, ok := s.fields[0].one(b, left)
	if !ok {
		return b, false
	}
	if b[start] != '"' {
		key := quote(string(b[start:]))
		b = append(b[:start], key...)
	}
	b = append(b, ':')
	if v := s.fields[1]; v.repeated {
		return v.list(b, left, '[', v.content)
	}
	return s.fields[1].one(b, left)
}
