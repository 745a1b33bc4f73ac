package rows_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

// inputs returns random inputs of all formats, each below its own prefix.
func inputs(t *testing.T, r *rand.Rand) *memory {
	t.Helper()
	store := &memory{objects: map[string][]byte{}}
	for i := range 1 + r.IntN(3) {
		put := func(format, name string, data []byte) {
			store.objects[fmt.Sprintf("s3://b/%s/%02d-%s", format, i, name)] = data
		}
		put("ndjson", "x.ndjson", randomNDJSON(r))
		put("ndjson.gz", "x.jsonl.gz", gzipOf(t, randomNDJSON(r)))
		put("csv", "x.csv", randomCSV(t, r))
		put("csv.gz", "x.csv.gz", gzipOf(t, randomCSV(t, r)))
		names, files := randomFiles(r)
		put("tar", "x.tar", tarOf(t, names, files))
		put("tar.gz", "x.tgz", gzipOf(t, tarOf(t, names, files)))
		put("zip", "x.zip", zipOf(t, names, files))
		put("parquet", "x.parquet", randomParquet(t, r))
		for j := range names {
			put("objects", names[j], files[j])
		}
	}
	return store
}

func randomText(r *rand.Rand, alphabet string, most int) string {
	runes := []rune(alphabet)
	var b strings.Builder
	for range r.IntN(most + 1) {
		b.WriteRune(runes[r.IntN(len(runes))])
	}
	return b.String()
}

func randomNDJSON(r *rand.Rand) []byte {
	var b bytes.Buffer
	if r.IntN(4) == 0 {
		b.WriteString("\xef\xbb\xbf")
	}
	for range r.IntN(20) {
		switch r.IntN(6) {
		case 0:
			b.WriteString(randomText(r, " \t\r", 4))
		case 1:
			b.WriteString(randomText(r, "{}[]\",:x1", 12))
		default:
			line, _ := json.Marshal(map[string]any{"id": r.IntN(1000), "text": randomText(r, "aä\"\\\n€", 40)})
			b.Write(line)
		}
		b.WriteString([]string{"\n", "\r\n", "\n\n"}[r.IntN(3)])
	}
	return bytes.TrimSuffix(b.Bytes(), []byte([]string{"", "\n"}[r.IntN(2)]))
}

func randomCSV(t *testing.T, r *rand.Rand) []byte {
	t.Helper()
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.UseCRLF = r.IntN(2) == 0
	_ = w.Write([]string{"id", "text, long", "c"})
	for i := range r.IntN(20) {
		_ = w.Write([]string{fmt.Sprint(i), randomText(r, "ab\",\n€ ", 20), randomText(r, "0123.e-", 4)})
		if r.IntN(5) == 0 {
			w.Flush()
			b.WriteString(randomText(r, "x\",\r\n", 8) + "\n")
		}
	}
	w.Flush()
	return b.Bytes()
}

func randomFiles(r *rand.Rand) (names []string, files [][]byte) {
	for i := range 1 + r.IntN(12) {
		names = append(names, fmt.Sprintf("%02d/%s.txt", i, strings.Repeat("n", 1+r.IntN(150))))
		files = append(files, []byte(randomText(r, "abc", 1500)))
	}
	return names, files
}

type parquetRow struct {
	ID    int64    `parquet:"id"`
	Text  *string  `parquet:"text,optional"`
	Tags  []string `parquet:"tags,list"`
	Score float32  `parquet:"score"`
}

