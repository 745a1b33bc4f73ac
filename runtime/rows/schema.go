package rows

import (
	"encoding/json"
	"strconv"

	"github.com/deepfn/deepfn/actions"
)

// The types of a column.
const (
	booleanType = "boolean"
	integerType = "integer" // of 64 bits
	numberType  = "number"  // a float of 64 bits
	stringType  = "string"
	jsonType    = "json" // any other value, as its JSON
)

// The sources of a column.
const (
	fromKey        = "key"
	fromInput      = "input"
	fromPrediction = "prediction"
)

// A Schema is the columns of a CSV or Parquet output, the same in all its parts. As JSON it is
// kept between them.
type Schema struct {
	columns []column
}

// A column is one of a Schema.
type column struct {
	Name string `json:"name"`
	// From says what it is of, Member which part of that: a column of the input, a member of
	// the answer. An empty one of a prediction is the whole answer.
	From   string `json:"from"`
	Member string `json:"member,omitempty"`
	Type   string `json:"type"`
}

// MarshalJSON writes the columns.
func (s *Schema) MarshalJSON() ([]byte, error) { return json.Marshal(s.columns) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Schema) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, &s.columns) }

// maxOutputColumns is how many columns an output may have.
const maxOutputColumns = 2000

// Infer finds the columns of an output in the first answers: the key, the columns of the input that
// are joined, and the members of the answers, if all of them are objects; else the answer is one
// column. A column is of the type that all its values have, else it is JSON; every value may
// be absent. The error is Invalid: there are no answers, or too many columns.
func Infer(all []Answer, out actions.BatchOutput) (*Schema, error) {
	if len(all) == 0 {
		return nil, invalid("output.format", "is %s, whose columns are those of the first answers, but there are none: look at the errors, or take ndjson", Format(out))
	}
	f := finder{answers: newAnswers(out), index: map[column]int{}, taken: map[string]bool{}}
	f.see(fromKey, "", nil)
	for i := range all {
		f.see(fromKey, "", all[i].Row.Key)
		f.answers.columns(all[i].Row, func(name string, value json.RawMessage) {
			f.see(fromInput, name, value)
		})
	}
	f.predictions(all)
	if len(f.columns) > maxOutputColumns {
		return nil, invalid("output.format", "is %s, but the answers have %d members, and there are %d columns at most: select some, or take ndjson", Format(out), len(f.columns), maxOutputColumns)
	}
	for i := range f.columns {
		if f.columns[i].Type == "" {
			f.columns[i].Type = jsonType
		}
	}
	return &Schema{columns: f.columns}, nil
}

// A finder finds columns.
type finder struct {
	answers answers
	columns []column
	index   map[column]int // by From and Member
	taken   map[string]bool
}

// predictions finds the columns of the answers.
func (f *finder) predictions(all []Answer) {
	objects := make([]json.RawMessage, len(all))
	for i := range all {
		value, err := f.answers.appendPrediction(nil, &all[i])
		if err != nil {
			continue // it is none of this output's, and will be an error of its row
		}
		objects[i] = value
	}
	whole := false
	for _, value := range objects {
		whole = whole || value != nil && value[0] != '{'
	}
	for _, l := range f.answers.selected {
		f.see(fromPrediction, l.path, nil)
	}
	for _, value := range objects {
		switch {
		case value == nil:
		case whole:
			f.see(fromPrediction, "", value)
		default:
			members(value, func(name []byte, value json.RawMessage) bool {
				f.see(fromPrediction, string(name), value)
				return true
			})
		}
	}
	if f.columns[len(f.columns)-1].From != fromPrediction {
		f.see(fromPrediction, "", nil) // the answers are objects without members
	}
}

// see notes a value of a column.
func (f *finder) see(from, member string, value json.RawMessage) {
	id := column{From: from, Member: member}
	i, ok := f.index[id]
	if !ok {
		i = len(f.columns)
		f.index[id] = i
		c := column{Name: f.name(from, member), From: from, Member: member}
		f.columns = append(f.columns, c)
	}
	f.columns[i].Type = both(f.columns[i].Type, typeOf(value))
}

// name is what a column is called: as what it is of, with a word before it if that is taken.
func (f *finder) name(from, member string) string {
	name := member
	if name == "" {
		name = from
	}
	if from == fromInput {
		name = inputName(name)
	}
	for f.taken[name] {
		name = from + "_" + name
	}
	f.taken[name] = true
	return name
}

// typeOf is the type of a value, "" of null and of nothing.
func typeOf(value json.RawMessage) string {
	if len(value) == 0 {
		return ""
	}
	switch value[0] {
	case 'n':
		return ""
	case 't', 'f':
		return booleanType
	case '"':
		return stringType
	case '{', '[':
		return jsonType
	}
	if _, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		return integerType
	}
	return numberType
}

// both is the type that has the values of both.
func both(a, b string) string {
	switch {
	case a == b || b == "":
		return a
	case a == "":
		return b
	case a == integerType && b == numberType || a == numberType && b == integerType:
		return numberType
	}
	return jsonType
}
