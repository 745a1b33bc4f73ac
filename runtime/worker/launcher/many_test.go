package launcher_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/many"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// doubles is a model that takes a row, or lists of what the rows have.
const doubles = `
def predict(n):
    if isinstance(n, list):
        return [x + x for x in n]
    if n == "7":
        raise ValueError("no sevens")
    return n + n
`

// rowsOf are rows with numbers as texts.
func rowsOf(n int) []many.Row {
	rows := make([]many.Row, n)
	for i := range rows {
		rows[i].Args = fmt.Appendf(nil, `{"n":"%d"}`, i)
	}
	return rows
}

func TestPredictMany(t *testing.T) {
	run := action(t, doubles)
	w := open(t, launcher.Config{}).start(t, run)
	c := many.Call{Model: run.Model, Invoke: w.Call}
	for i, r := range many.Predict(t.Context(), c, rowsOf(1000)) {
		if i == 7 {
			if e, ok := errors.AsType[*actions.Error](r.Err); !ok || e.Code != actions.Failed || e.Msg != "ValueError: no sevens" {
				t.Errorf("row 7: got %+v", r)
			}
			continue
		}
		if got, want := string(r.Response.Data), fmt.Sprintf(`"%d%d"`, i, i); r.Err != nil || got != want || r.Response.Timing.Run <= 0 {
			t.Errorf("row %d: got %s, %v in %v, want %s", i, got, r.Err, r.Response.Timing.Run, want)
		}
	}
}

// BenchmarkRows is what a row of 1000 costs with a model that does next to nothing: "single" with a
// call for each, "many" with predict-many, "columns" with a vectorised model.
func BenchmarkRows(b *testing.B) {
	const n = 1000
	run := action(b, doubles)
	w := open(b, launcher.Config{}).start(b, run)
	for _, way := range []struct {
		name string
		by   actions.Batching
	}{
		{"single", actions.Batching{Size: 1}},
		{"many", actions.Batching{Size: 256}},
		{"columns", actions.Batching{Columns: true}},
	} {
		b.Run(way.name, func(b *testing.B) {
			c := many.Call{Model: run.Model, Batching: way.by, Invoke: w.Call}
			rows := rowsOf(n)
			for b.Loop() {
				many.Predict(b.Context(), c, rows)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
		})
	}
}
