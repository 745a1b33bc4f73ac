package environment

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// TestNothingToInstall: who adds a file, or a folder with nothing but files, is told how
// to serve them.
func TestNothingToInstall(t *testing.T) {
	e := New(Config{Dir: t.TempDir(), Python: python(t)})
	dir := t.TempDir()
	for _, name := range []string{"one/x.py", "two/a.py", "two/b.py", "it's [one]/x.py", "none/readme"} {
		write(t, dir, name, "")
	}
	if err := os.Mkdir(filepath.Join(dir, "none", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{
		"one":         "and no api.py; a file needs no installation: deepfn serve " + dir + "/one/x.py",
		"one/":        "deepfn serve " + dir + "/one/x.py",
		"one/x.py":    "is a file, which needs no installation: deepfn serve " + dir + "/one/x.py",
		"two":         "deepfn serve " + dir + "/two/FILE.py",
		"it's [one]":  "deepfn serve '" + dir + `/it'\''s [one]/x.py'`,
		"none":        "nor setup.py, and no api.py",
		"none/readme": "neither a zip nor a tar.gz nor a wheel",
	} {
		_, err := e.Add(t.Context(), dir+"/"+from, AddOptions{}, nil)
		wantError(t, err, actions.Invalid, want)
	}
}

func TestNoEntryPoint(t *testing.T) {
	wantError(t, noEntryPoint(), actions.Invalid, "\n[project.entry-points.\"deepaas.v2.model\"]\nname = \"package.api\"")
}
