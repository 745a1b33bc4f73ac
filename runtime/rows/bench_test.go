package rows_test

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

const benchRows = 100_000

// benchLines is NDJSON as jobs of many small rows have it, 66 bytes a row.
func benchLines() []byte {
	var b bytes.Buffer
	for i := range benchRows {
		fmt.Fprintf(&b, "{\"id\":%07d,\"x\":%.4f,\"y\":%.4f,\"text\":\"some words of row %05d\"}\n", 1_000_000+i, float64(i)/7, float64(i)/11, i)
	}
	return b.Bytes()
}

func benchTable() []byte {
	var b bytes.Buffer
	b.WriteString("id,x,y,text\n")
	for i := range benchRows {
		fmt.Fprintf(&b, "%07d,%.4f,%.4f,some words of row %05d\n", 1_000_000+i, float64(i)/7, float64(i)/11, i)
	}
	return b.Bytes()
}

// read reads all of an input in parts of 10,000 rows.
func read(b *testing.B, store *memory, url string) {
	b.Helper()
	b.SetBytes(int64(len(store.objects[url])))
	for b.Loop() {
		s := open(b, store, actions.BatchInput{URL: url})
		all := 0
		var at json.RawMessage
		for {
			part, err := s.Read(b.Context(), at, int64(all), rows.Limit{Rows: 10_000, Bytes: 8 << 20})
			if err != nil {
				b.Fatal(err)
			}
			all += len(part.Rows)
			if at = part.Next; at == nil {
				break
			}
		}
		if all != benchRows {
			b.Fatalf("got %d rows, want %d", all, benchRows)
		}
	}
	b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkReadNDJSON(b *testing.B) {
	data := benchLines()
	b.Run("rows", func(b *testing.B) { read(b, storeOf("s3://b/x.ndjson", data), "s3://b/x.ndjson") })
	b.Run("bufio+encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			lines, n := bufio.NewScanner(bytes.NewReader(data)), 0
			for lines.Scan() {
				var row map[string]json.RawMessage
				if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
					b.Fatal(err)
				}
				n += len(row) / 4
			}
			if n != benchRows {
				b.Fatalf("got %d rows, want %d", n, benchRows)
			}
		}
		b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
}

func BenchmarkReadCSV(b *testing.B) {
	data := benchTable()
	b.Run("rows", func(b *testing.B) { read(b, storeOf("s3://b/x.csv", data), "s3://b/x.csv") })
	b.Run("encoding-csv+json", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			r, n := csv.NewReader(bytes.NewReader(data)), -1
			r.ReuseRecord = true
			names := []string{}
			for {
				record, err := r.Read()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
				if n++; n == 0 {
					names = append(names, record...)
					continue
				}
				row := make(map[string]string, len(names))
				for i, name := range names {
					row[name] = record[i]
				}
				if _, err := json.Marshal(row); err != nil {
					b.Fatal(err)
				}
			}
			if n != benchRows {
				b.Fatalf("got %d rows, want %d", n, benchRows)
			}
		}
		b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
}

func BenchmarkReadParquet(b *testing.B) {
	type row struct {
		ID   int64   `parquet:"id"`
		X    float64 `parquet:"x"`
		Y    float64 `parquet:"y"`
		Text string  `parquet:"text"`
	}
	var data bytes.Buffer
	w := parquet.NewGenericWriter[row](&data)
	for i := range benchRows {
		if _, err := w.Write([]row{{int64(i), float64(i) / 7, float64(i) / 11, fmt.Sprintf("some words of row %05d", i)}}); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	read(b, storeOf("s3://b/x.parquet", data.Bytes()), "s3://b/x.parquet")
}

// BenchmarkRows is all that this package does in a job of small rows: read, map, write.
func BenchmarkRows(b *testing.B) {
	store := storeOf("s3://b/x.ndjson", benchLines())
	answer := []byte(`{"label":"cat","score":0.875}`)
	for _, format := range []string{actions.NDJSON, actions.CSV, actions.Parquet} {
		b.Run(format, func(b *testing.B) {
			batch := actions.Batch{Map: map[string]string{"a": "x", "b": "y", "words": "text"}}
			out := actions.BatchOutput{Format: format, Join: []string{"id"}}
			for b.Loop() {
				once(b, store, &batch, out, answer)
			}
			b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// once does a job with an answer that is the same for all rows.
func once(b *testing.B, store *memory, batch *actions.Batch, out actions.BatchOutput, answer []byte) {
	b.Helper()
	s := open(b, store, actions.BatchInput{URL: "s3://b/x.ndjson"})
	m := rows.NewMapping(batch, "")
	var schema *rows.Schema
	var at json.RawMessage
	for number := int64(0); ; {
		part, err := s.Read(b.Context(), at, number, rows.Limit{Rows: 10_000, Bytes: 8 << 20})
		if err != nil {
			b.Fatal(err)
		}
		if schema == nil {
			if schema, err = rows.Infer([]rows.Answer{{Row: &part.Rows[0], Data: answer}}, &actions.Batch{Output: out}); err != nil {
				b.Fatal(err)
			}
		}
		w, err := rows.NewWriter(io.Discard, out, schema)
		if err != nil {
			b.Fatal(err)
		}
		for i := range part.Rows {
			args, _, err := m.Arguments(&part.Rows[i])
			if err != nil || len(args) < 20 {
				b.Fatalf("got %s, %v, want arguments", args, err)
			}
			if err := w.Write(rows.Answer{Row: &part.Rows[i], Data: answer}); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		number += part.Count
		if at = part.Next; at == nil {
			return
		}
	}
}
