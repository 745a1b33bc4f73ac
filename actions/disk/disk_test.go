package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// journal notes what is synced, below dir, and can fail.
type journal struct {
	dir   string
	fails string
	names []string
}

var errDisk = errors.New("the disk is gone")

func (j *journal) sync(f *os.File) error {
	name, err := filepath.Rel(j.dir, f.Name())
	if err != nil {
		return err
	}
	if strings.HasSuffix(name, ".part") {
		name = "part"
	}
	j.names = append(j.names, name)
	if name == j.fails {
		return errDisk
	}
	return nil
}

func put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			rel, relErr := filepath.Rel(dir, path)
			names, err = append(names, rel), relErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestWriteFile writes a new file and over one that is there.
func TestWriteFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	for i, perm := range []fs.FileMode{0o644, 0o755, 0o600} {
		content := strings.Repeat("x", 3-i)
		if err := WriteFile(name, []byte(content), perm); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		info, statErr := os.Stat(name)
		if err != nil || statErr != nil || string(got) != content || info.Mode().Perm() != perm {
			t.Errorf("got %q, %v, %v, %v, want %q with %v", got, info, err, statErr, content, perm)
		}
	}
	if got := list(t, filepath.Dir(name)); !cmp.Equal(got, []string{"file"}) {
		t.Errorf("got %q, want the file alone", got)
	}
	if err := WriteFile(filepath.Join(name, "below"), nil, 0o644); err == nil {
		t.Error("got no error below a file")
	}
}

// TestWriteOrder shows that the data is on the disk before the name.
func TestWriteOrder(t *testing.T) {
	errFill := errors.New("no more")
	for name, tt := range map[string]struct {
		fill  error
		fails string
		want  error
		names []string
		left  string
	}{
		"well":         {nil, "", nil, []string{"part", "."}, "new"},
		"no data":      {errFill, "", errFill, nil, "old"},
		"no sync":      {nil, "part", errDisk, []string{"part"}, "old"},
		"no directory": {nil, ".", errDisk, []string{"part", "."}, "new"},
	} {
		dir := t.TempDir()
		j := &journal{dir: dir, fails: tt.fails}
		file := filepath.Join(dir, "file")
		put(t, file, "old")
		err := write(file, dir, 0o644, func(w io.Writer) error {
			_, err := io.WriteString(w, "new")
			return errors.Join(err, tt.fill)
		}, j.sync)
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != tt.left {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, tt.left)
		}
		if diff := cmp.Diff(tt.names, j.names); diff != "" || !cmp.Equal(list(t, dir), []string{"file"}) {
			t.Errorf("%s: got %q left (-want +got):\n%s", name, list(t, dir), diff)
		}
	}
}

// TestPublish shows that a folder has its name only when all in it is on the disk.
func TestPublish(t *testing.T) {
	for fails, want := range map[string][]string{
		"":         {"work", "work/a", "work/b", "work/b/c", "."},
		"work/b/c": {"work", "work/a", "work/b", "work/b/c"},
	} {
		dir := t.TempDir()
		work, to := filepath.Join(dir, "work"), filepath.Join(dir, "whole")
		put(t, filepath.Join(work, "a"), "1")
		put(t, filepath.Join(work, "b/c"), "2")
		if err := os.Symlink("/nowhere", filepath.Join(work, "link")); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(filepath.Join(work, "pipe"), 0o644); err != nil { // opening it would block
			t.Fatal(err)
		}
		j := &journal{dir: dir, fails: fails}
		err := publish(work, to, j.sync)
		if _, statErr := os.Stat(to); (err == nil) != (fails == "") || (statErr == nil) != (fails == "") {
			t.Errorf("%q: got %v, %v, want the folder only without an error", fails, err, statErr)
		}
		if diff := cmp.Diff(want, j.names); diff != "" {
			t.Errorf("%q: (-want +got):\n%s", fails, diff)
		}
	}
	dir := t.TempDir()
	put(t, filepath.Join(dir, "work/a"), "1")
	if err := Publish(filepath.Join(dir, "work"), filepath.Join(dir, "whole")); err != nil {
		t.Error(err)
	}
	if err := Sync(filepath.Join(dir, "whole")); err != nil || !cmp.Equal(list(t, dir), []string{"whole/a"}) {
		t.Errorf("got %q, %v, want the folder by its name", list(t, dir), err)
	}
	if err := Publish(filepath.Join(dir, "missing"), filepath.Join(dir, "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that there is nothing", err)
	}
}

// TestSyncMany shows that many files are not synced one by one.
func TestSyncMany(t *testing.T) {
	dir := t.TempDir()
	for i := range manyFiles {
		put(t, filepath.Join(dir, fmt.Sprint(i)), "")
	}
	j := &journal{dir: dir}
	calls := 0
	err := syncTree(dir, j.sync, func(int) error { calls++; return unix.EIO })
	if calls != 1 || len(j.names) > 0 || !errors.Is(err, unix.EIO) {
		t.Errorf("got %d calls, %q, %v, want one for all, and its error", calls, j.names, err)
	}
	if err := Sync(dir); err != nil {
		t.Error(err)
	}
}

// TestSyncUnable shows that a file system which cannot sync folders is good enough.
func TestSyncUnable(t *testing.T) {
	for _, err := range []error{unix.EINVAL, unix.ENOTSUP} {
		if got := syncPath(t.TempDir(), func(*os.File) error { return &fs.PathError{Op: "sync", Err: err} }); got != nil {
			t.Errorf("got %v, want none", got)
		}
	}
}

// TestLock shows who waits for whom.
func TestLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	held, err := Lock(t.Context(), name, func() { t.Error("waited for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	if got, err := TryLock(name); got != nil || err != nil {
		t.Errorf("got %v, %v, want nothing while another has it", got, err)
	}
	for _, wait := range []func(context.Context, string, func()) (*os.File, error){Lock, LockShared} {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		if got, err := wait(ctx, name, func() { calls++; cancel() }); got != nil || !errors.Is(err, context.Canceled) || calls != 1 {
			t.Errorf("got %v, %v, %d calls, want that it gives up", got, err, calls)
		}
	}
	second, err := LockShared(t.Context(), name, func() { _ = held.Close() })
	if err != nil {
		t.Fatal(err)
	}
	third, err := LockShared(t.Context(), name, func() { t.Error("waited for one who shares") })
	if err != nil {
		t.Fatal(err)
	}
	if got, err := TryLock(name); got != nil || err != nil {
		t.Errorf("got %v, %v, want nothing while others share it", got, err)
	}
	if err := errors.Join(second.Close(), third.Close()); err != nil {
		t.Fatal(err)
	}
	last, err := TryLock(name)
	if err != nil || last == nil {
		t.Fatalf("got %v, %v, want the lock", last, err)
	}
	_ = last.Close()
	for _, lock := range []func() (*os.File, error){
		func() (*os.File, error) { return TryLock(t.TempDir()) },
		func() (*os.File, error) { return Lock(t.Context(), t.TempDir(), nil) },
	} {
		if f, err := lock(); f != nil || err == nil {
			t.Errorf("got %v, %v, want an error for a folder", f, err)
		}
	}
}
