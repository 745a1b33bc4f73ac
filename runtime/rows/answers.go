package rows

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"

	"github.com/deepfn/deepfn/actions"
)

// answers brings answers into the form of an output.
type answers struct {
	join     []lookup
	joinAll  bool
	selected []lookup
}

func newAnswers(out actions.BatchOutput) answers {
	var a answers
	for _, column := range out.Join {
		if column == "*" {
			a.joinAll = true
		} else {
			a.join = append(a.join, newLookup(column))
		}
	}
	for _, path := range out.Select {
		a.selected = append(a.selected, newLookup(path))
	}
	return a
}

// appendPrediction appends what is kept of an answer, one line of JSON. Bytes are an object with
// their media type, name and base64, as a result of /run has them.
func (a *answers) appendPrediction(b []byte, answer *Answer) ([]byte, error) {
	if !isJSON(answer) {
		if len(a.selected) > 0 {
			return b, notSelected("is " + answer.ContentType)
		}
		return appendFile(b, answer), nil
	}
	value := bytes.TrimSpace(answer.Data)
	if len(a.selected) == 0 {
		return appendLine(b, value)
	}
	if len(value) == 0 || value[0] != '{' {
		return b, notSelected("is no JSON object")
	}
	start := len(b)
	b = append(b, '{')
	for i := range a.selected {
		kept := a.selected[i].find(value)
		if kept == nil {
			continue
		}
		var line []byte
		line, err := appendLine(nil, kept)
		if err != nil {
			return b[:start], err
		}
		b = appendMember(b, a.selected[i].path, line)
	}
	return append(b, '}'), nil
}

// Unselected returns the members of BatchOutput.Select that no answer has, in their order, and the
// names of the members that the first answer has. It is nil when no answer is a JSON object: that
// is the error of each row.
func Unselected(out actions.BatchOutput, all []Answer) (missing, there []string) {
	missing = slices.Clone(out.Select)
	objects := false
	for i := range all {
		value := bytes.TrimSpace(all[i].Data)
		if len(missing) == 0 {
			return nil, nil
		}
		if !isJSON(&all[i]) || len(value) == 0 || value[0] != '{' {
			continue
		}
		if !objects {
			members(value, func(name []byte, _ json.RawMessage) bool {
				there = append(there, string(name))
				return true
			})
		}
		objects = true
		missing = slices.DeleteFunc(missing, func(path string) bool { return newLookup(path).find(value) != nil })
	}
	if !objects || len(missing) == 0 {
		return nil, nil
	}
	return missing, there
}

func notSelected(what string) error {
	return actions.Errorf(actions.Invalid, "the answer %s, so that nothing of it can be selected", what)
}

func isJSON(a *Answer) bool { return a.ContentType == "" || actions.IsJSON(a.ContentType) }

// appendLine appends JSON in one line.
func appendLine(b, value []byte) ([]byte, error) {
	if len(value) == 0 {
		return b, actions.Errorf(actions.Invalid, "the answer is empty, which is no JSON")
	}
	if bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, '\r') < 0 {
		return append(b, value...), nil
	}
	line := bytes.NewBuffer(b)
	if err := json.Compact(line, value); err != nil {
		return b, actions.Errorf(actions.Invalid, "the answer is no JSON: %w", err)
	}
	return line.Bytes(), nil
}

// appendFile appends an answer that is bytes.
func appendFile(b []byte, a *Answer) []byte {
	b = append(b, '{')
	b = appendMember(b, "content_type", quote(a.ContentType))
	if a.Filename != "" {
		b = appendMember(b, "filename", quote(a.Filename))
	}
	b = append(b, `,"data":"`...)
	b = base64.StdEncoding.AppendEncode(b, a.Data)
	return append(b, `"}`...)
}

// columns calls f for each column of the input that an answer is given with: those that were
// asked for, in that order, and of "*" all, in theirs.
func (a *answers) columns(r *Row, f func(name string, value json.RawMessage)) {
	columns := r.Columns
	if r.File != nil {
		columns = appendMember(append(make([]byte, 0, 64), '{'), nameColumn, quote(r.File.Filename))
		columns = append(appendMember(columns, keyColumn, r.Key), '}')
	}
	for i := range a.join {
		if value := a.join[i].find(columns); value != nil {
			f(a.join[i].path, value)
		}
	}
	if a.joinAll {
		members(columns, func(name []byte, value json.RawMessage) bool {
			isKey := r.File != nil && string(name) == keyColumn
			if !isKey && !a.isJoined(name) {
				f(string(name), value)
			}
			return true
		})
	}
}

// isJoined says whether a column was asked for by name.
func (a *answers) isJoined(name []byte) bool {
	return slices.ContainsFunc(a.join, func(l lookup) bool { return l.path == string(name) })
}

// inputName is what a joined column is called in the output, where key and prediction have
// their own place.
func inputName(name string) string {
	if name == keyColumn || name == predictionColumn {
		return "input_" + name
	}
	return name
}

const predictionColumn = "prediction"
