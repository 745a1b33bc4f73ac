package batch_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/batch"
)

// TestNoRows shows what an input without rows becomes: no part where rows tell the columns, and
// one without lines in NDJSON.
func TestNoRows(t *testing.T) {
	for format, want := range map[string][]string{
		actions.NDJSON:  {"manifest.json", "part-000000.ndjson"},
		actions.CSV:     {"manifest.json"},
		actions.Parquet: {"manifest.json"},
	} {
		m := newMemory(map[string]string{input: ""})
		b := someBatch()
		b.Output.Format = format
		if _, err := newEngine(t, &client{memory: m}, newModel()).Run(t.Context(), "job", b, batch.Watcher{}); err != nil {
			t.Errorf("%s: got %v, want no error", format, err)
		}
		got := m.below(output)
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" || got["part-000000.ndjson"] != "" {
			t.Errorf("%s: the part has %q, want nothing; objects (-want +got):\n%s", format, got["part-000000.ndjson"], diff)
		}
	}
}
