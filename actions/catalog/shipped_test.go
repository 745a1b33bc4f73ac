package catalog

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// TestShipped reads the actions that are built into the program: each is right, has
// its folder's name, and the files that it has no other source for.
func TestShipped(t *testing.T) {
	var log bytes.Buffer
	c := New(Config{Shipped: actions.Shipped(), CacheDir: t.TempDir(), Offline: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
	models, err := c.Models(t.Context())
	if err != nil || len(models) == 0 || log.Len() > 0 {
		t.Fatalf("got %d models, %v and the log %q, want models and no log", len(models), err, &log)
	}
	entries, err := fs.ReadDir(actions.Shipped(), ".")
	if err != nil || len(entries) != len(models) {
		t.Errorf("got %d models of %d folders, %v", len(models), len(entries), err)
	}
	for _, m := range models {
		if m.Title == "" || m.License == "" || m.Author == "" || m.Dir != "" || m.Spec == nil {
			t.Errorf("%s: got %+v, want a title, a license, an author and a spec", m.Name, m)
		}
		if m.Source == "" && m.Author != "The deepfn authors" { // ours comes from here
			t.Errorf("%s: got no source, want where it comes from", m.Name)
		}
		if m.Runtime == actions.Python {
			checkPython(t, c, m)
		}
		for name, f := range m.Files {
			if p, err := c.piece(name, f); err == nil && p.source() == "" {
				if _, err := c.local(m, p); err != nil {
					t.Errorf("%s: %v", m.Name, err)
				}
			}
		}
	}
}

// checkPython shows that a Python action finds its file when it has a folder, and that
// what it requires is pinned.
func checkPython(t *testing.T, c *Catalog, m actions.Model) {
	t.Helper()
	var spec struct {
		Path         string   `json:"path"`
		Requirements []string `json:"requirements"`
	}
	if err := json.Unmarshal(m.Spec, &spec); err != nil {
		t.Fatalf("%s: %v", m.Name, err)
	}
	placed, err := c.Materialize(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(placed.Dir, spec.Path)); spec.Path == "" || err != nil || !info.Mode().IsRegular() {
		t.Errorf("%s: path %q: got %v, %v, want a file", m.Name, spec.Path, info, err)
	}
	for _, r := range spec.Requirements {
		if !strings.Contains(r, "==") {
			t.Errorf("%s: requires %s, want it pinned", m.Name, r)
		}
	}
}
