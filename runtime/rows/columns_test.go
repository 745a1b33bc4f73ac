package rows_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

// TestTexts has columns whose cells are texts, whatever they look like: those that somebody has
// named, and those that a model has.
func TestTexts(t *testing.T) {
	const data = "id,a,b\n1,hello,1\n2,123,2\n3,true,3\n4,1.50,4\n5,1e400,5\n6,,\n7,-0,\n8,007,\n9,\"\",\n"
	guessed := []string{
		`0 0 {"id":1,"a":"hello","b":1}`, `1 1 {"id":2,"a":123,"b":2}`, `2 2 {"id":3,"a":true,"b":3}`, `3 3 {"id":4,"a":1.50,"b":4}`,
		`4 4 {"id":5,"a":1e400,"b":5}`, `5 5 {"id":6}`, `6 6 {"id":7,"a":-0}`, `7 7 {"id":8,"a":"007"}`, `8 8 {"id":9}`,
	}
	texts := []string{
		`0 0 {"id":1,"a":"hello","b":1}`, `1 1 {"id":2,"a":"123","b":2}`, `2 2 {"id":3,"a":"true","b":3}`, `3 3 {"id":4,"a":"1.50","b":4}`,
		`4 4 {"id":5,"a":"1e400","b":5}`, `5 5 {"id":6,"a":""}`, `6 6 {"id":7,"a":"-0"}`, `7 7 {"id":8,"a":"007"}`, `8 8 {"id":9,"a":""}`,
	}
	absent := append(append([]string{}, texts[:5]...), `5 5 {"id":6}`, texts[6], texts[7], `8 8 {"id":9}`)
	for name, test := range map[string]struct {
		text  []string
		model map[string]bool
		want  []string
	}{
		"nobody says anything":      {want: guessed},
		"named":                     {text: []string{"a"}, want: texts},
		"the model's":               {model: map[string]bool{"a": true, "none": true}, want: texts},
		"the model's, may be none":  {model: map[string]bool{"a": false}, want: absent},
		"named, and may be none":    {text: []string{"a"}, model: map[string]bool{"a": false}, want: texts},
		"columns that are not here": {model: map[string]bool{"c": true}, want: guessed},
	} {
		t.Run(name, func(t *testing.T) {
			in := actions.BatchInput{URL: "s3://b/x.csv", Text: test.text}
			for _, limit := range []rows.Limit{whole(), {Rows: 2, Bytes: 1 << 20}} {
				s := open(t, storeOf(in.URL, []byte(data)), in)
				if err := s.Expect(&actions.Batch{Input: in}, test.model); err != nil {
					t.Fatal(err)
				}
				all, parts := readAll(t, s, limit)
				if diff := cmp.Diff(strings.Join(test.want, "\n")+"\n", show(all)); diff != "" {
					t.Errorf("rows (-want +got):\n%s", diff)
				}
				if len(parts) < 2 {
					continue
				}
				// Who comes later reads the same.
				s = open(t, storeOf(in.URL, []byte(data)), in)
				_ = s.Expect(&actions.Batch{Input: in}, test.model) // as above
				part, err := s.Read(t.Context(), parts[1].Next, 4, limit)
				if err != nil || show(part.Rows) != strings.Join(test.want[4:6], "\n")+"\n" {
					t.Errorf("from the middle on: got %q, %v, want rows 4 and 5", show(part.Rows), err)
				}
			}
		})
	}
}

func TestTextsAreKeys(t *testing.T) {
	in := actions.BatchInput{URL: "s3://b/x.csv", Key: "id", Text: []string{"id"}}
	all, _ := readAll(t, open(t, storeOf(in.URL, []byte("id,a\n12,1\n,2\n")), in), whole())
	if diff := cmp.Diff("0 \"12\" {\"id\":\"12\",\"a\":1}\n1 \"\" {\"id\":\"\",\"a\":2}\n", show(all)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestTextIsForCSV(t *testing.T) {
	for name, in := range map[string]actions.BatchInput{
		"told by the format": {URL: "s3://b/x", Format: actions.Parquet, Text: []string{"a"}},
		"told by the name":   {URL: "s3://b/x.ndjson", Text: []string{"a"}},
		"without a name":     {URL: "s3://b/x.csv", Text: []string{""}},
	} {
		_, err := rows.Open(t.Context(), storeOf(in.URL, nil), in)
		if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), "input.text") {
			t.Errorf("%s: got %v, want Invalid of input.text", name, err)
		}
	}
}

// nested is a row of Parquet with what paths lead into.
type nested struct {
	ID   int64            `parquet:"id"`
	JSON string           `parquet:"json,json"`
	List []string         `parquet:"list,list"`
	Map  map[string]int64 `parquet:"map"`
	User struct {
		Age  int64   `parquet:"age"`
		Tags []int64 `parquet:"tags,list"`
	} `parquet:"user"`
}

func parquetOfNested(tb testing.TB) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[nested](&b)
	_, err := w.Write([]nested{{ID: 1, JSON: "{}"}})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// TestMisspelt has columns that an input does not have, which would be absent from each row.
