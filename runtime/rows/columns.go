package rows

import (
	"maps"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// A demand is what a batch asks of the columns of an input. CSV and Parquet know theirs before the
// first row, so that a misspelt name is refused there, instead of being absent from each row.
type demand struct {
	mapped []mapped
	joined []lookup
	texts  map[string]bool
}

// Expect says what of the input a batch uses, before anything is read: Read refuses CSV and Parquet
// without a column that the batch maps or joins. Of CSV, texts are the columns that are read as
// texts beside those of BatchInput.Text; true of those whose empty cells are empty texts, while
// other empty cells are absent. The error is Invalid: an input of files does not have such a column.
func (s *Source) Expect(b *actions.Batch, texts map[string]bool) error {
	s.demand = demand{joined: newAnswers(b.Output).join, texts: texts}
	for _, argument := range slices.Sorted(maps.Keys(b.Map)) {
		s.demand.mapped = append(s.demand.mapped, mapped{argument, newLookup(b.Map[argument])})
	}
	switch s.format {
	case actions.Tar, actions.Zip, actions.Objects:
		return s.demand.ofFiles()
	}
	return nil
}

// ofFiles refuses columns that a file does not have.
func (d *demand) ofFiles() error {
	for _, m := range d.mapped {
		if p := m.column.path; p != fileColumn && p != nameColumn && p != keyColumn {
			return noFileColumn(m)
		}
	}
	for _, l := range d.joined {
		if l.path != nameColumn && l.path != keyColumn {
			return invalid("output.join", "is %.100q, but the columns of a file are name and key", l.path)
		}
	}
	return nil
}

func noFileColumn(m mapped) error {
	return invalid("map", "gives %s the column %.100q, but the columns of a file are file, name and key", m.argument, m.column.path)
}

// check refuses columns that an object does not have. has says which it has, names are theirs.
func (o object) check(names []string, has func(lookup) bool) error {
	there := func() string { return strings.Join(names, ", ") }
	if o.key != "" && !has(newLookup(o.key)) {
		return invalid("input.key", "is %.100q, but the columns of %s are %.1000s", o.key, o.shown, there())
	}
	for _, name := range o.text {
		if !has(newLookup(name)) {
			return invalid("input.text", "names %.100q, but the columns of %s are %.1000s", name, o.shown, there())
		}
	}
	for _, m := range o.demand.mapped {
		if !has(m.column) {
			return invalid("map", "gives %s the column %.100q, but the columns of %s are %.1000s", m.argument, m.column.path, o.shown, there())
		}
	}
	for _, l := range o.demand.joined {
		if !has(l) {
			return invalid("output.join", "is %.100q, but the columns of %s are %.1000s", l.path, o.shown, there())
		}
	}
	return nil
}

// A reading is how a cell of CSV is read.
type reading uint8

// The ways to read a cell.
const (
	guessed  reading = iota // as it is written
	optional                // as text, and not at all if it is empty
	textual                 // as text
)

// readingOf is how the cells of a column are read.
func (o object) readingOf(name string) reading {
	if slices.Contains(o.text, name) {
		return textual
	}
	switch empty, isText := o.demand.texts[name]; {
	case isText && empty:
		return textual
	case isText:
		return optional
	}
	return guessed
}

// names are those of the columns of a Parquet file.
func (s *shape) names() []string {
	names := make([]string, len(s.fields))
	for i, f := range s.fields {
		names[i] = f.plainName()
	}
	return names
}

func (s *shape) plainName() string { return text(s.name[:len(s.name)-1]) }

// has says whether a row may have the value of a lookup.
func (s *shape) has(l lookup) bool {
	return s.leads([]string{l.path}) || s.leads(append([]string{l.head}, l.rest...))
}

// leads says whether a path may lead to something in the column. What lists, maps and JSON hold is
// known row by row.
func (s *shape) leads(path []string) bool {
	if len(path) == 0 || s.repeated || s.kind == listColumn || s.kind == mapColumn {
		return true
	}
	if s.kind == leafColumn {
		return s.json
	}
	return slices.ContainsFunc(s.fields, func(f *shape) bool { return f.plainName() == path[0] && f.leads(path[1:]) })
}
