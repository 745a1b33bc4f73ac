package rows_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
	"github.com/deepfn/deepfn/runtime/rows"
)

// fuzz reads whatever there is: every error is an *actions.Error that says Invalid, every row has
// a key and valid columns, and row by row there is the same as at once.
func fuzz(f *testing.F, name string, seeds ...[]byte) {
	f.Helper()
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := actions.BatchInput{URL: "s3://b/" + name}
		store := storeOf(in.URL, data)
		s, err := rows.Open(t.Context(), store, in)
		var part rows.Part
		if err == nil {
			defer func() { _ = s.Close() }()
			part, err = s.Read(t.Context(), nil, 0, rows.Limit{Rows: 1000, Bytes: 1 << 20})
		}
		if err != nil {
			if actions.CodeOf(err) != actions.Invalid {
				t.Fatalf("got %v, want Invalid", err)
			}
			return
		}
		for _, r := range part.Rows {
			if !jsonscan.Valid(r.Key) || r.Err == nil && r.File == nil && !jsonscan.Valid(r.Columns) {
				t.Fatalf("row %d: got the key %s and the columns %s, want JSON", r.Number, r.Key, r.Columns)
			}
		}
		var at json.RawMessage
		var single []rows.Row
		for len(single) < min(len(part.Rows), 20) {
			one, err := s.Read(t.Context(), at, int64(len(single)), rows.Limit{Rows: 1, Bytes: 1})
			if err != nil {
				t.Fatalf("row %d alone: %v", len(single), err)
			}
			single, at = append(single, one.Rows...), one.Next
		}
		if diff := cmp.Diff(show(part.Rows[:len(single)]), show(single)); diff != "" {
			t.Errorf("row by row (-at once +got):\n%s", diff)
		}
	})
}

func FuzzNDJSON(f *testing.F) {
	fuzz(f, "x.ndjson", []byte("{\"a\":1}\r\n\n[2]\n\xef\xbb\xbf{\n\"\xff\"\nnull"), []byte("\xef\xbb\xbf1"))
}

func FuzzCSV(f *testing.F) {
	fuzz(f, "x.csv", []byte("a,\"b\"\"\",\r\n1,\"x\ny\",\n\"z,\n,2,\xff\n"), []byte("a\n\"\""))
}

func FuzzGzip(f *testing.F) {
	fuzz(f, "x.ndjson.gz", gzipOf(f, []byte("1\n2\n")))
}

func FuzzTar(f *testing.F) {
	fuzz(f, "x.tar", tarOf(f, []string{"d/", "d/a", "b"}, [][]byte{nil, []byte("x"), make([]byte, 600)}))
}

func FuzzZip(f *testing.F) {
	fuzz(f, "x.zip", zipOf(f, []string{"a", "b"}, [][]byte{[]byte("x"), []byte("yy")}))
}

func FuzzParquet(f *testing.F) {
	fuzz(f, "x.parquet", parquetOf(f))
}
