package actions_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

func ocr() actions.Model {
	return actions.Model{Name: "ocr", Runtime: "onnx", Arguments: []actions.Argument{
		{Name: "image", Type: actions.TypeFile, Required: true},
		{Name: "language", Type: actions.TypeString, Default: raw(`"en"`), Choices: []json.RawMessage{raw(`"en"`), raw(`"de"`)}},
		{Name: "top", Type: actions.TypeInteger, Default: raw("1")},
	}}
}

func ExampleModel_Bind() {
	args, files, err := ocr().Bind(actions.Values{
		Text: map[string][]string{"top": {"3"}}, // a query: ?top=3
		JSON: map[string]json.RawMessage{"image": json.RawMessage(`"data:image/png;base64,iVBORw0="`)},
	})
	fmt.Printf("%s %s %q %v\n", args, files[0].ContentType, files[0].Data, err)

	_, _, err = ocr().Bind(actions.Values{Text: map[string][]string{"top": {"many"}, "lang": {"de"}}})
	fmt.Println(err)
	// Output:
	// {"language":"en","top":3} image/png "\x89PNG\r" <nil>
	// ocr: image is required; top must be an integer, not "many"; "lang" is unknown: the model takes image, language, top
}

// TestBindPrecedence shows that texts win over uploads and uploads over JSON, argument
// by argument, and that a default is used when none of them has a value.
func TestBindPrecedence(t *testing.T) {
	all := actions.Values{
		Text:  map[string][]string{"image": {"dGV4dA=="}, "language": {"de"}},
		Files: []actions.File{{Name: "image", Filename: "a", Data: []byte("file")}},
		JSON:  map[string]json.RawMessage{"image": raw(`"anNvbg=="`), "language": raw(`"en"`), "top": raw("5")},
	}
	noText := actions.Values{Text: map[string][]string{"image": {""}, "top": {" "}}, Files: all.Files, JSON: all.JSON}
	tests := map[string]struct {
		in   actions.Values
		args string
		data string
	}{
		"text":    {all, `{"language":"de","top":5}`, "text"},
		"upload":  {noText, `{"language":"en","top":5}`, "file"},
		"json":    {actions.Values{JSON: all.JSON}, `{"language":"en","top":5}`, "json"},
		"default": {member("image", `"anNvbg=="`), `{"language":"en","top":1}`, "json"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			args, files, err := ocr().Bind(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if string(args) != tt.args || len(files) != 1 || string(files[0].Data) != tt.data {
				t.Errorf("got %s and %q, want %s and %q", args, files, tt.args, tt.data)
			}
		})
	}
}

