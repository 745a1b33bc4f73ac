package batch

import (
	"encoding/json"
	"slices"

	"github.com/deepfn/deepfn/actions"
)

// A textArgument is an argument that the model says is a text.
type textArgument struct {
	name string
	// empty says that an empty text is one, while no value at all would be an error.
	empty bool
}

// textColumns are the columns of CSV that only arguments take that are texts; true of those whose
// empty cells are empty texts, while other empty cells are absent. Nil of other inputs, whose
// values have types.
func textColumns(b *actions.Batch, m actions.Model, d *actions.Description) map[string]bool {
	if b.Input.Format != actions.CSV {
		return nil
	}
	arguments := textArguments(b, m, d)
	var columns map[string]bool
	add := func(column string, empty bool) {
		if columns == nil {
			columns = map[string]bool{}
		}
		columns[column] = empty
	}
	if len(b.Map) == 0 {
		for _, a := range arguments {
			add(a.name, a.empty)
		}
		return columns
	}
	others := map[string]bool{}
	for argument, column := range b.Map {
		i := slices.IndexFunc(arguments, func(a textArgument) bool { return a.name == argument })
		if i < 0 {
			others[column] = true
			continue
		}
		before, isThere := columns[column]
		add(column, arguments[i].empty && (before || !isThere))
	}
	for column := range others {
		delete(columns, column)
	}
	return columns
}

// textArguments are the arguments of a row that are texts, as the model describes them for the way in
// which it takes rows.
func textArguments(b *actions.Batch, m actions.Model, d *actions.Description) []textArgument {
	var all []textArgument
	take := func(name string, required bool, s form) {
		if s.isText {
			all = append(all, textArgument{name, required && s.isPlain})
		}
	}
	if d == nil || d.Predict == nil {
		for _, a := range m.Arguments {
			if !b.Batching.Vectorised() {
				take(a.Name, a.Required, form{isText: a.Type == actions.TypeString, isPlain: true})
			}
		}
		return all
	}
	for _, p := range d.Predict.Parameters {
		s := formOf(p.Schema)
		switch {
		case b.Batching.Columns:
			take(p.Name, p.Required, formOf(s.Items))
		case b.Batching.Argument == p.Name:
			row := formOf(s.Items)
			for name, value := range row.Properties {
				take(name, slices.Contains(row.Required, name), formOf(value))
			}
		case b.Batching.Argument != "": // the same in all rows
		case p.Type == actions.TypeString, p.Type == actions.TypeFile: // a file is base64
			take(p.Name, p.Required, form{isText: true, isPlain: p.Type == actions.TypeString && s.mayBeEmpty()})
		}
	}
	return all
}

// A form is what of a JSON Schema says whether a value is a text.
type form struct {
	Type   any               `json:"type"`
	Format string            `json:"format"`
	Enum   []any             `json:"enum"`
	AnyOf  []json.RawMessage `json:"anyOf"`
	Items  json.RawMessage   `json:"items"`
	// Properties and Required are those of an object.
	Properties map[string]json.RawMessage `json:"properties"`
	Required   []string                   `json:"required"`

	isText  bool
	isPlain bool // a text that may be empty
}

// formOf reads a schema. One that cannot be read, as true, says nothing.
func formOf(schema json.RawMessage) form {
	var s form
	if json.Unmarshal(schema, &s) != nil {
		return form{}
	}
	if len(s.AnyOf) == 2 { // of which one is null
		for i, one := range s.AnyOf {
			var other struct {
				Type any `json:"type"`
			}
			if json.Unmarshal(one, &other) == nil && other.Type == "null" {
				return formOf(s.AnyOf[1-i])
			}
		}
	}
	isNoText := func(v any) bool { _, is := v.(string); return !is }
	switch t := s.Type.(type) {
	case string:
		s.isText = t == "string"
	case []any:
		s.isText = slices.Contains(t, any("string")) && !slices.ContainsFunc(t, func(v any) bool { return v != "string" && v != "null" })
	case nil:
		s.isText = len(s.Enum) > 0 && !slices.ContainsFunc(s.Enum, isNoText)
	}
	s.isPlain = s.isText && s.mayBeEmpty()
	return s
}

// mayBeEmpty says whether an empty text is none of a format, nor of other choices.
func (s form) mayBeEmpty() bool {
	return s.Format == "" && (s.Enum == nil || slices.Contains(s.Enum, any("")))
}
