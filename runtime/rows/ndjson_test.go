package rows_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

func TestNDJSON(t *testing.T) {
	for name, test := range map[string]struct{ data, key, want string }{
		"objects":               {data: "{\"a\":1}\n{\"a\":2}\n", want: "0 0 {\"a\":1}\n1 1 {\"a\":2}\n"},
		"no newline at the end": {data: "{\"a\":1}\n{\"a\":2}", want: "0 0 {\"a\":1}\n1 1 {\"a\":2}\n"},
		"CRLF, empty lines":     {data: "\r\n\n{\"a\":1} \r\n \t\r\n{\"a\":2}\r\n\r\n", want: "0 0 {\"a\":1}\n1 1 {\"a\":2}\n"},
		"byte order mark":       {data: "\xef\xbb\xbf{\"a\":1}\n", want: "0 0 {\"a\":1}\n"},
		"other values":          {data: "1\n[2]\n\"x\"\nnull\n", want: "0 0 {\"value\":1}\n1 1 {\"value\":[2]}\n2 2 {\"value\":\"x\"}\n3 3 {\"value\":null}\n"},
		"nothing":               {data: "", want: ""},
		"space":                 {data: " \n\n", want: ""},
		"no JSON": {data: "{\"a\":1}\n{\"a\":\n{} x\n3\n", want: "0 0 {\"a\":1}\n" +
			"1 1 ! invalid: the line is no JSON: it is wrong at its byte 6\n" +
			"2 2 ! invalid: the line is no JSON: it is wrong at its byte 4\n3 3 {\"value\":3}\n"},
		"no UTF-8":      {data: "\"\xff\"\n1\n", want: "0 0 ! invalid: the line is not UTF-8\n1 1 {\"value\":1}\n"},
		"key":           {data: "{\"id\":\"x\",\"a\":1}\n{\"id\":7}\n", key: "id", want: "0 \"x\" {\"id\":\"x\",\"a\":1}\n1 7 {\"id\":7}\n"},
		"key in a path": {data: "{\"u\":{\"id\":\"x\"}}\n", key: "u.id", want: "0 \"x\" {\"u\":{\"id\":\"x\"}}\n"},
		"no key":        {data: "{\"a\":1}\n", key: "id", want: "0 0 ! invalid: the row has no column \"id\", which is to be its key\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, storeOf("s3://b/x.ndjson", []byte(test.data)), actions.BatchInput{URL: "s3://b/x.ndjson", Key: test.key})
			all, _ := readAll(t, s, whole())
			if diff := cmp.Diff(test.want, show(all)); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLongLines shows that a line over the limit is an error of its row, and costs no memory.
func TestLongLines(t *testing.T) {
	data := []byte("1\n\"" + strings.Repeat("x", 16<<20) + "\"\n2\n\"" + strings.Repeat("y", 40<<20) + "\"\n\"" + strings.Repeat("z", 15<<20) + "\"")
	s := open(t, storeOf("s3://b/x.ndjson", data), actions.BatchInput{URL: "s3://b/x.ndjson"})
	all, parts := readAll(t, s, rows.Limit{Rows: 2, Bytes: 1 << 40})
	if len(all) != 5 || len(parts) != 3 {
		t.Fatalf("got %d rows in %d parts, want 5 in 3", len(all), len(parts))
	}
	for i, want := range []bool{true, false, true, false, true} {
		if got := all[i].Err == nil; got != want {
			t.Errorf("row %d: got %v, want no error: %v", i, all[i].Err, want)
		}
	}
	if got, want := all[3].Err.Error(), "the row has 41943043 bytes; the most is 16777216"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
