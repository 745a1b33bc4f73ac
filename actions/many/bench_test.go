package many_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/many"
)

// BenchmarkPredict is what package many costs for a row of 1000: the model answers at once.
// "single" is a loop of calls of one row.
func BenchmarkPredict(b *testing.B) {
	const n = 1000
	rows := make([]many.Row, n)
	for i := range rows {
		rows[i].Args = fmt.Appendf(nil, `{"id":%d,"length":5.1,"width":3.5,"name":"iris"}`, i)
	}
	repeat := func(n int, one string) []byte {
		return append(bytes.TrimSuffix(bytes.Repeat([]byte(one+","), n), []byte{','}), ']')
	}
	list := jsonResponse(append([]byte{'['}, repeat(n, `{"label":"setosa","score":0.98}`)...))
	lists := jsonResponse(fmt.Appendf(nil, `{"label":[%s,"score":[%s}`, repeat(n, `"setosa"`), repeat(n, `0.98`)))
	outcomes := jsonResponse(append([]byte{'['}, repeat(n, `{"value":{"label":"setosa","score":0.98}}`)...))
	single := jsonResponse([]byte(`{"label":"setosa","score":0.98}`))
	python := actions.Model{Name: "m", Runtime: actions.Python}
	for _, way := range []struct {
		name   string
		by     actions.Batching
		answer actions.Response
	}{
		{"list", actions.Batching{Argument: "rows"}, list},
		{"columns", actions.Batching{Columns: true}, lists},
		{"predict-many", actions.Batching{Size: n}, outcomes},
		{"single", actions.Batching{Size: 1}, single},
	} {
		invoke := func(context.Context, actions.Request) (actions.Response, error) { return way.answer, nil }
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := many.Predict(b.Context(), many.Call{Model: python, Batching: way.by, Invoke: invoke}, rows)
				if r[n-1].Err != nil {
					b.Fatal(r[n-1].Err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
		})
	}
}
