package batch_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/batch"
)

// TestAllFailed shows that a batch without an answer is not done, unless somebody has said that it
// may be, and that it is left as one of which too many rows failed.
func TestAllFailed(t *testing.T) {
	rows := strings.Repeat(`{"id":"x"}`+"\n", 23)
	for name, through := range map[string]string{"here": "", "replicas": "https://broker.test/"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, model := newMemory(map[string]string{input: rows}), newModel()
				bus := &broker{t: t, tries: map[int]int{}, replicas: []*batch.Engine{newEngine(t, &client{memory: m}, model)}}
				b := someBatch()
				b.Through = through
				engine := newEngine(t, &client{memory: m}, model, func(cfg *batch.Config) { cfg.Dispatch = bus.dispatch })
				for range 2 { // again it is not predicted again
					told, err := engine.Run(t.Context(), "job", b, batch.Watcher{})
					bus.wg.Wait()
					wantError(t, err, actions.Failed,
						"all rows failed, 23 of them. The first: n is required; mem://out/errors-*.ndjson say why. If that is fine, say max_errors 100%")
					if told != nil || model.calls() != 23 {
						t.Errorf("got %s after %d calls, want no manifest after 23", told, model.calls())
					}
					names := slices.DeleteFunc(slices.Sorted(maps.Keys(m.below(output))), func(name string) bool { return strings.HasPrefix(name, "_deepfn/") })
					want := []string{
						"errors-000000.ndjson", "errors-000001.ndjson", "errors-000002.ndjson", "part-000000.ndjson", "part-000001.ndjson", "part-000002.ndjson",
					}
					if diff := cmp.Diff(want, names); diff != "" {
						t.Errorf("objects (-want +got):\n%s", diff)
					}
				}
				b.MaxErrors = "100%"
				told, err := engine.Run(t.Context(), "job", b, batch.Watcher{})
				if err != nil || !strings.Contains(string(told), `"failed": 23`) || model.calls() != 23 {
					t.Errorf("got %s, %v after %d calls, want a manifest after 23", told, err, model.calls())
				}
			})
		})
	}
}

// TestNotAllFailed has batches that are done.
func TestNotAllFailed(t *testing.T) {
	bad := strings.Repeat(`{"id":"x"}`+"\n", 23)
	for name, test := range map[string]struct{ rows, maxErrors string }{
		"no rows": {}, "an answer": {rows: bad + `{"id":"y","n":1}`}, "all may fail": {rows: bad, maxErrors: "100%"}, "so many may fail": {rows: bad, maxErrors: "23"},
	} {
		b := someBatch()
		b.MaxErrors = test.maxErrors
		engine := newEngine(t, &client{memory: newMemory(map[string]string{input: test.rows})}, newModel())
		if _, err := engine.Run(t.Context(), "job", b, batch.Watcher{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMisspelt has columns that a table does not have, and a member that no answer has: each is an
// error of the batch, of its preview too, and leaves the output to one that can work.
func TestMisspelt(t *testing.T) {
	objects := map[string]string{table: "id,n\nr0,0\nr1,1\n"}
	for name, test := range map[string]struct {
		change func(*actions.Batch)
		says   string
	}{
		"map":    {change: func(b *actions.Batch) { b.Map = map[string]string{"n": "nope"} }, says: `map gives n the column "nope", but the columns of ` + table + " are id, n"},
		"join":   {change: func(b *actions.Batch) { b.Output.Join = []string{"nope"} }, says: `output.join is "nope", but the columns of ` + table + " are id, n"},
		"key":    {change: func(b *actions.Batch) { b.Input.Key = "nope" }, says: `input.key is "nope"`},
		"text":   {change: func(b *actions.Batch) { b.Input.Text = []string{"nope"} }, says: `input.text names "nope"`},
		"select": {change: func(b *actions.Batch) { b.Output.Select = []string{"nope"} }, says: "output.select is nope, which no answer "},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory(objects)
			b := someBatch()
			b.Input.URL = table
			good := b
			test.change(&b)
			engine := newEngine(t, &client{memory: m}, newModel())
			_, err := engine.Preview(t.Context(), b, 1)
			wantError(t, err, actions.Invalid, test.says)
			_, err = engine.Run(t.Context(), "job", b, batch.Watcher{})
			wantError(t, err, actions.Invalid, test.says)
			if got := m.below(output); len(got) > 0 {
				t.Errorf("got %v, want nothing", got)
			}
			if _, err := engine.Run(t.Context(), "job", good, batch.Watcher{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMisspeltThroughReplicas shows that a member that no answer has is told by a replica.
func TestMisspeltThroughReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, model := newMemory(map[string]string{input: numbers(25)}), newModel()
		bus := &broker{t: t, tries: map[int]int{}, replicas: []*batch.Engine{newEngine(t, &client{memory: m}, model)}}
		b := throughBatch()
		b.Output.Select = []string{"nope"}
		_, err := newEngine(t, &client{memory: m}, model, func(cfg *batch.Config) { cfg.Dispatch = bus.dispatch }).Run(t.Context(), "job", b, batch.Watcher{})
		bus.wg.Wait()
		wantError(t, err, actions.Invalid, "output.select is nope, which no answer of the first chunk has; the members of an answer are twice")
	})
}

// TestRareMember shows that a member that the first chunk does not have is no error beside another,
// but something to be told.
func TestRareMember(t *testing.T) {
	for name, through := range map[string]string{"here": "", "replicas": "https://broker.test/"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(map[string]string{input: numbers(20)})
				rare := func(cfg *batch.Config) {
					invoke := cfg.Invoke
					cfg.Invoke = func(ctx context.Context, req actions.Request) (actions.Response, error) {
						resp, err := invoke(ctx, req)
						if string(resp.Data) == `{"twice":38}` {
							resp.Data = []byte(`{"twice":38,"rare":1}`)
						}
						return resp, err
					}
				}
				bus := &broker{t: t, tries: map[int]int{}, replicas: []*batch.Engine{newEngine(t, &client{memory: m}, newModel(), rare)}}
				engine := newEngine(t, &client{memory: m}, newModel(), rare, func(cfg *batch.Config) { cfg.Dispatch = bus.dispatch })
				b := someBatch()
				b.Through, b.Output.Select = through, []string{"rare", "twice"}
				p, err := engine.Preview(t.Context(), b, 1)
				if err != nil || !slices.Equal(p.Unselected, []string{"rare"}) {
					t.Errorf("preview: got %q, %v, want the rare member", p.Unselected, err)
				}
				var lines []string
				_, err = engine.Run(t.Context(), "job", b, batch.Watcher{Line: func(text string) { lines = append(lines, text) }})
				bus.wg.Wait()
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(lines, []string{"no answer of the first chunk has rare (output.select)"}) {
					t.Errorf("got the lines %q, want one of the rare member", lines)
				}
				if got := m.below(output)["part-000001.ndjson"]; !strings.HasSuffix(got, `"prediction":{"rare":1,"twice":38}}`+"\n") {
					t.Errorf("got %s, want the rare member in the last row", got)
				}
			})
		})
	}
}
