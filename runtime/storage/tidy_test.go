package storage

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// TestTidy shows that what killed processes and removed files leave is removed, and nothing else.
func TestTidy(t *testing.T) {
	dir := t.TempDir()
	s := newStorage(t, Config{Allow: []string{"file://" + dir + "/out/"}})
	out := filepath.Join(dir, "out")
	for _, name := range []string{"a.txt", "b/c.txt", "b/" + temporary + "1", temporary + "2", "d/e/" + temporary + "3"} {
		path := filepath.Join(out, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(out, "f/g"), 0o700); err != nil {
		t.Fatal(err)
	}
	held, err := os.Create(filepath.Join(out, temporary+"4")) // is being written
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	if !hold(held) {
		t.Fatal("the file is not held")
	}
	if err := s.Tidy(t.Context(), "file://"+out+"/"); err != nil {
		t.Fatal(err)
	}
	var left []string
	if err := filepath.WalkDir(out, func(path string, _ os.DirEntry, err error) error {
		left = append(left, path[len(out):])
		return err
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{"", "/" + temporary + "4", "/a.txt", "/b", "/b/c.txt"}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if err := s.Tidy(t.Context(), "file://"+out+"/none/"); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
	wantError(t, s.Tidy(t.Context(), "file://"+dir+"/"), actions.Forbidden, "--allow-url")
}
