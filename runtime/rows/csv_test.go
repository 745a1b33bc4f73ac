package rows_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

func TestCSV(t *testing.T) {
	for name, test := range map[string]struct{ data, key, delimiter, want string }{
		"types": {
			data: "a,b,c,d,e,f,g\n1,-2.5e3,true,x,,007,1234567890123456789\n0,0.10,True,null,\" \",-,+1\n",
			want: `0 0 {"a":1,"b":-2.5e3,"c":true,"d":"x","f":"007","g":"1234567890123456789"}` + "\n" +
				`1 1 {"a":0,"b":0.10,"c":"True","d":"null","e":" ","f":"-","g":"+1"}` + "\n",
		},
		"no newline at the end":  {data: "a,b\n1,x", want: `0 0 {"a":1,"b":"x"}` + "\n"},
		"CRLF, empty lines":      {data: "\r\na,b\r\n\r\n1,x\r\n\n2,y\r\n\r\n", want: "0 0 {\"a\":1,\"b\":\"x\"}\n1 1 {\"a\":2,\"b\":\"y\"}\n"},
		"byte order mark":        {data: "\xef\xbb\xbfa,b\n1,x\n", want: "0 0 {\"a\":1,\"b\":\"x\"}\n"},
		"quotes":                 {data: "\"a\",b\n\"x,\"\"y\"\"\n\nz\",\"1\"\r\n\"\",\"\"\"\"\n", want: "0 0 {\"a\":\"x,\\\"y\\\"\\n\\nz\",\"b\":1}\n1 1 {\"b\":\"\\\"\"}\n"},
		"quoted, at the end":     {data: "a,b\n1,\"x\"", want: "0 0 {\"a\":1,\"b\":\"x\"}\n"},
		"CR at the end":          {data: "a,b\n1,\"x\"\r", want: "0 0 {\"a\":1,\"b\":\"x\"}\n"},
		"columns without a name": {data: ",a,\n7,1,8\n", want: "0 0 {\"a\":1}\n"},
		"header only":            {data: "a,b\n", want: ""},
		"nothing":                {data: "", want: ""},
		"too few and too many": {data: "a,b\n1\n1,2,3\n1,2\n", want: "0 0 ! invalid: the row has 1 cells, but there are 2 columns\n" +
			"1 1 ! invalid: the row has 3 cells, but there are 2 columns\n2 2 {\"a\":1,\"b\":2}\n"},
		"bare quotes": {data: "a,b\n1,x\"y\"\n1,\"x\"y\n2,\"z\"\n", want: "0 0 ! invalid: there is a quote in a cell that does not begin with one\n" +
			"1 1 ! invalid: there is text behind the quote that ends a cell\n2 2 {\"a\":2,\"b\":\"z\"}\n"},
		"an open quote":     {data: "a,b\n1,\"x\n2,y\n3,z\n", want: "0 0 ! invalid: there is a quote that nothing closes\n1 1 {\"a\":2,\"b\":\"y\"}\n2 2 {\"a\":3,\"b\":\"z\"}\n"},
		"no UTF-8":          {data: "a,b\n1,\xff\n2,y\n", want: "0 0 ! invalid: the row is not UTF-8\n1 1 {\"a\":2,\"b\":\"y\"}\n"},
		"key":               {data: "id,a\nx,1\n,2\n", key: "id", want: "0 \"x\" {\"id\":\"x\",\"a\":1}\n1 null {\"a\":2}\n"},
		"one column":        {data: "a;b\n1;2\n", delimiter: ",", want: "0 0 {\"a;b\":\"1;2\"}\n"},
		"another delimiter": {data: "a;b\n1;\"x;y\"\n", delimiter: ";", want: "0 0 {\"a\":1,\"b\":\"x;y\"}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			in := actions.BatchInput{URL: "s3://b/x.csv", Key: test.key, Delimiter: test.delimiter}
			for _, short := range []int{0, 1} {
				store := storeOf(in.URL, []byte(test.data))
				store.short = short
				all, _ := readAll(t, open(t, store, in), whole())
				if diff := cmp.Diff(test.want, show(all)); diff != "" {
					t.Errorf("rows, %d bytes a read (-want +got):\n%s", short, diff)
				}
			}
		})
	}
}

