package launcher

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestUnpackByMany(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache", "deepfn")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if name, err := unpack(dir); err != nil || !whole(t, name) {
				t.Errorf("unpack: %s, %v", name, err)
			}
		})
	}
	wg.Wait()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v, want the one folder", entries, err)
	}
}

// whole says whether the folder is what is embedded.
func whole(t *testing.T, name string) bool {
	t.Helper()
	contents, _, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	if len(contents["__init__.py"]) == 0 {
		t.Fatal("the Python side is not embedded")
	}
	return same(name, contents)
}

func TestUnpackRepairs(t *testing.T) {
	tests := []struct {
		name   string
		damage func(name string) error
	}{
		{"a file is cut", func(name string) error { return os.Truncate(filepath.Join(name, packageName, "__init__.py"), 3) }},
		{"a file is missing", func(name string) error { return os.Remove(filepath.Join(name, packageName, "words.py")) }},
		{"all is missing", os.RemoveAll},
		{"there is more", func(name string) error { return os.WriteFile(filepath.Join(name, "json.py"), nil, 0o600) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			name, err := unpack(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.damage(name); err != nil {
				t.Fatal(err)
			}
			if whole(t, name) {
				t.Fatal("the damage is not noticed")
			}
			if again, err := unpack(dir); err != nil || again != name || !whole(t, again) {
				t.Errorf("got %s, %v", again, err)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
				t.Errorf("got %v, %v, want the one folder", entries, err)
			}
		})
	}
}

// What Python writes beside the files is no damage.
func TestUnpackKeepsBytecode(t *testing.T) {
	dir := t.TempDir()
	name, err := unpack(dir)
	if err != nil {
		t.Fatal(err)
	}
	bytecode := filepath.Join(name, packageName, "__pycache__")
	if err := os.Mkdir(bytecode, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bytecode); err != nil {
		t.Error(err)
	}
}

func TestUnpackWhereNothingCanBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if name, err := unpack(filepath.Join(file, "cache")); err == nil {
		t.Errorf("got %s", name)
	}
}
