package rows

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/deepfn/deepfn/actions"
)

// The columns of an input of files.
const (
	fileColumn = "file"
	nameColumn = "name"
	keyColumn  = "key"
)

// A Mapping makes the arguments of a model from rows. Many may use it.
type Mapping struct {
	arguments []mapped
	constants []constant
	file      string
	all       bool // each column is the argument of its name
}

// mapped says which column an argument is.
type mapped struct {
	argument string
	column   lookup
}

// constant is an argument that each prediction is given.
type constant struct {
	name  string
	value json.RawMessage
}

// NewMapping makes the Mapping of a batch. file is the model's one argument that is a file, empty
// if it has none or several.
func NewMapping(b *actions.Batch, file string) *Mapping {
	m := &Mapping{file: file, all: len(b.Map) == 0}
	for _, argument := range slices.Sorted(maps.Keys(b.Map)) {
		m.arguments = append(m.arguments, mapped{argument, newLookup(b.Map[argument])})
	}
	for _, name := range slices.Sorted(maps.Keys(b.Arguments)) {
		m.constants = append(m.constants, constant{name, b.Arguments[name]})
	}
	return m
}

// Arguments makes the arguments of one row; a Mapping does the same for many.
func Arguments(r *Row, b *actions.Batch, file string) (json.RawMessage, []actions.File, error) {
	return NewMapping(b, file).Arguments(r)
}

// Arguments returns the arguments that are no files, a JSON object, and those that are. Columns
// that a row does not have give no argument. Both may share memory with the row. The error is
// Invalid: the row's own, or that nobody says which argument takes the file.
func (m *Mapping) Arguments(r *Row) (args json.RawMessage, files []actions.File, err error) {
	switch {
	case r.Err != nil:
		return nil, nil, r.Err
	case r.File != nil:
		return m.ofFile(r)
	case m.all && len(m.constants) == 0:
		return r.Columns, nil, nil
	case m.all:
		return m.withConstants(r.Columns, r.Columns), nil, nil
	}
	args = append(make([]byte, 0, len(r.Columns)+32*len(m.arguments)), '{')
	values := m.values(r.Columns)
	for i, a := range m.arguments {
		if values[i] != nil {
			args = appendMember(args, a.argument, values[i])
		}
	}
	args = append(args, '}')
	if len(m.constants) == 0 {
		return args, nil, nil
	}
	return m.withConstants(args, args), nil, nil
}

// values finds the values of all arguments in one walk over the columns.
func (m *Mapping) values(columns json.RawMessage) []json.RawMessage {
	found := make([]json.RawMessage, 2*len(m.arguments))
	whole, within := found[:len(m.arguments)], found[len(m.arguments):]
	members(columns, func(name []byte, value json.RawMessage) bool {
		for i := range m.arguments {
			m.arguments[i].column.take(name, value, &whole[i], &within[i])
		}
		return true
	})
	for i, a := range m.arguments {
		if whole[i] == nil && within[i] != nil {
			whole[i] = descend(within[i], a.column.rest)
		}
	}
	return whole
}

// withConstants returns an object of arguments with the constants that it does not have.
func (m *Mapping) withConstants(args, has json.RawMessage) json.RawMessage {
	set := make([]bool, len(m.constants))
	empty := true
	members(has, func(name []byte, _ json.RawMessage) bool {
		empty = false
		for i, c := range m.constants {
			set[i] = set[i] || string(name) == c.name
		}
		return true
	})
	b := append(make([]byte, 0, len(args)+32*len(m.constants)), '{')
	for i, c := range m.constants {
		if !set[i] {
			b = appendMember(b, c.name, c.value)
		}
	}
	if !empty && len(b) > 1 {
		b = append(b, ',')
	}
	return append(b, args[1:]...)
}

// ofFile makes the arguments of a file.
func (m *Mapping) ofFile(r *Row) (json.RawMessage, []actions.File, error) {
	args := json.RawMessage("{")
	var files []actions.File
	if m.all {
		if m.file == "" {
			return nil, nil, invalid("map", `is missing: say which argument of the model takes the file, {"ARGUMENT": "file"}`)
		}
		files = append(files, named(r.File, m.file))
	}
	for _, a := range m.arguments {
		switch a.column.path {
		case fileColumn:
			files = append(files, named(r.File, a.argument))
		case nameColumn:
			args = appendMember(args, a.argument, quote(r.File.Filename))
		case keyColumn:
			args = appendMember(args, a.argument, r.Key)
		default:
			return nil, nil, noFileColumn(a)
		}
	}
	args = append(args, '}')
	if len(m.constants) > 0 {
		args = m.withConstants(args, args)
	}
	return args, files, nil
}

// named returns the file as an argument. Its bytes are not copied.
func named(f *actions.File, argument string) actions.File {
	file := *f
	file.Name = argument
	return file
}
