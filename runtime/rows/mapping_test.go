package rows_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

func TestArguments(t *testing.T) {
	columns := `{"age":7,"user":{"name":"x","tags":["a","b"],"age":9},"user.name":"y","age":8}`
	constants := map[string]json.RawMessage{"top": json.RawMessage("5"), "age": json.RawMessage("1")}
	for name, test := range map[string]struct {
		columns string
		batch   actions.Batch
		want    string
	}{
		"all":                        {columns: columns, want: columns},
		"all, with constants":        {columns: `{"age":7}`, batch: actions.Batch{Arguments: constants}, want: `{"top":5,"age":7}`},
		"nothing, with constants":    {columns: `{ }`, batch: actions.Batch{Arguments: constants}, want: `{"age":1,"top":5 }`},
		"constants that the row has": {columns: `{"top":1,"age":2}`, batch: actions.Batch{Arguments: constants}, want: `{"top":1,"age":2}`},
		"a map": {
			columns: columns, batch: actions.Batch{Map: map[string]string{"a": "age", "n": "user.name", "t": "user.tags.1", "u": "user.age"}},
			want: `{"a":8,"n":"y","t":"b","u":9}`,
		},
		"a map, with constants": {
			columns: columns, batch: actions.Batch{Map: map[string]string{"age": "user.age", "none": "user.tags.2"}, Arguments: constants},
			want: `{"top":5,"age":9}`,
		},
		"a map of nothing":                 {columns: `{"x":1}`, batch: actions.Batch{Map: map[string]string{"a": "x.y", "b": "y", "c": ""}}, want: `{}`},
		"a map of nothing, with constants": {columns: `{"x":1}`, batch: actions.Batch{Map: map[string]string{"a": "y"}, Arguments: constants}, want: `{"age":1,"top":5}`},
	} {
		t.Run(name, func(t *testing.T) {
			r := rows.Row{Columns: json.RawMessage(test.columns)}
			args, files, err := rows.Arguments(&r, &test.batch, "image")
			if err != nil || len(files) > 0 {
				t.Fatalf("got %v and %d files, want neither", err, len(files))
			}
			if diff := cmp.Diff(test.want, string(args)); diff != "" || !json.Valid(args) {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
		})
	}
}

func TestArgumentsOfFiles(t *testing.T) {
	file := &actions.File{Filename: "b.png", ContentType: "image/png", Data: []byte("PNG")}
	r := rows.Row{Key: json.RawMessage(`"a/b.png"`), File: file}
	for name, test := range map[string]struct {
		batch      actions.Batch
		file       string
		args, want string
		err        string
	}{
		"the one argument": {file: "image", args: `{}`, want: "image"},
		"with constants":   {file: "image", batch: actions.Batch{Arguments: map[string]json.RawMessage{"top": json.RawMessage("1")}}, args: `{"top":1}`, want: "image"},
		"a map": {
			batch: actions.Batch{Map: map[string]string{"scan": "file", "label": "name", "path": "key"}},
			args:  `{"label":"b.png","path":"a/b.png"}`, want: "scan",
		},
		"nobody says": {err: `map is missing: say which argument of the model takes the file, {"ARGUMENT": "file"}`},
		"no column":   {batch: actions.Batch{Map: map[string]string{"scan": "bytes"}}, err: `map gives scan the column "bytes", but the columns of a file are file, name and key`},
	} {
		t.Run(name, func(t *testing.T) {
			args, files, err := rows.Arguments(&r, &test.batch, test.file)
			if test.err != "" {
				if actions.CodeOf(err) != actions.Invalid || err.Error() != test.err {
					t.Errorf("got %v, want %s", err, test.err)
				}
				return
			}
			want := []actions.File{{Name: test.want, Filename: "b.png", ContentType: "image/png", Data: []byte("PNG")}}
			if diff := cmp.Diff(want, files); err != nil || diff != "" || string(args) != test.args {
				t.Errorf("got %s, %v, want %s; files (-want +got):\n%s", args, err, test.args, diff)
			}
		})
	}
	if r.File.Name != "" {
		t.Errorf("the row's file has become %q, want it as it was", r.File.Name)
	}
}

// TestArgumentsOfErrors shows that a row that cannot be read has no arguments, but its error.
func TestArgumentsOfErrors(t *testing.T) {
	want := actions.Errorf(actions.Invalid, "no JSON")
	if _, _, err := rows.Arguments(&rows.Row{Err: want}, &actions.Batch{}, ""); err != error(want) { //nolint:errorlint // it is this one
		t.Errorf("got %v, want %v", err, want)
	}
}
