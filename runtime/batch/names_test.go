package batch_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/batch"
	"github.com/deepfn/deepfn/runtime/storage"
)

// onDisk is the files below a folder as a store.
func onDisk(t *testing.T) (dir string, store bucket) {
	t.Helper()
	dir = t.TempDir()
	s, err := storage.New(storage.Config{Allow: []string{"file://" + dir + "/"}})
	if err != nil {
		t.Fatal(err)
	}
	return dir, bucket{s}
}

// TestOutputWrittenOtherwise shows that a batch goes on where it was however the URL of its output is
// written: stores write it their own way in their lists.
func TestOutputWrittenOtherwise(t *testing.T) {
	for name, written := range map[string]string{
		"plain": "file://DIR/out/", "a space": "file://DIR/o ut/", "no ASCII": "file://DIR/öut/", "escaped for nothing": "file://DIR/%6Fut/", "in capitals": "FILE://DIR/out/",
	} {
		t.Run(name, func(t *testing.T) {
			dir, store := onDisk(t)
			writeFile(t, filepath.Join(dir, "in", "rows.ndjson"), numbers(40))
			b := someBatch()
			b.Input.URL = "file://" + dir + "/in/rows.ndjson"
			b.Output.URL = written[:len("file://")] + dir + written[len("file://DIR"):]
			ctx, cancel := context.WithCancel(t.Context())
			model := newModel()
			model.during = func(args string) {
				if args == `{"n":35}` {
					cancel()
				}
			}
			_, err := newEngine(t, store, model).Run(ctx, "job", b, batch.Watcher{})
			wantError(t, err, actions.Canceled, "stopped")
			model.during = nil
			if _, err = newEngine(t, store, model).Run(t.Context(), "job", b, batch.Watcher{}); err != nil {
				t.Fatal(err)
			}
			if n := model.calls(); n <= 40 || n > 50 {
				t.Errorf("got %d calls, want no more than one chunk of ten rows done again", n)
			}
		})
	}
}

// TestNamesInURLs shows that answers are stored under the names of their rows, whatever characters
// these have: none takes the place of another.
func TestNamesInURLs(t *testing.T) {
	dir, store := onDisk(t)
	names := []string{"a b", "a#1", "a#2", "a%20b", "b:c;d", "c?d", "ünï"}
	for _, name := range names {
		writeFile(t, filepath.Join(dir, "in", name), name)
	}
	b := someBatch()
	b.Input, b.Map, b.Output.Format = actions.BatchInput{URL: "file://" + dir + "/in/", Format: actions.Objects}, nil, actions.Objects
	b.Output.URL = "file://" + dir + "/out/"
	if _, err := newEngine(t, store, newModel()).Run(t.Context(), "job", b, batch.Watcher{}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	want := []string{"manifest.json"}
	for _, name := range names {
		want = append(want, name+".json")
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
}