func randomParquet(t *testing.T, r *rand.Rand) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[parquetRow](&b, parquet.MaxRowsPerRowGroup(int64(1+r.IntN(20))), parquet.PageBufferSize(64))
	for i := range r.IntN(60) {
		row := parquetRow{ID: int64(i), Score: r.Float32()}
		if s := randomText(r, "aä€", 20); s != "" {
			row.Text = &s
		}
		for range r.IntN(4) {
			row.Tags = append(row.Tags, randomText(r, "xyz", 3))
		}
		if _, err := w.Write([]parquetRow{row}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipOf(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func tarOf(tb testing.TB, names []string, files [][]byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, name := range names {
		h := tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[i]))}
		if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Size = tar.TypeDir, 0
		}
		if err := w.WriteHeader(&h); err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write(files[i]); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func zipOf(tb testing.TB, names []string, files [][]byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i, name := range names {
		f, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: uint16(i % 2 * 8)}) // deflate is 8
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := f.Write(files[i]); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// TestParts is the promise of Read: however an input is read, in parts of any size, on from the
// last or from a position, with reads as short as they come, it is the same rows; a position
// leads to the same part; and the parts are the bytes of the input.
func TestParts(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		store := inputs(t, r)
		for _, format := range []string{"ndjson", "ndjson.gz", "csv", "csv.gz", "tar", "tar.gz", "zip", "parquet", "objects"} {
			in := actions.BatchInput{URL: "s3://b/" + format + "/"}
			store.short = 0
			want, _ := readAll(t, open(t, store, in), whole())
			seen[format] += len(want)
			store.short = r.IntN(3) * r.IntN(500)
			s := open(t, store, in)
			limit := rows.Limit{Rows: 1 + r.IntN(10), Bytes: 1 + r.Int64N(300)}
			got, parts := readAll(t, s, limit)
			if diff := cmp.Diff(show(want), show(got)); diff != "" {
				t.Fatalf("%s of seed %d in parts of %+v (-want +got):\n%s", format, seed, limit, diff)
			}
			if total := s.Total(); total != 0 && total != int64(len(want)) {
				t.Errorf("%s of seed %d: got a total of %d, want %d", format, seed, total, len(want))
			}
			checkBytes(t, s, parts)
			checkSeeks(t, s, r, limit, parts)
		}
	}
	for format, n := range seen {
		if n < 50 {
			t.Errorf("%s: got %d rows in all, too few for a test", format, n)
		}
	}
}

// checkBytes checks that the parts are all bytes of the input.
func checkBytes(t *testing.T, s *rows.Source, parts []rows.Part) {
	t.Helper()
	sum := int64(0)
	for _, p := range parts {
		sum += p.Bytes
	}
	if sum != s.Size() {
		t.Errorf("%s: the parts are %d bytes, want all %d", s.Format(), sum, s.Size())
	}
}

// checkSeeks reads some parts anew from their positions, and passes over some.
func checkSeeks(t *testing.T, s *rows.Source, r *rand.Rand, limit rows.Limit, parts []rows.Part) {
	t.Helper()
	for range min(10, len(parts)) {
		i := r.IntN(len(parts))
		number := int64(0)
		var at json.RawMessage
		for _, p := range parts[:i] {
			number += p.Count
			at = p.Next
		}
		limit.Skip = r.IntN(3) == 0
		got, err := s.Read(t.Context(), at, number, limit)
		if err != nil {
			t.Fatalf("%s: part %d at %s: %v", s.Format(), i, at, err)
		}
		if string(got.Next) != string(parts[i].Next) || got.Count != parts[i].Count {
			t.Fatalf("%s: part %d at %s, skip %v: got %d rows to %s, want %d to %s", s.Format(), i, at, limit.Skip, got.Count, got.Next, parts[i].Count, parts[i].Next)
		}
		if diff := cmp.Diff(show(parts[i].Rows), show(got.Rows)); diff != "" && !limit.Skip {
			t.Fatalf("%s: part %d at %s (-want +got):\n%s", s.Format(), i, at, diff)
		}
	}
}

// TestGoesOn shows that a Read that goes on where the last ended asks the store for nothing anew.
func TestGoesOn(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	store := &memory{objects: map[string][]byte{}}
	var ndjson bytes.Buffer
	for i := range 1000 {
		fmt.Fprintf(&ndjson, "{\"id\":%d}\n", i)
	}
	store.objects["s3://b/x.ndjson"] = ndjson.Bytes()
	store.objects["s3://b/x.jsonl.gz"] = gzipOf(t, ndjson.Bytes())
	for len(store.objects["s3://b/x.parquet"]) < 2000 {
		store.objects["s3://b/x.parquet"] = randomParquet(t, r)
	}
	names, files := randomFiles(r)
	store.objects["s3://b/x.tar"] = tarOf(t, names, files)
	for url := range store.objects {
		s := open(t, store, actions.BatchInput{URL: url})
		store.asked()
		_, parts := readAll(t, s, rows.Limit{Rows: 3, Bytes: 1 << 40})
		opens, read := store.asked()
		if opens != 1 || read > int64(len(store.objects[url])) || len(parts) < 3 {
			t.Errorf("%s in %d parts: got %d requests for %d bytes, want one for %d", url, len(parts), opens, read, len(store.objects[url]))
		}
	}
}
