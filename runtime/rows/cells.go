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
	// answer, other that of all else in the input, -1 without one.
	input, prediction map[string]int
	whole, other      int
	values            []json.RawMessage
	answer, others    []byte
}

func newCells(out actions.BatchOutput, s *Schema) *cells {
	c := &cells{
		answers: newAnswers(out), columns: s.columns, whole: -1, other: -1,
		input: map[string]int{}, prediction: map[string]int{}, values: make([]json.RawMessage, len(s.columns)),
	}
	for i, column := range s.columns {
		switch column.From {
		case fromInput:
			c.input[column.Member] = i
		case fromOther:
			c.other = i
		case fromAnswer:
			c.whole = i
		case fromPrediction:
			c.prediction[column.Member] = i
		}
	}
	return c
}

// of returns the values of an answer by column, nil where there is none. They are good until the
// next call. The error is Invalid: the answer has what there is no column for.
func (c *cells) of(a *Answer) (values []json.RawMessage, err error) {
	clear(c.values)
	for i, column := range c.columns {
		if column.From == fromKey && string(a.Row.Key) != "null" {
			c.values[i] = a.Row.Key
		}
	}
	if err := c.inputs(a); err != nil {
		return nil, err
	}
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
		members(answer, func(name []byte, value json.RawMessage) bool {
			if !c.put(c.prediction, string(name), value) {
				err = noColumn(string(name))
			}
			return err == nil
		})
	}
	return c.values, err
}

// inputs puts what is joined into its columns. What has none goes into the one of all others.
func (c *cells) inputs(a *Answer) (err error) {
	c.others = append(c.others[:0], '{')
	c.answers.columns(a.Row, func(name string, value json.RawMessage) {
		switch {
		case c.put(c.input, name, value):
		case c.other >= 0:
			c.others = appendMember(c.others, name, value)
		default:
			err = noColumn(name)
		}
	})
	if len(c.others) > 1 {
		c.others = append(c.others, '}')
		c.values[c.other] = c.others
	}
	return err
}

// put puts a value into the column of a name, and says whether there is one.
func (c *cells) put(columns map[string]int, name string, value json.RawMessage) bool {
	i, ok := columns[name]
	if ok && value[0] != 'n' { // null
		c.values[i] = value
	}
	return ok
}

func noColumn(name string) error {
	return actions.Errorf(actions.Invalid, "the output has no column for %.100q, which the first rows did not have", name)
}
