package rows_test

import (
	"bytes"
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
	"github.com/deepfn/deepfn/runtime/rows"
)

// someNames are names that outputs have a place of their own for, and "".
func someNames() []string {
	return []string{"", "a", "b", "key", "prediction", "prediction_", "input_", "input_key", "input_other", "ä\"\n"}
}

// someValues are values of all types, and numbers that a float does not hold.
func someValues() []string {
	return []string{
		`null`, `true`, `false`, `""`, `"x"`, `"1"`, `"\u00e4\n"`, `[1,"x"]`, `{"":1}`,
		`0`, `-0`, `1`, `-7`, `0.5`, `1e0`, `1.10`, `0.1`, `1e400`, `9007199254740992`, `9007199254740993`,
		`9223372036854775807`, `9223372036854775808`, `18446744073709551615`, `0.12345678901234567890`,
	}
}

// randomObject is a JSON object of some of the names, each once, with values of a few.
func randomObject(r *rand.Rand, values []string) json.RawMessage {
	b := []byte{'{'}
	names := someNames()
	for _, i := range r.Perm(len(names))[:r.IntN(5)] {
		if len(b) > 1 {
			b = append(b, ',')
		}
		name, _ := json.Marshal(names[i])
		b = append(append(b, name...), ':')
		b = append(b, values[r.IntN(len(values))]...)
	}
	return append(b, '}')
}

// randomAnswers are answers to rows with random keys, most of them objects, the values of a few.
func randomAnswers(r *rand.Rand) (all []rows.Answer) {
	pick := func() []string {
		values := someValues()
		r.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
		return values[:1+r.IntN(len(values))]
	}
	keys, joined, members := pick(), pick(), pick()
	isWhole := r.IntN(4) == 0
	for i := range 12 {
		row := &rows.Row{Number: int64(i), Key: json.RawMessage(keys[r.IntN(len(keys))]), Columns: randomObject(r, joined)}
		data := randomObject(r, members)
		if isWhole {
			data = json.RawMessage(members[r.IntN(len(members))])
		}
		all = append(all, rows.Answer{Row: row, Data: data})
	}
	return all
}

// A told is a column as the JSON of a Schema has it.
type told struct{ Name, From, Member, Type string }

// TestTables is the promise of an output with columns: the first answers fit the columns that
// they tell; no later row is lost but for its answer; and what is read back is what was written.
func TestTables(t *testing.T) {
	written, refused := 0, 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		all := randomAnswers(r)
		b := &actions.Batch{Input: actions.BatchInput{Key: "k"}, Output: actions.BatchOutput{Format: actions.Parquet}}
		b.Output.Join = [][]string{nil, {"*"}, {"b", "key", "*"}, {"prediction"}}[r.IntN(4)]
		first := 1 + r.IntN(4)
		s, err := rows.Infer(all[:first], b)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		data, misfits := keepAll(t, b.Output, s, all)
		for _, i := range misfits {
			if i < first {
				t.Errorf("seed %d: the answer to row %d of the first %d does not fit, want all of them to", seed, i, first)
			}
		}
		checkTable(t, s, all, readParquet(t, data))
		written, refused = written+len(all), refused+len(misfits)
	}
	if written < 3000 || refused < 100 {
		t.Errorf("got %d rows and %d answers that did not fit, too few for a test", written, refused)
	}
}

// keepAll writes all rows, those whose answers do not fit with a blank one, and returns which
// these are.
func keepAll(t *testing.T, out actions.BatchOutput, s *rows.Schema, all []rows.Answer) (data []byte, misfits []int) {
	t.Helper()
	var file bytes.Buffer
	w, err := rows.NewWriter(&file, out, s)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		a := &all[i]
		err := w.Write(*a)
		if err == nil {
			continue
		}
		misfits = append(misfits, i)
		a.Data = blank(t, s)
		if w.Write(*a) != nil {
			t.Fatalf("the row with the key %s and the columns %s is lost whatever its answer: %v", a.Row.Key, a.Row.Columns, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), misfits
}

func columnsOf(t *testing.T, s *rows.Schema) (columns []told) {
	t.Helper()
	kept, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(kept, &columns)
	}
	if err != nil {
		t.Fatal(err)
	}
	return columns
}

// blank is an answer that fits all columns.
func blank(t *testing.T, s *rows.Schema) []byte {
	t.Helper()
	if slices.ContainsFunc(columnsOf(t, s), func(c told) bool { return c.From == "answer" }) {
		return []byte("null")
	}
	return []byte("{}")
}

