package environment

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/disk"
)

// TestAddSweep shows that the source of an installation that was killed is removed by the
// next one, unless there is one that lives.
func TestAddSweep(t *testing.T) {
	e := New(Config{Dir: t.TempDir(), Python: python(t)})
	from := filepath.Dir(write(t, t.TempDir(), "none/readme", ""))
	write(t, e.cfg.Dir, ".source-123/repo/left", "by one that was killed")
	write(t, e.cfg.Dir, "module/.source-1", "of a person")
	lives, err := disk.LockShared(t.Context(), write(t, e.cfg.Dir, ".locks/.source", ""), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{{".locks", ".source-123", "module"}, {".locks", "module"}} {
		_, err := e.Add(t.Context(), from, AddOptions{}, nil)
		wantError(t, err, actions.Invalid, "not a Python project")
		if diff := cmp.Diff(want, names(t, e.cfg.Dir)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		_ = lives.Close()
	}
	if !exists(e.cfg.Dir, "module/.source-1") {
		t.Error("a file of somebody else is gone")
	}
	if held, err := disk.TryLock(filepath.Join(e.cfg.Dir, ".locks/.source")); held == nil || err != nil {
		t.Errorf("got %v, %v, want the lock given back", held, err)
	} else {
		_ = held.Close()
	}
}
