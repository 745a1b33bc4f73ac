package actions_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// raw writes JSON in a table.
func raw(s string) json.RawMessage { return json.RawMessage(s) }

// full is a model with an argument of each type, named after it.
func full() actions.Model {
	m := actions.Model{Name: "full", Runtime: "onnx"}
	for _, t := range []actions.ArgumentType{
		actions.TypeFile, actions.TypeString, actions.TypeInteger, actions.TypeNumber,
		actions.TypeBoolean, actions.TypeArray, actions.TypeObject, actions.TypeAny,
	} {
		m.Arguments = append(m.Arguments, actions.Argument{Name: string(t), Type: t})
	}
	return m
}

func text(name string, values ...string) actions.Values {
	return actions.Values{Text: map[string][]string{name: values}}
}

func member(name, value string) actions.Values {
	return actions.Values{JSON: map[string]json.RawMessage{name: raw(value)}}
}

func upload(files ...actions.File) actions.Values { return actions.Values{Files: files} }

func file(filename, contentType, data string) actions.File {
	return actions.File{Name: "file", Filename: filename, ContentType: contentType, Data: []byte(data)}
}

// TestBindValues shows what each type takes, and how it reaches the model.
func TestBindValues(t *testing.T) {
	npy := actions.File{Name: "any", Filename: "x.npy", Data: []byte("\x93NUMPY")}
	tests := map[string]struct {
		in    actions.Values
		args  string
		files []actions.File
	}{
		"nothing":               {in: actions.Values{}, args: `{}`},
		"text string":           {in: text("string", `a "b" <c>`), args: `{"string":"a \"b\" <c>"}`},
		"text empty string":     {in: text("string", ""), args: `{"string":""}`},
		"text integer":          {in: text("integer", " 42 "), args: `{"integer":42}`},
		"text integer 3.0":      {in: text("integer", "3.0"), args: `{"integer":3}`},
		"text integer +007":     {in: text("integer", "+007"), args: `{"integer":7}`},
		"text integer empty":    {in: text("integer", ""), args: `{}`},
		"text number":           {in: text("number", "-1e-3"), args: `{"number":-1e-3}`},
		"text number .5":        {in: text("number", ".5"), args: `{"number":0.5}`},
		"text boolean":          {in: text("boolean", "True"), args: `{"boolean":true}`},
		"text boolean off":      {in: text("boolean", "off"), args: `{"boolean":false}`},
		"text array JSON":       {in: text("array", "[1, 2]"), args: `{"array":[1, 2]}`},
		"text array repeated":   {in: text("array", "1", "b"), args: `{"array":[1,"b"]}`},
		"text array of one":     {in: text("array", "b"), args: `{"array":["b"]}`},
		"text object":           {in: text("object", `{"a":1}`), args: `{"object":{"a":1}}`},
		"text any JSON":         {in: text("any", "[[1]]"), args: `{"any":[[1]]}`},
		"text any else":         {in: text("any", "hello"), args: `{"any":"hello"}`},
		"json string":           {in: member("string", `"a"`), args: `{"string":"a"}`},
		"json integer":          {in: member("integer", `7`), args: `{"integer":7}`},
		"json integer 3.0":      {in: member("integer", `3.0`), args: `{"integer":3}`},
		"json integer 1e3":      {in: member("integer", `1e3`), args: `{"integer":1000}`},
		"json integer beyond":   {in: member("integer", `123456789012345678901`), args: `{"integer":123456789012345678901}`},
		"json number":           {in: member("number", ` 3.5 `), args: `{"number":3.5}`},
		"json boolean":          {in: member("boolean", `false`), args: `{"boolean":false}`},
		"json array":            {in: member("array", `[]`), args: `{"array":[]}`},
		"json object":           {in: member("object", `{}`), args: `{"object":{}}`},
		"json any":              {in: member("any", `[[1.5,2]]`), args: `{"any":[[1.5,2]]}`},
		"json null":             {in: member("integer", `null`), args: `{}`},
		"raw tensor":            {in: upload(npy), args: `{}`, files: []actions.File{npy}},
		"openwhisk's own":       {in: member("__ow_headers", `{}`), args: `{}`},
		"accept":                {in: text("accept", "image/png"), args: `{}`},
		"upload":                {in: upload(file("a.png", "image/png", "x")), args: `{}`, files: []actions.File{file("a.png", "image/png", "x")}},
		"upload of nothing":     {in: upload(file("", "", "")), args: `{}`},
		"two uploads":           {in: upload(file("a", "", "x"), file("b", "", "y")), args: `{}`, files: []actions.File{file("a", "", "x"), file("b", "", "y")}},
		"upload of JSON":        {in: upload(actions.File{Name: "object", ContentType: "application/json; charset=utf-8", Data: []byte(`{"a":1}`)}), args: `{"object":{"a":1}}`},
		"upload of a JSON file": {in: upload(actions.File{Name: "any", ContentType: "application/json", Data: []byte(`[1]`)}), args: `{"any":[1]}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			args, files, err := full().Bind(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.args, string(args)); diff != "" {
				t.Errorf("args (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.files, files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// TestBindFiles shows the forms of a file in JSON and in texts.
func TestBindFiles(t *testing.T) {
	const bytesWithBoth = "\xfb\xff\xbf\x00" // -_-/ and +/+/ in base64
	tests := map[string]struct {
		in   actions.Values
		want []actions.File
	}{
		"base64":               {member("file", `"aGVsbG8="`), []actions.File{file("", "", "hello")}},
		"not padded":           {member("file", `"aGVsbG8"`), []actions.File{file("", "", "hello")}},
		"empty":                {member("file", `""`), []actions.File{file("", "", "")}},
		"standard alphabet":    {member("file", `"+/+/AA=="`), []actions.File{file("", "", bytesWithBoth)}},
		"URL alphabet":         {member("file", `"-_-_AA"`), []actions.File{file("", "", bytesWithBoth)}},
		"escaped slash":        {member("file", `"+\/+\/AA=="`), []actions.File{file("", "", bytesWithBoth)}},
		"lines":                {member("file", `"aGVs\r\nbG8=\n"`), []actions.File{file("", "", "hello")}},
		"spaces":               {member("file", `"  aGVs bG8 = "`), []actions.File{file("", "", "hello")}},
		"data URI":             {member("file", `"data:image/png;base64,aGVsbG8="`), []actions.File{file("", "image/png", "hello")}},
		"data URI in capitals": {member("file", `"DATA:image/PNG;BASE64,aGVsbG8="`), []actions.File{file("", "image/PNG", "hello")}},
		"data URI parameters":  {member("file", `"data:text/plain;charset=utf-8;base64,aGVsbG8="`), []actions.File{file("", "text/plain;charset=utf-8", "hello")}},
		"data URI charset":     {member("file", `"data:;charset=utf-8,hello"`), []actions.File{file("", "text/plain;charset=utf-8", "hello")}},
		"data URI percent":     {member("file", `"data:,a%20b%2Cc"`), []actions.File{file("", "", "a b,c")}},
		"data URI both":        {member("file", `"data:;base64,aGVsbG8%3D"`), []actions.File{file("", "", "hello")}},
		"object":               {member("file", `{"data": "aGVsbG8=", "filename": "h.\u0074xt", "content_type": "text/plain"}`), []actions.File{file("h.txt", "text/plain", "hello")}},
		"object, name first":   {member("file", ` { "filename" : "h" , "data" : "data:a/b,x" } `), []actions.File{file("h", "a/b", "x")}},
		"array":                {member("file", `[ "aGVsbG8=" , {"data":"aGVsbG8=","filename":"2"} ]`), []actions.File{file("", "", "hello"), file("2", "", "hello")}},
		"empty array":          {member("file", `[]`), nil},
		"text":                 {text("file", "aGVsbG8="), []actions.File{file("", "", "hello")}},
		"text, lost plus":      {text("file", " / /AA=="), []actions.File{file("", "", bytesWithBoth)}},
		"text, plus in URI":    {text("file", "data:;base64,AA A"), []actions.File{file("", "", "\x00\x0f\x80")}},
		"text, percent URI":    {text("file", "data:,a b"), []actions.File{file("", "", "a b")}},
		"texts":                {text("file", "aGVsbG8=", "data:,x"), []actions.File{file("", "", "hello"), file("", "", "x")}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			args, files, err := full().Bind(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if string(args) != "{}" {
				t.Errorf("args: got %s, want {}", args)
			}
			if diff := cmp.Diff(tt.want, files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// TestBindErrors shows what a caller reads about each wrong argument.
func TestBindErrors(t *testing.T) {
	model := full()
	model.Arguments = append(model.Arguments,
		actions.Argument{Name: "mode", Type: actions.TypeString, Choices: []json.RawMessage{raw(`"fast"`), raw(`"good"`)}})
	long := strings.Repeat("é", 100)
	tests := map[string]struct {
		in   actions.Values
		name string
		want string
	}{
		"integer 3.5":        {in: member("integer", "3.5"), want: "must be an integer, not 3.5"},
		"integer text":       {in: text("integer", "three"), want: `must be an integer, not "three"`},
		"integer text 3.5":   {in: text("integer", "3.5"), want: "must be an integer, not 3.5"},
		"integer string":     {in: member("integer", `"3"`), want: `must be an integer, not "3"`},
		"integer too large":  {in: member("integer", "1e300"), want: "is out of range: write 1e300 with all its digits"},
		"number too large":   {in: member("number", "1e999"), want: "is out of range: 1e999"},
		"number inf":         {in: text("number", "inf"), want: `must be a number, not "inf"`},
		"number hexadecimal": {in: text("number", "0x1p-2"), want: `must be a number, not "0x1p-2"`},
		"number twice":       {in: text("number", "1", "2"), want: "must be one value, but is given 2 times"},
		"number boolean":     {in: member("number", "true"), want: "must be a number, not true"},
		"boolean":            {in: text("boolean", "maybe"), want: `must be true or false, not "maybe"`},
		"boolean number":     {in: member("boolean", "1"), want: "must be a boolean, not 1"},
		"string":             {in: member("string", `["a"]`), want: `must be a string, not ["a"]`},
		"string long":        {in: member("string", `[`+strings.Repeat("1,", 100)+`1]`), want: "must be a string, not an array"},
		"string not UTF-8":   {in: text("string", "\xff"), want: "is not valid UTF-8"},
		"array":              {in: member("array", "{}"), want: "must be an array, not {}"},
		"array text":         {in: text("array", "[1,"), want: "is not JSON: unexpected end of JSON input"},
		"object":             {in: member("object", "[]"), want: "must be an object, not []"},
		"object text":        {in: text("object", "a"), want: "is not JSON: invalid character 'a' looking for beginning of value"},
		"object text array":  {in: text("object", "[]"), want: "must be an object, not []"},
		"object upload":      {in: upload(actions.File{Name: "object", Filename: "a"}), want: "must be an object, not a file"},
		"any upload":         {in: upload(actions.File{Name: "any", ContentType: "application/json", Data: []byte("{")}), want: "is not JSON: unexpected end of JSON input"},
		"choice":             {in: text("mode", "slow"), name: "mode", want: `must be one of "fast", "good", not "slow"`},
		"long value":         {in: text("boolean", long), name: "boolean", want: `must be true or false, not "` + long[:60] + `…"`},

		"file number":    {in: member("file", "3"), want: `must be a file: a base64 string, a data: URI or {"data": base64, "filename", "content_type"}, not 3`},
		"file byte":      {in: member("file", `"aGVs*G8="`), want: "is not base64: there is a '*' at offset 4"},
		"file URI byte":  {in: member("file", `"data:;base64,aGVsé"`), want: "is not base64: there is a 'é' at offset 17"},
		"file alphabets": {in: member("file", `"-_+/"`), want: "is not base64: there is a '+' at offset 2"},
		"file padding":   {in: member("file", `"aGVs===="`), want: "is not base64: it ends in 4 padding characters"},
		"file inner pad": {in: member("file", `"aG=VsbG8"`), want: "is not base64: there is a '=' at offset 2"},
		"file length":    {in: member("file", `"aGVsb"`), want: "is not base64: one character is left over after the groups of four"},
		"file URL":       {in: member("file", `"https://example.com/a.png"`), want: "is the text of a URL: give {\"url\": \"https://…\"} to have it fetched, or send the bytes in base64, as a data: URI or as an upload"},
		"file comma":     {in: member("file", `"data:image/png"`), want: `is a data: URI without a comma: "data:image/png"`},
		"file percent":   {in: member("file", `"data:,a%2"`), want: "is a data: URI with a % at offset 7 that two hexadecimal digits do not follow"},
		"file percent g": {in: member("file", `"data:;base64,%4g"`), want: "is a data: URI with a % at offset 13 that two hexadecimal digits do not follow"},
		"file member":    {in: member("file", `{"contents": "a"}`), want: `is an object with the member "contents"; a file has data, filename and content_type`},
		"file data type": {in: member("file", `{"data": 3}`), want: "is an object whose member data must be a string"},
		"file no data":   {in: member("file", `{}`), want: "is an object without the member data, which holds the file in base64"},
		"file in list":   {in: member("file", `["aGVs", 3]`), want: `has a wrong file at index 1, which must be a file: a base64 string, a data: URI or {"data": base64, "filename", "content_type"}, not 3`},
		"file text":      {in: text("file", "aGVs", "!"), want: "has a wrong file at index 1, which is not base64: there is a '!' at offset 0"},

		"unknown":               {in: text("colour", "a"), name: "colour", want: "is unknown: the model takes file, string, integer, number, boolean, array, object, any, mode"},
		"one edit away":         {in: member("fil", "1"), name: "fil", want: `is unknown: the model takes file, string, integer, number, boolean, array, object, any, mode; did you mean "file"?`},
		"too short for a guess": {in: member("n", "1"), name: "n", want: `is unknown: the model takes file, string, integer, number, boolean, array, object, any, mode`},
		"swapped":               {in: member("flie", "1"), name: "flie", want: `is unknown: the model takes file, string, integer, number, boolean, array, object, any, mode; did you mean "file"?`},
		"other case":            {in: upload(actions.File{Name: "FILE"}), name: "FILE", want: `is unknown: the model takes file, string, integer, number, boolean, array, object, any, mode; did you mean "file"?`},
		"one other":             {in: member("modi", "1"), name: "modi", want: `is unknown: the model takes file, string, integer, number, boolean, array, object, any, mode; did you mean "mode"?`},
		"two edits apart":       {in: member("modal", "1"), name: "modal", want: "is unknown: the model takes file, string, integer, number, boolean, array, object, any, mode"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := model.Bind(tt.in)
			e, ok := errors.AsType[*actions.Error](err)
			if !ok || e.Code != actions.Invalid {
				t.Fatalf("got %v, want an Error with the code Invalid", err)
			}
			argument := tt.name
			if argument == "" {
				argument, _, _ = strings.Cut(name, " ")
			}
			if len(tt.in.Files) == 1 && tt.name == "" {
				argument = tt.in.Files[0].Name
			}
			if diff := cmp.Diff(map[string][]string{argument: {tt.want}}, e.Fields); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}