// TestBindAllProblems shows one error for everything that is wrong.
func TestBindAllProblems(t *testing.T) {
	in := actions.Values{
		Text: map[string][]string{"top": {"x"}},
		JSON: map[string]json.RawMessage{"language": raw(`"fr"`), "image": raw("null"), "zoom": raw("1")},
	}
	_, _, err := ocr().Bind(in)
	e, ok := errors.AsType[*actions.Error](err)
	if !ok {
		t.Fatalf("got %v, want an Error", err)
	}
	want := &actions.Error{
		Code: actions.Invalid,
		Msg:  `ocr: image is required; language must be one of "en", "de", not "fr"; top must be an integer, not "x"; "zoom" is unknown: the model takes image, language, top`,
		Fields: map[string][]string{
			"image":    {"is required"},
			"language": {`must be one of "en", "de", not "fr"`},
			"top":      {`must be an integer, not "x"`},
			"zoom":     {"is unknown: the model takes image, language, top"},
		},
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestBindManyUnknown bounds an error whose length the caller decides.
func TestBindManyUnknown(t *testing.T) {
	in := actions.Values{JSON: map[string]json.RawMessage{}}
	for i := range 1000 {
		in.JSON[fmt.Sprintf("x%d%s", i, strings.Repeat("y", 1000))] = raw("1")
	}
	_, _, err := actions.Model{Name: "none"}.Bind(in)
	e, ok := errors.AsType[*actions.Error](err)
	if !ok || len(e.Fields) != 20 || len(e.Msg) > 4000 || !strings.HasSuffix(e.Msg, "and 980 more unknown arguments") {
		t.Errorf("got %d fields and %q, want 20 and the number of the others", len(e.Fields), e.Msg)
	}
}

// TestBindDeclaredNames shows that a model may have an argument of a reserved name.
func TestBindDeclaredNames(t *testing.T) {
	m := actions.Model{Name: "m", Arguments: []actions.Argument{
		{Name: "accept", Type: actions.TypeBoolean}, {Name: "__ow_path", Type: actions.TypeString},
	}}
	args, _, err := m.Bind(actions.Values{Text: map[string][]string{"accept": {"yes"}, "__ow_path": {"/a"}}})
	if want := `{"accept":true,"__ow_path":"/a"}`; err != nil || string(args) != want {
		t.Errorf("got %s, %v, want %s", args, err, want)
	}
}

// TestBindLeavesValues shows that the caller's values are the same afterwards.
func TestBindLeavesValues(t *testing.T) {
	texts := []string{" 3 "}
	if _, _, err := full().Bind(text("integer", texts...)); err != nil || texts[0] != " 3 " {
		t.Errorf("got %q, %v, want the text as it was", texts, err)
	}
	in := []byte(`"YWJj"`)
	_, files, err := full().Bind(actions.Values{JSON: map[string]json.RawMessage{"file": in}})
	if err != nil {
		t.Fatal(err)
	}
	clear(in)
	if string(files[0].Data) != "abc" {
		t.Errorf("got %q, want a file of its own", files[0].Data)
	}
}

// FuzzBind throws texts and JSON at every type: it never panics, what it takes makes
// valid JSON, and what it refuses it explains.
func FuzzBind(f *testing.F) {
	for _, s := range []string{
		`null`, `3.0`, `-1e999`, `"a"`, `[]`, `{}`, `"data:a/b;base64,AA=="`, `data:,%41`, `{"data":"AA=="}`,
		`["AA==",{"data":"AA==","filename":"\u0041"}]`, `{"data"`, `{"data":"A`, `["`, `"\`, ` `, `=`, `{"data":"AA==",`,
	} {
		f.Add(s, []byte(s))
	}
	f.Fuzz(func(t *testing.T, s string, value []byte) {
		for _, a := range full().Arguments {
			ins := []actions.Values{text(a.Name, s), text(a.Name, s, s), upload(actions.File{Name: a.Name, ContentType: "application/json", Data: value})}
			ins = append(ins, member(a.Name, string(value))) // also what is not JSON must not panic
			for i, in := range ins {
				args, _, err := full().Bind(in)
				if err == nil && !json.Valid(args) && (i < 3 || json.Valid(value)) {
					t.Errorf("%s: got %q, want JSON", a.Name, args)
				}
				if err != nil && actions.CodeOf(err) != actions.Invalid {
					t.Errorf("%s: got %v, want Invalid", a.Name, err)
				}
			}
		}
	})
}

// FuzzBindFile decodes what encoders of all kinds make of the same bytes.
func FuzzBindFile(f *testing.F) {
	f.Add([]byte("hello"), "a.png", "image/png")
	f.Add([]byte("\xfb\xff\xbf\x00"), "", "")
	f.Fuzz(func(t *testing.T, data []byte, filename, contentType string) {
		std := base64.StdEncoding.EncodeToString(data)
		ins := []actions.Values{text("file", "data:;base64,"+std), text("file", strings.ReplaceAll("data:;base64,"+std, "+", " "))}
		forms := []string{std, base64.URLEncoding.EncodeToString(data), base64.RawStdEncoding.EncodeToString(data), base64.RawURLEncoding.EncodeToString(data)}
		forms = append(forms, strings.Join(strings.SplitAfter(std, ""), "\n"), percent(data))
		for _, s := range forms {
			quoted, _ := json.Marshal(s)
			object, _ := json.Marshal(map[string]string{"data": s, "filename": filename, "content_type": contentType})
			ins = append(ins, member("file", string(quoted)), member("file", string(object)), member("file", "["+string(quoted)+"]"))
		}
		for _, in := range ins {
			_, files, err := full().Bind(in)
			if err != nil || len(files) != 1 || !bytes.Equal(files[0].Data, data) {
				t.Fatalf("%q: got %q, %v, want %q", in, files, err, data)
			}
		}
	})
}

// percent is a data: URI with every byte escaped.
func percent(data []byte) string {
	s := "data:,"
	for _, b := range data {
		s += fmt.Sprintf("%%%02x", b)
	}
	return s
}

// BenchmarkBindFile decodes a file in JSON, in its forms.
func BenchmarkBindFile(b *testing.B) {
	for _, size := range []int{1 << 20, 10 << 20} {
		std := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("\xfb\xff\xbf\x00photo"), size/9))
		forms := map[string]string{
			"string":  `"` + std + `"`,
			"escaped": `"` + strings.ReplaceAll(std, "/", `\/`) + `"`,
			"uri":     `"data:image/png;base64,` + std + `"`,
			"object":  `{"filename": "a.png", "data": "` + std + `"}`,
		}
		for _, form := range []string{"string", "escaped", "uri", "object"} {
			b.Run(fmt.Sprintf("%s/%dMiB", form, size>>20), func(b *testing.B) {
				in := member("file", forms[form])
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := full().Bind(in); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
