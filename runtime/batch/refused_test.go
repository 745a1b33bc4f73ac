package batch_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/batch"
)

// TestRefusedLeavesNothing shows that a batch that cannot work leaves its output to one that can.
func TestRefusedLeavesNothing(t *testing.T) {
	objects := map[string]string{table: "id;n\nr0;0\nr1;1\n"}
	m := newMemory(objects)
	engine := newEngine(t, &client{memory: m}, newModel())
	b := someBatch()
	b.Input.URL = table
	_, err := engine.Run(t.Context(), "job", b, batch.Watcher{})
	wantError(t, err, actions.Invalid, "")
	if got := m.below(output); len(got) > 0 {
		t.Errorf("got %v, want nothing", got)
	}
	b.Input.Delimiter = ";"
	if _, err := engine.Run(t.Context(), "job", b, batch.Watcher{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(undisturbed(t, objects, b), m.below(output)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

// TestRefusedAtOnce has batches that cannot work, and are refused before a row is predicted.
func TestRefusedAtOnce(t *testing.T) {
	engine := newEngine(t, &client{memory: newMemory(map[string]string{input: numbers(3)})}, newModel())
	for name, test := range map[string]struct {
		change func(*actions.Batch)
		code   actions.Code
		says   string
	}{
		"output below the input": {func(b *actions.Batch) { b.Input.URL, b.Output.URL = "mem://in/", "MEM://in/out/" }, actions.Invalid, "below the input"},
		"the same, escaped":      {func(b *actions.Batch) { b.Input.URL, b.Output.URL = "mem://in/a/", "mem://in/%61/out/" }, actions.Invalid, "below the input"},
		"output is the input":    {func(b *actions.Batch) { b.Input.URL, b.Output.URL = "mem://in/a/", "mem://in/./a/" }, actions.Invalid, "below the input"},
		"output to a web server": {func(b *actions.Batch) { b.Output.URL = "https://x.test/out/" }, actions.Unsupported, "no output to https"},
		"columns beside files":   {func(b *actions.Batch) { b.Output.Format, b.Output.Join = actions.Tar, []string{"id"} }, actions.Invalid, "output.join"},
		"a long delimiter":       {func(b *actions.Batch) { b.Input.Delimiter = "ab" }, actions.Invalid, "input.delimiter"},
		"a negative size":        {func(b *actions.Batch) { b.Batching.Size = -1 }, actions.Invalid, "size is 1 to"},
	} {
		t.Run(name, func(t *testing.T) {
			b := someBatch()
			test.change(&b)
			wantError(t, engine.Check(t.Context(), b), test.code, test.says)
		})
	}
	b := someBatch()
	b.Input.URL, b.Output.URL = "mem://in/rows.ndjson", "mem://in/rows.ndjson.out/"
	if err := engine.Check(t.Context(), b); err != nil {
		t.Errorf("beside the input: %v", err)
	}
}

// TestLongManifest shows that a batch of very many chunks is known again when it is complete.
func TestLongManifest(t *testing.T) {
	m := newMemory(map[string]string{input: numbers(30)})
	engine := newEngine(t, &client{memory: m}, newModel())
	if _, err := engine.Run(t.Context(), "job", someBatch(), batch.Watcher{}); err != nil {
		t.Fatal(err)
	}
	manifest := string(m.objects[output+"manifest.json"])
	m.objects[output+"manifest.json"] = []byte(strings.Replace(manifest, "{", "{"+strings.Repeat(" ", 17<<20), 1))
	if _, err := engine.Run(t.Context(), "job", someBatch(), batch.Watcher{}); err != nil {
		t.Error(err)
	}
}
