package rows_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

// answers are what tests write: objects, then other values if they ask for them, of rows with
// columns.
func answers() []rows.Answer {
	row := func(n int64, key, columns string) *rows.Row {
		return &rows.Row{Number: n, Key: json.RawMessage(key), Columns: json.RawMessage(columns)}
	}
	return []rows.Answer{
		{Row: row(0, "0", `{"id":"a","x":1,"key":"k"}`), Data: []byte(`{"label":"cat","scores":{"cat":0.9,"dog":1},"n":1}`)},
		{Row: row(1, "1", `{"id":"b, \"c\"\n","x":2.5}`), Data: []byte("{\n  \"label\": \"\",\n  \"scores\": null\n}\n"), ContentType: "application/json"},
		{Row: row(2, "2", `{"id":null}`), Data: []byte(`{"n":2}`), ContentType: "application/json; charset=utf-8"},
	}
}

// write writes answers and returns the output, and which of them it did not take.
func write(t *testing.T, out actions.BatchOutput, all []rows.Answer) (data string, refused []string) {
	t.Helper()
	s := schema(t, out, all)
	var first string
	for i := range 2 {
		var b bytes.Buffer
		w, err := rows.NewWriter(&b, out, s)
		if err != nil {
			t.Fatal(err)
		}
		refused = nil
		for _, a := range all {
			err := w.Write(a)
			if err != nil && actions.CodeOf(err) != actions.Invalid {
				t.Fatalf("row %d: %v", a.Row.Number, err)
			}
			if err != nil {
				refused = append(refused, fmt.Sprintf("%d %v", a.Row.Number, err))
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, want := w.Rows(), int64(len(all)-len(refused)); got != want {
			t.Errorf("got %d rows, want %d", got, want)
		}
		if i == 0 {
			first = b.String()
		} else if b.String() != first {
			t.Errorf("the same answers: got other bytes, want the same")
		}
	}
	return first, refused
}

// schema infers a schema, and takes it through JSON as the engine does.
func schema(t *testing.T, out actions.BatchOutput, all []rows.Answer) *rows.Schema {
	t.Helper()
	if out.Format != actions.CSV && out.Format != actions.Parquet {
		return nil
	}
	inferred, err := rows.Infer(all[:min(2, len(all))], &actions.Batch{Output: out})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := json.Marshal(inferred)
	if err != nil {
		t.Fatal(err)
	}
	var s rows.Schema
	if err := json.Unmarshal(kept, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func TestWriteLines(t *testing.T) {
	for name, test := range map[string]struct {
		out  actions.BatchOutput
		want string
	}{
		"answers": {want: `{"key":0,"prediction":{"label":"cat","scores":{"cat":0.9,"dog":1},"n":1}}
{"key":1,"prediction":{"label":"","scores":null}}
{"key":2,"prediction":{"n":2}}
`},
		"joined": {out: actions.BatchOutput{Join: []string{"x", "key", "none"}}, want: `{"key":0,"x":1,"input_key":"k","prediction":{"label":"cat","scores":{"cat":0.9,"dog":1},"n":1}}
{"key":1,"x":2.5,"prediction":{"label":"","scores":null}}
{"key":2,"prediction":{"n":2}}
`},
		"all joined, some selected": {out: actions.BatchOutput{Join: []string{"*", "x"}, Select: []string{"n", "scores.dog"}}, want: `{"key":0,"x":1,"id":"a","input_key":"k","prediction":{"n":1,"scores.dog":1}}
{"key":1,"x":2.5,"id":"b, \"c\"\n","prediction":{}}
{"key":2,"id":null,"prediction":{"n":2}}
`},
	} {
		t.Run(name, func(t *testing.T) {
			got, refused := write(t, test.out, answers())
			if diff := cmp.Diff(test.want, got); diff != "" || len(refused) > 0 {
				t.Errorf("refused %q; lines (-want +got):\n%s", refused, diff)
			}
		})
	}
}

func TestWriteOtherAnswers(t *testing.T) {
	all := []rows.Answer{
		{Row: &rows.Row{Number: 0, Key: json.RawMessage(`"a"`)}, Data: []byte("[1,\n2]")},
		{Row: &rows.Row{Number: 1, Key: json.RawMessage(`"b"`)}, Data: []byte("\x89PNG"), ContentType: "image/png", Filename: "x.png"},
		{Row: &rows.Row{Number: 2, Key: json.RawMessage(`"c"`)}, Data: []byte(" \n")},
	}
	for name, test := range map[string]struct {
		out     actions.BatchOutput
		want    string
		refused int
	}{
		"lines": {want: `{"key":"a","prediction":[1,2]}
{"key":"b","prediction":{"content_type":"image/png","filename":"x.png","data":"iVBORw=="}}
`, refused: 1},
		"csv":      {out: actions.BatchOutput{Format: actions.CSV}, want: "key,prediction\na,\"[1,2]\"\nb,\"{\"\"content_type\"\":\"\"image/png\"\",\"\"filename\"\":\"\"x.png\"\",\"\"data\"\":\"\"iVBORw==\"\"}\"\n", refused: 1},
		"selected": {out: actions.BatchOutput{Select: []string{"a"}}, want: "", refused: 3},
	} {
		t.Run(name, func(t *testing.T) {
			got, refused := write(t, test.out, all)
			if diff := cmp.Diff(test.want, got); diff != "" || len(refused) != test.refused {
				t.Errorf("refused %q, want %d; lines (-want +got):\n%s", refused, test.refused, diff)
			}
		})
	}
}

func TestWriteCSV(t *testing.T) {
	for name, test := range map[string]struct {
		out     actions.BatchOutput
		want    string
		refused []string
	}{
		"answers": {want: "key,label,scores,n\n0,cat,\"{\"\"cat\"\":0.9,\"\"dog\"\":1}\",1\n1,\"\",,\n2,,,2\n"},
		"all joined": {
			out:  actions.BatchOutput{Join: []string{"*"}, Select: []string{"scores.dog", "label"}},
			want: "key,id,x,input_key,input_other,scores.dog,label\n0,a,1,k,,1,cat\n1,\"b, \"\"c\"\"\n\",2.5,,,,\"\"\n2,,,,,,\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.out.Format = actions.CSV
			got, refused := write(t, test.out, answers())
			if diff := cmp.Diff(test.want, got); diff != "" || len(refused) > 0 {
				t.Errorf("refused %q; CSV (-want +got):\n%s", refused, diff)
			}
		})
	}
}

// TestMisfits shows that an answer that does not fit the columns is refused, and nothing of it is
// written.
func TestMisfits(t *testing.T) {
	all := answers()
	last := func(data string) []rows.Answer {
		return append(all[:2:2], rows.Answer{Row: all[2].Row, Data: []byte(data)})
	}
	for name, test := range map[string]struct {
		format  string
		data    string
		refused string
	}{
		"another member":        {format: actions.CSV, data: `{"label":"x","other":1}`, refused: `2 the output has no column for "other", which the first rows did not have`},
		"no object":             {format: actions.Parquet, data: `[1]`, refused: "2 the answer is no object, as those to the first rows are, whose members are the columns of the output"},
		"a type that is none":   {format: actions.Parquet, data: `{"label":1}`, refused: `2 the column "label" of the output is of the type string, as the first rows have it, and 1 is none`},
		"a number that is none": {format: actions.Parquet, data: `{"n":1.5}`, refused: `2 the column "n" of the output is of the type integer, as the first rows have it, and 1.5 is none`},
	} {
		t.Run(name, func(t *testing.T) {
			out := actions.BatchOutput{Format: test.format}
			got, refused := write(t, out, last(test.data))
			if len(refused) != 1 || refused[0] != test.refused {
				t.Errorf("got %q, want %q", refused, test.refused)
			}
			if want, _ := write(t, out, all[:2]); got != want {
				t.Errorf("got %q, want it as without the answer, %q", got, want)
			}
		})
	}
}

// TestWriteParquet reads back what was written.
func TestWriteParquet(t *testing.T) {
	out := actions.BatchOutput{Format: actions.Parquet, Join: []string{"id", "x"}}
	data, refused := write(t, out, answers())
	s := open(t, storeOf("s3://b/x.parquet", []byte(data)), actions.BatchInput{URL: "s3://b/x.parquet"})
	all, _ := readAll(t, s, whole())
	want := `0 0 {"key":0,"id":"a","x":"1","label":"cat","scores":{"cat":0.9,"dog":1},"n":1}
1 1 {"key":1,"id":"b, \"c\"\n","x":"2.5","label":"","scores":null,"n":null}
2 2 {"key":2,"id":null,"x":null,"label":null,"scores":null,"n":2}
`
	if diff := cmp.Diff(want, show(all)); diff != "" || len(refused) > 0 {
		t.Errorf("refused %q; rows (-want +got):\n%s", refused, diff)
	}
}

// TestWriteFiles shows what the files of a tar, a zip and objects are called.
func TestWriteFiles(t *testing.T) {
	file := func(n int64, key, contentType, filename string) rows.Answer {
		return rows.Answer{
			Row:  &rows.Row{Number: n, Key: json.RawMessage(key), File: &actions.File{}},
			Data: []byte(`{"n":` + fmt.Sprint(n) + `}`), ContentType: contentType, Filename: filename,
		}
	}
	all := []rows.Answer{
		file(0, `"a/b.png"`, "", ""),
		file(1, `"a/b.png"`, "application/json", ""),
		file(2, `"a/b.PNG"`, "image/png", ""),
		file(3, `"../../etc/passwd"`, "text/plain; charset=utf-8", ""),
		file(4, `"/abs\\x\u0000"`, "image/jpeg", ""),
		file(5, `"."`, "", ""),
		file(6, `"c"`, "application/x-model", "y.tar-x"),
		file(7, `"c"`, "application/x-model", "y.pt"),
		{Row: &rows.Row{Number: 8, Key: json.RawMessage("8")}, Data: []byte("1")},
		{Row: &rows.Row{Number: 9, Key: json.RawMessage(`"k"`)}, Data: []byte("2")},
		file(10, `"`+strings.Repeat("é", 150)+`"`, "", ""),
	}
	want := []string{
		"a/b.png.json", "a/b.png-1.json", "a/b.PNG", "etc/passwd-3.txt", "abs_x_-4.jpg", "row-5.json",
		"c.bin", "c.pt", "8.json", "k.json", strings.Repeat("é", 100) + "-10.json",
	}
	data, _ := write(t, actions.BatchOutput{Format: actions.Tar}, all)
	if diff := cmp.Diff(want, tarNames(t, data)); diff != "" {
		t.Errorf("tar (-want +got):\n%s", diff)
	}
	data, _ = write(t, actions.BatchOutput{Format: actions.Zip}, all)
	if diff := cmp.Diff(want, zipNames(t, data)); diff != "" {
		t.Errorf("zip (-want +got):\n%s", diff)
	}
	want[9] = "k-9.json" // nobody knows the keys of the other parts
	files, err := rows.NewFiles(actions.BatchOutput{Format: actions.Objects}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range all {
		f, err := files.File(a)
		if err != nil || f.Filename != want[i] || !bytes.Equal(f.Data, a.Data) {
			t.Errorf("object %d: got %s with %q, %v, want %s with %q", i, f.Filename, f.Data, err, want[i], a.Data)
		}
	}
}

func tarNames(t *testing.T, data string) (names []string) {
	t.Helper()
	r := tar.NewReader(strings.NewReader(data))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func zipNames(t *testing.T, data string) (names []string) {
	t.Helper()
	r, err := zip.NewReader(strings.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.File {
		if want := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC); !f.Modified.Equal(want) || f.ModifiedDate != 1<<5|1 {
			t.Errorf("%s: got the time %v, day %#x, want %v", f.Name, f.Modified, f.ModifiedDate, want)
		}
		names = append(names, f.Name)
	}
	return names
}

// TestSelectFiles shows that the file of an answer has what is selected of it.
func TestSelectFiles(t *testing.T) {
	files, err := rows.NewFiles(actions.BatchOutput{Format: actions.Objects, Select: []string{"n"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := files.File(answers()[0])
	if err != nil || string(f.Data) != `{"n":1}` {
		t.Errorf("got %q, %v, want the member that was selected", f.Data, err)
	}
}

func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		out  actions.BatchOutput
		want string
	}{
		"a format that is none": {out: actions.BatchOutput{Format: "xml"}, want: "output.format is \"xml\", but the formats are ndjson, csv, parquet, tar, zip and objects"},
		"joined files":          {out: actions.BatchOutput{Format: actions.Zip, Join: []string{"*"}}, want: "output.join is for outputs of rows; each answer of zip is a file"},
		"no name":               {out: actions.BatchOutput{Select: []string{""}}, want: "output names a column without a name"},
	} {
		if err := rows.Check(test.out); err == nil || err.Error() != test.want || actions.CodeOf(err) != actions.Invalid {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
	for _, format := range []string{"", actions.NDJSON, actions.CSV, actions.Parquet, actions.Tar, actions.Zip, actions.Objects} {
		if err := rows.Check(actions.BatchOutput{Format: format}); err != nil {
			t.Errorf("%q: got %v, want no error", format, err)
		}
	}
}

func TestInfer(t *testing.T) {
	row := &rows.Row{Key: json.RawMessage("0"), Columns: json.RawMessage(`{"label":1,"":2}`)}
	for name, test := range map[string]struct {
		data []string
		key  string
		out  actions.BatchOutput
		want string
	}{
		"types":         {data: []string{`{"a":1,"b":1,"c":true,"d":"x","e":null,"f":[1]}`, `{"a":2,"b":1.5,"c":1,"d":null,"g":1e3}`}, want: `key:integer a:integer b:number c:json d:string e:json f:json g:number`},
		"values":        {data: []string{`1`, `2.5`}, want: "key:integer prediction:number"},
		"mixed":         {data: []string{`{"a":1}`, `2`}, want: "key:integer prediction:json"},
		"empty objects": {data: []string{`{}`}, want: "key:integer prediction:json"},
		"names that are": {
			data: []string{`{"key":1,"label":2,"prediction_key":3,"":4,"prediction_":5}`}, out: actions.BatchOutput{Join: []string{"*"}},
			want: "key:integer label:text input_:text input_other:json prediction_key:integer prediction_label:integer prediction_prediction_key:integer prediction_:integer prediction_prediction_:integer",
		},
		"selected":       {data: []string{`{"a":1}`}, out: actions.BatchOutput{Select: []string{"b.c", "a"}}, want: "key:integer b.c:json a:integer"},
		"a column":       {data: []string{`1`}, key: "label", out: actions.BatchOutput{Join: []string{"none", "label"}}, want: "key:text none:text label:text prediction:integer"},
		"a whole number": {data: []string{`9007199254740993`, `0.5`, `7`}, want: "key:integer prediction:json"},
		"long ones":      {data: []string{`9007199254740993`, `7`, `-9223372036854775808`}, want: "key:integer prediction:integer"},
	} {
		t.Run(name, func(t *testing.T) {
			var all []rows.Answer
			for _, data := range test.data {
				all = append(all, rows.Answer{Row: row, Data: []byte(data)})
			}
			s, err := rows.Infer(all, &actions.Batch{Input: actions.BatchInput{Key: test.key}, Output: test.out})
			if err != nil {
				t.Fatal(err)
			}
			kept, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			var columns []struct{ Name, Type string }
			if err := json.Unmarshal(kept, &columns); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range columns {
				got = append(got, c.Name+":"+c.Type)
			}
			if diff := cmp.Diff(test.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("columns (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := rows.Infer(nil, &actions.Batch{Output: actions.BatchOutput{Format: actions.CSV}}); actions.CodeOf(err) != actions.Invalid {
		t.Errorf("of no answers: got %v, want Invalid", err)
	}
}

func TestAppendError(t *testing.T) {
	r := &rows.Row{Number: 7, Key: json.RawMessage(`"a"`)}
	got := string(rows.AppendError(nil, r, actions.Errorf(actions.Invalid, "a \"quote\"\nand <more>")))
	if want := `{"row":7,"key":"a","code":"invalid","error":"a \"quote\"\nand <more>"}` + "\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestWriteErrors shows that a writer says when what it writes to fails.
func TestWriteErrors(t *testing.T) {
	for _, format := range []string{actions.NDJSON, actions.CSV, actions.Parquet, actions.Tar, actions.Zip} {
		out := actions.BatchOutput{Format: format}
		w, err := rows.NewWriter(full{}, out, schema(t, out, answers()))
		if err != nil {
			t.Fatal(err)
		}
		err = w.Write(answers()[0])
		if err == nil {
			err = w.Close()
		}
		if !errors.Is(err, errFull) {
			t.Errorf("%s: got %v, want %v", format, err, errFull)
		}
	}
}

var errFull = errors.New("no space left on device")

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }
