package catalog

import (
	"bytes"
	"io/fs"
	"log/slog"
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
		if m.Title == "" || m.License == "" || m.Source == "" || m.Dir != "" || m.Spec == nil {
			t.Errorf("%s: got %+v, want a title, a license, a source and a spec", m.Name, m)
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
