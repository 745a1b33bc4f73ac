package rows_test

import (
	"bytes"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

type everything struct {
	Bool     bool              `parquet:"bool"`
	Int8     int32             `parquet:"int8"`
	Uint64   uint64            `parquet:"uint64"`
	Float    float32           `parquet:"float"`
	Double   float64           `parquet:"double"`
	Text     string            `parquet:"text"`
	Bytes    []byte            `parquet:"bytes"`
	UUID     [16]byte          `parquet:"uuid,uuid"`
	Date     int32             `parquet:"date,date"`
	Time     int64             `parquet:"time,time(microsecond)"`
	UTC      int64             `parquet:"utc,timestamp(microsecond:utc)"`
	Local    int64             `parquet:"local,timestamp(millisecond:local)"`
	Old      deprecated.Int96  `parquet:"old"`
	Decimal  int64             `parquet:"decimal,decimal(3:12)"`
	Small    int32             `parquet:"small,decimal(2:4)"`
	JSON     string            `parquet:"json,json"`
	Optional *int64            `parquet:"optional,optional"`
	List     []string          `parquet:"list,list"`
	Plain    []int32           `parquet:"plain"`
	Map      map[string]int64  `parquet:"map"`
	Numbers  map[int64]float64 `parquet:"numbers"`
	Group    struct {
		A *string `parquet:"a,optional"`
		B []struct {
			C []int64 `parquet:"c,list"`
		} `parquet:"b,list"`
	} `parquet:"group"`
}

// parquetOf is a Parquet file of two rows with columns of all types.
func parquetOf(tb testing.TB) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[everything](&b, parquet.MaxRowsPerRowGroup(1))
	seven, x := int64(7), "x"
	full := everything{
		Bool: true, Int8: -8, Uint64: math.MaxUint64, Float: 0.1, Double: 2, Text: "a\"ä\n", Bytes: []byte{0xff, 0},
		UUID: [16]byte{0x12, 0x34, 15: 0xff}, Date: 19_700, Time: 3_723_000_001, UTC: time.Date(2024, 2, 29, 12, 0, 0, 5000, time.UTC).UnixMicro(),
		Local: -1, Old: deprecated.Int96{1, 0, 2440589}, Decimal: -1005, Small: 7, JSON: "{\n\"a\": [1]}", Optional: &seven,
		List: []string{"a", ""}, Plain: []int32{1, 2}, Map: map[string]int64{"k": 1}, Numbers: map[int64]float64{3: math.Inf(1)},
	}
	full.Group.A = &x
	full.Group.B = []struct {
		C []int64 `parquet:"c,list"`
	}{{C: []int64{1, 2}}, {}, {C: []int64{3}}}
	if _, err := w.Write([]everything{full, {Double: math.NaN(), JSON: "no JSON"}}); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestParquetTypes(t *testing.T) {
	in := actions.BatchInput{URL: "s3://b/x.parquet", Key: "text"}
	all, _ := readAll(t, open(t, storeOf(in.URL, parquetOf(t)), in), whole())
	want := `0 "a\"ä\n" {"bool":true,"int8":-8,"uint64":18446744073709551615,"float":0.1,"double":2.0,"text":"a\"ä\n","bytes":"/wA=",` +
		`"uuid":"12340000-0000-0000-0000-0000000000ff","date":"2023-12-09","time":"01:02:03.000001","utc":"2024-02-29T12:00:00.000005Z",` +
		`"local":"1969-12-31T23:59:59.999","old":"1970-01-02T00:00:00.000000001Z","decimal":-1.005,"small":0.07,"json":{"a":[1]},"optional":7,` +
		`"list":["a",""],"plain":[1,2],"map":{"k":1},"numbers":{"3":null},"group":{"a":"x","b":[{"c":[1,2]},{"c":[]},{"c":[3]}]}}
1 "" {"bool":false,"int8":0,"uint64":0,"float":0.0,"double":null,"text":"","bytes":"","uuid":"00000000-0000-0000-0000-000000000000",` +
		`"date":"1970-01-01","time":"00:00:00","utc":"1970-01-01T00:00:00Z","local":"1970-01-01T00:00:00","old":"-4713-11-24T00:00:00Z",` +
		`"decimal":0.000,"small":0.00,"json":"no JSON","optional":null,"list":[],"plain":[],"map":{},"numbers":{},"group":{"a":null,"b":[]}}
`
	if diff := cmp.Diff(want, show(all)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestPyArrow reads what another library has written: testdata/pyarrow.parquet is of PyArrow 26,
// with three rows in a row group, pages of version 2, zstd, INT96, and no dictionaries.
func TestPyArrow(t *testing.T) {
	data, err := os.ReadFile("testdata/pyarrow.parquet")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/pyarrow.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	in := actions.BatchInput{URL: "s3://b/pyarrow.parquet"}
	all, _ := readAll(t, open(t, storeOf(in.URL, data), in), rows.Limit{Rows: 2, Bytes: 1 << 20})
	var got strings.Builder
	for _, r := range all {
		if r.Err != nil {
			t.Errorf("row %d: %v", r.Number, r.Err)
		}
		got.Write(append(r.Columns, '\n'))
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestParquetReadsParts shows that a row group in the middle is read without those before it.
func TestParquetReadsParts(t *testing.T) {
	type row struct {
		N    int64
		Data []byte
	}
	var b bytes.Buffer
	w := parquet.NewGenericWriter[row](&b, parquet.MaxRowsPerRowGroup(10))
	for i := range 100 {
		data := make([]byte, 60_000)
		for j := range data {
			data[j] = byte(i + j*j)
		}
		if _, err := w.Write([]row{{N: int64(i), Data: data}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	store := storeOf("s3://b/x.parquet", b.Bytes())
	s := open(t, store, actions.BatchInput{URL: "s3://b/x.parquet"})
	store.asked()
	part, err := s.Read(t.Context(), []byte(`{"object":0,"offset":75}`), 75, rows.Limit{Rows: 2, Bytes: 1 << 40})
	if err != nil || len(part.Rows) != 2 || !bytes.HasPrefix(part.Rows[0].Columns, []byte(`{"N":75,`)) {
		t.Fatalf("got %d rows, %v, want two from the row 75 on", len(part.Rows), err)
	}
	if opens, read := store.asked(); read > 5<<20 || opens > 5 {
		t.Errorf("got %d requests for %d bytes of %d, want those of one row group", opens, read, len(b.Bytes()))
	}
}
