package actions_test

import (
	"testing"

	"github.com/deepfn/deepfn/actions"
)

func TestFileArgument(t *testing.T) {
	file := func(name string, required bool) actions.Argument {
		return actions.Argument{Name: name, Type: actions.TypeFile, Required: required}
	}
	text := actions.Argument{Name: "top", Type: actions.TypeInteger, Required: true}
	for name, test := range map[string]struct {
		arguments []actions.Argument
		want      string
		code      actions.Code
	}{
		"one":                       {arguments: []actions.Argument{text, file("image", true)}, want: "image"},
		"one that may be absent":    {arguments: []actions.Argument{file("image", false), text}, want: "image"},
		"two, one of them required": {arguments: []actions.Argument{file("mask", false), file("image", true)}, want: "image"},
		"none":                      {arguments: []actions.Argument{text}, code: actions.Unsupported},
		"no arguments":              {code: actions.Unsupported},
		"two, both required":        {arguments: []actions.Argument{file("a", true), file("b", true)}, code: actions.Invalid},
		"two, none required":        {arguments: []actions.Argument{file("a", false), file("b", false)}, code: actions.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := actions.FileArgument(actions.Model{Name: "m", Arguments: test.arguments}, nil)
			if got != test.want || actions.CodeOf(err) != test.code {
				t.Errorf("the catalog's: got %q, %v, want %q, %q", got, err, test.want, test.code)
			}
			d := actions.Description{Predict: &actions.Signature{}}
			for _, a := range test.arguments {
				d.Predict.Parameters = append(d.Predict.Parameters, actions.Parameter{Argument: a})
			}
			got, err = actions.FileArgument(actions.Model{Name: "m"}, &d)
			if got != test.want || actions.CodeOf(err) != test.code {
				t.Errorf("the program's: got %q, %v, want %q, %q", got, err, test.want, test.code)
			}
		})
	}
}
