package batch_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/batch"
)

// inFolder is an engine whose model has a folder, and the interpreter of some machine.
func inFolder(t *testing.T, m *memory, model *model, dir, interpreter string, options ...option) *batch.Engine {
	t.Helper()
	return newEngine(t, &client{memory: m}, model, append(options, func(cfg *batch.Config) {
		cfg.Model = func(context.Context, string) (actions.Model, error) {
			spec, err := json.Marshal(map[string]string{"path": "model.py", "interpreter": interpreter})
			return actions.Model{Name: "twice", Runtime: actions.Executable, Dir: dir, Spec: spec}, err
		}
	})...)
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestModelChanged changes a model without a version in the middle of a batch, which does not go on with
// it: its output would be of two models. What a model writes itself changes nothing, nor does
// another place.
func TestModelChanged(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		code actions.Code
	}{
		"code": {"model.py", actions.Conflict}, "a module of it": {"lib/net.py", actions.Conflict}, "weights": {"net.pt", actions.Conflict},
		"a log": {"predictions.log", ""}, "a cache": {"__pycache__/model.cpython-313.py", ""}, "an environment": {"venv/lib/a.py", ""},
	} {
		t.Run(name, func(t *testing.T) {
			objects := map[string]string{input: numbers(30)}
			m, dir := newMemory(objects), t.TempDir()
			for _, file := range []string{"model.py", "lib/net.py", "net.pt", "venv/pyvenv.cfg", "venv/lib/a.py"} {
				writeFile(t, filepath.Join(dir, file), "before")
			}
			ctx, cancel := context.WithCancel(t.Context())
			model := newModel()
			model.during = func(args string) {
				if args == `{"n":15}` {
					cancel()
				}
			}
			_, err := inFolder(t, m, model, dir, "/a/python").Run(ctx, "job", someBatch(), batch.Watcher{})
			wantError(t, err, actions.Canceled, "stopped")
			moved := filepath.Join(t.TempDir(), "twice")
			if err := os.CopyFS(moved, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(moved, test.file), "behind")
			_, err = inFolder(t, m, newModel(), moved, "/b/python").Run(t.Context(), "job", someBatch(), batch.Watcher{})
			wantError(t, err, test.code, "the model twice is not what it was")
			if _, err := inFolder(t, m, newModel(), dir, "/a/python").Run(t.Context(), "job", someBatch(), batch.Watcher{}); err != nil {
				t.Fatal(err)
			}
			got, want := m.below(output), undisturbed(t, objects, someBatch())
			delete(got, "manifest.json") // which has the model
			delete(want, "manifest.json")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReplicaOfAnotherModel shows that a replica does no chunks with a model that is another one.
func TestReplicaOfAnotherModel(t *testing.T) {
	m, here, there := newMemory(map[string]string{input: numbers(30)}), t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(here, "model.py"), "one")
	writeFile(t, filepath.Join(there, "model.py"), "two")
	replica := inFolder(t, m, newModel(), there, "/b/python")
	coordinator := inFolder(t, m, newModel(), here, "/a/python", func(cfg *batch.Config) {
		cfg.Dispatch = func(ctx context.Context, _ string, c actions.Chunk) error {
			wantError(t, replica.Do(ctx, c), actions.Conflict, "another twice")
			return nil
		}
	})
	_, err := coordinator.Run(t.Context(), "job", throughBatch(), batch.Watcher{})
	wantError(t, err, actions.Conflict, "another twice")
}

// TestModelGone shows that a model whose folder is not there is an error that says so.
func TestModelGone(t *testing.T) {
	m := newMemory(map[string]string{input: numbers(3)})
	engine := inFolder(t, m, newModel(), filepath.Join(t.TempDir(), "gone"), "python3")
	_, err := engine.Run(t.Context(), "job", someBatch(), batch.Watcher{})
	wantError(t, err, actions.Unavailable, "its files")
}
