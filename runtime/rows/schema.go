package rows

import (
	"encoding/json"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// The types of a column.
const (
	booleanType = "boolean"
	integerType = "integer" // of 64 bits
	numberType  = "number"  // a float of 64 bits
	stringType  = "string"
	jsonType    = "json" // any other value, as its JSON
	textType    = "text" // any value as text: a string as it is, every other as its JSON
)

// longType is the type of whole numbers of 64 bits of which a float would hold some not exactly.
// In a Schema it is integerType.
const longType = "long"

// The sources of a column.
const (
	fromKey        = "key"
	fromInput      = "input"
	fromOther      = "input_other" // all columns of the input that the Schema has no column for
	fromPrediction = "prediction"
	fromAnswer     = "answer" // the whole answer
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
	// the answer. Both may be called "".
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

// Infer finds the columns of a batch's output in the first answers: the key, the columns of the
// input that are joined, and the members of the answers, if all of them are objects; else the
// answer is one column. A column of answers is of the type that all its values have, else it
// is JSON; every value may be absent. The key, unless it is the number of the row, and what is
// joined is text, so that no later row can be of another type. The error is Invalid: there are
// no answers, or too many columns.
func Infer(all []Answer, b *actions.Batch) (*Schema, error) {
	out := b.Output
	if len(all) == 0 {
		return nil, invalid("output.format", "is %s, whose columns are those of the first answers, but there are none: look at the errors, or take ndjson", Format(out))
	}
	f := finder{answers: newAnswers(out), index: map[column]int{}, taken: map[string]bool{}}
	if b.Input.Key == "" && all[0].Row.File == nil {
		f.see(fromKey, "", integerType)
	} else {
		f.see(fromKey, "", textType)
	}
	f.inputs(all, b)
	f.predictions(all)
	if len(f.columns) > maxOutputColumns {
		return nil, invalid("output.format", "is %s, which would have %d columns, and there are %d at most: select or join fewer, or take ndjson", Format(out), len(f.columns), maxOutputColumns)
	}
	for i := range f.columns {
		switch f.columns[i].Type {
		case "":
			f.columns[i].Type = jsonType
		case longType:
			f.columns[i].Type = integerType
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

// inputs finds the columns of the input: those that are joined by name in any case, and of "*" all
// that there are. Where later rows may have others, there is one for these.
func (f *finder) inputs(all []Answer, b *actions.Batch) {
	for _, l := range f.answers.join {
		f.see(fromInput, l.path, textType)
	}
	if !f.answers.joinAll {
		return
	}
	var last [][]byte
	for i := range all {
		if names := all[i].Row.names; len(names) > 0 && (len(last) == 0 || &names[0] != &last[0]) {
			f.header(names)
			last = names
		}
		f.answers.columns(all[i].Row, func(name string, _ json.RawMessage) { f.see(fromInput, name, textType) })
	}
	isOpen := all[0].Row.names == nil && b.Input.Format != actions.Parquet
	if all[0].Row.File == nil && (isOpen || strings.HasSuffix(b.Input.URL, "/")) {
		f.see(fromOther, "", jsonType)
	}
}

// header finds the columns of a CSV, of which the first rows may have nothing.
func (f *finder) header(names [][]byte) {
	for _, quoted := range names {
		if quoted == nil {
			continue
		}
		if name := text(quoted[:len(quoted)-1]); !f.answers.isJoined([]byte(name)) {
			f.see(fromInput, name, textType)
		}
	}
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
		f.see(fromPrediction, l.path, "")
	}
	for _, value := range objects {
		switch {
		case value == nil:
		case whole:
			f.see(fromAnswer, "", typeOf(value))
		default:
			members(value, func(name []byte, value json.RawMessage) bool {
				f.see(fromPrediction, string(name), typeOf(value))
				return true
			})
		}
	}
	if last := f.columns[len(f.columns)-1].From; last != fromPrediction && last != fromAnswer {
		f.see(fromAnswer, "", "") // the answers are objects without members
	}
}

// see notes that a column has a value of a type.
func (f *finder) see(from, member, is string) {
	id := column{From: from, Member: member}
	i, ok := f.index[id]
	if !ok {
		i = len(f.columns)
		f.index[id] = i
		c := column{Name: f.name(from, member), From: from, Member: member}
		f.columns = append(f.columns, c)
	}
	f.columns[i].Type = both(f.columns[i].Type, is)
}

// name is what a column is called: as what it is of, with a word before it if that is taken or
// nothing.
func (f *finder) name(from, member string) string {
	name, before := member, from+"_"
	switch from {
	case fromKey:
		name = keyColumn
	case fromInput:
		name = inputName(member)
	case fromOther:
		name, before = fromOther, "input_"
	case fromAnswer:
		name = predictionColumn
	}
	for name == "" || f.taken[name] {
		name = before + name
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
	return numberType64(value)
}

// both is the type that has the values of both.
func both(a, b string) string {
	switch {
	case a == b || b == "":
		return a
	case a == "":
		return b
	}
	pair := [2]string{min(a, b), max(a, b)}
	switch pair {
	case [2]string{integerType, longType}:
		return longType
	case [2]string{integerType, numberType}:
		return numberType
	}
	return jsonType
}