func TestMisspelt(t *testing.T) {
	inputs := map[string]struct {
		data    []byte
		columns string
	}{
		"x.csv":     {data: []byte("id,a.b,c\n1,2,3\n"), columns: "id, a.b, c"},
		"x.parquet": {data: parquetOfNested(t), columns: "id, json, list, map, user"},
		"x.ndjson":  {data: []byte("{}\n")},
	}
	of := func(argument, column string) actions.Batch {
		return actions.Batch{Map: map[string]string{argument: column}}
	}
	with := func(columns ...string) actions.Batch {
		return actions.Batch{Output: actions.BatchOutput{Join: columns}}
	}
	for name, test := range map[string]struct {
		object string
		batch  actions.Batch
		want   string // before the columns that there are; empty for no error
	}{
		"csv, map":                   {object: "x.csv", batch: of("v", "nope"), want: `map gives v the column "nope"`},
		"csv, map, there":            {object: "x.csv", batch: of("v", "a.b")},
		"csv, a path":                {object: "x.csv", batch: of("v", "id.b"), want: `map gives v the column "id.b"`},
		"csv, join":                  {object: "x.csv", batch: with("id", "nope"), want: `output.join is "nope"`},
		"csv, join, there":           {object: "x.csv", batch: with("*", "c")},
		"parquet, map":               {object: "x.parquet", batch: of("v", "nope"), want: `map gives v the column "nope"`},
		"parquet, a path":            {object: "x.parquet", batch: of("v", "user.name"), want: `map gives v the column "user.name"`},
		"parquet, a path into none":  {object: "x.parquet", batch: of("v", "id.x"), want: `map gives v the column "id.x"`},
		"parquet, join":              {object: "x.parquet", batch: with("user.nope"), want: `output.join is "user.nope"`},
		"parquet, key":               {object: "x.parquet", batch: actions.Batch{Input: actions.BatchInput{Key: "nope"}}, want: `input.key is "nope"`},
		"parquet, paths":             {object: "x.parquet", batch: with("user.age", "user.tags.0", "list.1", "map.k", "json.a.b", "user", "*")},
		"ndjson, known row by row":   {object: "x.ndjson", batch: of("v", "nope")},
		"ndjson, joined, row by row": {object: "x.ndjson", batch: with("nope")},
	} {
		t.Run(name, func(t *testing.T) {
			input := inputs[test.object]
			in := test.batch.Input
			in.URL = "s3://b/" + test.object
			s, err := rows.Open(t.Context(), storeOf(in.URL, input.data), in)
			if err == nil {
				if err = s.Expect(&test.batch, nil); err == nil {
					_, err = s.Read(t.Context(), nil, 0, whole())
				}
				_ = s.Close() // it was only read
			}
			want := test.want
			if want != "" {
				want += ", but the columns of " + in.URL + " are " + input.columns
			}
			if test.want == "" && err != nil || test.want != "" && (actions.CodeOf(err) != actions.Invalid || err.Error() != want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

func TestMisspeltOfFiles(t *testing.T) {
	s := open(t, storeOf("s3://b/in/a.png", []byte("PNG")), actions.BatchInput{URL: "s3://b/in/"})
	for name, test := range map[string]struct {
		batch actions.Batch
		want  string
	}{
		"there": {batch: actions.Batch{Map: map[string]string{"a": "file", "b": "name", "c": "key"}, Output: actions.BatchOutput{Join: []string{"*", "name", "key"}}}},
		"map":   {batch: actions.Batch{Map: map[string]string{"a": "nope"}}, want: `map gives a the column "nope", but the columns of a file are file, name and key`},
		"join":  {batch: actions.Batch{Output: actions.BatchOutput{Join: []string{"file"}}}, want: `output.join is "file", but the columns of a file are name and key`},
	} {
		err := s.Expect(&test.batch, nil)
		if test.want == "" && err != nil || test.want != "" && (actions.CodeOf(err) != actions.Invalid || err.Error() != test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestUnselected(t *testing.T) {
	out := actions.BatchOutput{Select: []string{"label", "scores.cat", "nope"}}
	of := func(contentType string, answers ...string) (all []rows.Answer) {
		for _, a := range answers {
			all = append(all, rows.Answer{Data: []byte(a), ContentType: contentType})
		}
		return all
	}
	for name, test := range map[string]struct {
		answers        []rows.Answer
		missing, there []string
	}{
		"one":        {answers: of("", `{"label":1}`, ` {"scores":{"cat":null}}`), missing: []string{"nope"}, there: []string{"label"}},
		"all":        {answers: of("application/json", "[1]", `{"x":{"nope":1},"y":2}`), missing: out.Select, there: []string{"x", "y"}},
		"none":       {answers: of("", `{"label":1}`, `{"scores":{"cat":2}}`, `{"nope":3}`)},
		"no objects": {answers: of("", "1", "")},
		"no JSON":    {answers: of("image/png", "{}")},
		"no answers": {},
		"empty ones": {answers: of("", "{}"), missing: out.Select},
	} {
		missing, there := rows.Unselected(out, test.answers)
		if !cmp.Equal(missing, test.missing) || !cmp.Equal(there, test.there) {
			t.Errorf("%s: got %q of %q, want %q of %q", name, missing, there, test.missing, test.there)
		}
	}
}
