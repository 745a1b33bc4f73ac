package actions

import (
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"
)

// maxUnknown is how many unknown arguments one error names. The names are the
// caller's, so their number is bounded.
const maxUnknown = 20

// Bind makes the arguments of one predict from what a caller gave: args is a JSON
// object in the order of the model's Arguments, files are the arguments that are
// bytes.
//
// For each argument v.Text wins over v.Files and v.Files over v.JSON. Text is
// converted by the argument's type; an array or a file may be repeated. An empty text
// for anything but a string, a JSON null and an upload without name and bytes are no
// value. An argument of type any or array may be given as a file too, a raw tensor
// for example, and stays a file; a file of type application/json is read as JSON.
//
// A name that begins with "__ow_" is OpenWhisk's, and accept asks for a media type:
// both are passed over unless the model declares them. Every other name that the
// model does not have is an error.
//
// The values in v.JSON must be valid JSON, as encoding/json makes them. Data of the
// files in v.Files is not copied. The error is an *Error with the code Invalid that
// names all problems at once, by argument in Fields. Many may call Bind at once.
func (m Model) Bind(v Values) (args json.RawMessage, files []File, err error) {
	var b binding
	args = append(args, '{')
	for _, a := range m.Arguments {
		value, found, err := a.take(v)
		switch {
		case err != nil:
			b.refuse(a.Name, a.Name, err.Error())
			continue
		case value == nil && len(found) == 0 && a.Required:
			b.refuse(a.Name, a.Name, "is required")
			continue
		case value == nil && len(found) == 0:
			value = a.Default
		}
		files = append(files, found...)
		if value != nil {
			args = appendMember(args, a.Name, value)
		}
	}
	b.refuseUnknown(m, v)
	if len(b.fields) > 0 {
		return nil, nil, &Error{
			Code:   Invalid,
			Msg:    m.Name + ": " + strings.Join(b.problems, "; "),
			Fields: b.fields,
		}
	}
	return append(args, '}'), files, nil
}

// binding collects what is wrong with the arguments of one request.
type binding struct {
	problems []string
	fields   map[string][]string
}

// refuse notes what is wrong with the argument name, which problems call shown.
func (b *binding) refuse(name, shown, problem string) {
	if b.fields == nil {
		b.fields = make(map[string][]string)
	}
	b.fields[name] = append(b.fields[name], problem)
	b.problems = append(b.problems, shown+" "+problem)
}

// take looks for the argument in v: its JSON value, or its files, or neither.
func (a Argument) take(v Values) (json.RawMessage, []File, error) {
	value, files, err := a.fromText(v.Text[a.Name])
	if err == nil && value == nil && len(files) == 0 {
		value, files, err = a.fromFiles(v.Files)
	}
	if err == nil && value == nil && len(files) == 0 {
		value, files, err = a.fromJSON(v.JSON[a.Name])
	}
	if err != nil || value == nil || a.chosen(value) {
		return value, files, err
	}
	choices := make([]string, len(a.Choices))
	for i, c := range a.Choices {
		choices[i] = show(c)
	}
	return nil, nil, fmt.Errorf("must be one of %s, not %s", strings.Join(choices, ", "), show(value))
}

// fromFiles finds the argument among uploaded files.
func (a Argument) fromFiles(uploads []File) (value json.RawMessage, files []File, err error) {
	for _, f := range uploads {
		if f.Name == a.Name && (len(f.Data) > 0 || f.Filename != "") {
			files = append(files, f)
		}
	}
	if len(files) == 0 || a.Type == TypeFile {
		return nil, files, nil
	}
	if t, _, _ := mime.ParseMediaType(files[0].ContentType); t == "application/json" && len(files) == 1 {
		if err := checkJSON(files[0].Data); err != nil {
			return nil, nil, err
		}
		return a.fromJSON(files[0].Data)
	}
	if a.Type == TypeAny || a.Type == TypeArray {
		return nil, files, nil
	}
	return nil, nil, fmt.Errorf("must be %s, not a file", a.Type.phrase())
}

// refuseUnknown notes the names that the model does not have.
func (b *binding) refuseUnknown(m Model, v Values) {
	names := make(map[string]bool)
	for name := range v.Text {
		names[name] = true
	}
	for _, f := range v.Files {
		names[f.Name] = true
	}
	for name := range v.JSON {
		names[name] = true
	}
	maps.DeleteFunc(names, func(name string, _ bool) bool {
		return name == "accept" || strings.HasPrefix(name, "__ow_") || m.argument(name) != nil
	})
	unknown := slices.Sorted(maps.Keys(names))
	for i, name := range unknown {
		if i == maxUnknown {
			b.problems = append(b.problems, fmt.Sprintf("and %d more unknown arguments", len(unknown)-i))
			return
		}
		b.refuse(name, fmt.Sprintf("%q", shorten(name)), m.unknown(name))
	}
}

// unknown says that the model does not take name, and what it takes.
func (m Model) unknown(name string) string {
	if len(m.Arguments) == 0 {
		return "is unknown: the model takes no arguments"
	}
	takes := make([]string, len(m.Arguments))
	hint := ""
	for i, a := range m.Arguments {
		takes[i] = a.Name
		if hint == "" && (strings.EqualFold(a.Name, name) || len(name) > 2 && oneEditAway(a.Name, name)) {
			hint = fmt.Sprintf("; did you mean %q?", a.Name)
		}
	}
	return "is unknown: the model takes " + strings.Join(takes, ", ") + hint
}

// argument returns the argument of that name, nil when there is none.
func (m Model) argument(name string) *Argument {
	for i := range m.Arguments {
		if m.Arguments[i].Name == name {
			return &m.Arguments[i]
		}
	}
	return nil
}

// oneEditAway reports whether one letter more, less, other or swapped with its
// neighbor makes b of a.
func oneEditAway(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) < len(b) {
		return a[i:] == b[i+1:]
	}
	if i == len(a) || a[i+1:] == b[i+1:] {
		return true
	}
	return i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}

// appendMember appends "name": value to an object that has its '{'.
func appendMember(object []byte, name string, value json.RawMessage) []byte {
	if len(object) > 1 {
		object = append(object, ',')
	}
	object = append(object, quote(name)...)
	object = append(object, ':')
	return append(object, value...)
}