// checkTable checks that each value is where it belongs, and nothing else is.
func checkTable(t *testing.T, s *rows.Schema, want []rows.Answer, got []rows.Row) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d rows, want %d", len(got), len(want))
	}
	columns := columnsOf(t, s)
	for i, a := range want {
		back, joined, answer := object(t, got[i].Columns), object(t, a.Row.Columns), object(t, a.Data)
		if len(back) != len(columns) {
			t.Fatalf("got the columns %s, want as many as %v", got[i].Columns, columns)
		}
		for _, c := range columns {
			var value json.RawMessage
			switch c.From {
			case "key":
				value = a.Row.Key
			case "input":
				value = joined[c.Member]
			case "prediction":
				value = answer[c.Member]
			case "answer":
				value = a.Data
			case "input_other":
				checkOthers(t, columns, joined, back[c.Name])
				continue
			}
			if !isSame(c.Type, value, back[c.Name]) {
				t.Errorf("row %d, %+v: got %s, want %s", i, c, back[c.Name], value)
			}
		}
	}
}

// checkOthers checks that what is joined is either in a column or among the others.
func checkOthers(t *testing.T, columns []told, joined map[string]json.RawMessage, got json.RawMessage) {
	t.Helper()
	others := map[string]json.RawMessage{}
	for name, value := range joined {
		if !slices.ContainsFunc(columns, func(c told) bool { return c.From == "input" && c.Member == name }) {
			others[name] = value
		}
	}
	found := object(t, got)
	if len(found) != len(others) {
		t.Errorf("got the other columns %s, want %s", got, others)
	}
	for name, value := range others {
		if string(found[name]) != string(value) {
			t.Errorf("the other column %q: got %s, want %s", name, found[name], value)
		}
	}
}

// object is a JSON object, without members if it is none.
func object(t *testing.T, data json.RawMessage) (members map[string]json.RawMessage) {
	t.Helper()
	if len(data) == 0 || data[0] != '{' {
		return nil
	}
	if err := json.Unmarshal(data, &members); err != nil {
		t.Fatal(err)
	}
	return members
}

// isSame says whether a value came back from a column of a type.
func isSame(is string, value, back json.RawMessage) bool {
	switch {
	case value == nil || string(value) == "null":
		return string(back) == "null"
	case is == "json" || is == "boolean":
		return string(back) == string(value)
	case is == "text" && value[0] != '"':
		return string(back) == strconv.Quote(string(value)) || value[0] == '[' || value[0] == '{' && json.Valid(back)
	case is == "text" || is == "string":
		var a, b string
		return json.Unmarshal(value, &a) == nil && json.Unmarshal(back, &b) == nil && a == b
	}
	a, _ := new(big.Rat).SetString(string(value))
	b, _ := new(big.Rat).SetString(string(back))
	if is == "number" { // a whole one exactly, a fraction as the float that it is
		f, _ := strconv.ParseFloat(string(back), 64)
		b.SetFloat64(f)
		if f, err := strconv.ParseFloat(string(value), 64); err == nil && strings.ContainsAny(string(value), ".e") {
			a.SetFloat64(f)
		}
	}
	return a.Cmp(b) == 0
}

// FuzzTable shows that an answer fits the columns that it tells, whatever it is.
func FuzzTable(f *testing.F) {
	for _, value := range someValues() {
		f.Add([]byte(value))
		f.Add([]byte(`{"":` + value + `,"prediction_":1,"a":` + value + `}`))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if data = bytes.TrimSpace(data); !jsonscan.Valid(data) {
			return
		}
		all := []rows.Answer{{Row: &rows.Row{Key: json.RawMessage("0")}, Data: data}}
		for _, format := range []string{actions.CSV, actions.Parquet} {
			b := &actions.Batch{Output: actions.BatchOutput{Format: format}}
			s, err := rows.Infer(all, b)
			if err != nil {
				if actions.CodeOf(err) != actions.Invalid {
					t.Fatalf("got %v, want Invalid", err)
				}
				return
			}
			var out bytes.Buffer
			w, err := rows.NewWriter(&out, b.Output, s)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Write(all[0]); err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if format == actions.Parquet {
				checkFuzzed(t, s, all, out.Bytes())
			}
		}
	})
}

// checkFuzzed is checkTable of answers whose names are each there once.
func checkFuzzed(t *testing.T, s *rows.Schema, all []rows.Answer, data []byte) {
	t.Helper()
	got := readParquet(t, data)
	if len(got) != 1 || !jsonscan.Valid(got[0].Columns) {
		t.Fatalf("got %d rows, want the one", len(got))
	}
	if n := len(object(t, got[0].Columns)); n != len(columnsOf(t, s)) {
		t.Errorf("%s: got %d columns, want %d", all[0].Data, n, len(columnsOf(t, s)))
	}
}