func TestCSVHeader(t *testing.T) {
	for name, test := range map[string]struct{ data, key, want string }{
		"two of a name": {data: "a,b,a\n1,2,3\n", want: "there are two columns \"a\""},
		"an open quote": {data: "a,\"b\n1,2\n", want: "a quote that nothing closes"},
		"no UTF-8":      {data: "a,\xff\n1,2\n", want: "the name of column 2 is not UTF-8"},
		"semicolons":    {data: "a;b\r\n1;2\r\n", want: "it has one column, \"a;b\": if \";\" separates its columns, input.delimiter has to say so"},
		"tabs":          {data: "a\tb\n1\t2\n", want: "if \"\\t\" separates its columns"},
		"no newlines":   {data: "a,b\r1,2\r3,4\r", want: "its lines end in a carriage return alone"},
		"UTF-16":        {data: "\xff\xfea\x00,\x00b\x00\n\x00", want: "it is UTF-16: write it as UTF-8"},
		"compressed":    {data: "\x1f\x8b\x08\x00\x00", want: "give it a name that ends in .gz"},
		"no key":        {data: "a,b\n1,2\n", key: "id", want: "input.key is \"id\", but the columns of s3://b/x.csv are a, b"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, storeOf("s3://b/x.csv", []byte(test.data)), actions.BatchInput{URL: "s3://b/x.csv", Key: test.key})
			_, err := s.Read(t.Context(), nil, 0, whole())
			if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want Invalid with %q", err, test.want)
			}
		})
	}
}

// TestLongRecords shows that a record over the limit costs its own line only, and a quote that
// nothing closes does not take the rest of the file into memory.
func TestLongRecords(t *testing.T) {
	long := strings.Repeat("x", 17<<20)
	data := "a,b\n1,\"" + long + "\"\n2,\"y\n3," + strings.Repeat("z\n4,", 6<<20) + "5\n"
	s := open(t, storeOf("s3://b/x.csv", []byte(data)), actions.BatchInput{URL: "s3://b/x.csv"})
	part, err := s.Read(t.Context(), nil, 0, rows.Limit{Rows: 3, Bytes: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	want := "0 0 ! invalid: the row has 17825797 bytes; the most is 16777216\n" +
		"1 1 ! invalid: there is a quote that nothing closes\n2 2 {\"a\":3,\"b\":\"z\"}\n"
	if diff := cmp.Diff(want, show(part.Rows)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestHeaderOfEach shows that each object of a prefix has its own columns, and that a position in
// the middle of one knows them.
func TestHeaderOfEach(t *testing.T) {
	store := &memory{objects: map[string][]byte{
		"s3://b/in/1.csv": []byte("a,b\n1,x\n2,y\n"),
		"s3://b/in/2.csv": []byte("b.c\nz\t3\n"),
		"s3://b/in/3.tsv": bytes.ReplaceAll([]byte("b c\nz 3\nw 4\n"), []byte(" "), []byte("\t")),
	}}
	s := open(t, store, actions.BatchInput{URL: "s3://b/in/"})
	all, _ := readAll(t, s, rows.Limit{Rows: 1, Bytes: 1})
	want := "0 0 {\"a\":1,\"b\":\"x\"}\n1 1 {\"a\":2,\"b\":\"y\"}\n2 2 {\"b.c\":\"z\\t3\"}\n3 3 {\"b\":\"z\",\"c\":3}\n4 4 {\"b\":\"w\",\"c\":4}\n"
	if diff := cmp.Diff(want, show(all)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	part, err := s.Read(t.Context(), []byte(`{"object":0,"offset":8}`), 1, rows.Limit{Rows: 1, Bytes: 1})
	if err != nil || show(part.Rows) != "1 1 {\"a\":2,\"b\":\"y\"}\n" {
		t.Errorf("from a position: got %q, %v", show(part.Rows), err)
	}
}
