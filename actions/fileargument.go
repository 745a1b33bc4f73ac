package actions

import "strings"

// FileArgument returns the name of the one argument of predict that is a file: what the bytes of
// an event or of a row of a batch are given as. d is what the model's program said of itself, nil
// for a model that does not parse its own arguments.
//
// The error is Unsupported for a model without one, and Invalid for one with several, of which
// none or more than one are required.
func FileArgument(m Model, d *Description) (string, error) {
	var all, required []string
	add := func(a Argument) {
		if a.Type != TypeFile {
			return
		}
		all = append(all, a.Name)
		if a.Required {
			required = append(required, a.Name)
		}
	}
	if d != nil && d.Predict != nil {
		for _, p := range d.Predict.Parameters {
			add(p.Argument)
		}
	} else {
		for _, a := range m.Arguments {
			add(a)
		}
	}
	switch {
	case len(required) == 1:
		return required[0], nil
	case len(all) == 1:
		return all[0], nil
	case len(all) == 0:
		return "", Errorf(Unsupported, "%s has no argument that is a file", m.Name)
	}
	return "", Errorf(Invalid, "%s has several arguments that are files (%s); say which is meant", m.Name, strings.Join(all, ", "))
}
