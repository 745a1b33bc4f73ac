package rows_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

// echo answers rows with an answer, or, where it is empty, with their columns.
func echo(all []rows.Row, answer string) (answers []rows.Answer) {
	for i := range all {
		data := []byte(answer)
		if answer == "" {
			data = all[i].Columns
		}
		answers = append(answers, rows.Answer{Row: &all[i], Data: data})
	}
	return answers
}

// table writes answers, whose columns the first two tell, and returns the rows of the output, and
// which answers it did not take. Parquet it reads back.
func table(t *testing.T, b *actions.Batch, all []rows.Answer) (data string, refused []string) {
	t.Helper()
	s, err := rows.Infer(all[:min(2, len(all))], b)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := rows.NewWriter(&out, b.Output, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if err := w.Write(a); err != nil {
			refused = append(refused, err.Error())
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Output.Format != actions.Parquet {
		return out.String(), refused
	}
	return string(linesOf(readParquet(t, out.Bytes()))), refused
}

// readParquet reads rows back from Parquet.
func readParquet(t *testing.T, data []byte) []rows.Row {
	t.Helper()
	in := actions.BatchInput{URL: "s3://b/back.parquet"}
	all, _ := readAll(t, open(t, storeOf(in.URL, data), in), whole())
	return all
}

func linesOf(all []rows.Row) (lines []byte) {
	for _, r := range all {
		lines = append(append(lines, r.Columns...), '\n')
	}
	return lines
}

// TestKeysCostNothing shows that no row is lost because of its key or what is joined, whatever the
// first rows had, and that no two keys become the same.
func TestKeysCostNothing(t *testing.T) {
	const (
		cells = "id,price,note\n1,1,\n2,2,\na3,3.5,\n007,,late\n1.1,5,\n1.10,true,\n-0,0,\n"
		lines = `{"id":1,"price":1}
{"id":9007199254740993,"price":2}
{"id":18446744073709551615,"price":"x"}
{"id":18446744073709551614,"price":[1]}
{"id":"a","price":null,"late":7,"later":"y"}
{"id":null,"price":0.5}
`
	)
	for name, test := range map[string]struct {
		input, format string
		join          []string
		want          string
	}{
		"csv to parquet": {input: cells, format: actions.Parquet, join: []string{"*"}, want: `{"key":"1","id":"1","price":"1","note":null,"prediction":true}
{"key":"2","id":"2","price":"2","note":null,"prediction":true}
{"key":"a3","id":"a3","price":"3.5","note":null,"prediction":true}
{"key":"007","id":"007","price":null,"note":"late","prediction":true}
{"key":"1.1","id":"1.1","price":"5","note":null,"prediction":true}
{"key":"1.10","id":"1.10","price":"true","note":null,"prediction":true}
{"key":"-0","id":"-0","price":"0","note":null,"prediction":true}
`},
		"csv to csv": {
			input: cells, format: actions.CSV, join: []string{"note", "*"},
			want: "key,note,id,price,prediction\n1,,1,1,true\n2,,2,2,true\na3,,a3,3.5,true\n007,late,007,,true\n1.1,,1.1,5,true\n1.10,,1.10,true,true\n-0,,-0,0,true\n",
		},
		"csv to ndjson": {input: cells, format: actions.NDJSON, want: `{"key":1,"prediction":true}
{"key":2,"prediction":true}
{"key":"a3","prediction":true}
{"key":"007","prediction":true}
{"key":"1.1","prediction":true}
{"key":"1.10","prediction":true}
{"key":"-0","prediction":true}
`},
		"ndjson to parquet": {input: lines, format: actions.Parquet, join: []string{"*"}, want: `{"key":"1","id":"1","price":"1","input_other":null,"prediction":true}
{"key":"9007199254740993","id":"9007199254740993","price":"2","input_other":null,"prediction":true}
{"key":"18446744073709551615","id":"18446744073709551615","price":"x","input_other":null,"prediction":true}
{"key":"18446744073709551614","id":"18446744073709551614","price":"[1]","input_other":null,"prediction":true}
{"key":"a","id":"a","price":null,"input_other":{"late":7,"later":"y"},"prediction":true}
{"key":null,"id":null,"price":"0.5","input_other":null,"prediction":true}
`},
		"ndjson, joined by name": {
			input: lines, format: actions.CSV, join: []string{"late"},
			want: "key,late,prediction\n1,,true\n9007199254740993,,true\n18446744073709551615,,true\n18446744073709551614,,true\na,7,true\n,,true\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			extension, _, _ := strings.Cut(name, " ")
			b := &actions.Batch{
				Input:  actions.BatchInput{URL: "s3://b/x." + strings.TrimSuffix(extension, ","), Key: "id"},
				Output: actions.BatchOutput{Format: test.format, Join: test.join},
			}
			all, _ := readAll(t, open(t, storeOf(b.Input.URL, []byte(test.input)), b.Input), whole())
			got, refused := table(t, b, echo(all, "true"))
			if diff := cmp.Diff(test.want, got); diff != "" || len(refused) > 0 {
				t.Errorf("refused %q; output (-want +got):\n%s", refused, diff)
			}
		})
	}
}

// TestOtherObjects shows that columns which only later objects of an input have cost no row.
func TestOtherObjects(t *testing.T) {
	store := &memory{objects: map[string][]byte{"s3://b/p/1.csv": []byte("a\n1\n2\n"), "s3://b/p/2.csv": []byte("a,b\n3,4\n")}}
	b := &actions.Batch{Input: actions.BatchInput{URL: "s3://b/p/"}, Output: actions.BatchOutput{Format: actions.CSV, Join: []string{"*"}}}
	all, _ := readAll(t, open(t, store, b.Input), whole())
	got, refused := table(t, b, echo(all, "true"))
	if want := "key,a,input_other,prediction\n0,1,,true\n1,2,,true\n2,3,\"{\"\"b\"\":4}\",true\n"; got != want || len(refused) > 0 {
		t.Errorf("got %q, refused %q, want %q", got, refused, want)
	}
}

// TestNumbers shows that Parquet has a number as it was, or as JSON, or not at all.
func TestNumbers(t *testing.T) {
	const (
		isInteger = "column \"n\" of the output is of the type integer"
		isNumber  = "column \"n\" of the output is of the type number (a float of 64 bits), as the first rows have it, and 9007199254740993 is none"
	)
	for name, test := range map[string]struct {
		values  string
		want    string
		refused string
	}{
		"over 64 bits":             {values: "18446744073709551615 18446744073709551614 1", want: "18446744073709551615 18446744073709551614 1"},
		"over 64 bits and a float": {values: "18446744073709551617 0.5", want: "18446744073709551617 0.5"},
		"a long one and a float":   {values: "9007199254740993 0.5", want: "9007199254740993 0.5"},
		"a float and a long one":   {values: "0.5 9007199254740993", want: "0.5 9007199254740993"},
		"a long one later":         {values: "0.5 1 9007199254740993 9007199254740992", want: "0.5 1.0 9.007199254740992e+15", refused: isNumber},
		"whole ones":               {values: "1 9007199254740993 9223372036854775807 -9223372036854775808", want: "1 9007199254740993 9223372036854775807 -9223372036854775808"},
		"over 64 bits later":       {values: "1 2 9223372036854775808", want: "1 2", refused: isInteger},
		"floats in full":           {values: "0.1 0.10000000000000001 0.1000000000000000055511151231257827 1e-7 5e-324 -0.0 2.50", want: "0.1 0.1 0.1 1e-07 5e-324 -0.0 2.5"},
		"more than a float holds":  {values: "0.12345678901234567890 1", want: "0.12345678901234567890 1"},
		"a whole one as a float":   {values: "9007199254740993.0 1e0", want: "9007199254740993.0 1e0"},
		"a power of ten":           {values: "1e30 1.5", want: "1e+30 1.5"},
		"a power of ten, in full":  {values: "1000000000000000000000000000000 1.5", want: "1000000000000000000000000000000 1.5"},
		"too large and too small":  {values: "1e999 1e-999 1", want: "1e999 1e-999 1"},
		"a power of two":           {values: "18446744073709551616 0.5", want: "1.8446744073709552e+19 0.5"},
	} {
		t.Run(name, func(t *testing.T) {
			var all []rows.Answer
			want := ""
			for value := range strings.FieldsSeq(test.values) {
				all = append(all, rows.Answer{Row: &rows.Row{Key: json.RawMessage("0")}, Data: []byte(`{"n":` + value + `}`)})
			}
			for value := range strings.FieldsSeq(test.want) {
				want += `{"key":0,"n":` + value + "}\n"
			}
			got, refused := table(t, &actions.Batch{Output: actions.BatchOutput{Format: actions.Parquet}}, all)
			if diff := cmp.Diff(want, got); diff != "" || !strings.Contains(strings.Join(refused, "\n"), test.refused) || len(refused) > 0 != (test.refused != "") {
				t.Errorf("refused %q, want %q; rows (-want +got):\n%s", refused, test.refused, diff)
			}
		})
	}
}

// TestMemberWithoutName shows that a member called "" is one as any other.
func TestMemberWithoutName(t *testing.T) {
	answer := func(data string) rows.Answer {
		return rows.Answer{Row: &rows.Row{Key: json.RawMessage("0"), Columns: json.RawMessage(`{"":"in","input_":2}`)}, Data: []byte(data)}
	}
	all := []rows.Answer{answer(`{"ratio":1,"":"e"}`), answer(`{"prediction_":2,"prediction":3}`)}
	for format, want := range map[string]string{
		actions.Parquet: `{"key":0,"input_":"in","input_input_":"2","input_other":null,"ratio":1,"prediction_":"e","prediction_prediction_":null,"prediction":null}
{"key":0,"input_":"in","input_input_":"2","input_other":null,"ratio":null,"prediction_":null,"prediction_prediction_":2,"prediction":3}
`,
		actions.CSV: "key,input_,input_input_,input_other,ratio,prediction_,prediction_prediction_,prediction\n0,in,2,,1,e,,\n0,in,2,,,,2,3\n",
	} {
		got, refused := table(t, &actions.Batch{Output: actions.BatchOutput{Format: format, Join: []string{"*"}}}, all)
		if diff := cmp.Diff(want, got); diff != "" || len(refused) > 0 {
			t.Errorf("%s: refused %q; output (-want +got):\n%s", format, refused, diff)
		}
		late := []rows.Answer{answer(`{"ratio":1}`), answer(`{}`), answer(`{"":2}`)}
		_, refused = table(t, &actions.Batch{Output: actions.BatchOutput{Format: format}}, late)
		if len(refused) != 1 || !strings.Contains(refused[0], `no column for ""`) {
			t.Errorf("%s: a member without a name that came later: refused %q, want that there is no column for it", format, refused)
		}
	}
}
