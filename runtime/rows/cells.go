package rows

import (
	"encoding/json"

	"github.com/deepfn/deepfn/actions"
)

// cells puts answers into the columns of a Schema.
type cells struct {
	answers answers
	columns []column
	// input and prediction say which column a member is; whole is the column of the whole
	// answer, -1 without one.
	input, prediction map[string]int
	whole             int
	values            []json.RawMessage
	answer            []byte
}

func newCells(out actions.BatchOutput, s *Schema) *cells {
	c := &cells{
		answers: newAnswers(out), columns: s.columns, whole: -1,
		input: map[string]int{}, prediction: map[string]int{}, values: make([]json.RawMessage, len(s.columns)),
	}
	for i, column := range s.columns {
		switch {
		case column.From == fromInput:
			c.input[column.Member] = i
		case column.From == fromPrediction && column.Member == "":
			c.whole = i
		case column.From == fromPrediction:
			c.prediction[column.Member] = i
		}
	}
	return c
}

// of returns the values of an answer by column, nil where there is none. They are good until the
// next call. The error is Invalid: the answer has what there is no column for.
func (c *cells) of(a *Answer) (values []json.RawMessage, err error) {
	clear(c.values)
	stranger := ""
	put := func(columns map[string]int, name string, value json.RawMessage) bool {
		i, ok := columns[name]
		if !ok {
			stranger = name
			return false
		}
		if value[0] != 'n' { // null
			c.values[i] = value
		}
		return true
	}
	for i, column := range c.columns {
		if column.From == fromKey && string(a.Row.Key) != "null" {
			c.values[i] = a.Row.Key
		}
	}
	c.answers.columns(a.Row, func(name string, value json.RawMessage) { put(c.input, name, value) })
	if c.answer, err = c.answers.appendPrediction(c.answer[:0], a); err != nil {
		return nil, err
	}
	answer := json.RawMessage(c.answer)
	switch {
	case c.whole >= 0:
		if answer[0] != 'n' {
			c.values[c.whole] = answer
		}
	case answer[0] != '{':
		return nil, actions.Errorf(actions.Invalid, "the answer is no object, as those to the first rows are, whose members are the columns of the output")
	default:
		members(answer, func(name []byte, value json.RawMessage) bool { return put(c.prediction, string(name), value) })
	}
	if stranger != "" {
		return nil, actions.Errorf(actions.Invalid, "the output has no column for %.100q, which the first rows did not have", stranger)
	}
	return c.values, nil
}
