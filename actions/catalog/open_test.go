package catalog

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/archive"
)

// zipOf makes a zip archive of names and contents.
func zipOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for name, content := range files {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write([]byte(content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// tarOf makes a tar.gz archive of names and contents.
func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for name, content := range files {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = w.Write([]byte(content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// program writes an executable file.
func program(t *testing.T, dir, name string, perm fs.FileMode) {
	t.Helper()
	if err := os.Chmod(write(t, dir, name, "#!/bin/sh\n"), perm); err != nil {
		t.Fatal(err)
	}
}

// TestOpenKinds shows all that a person may name beside an action, and its model.
func TestOpenKinds(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, dir, "Hello World/__main__.py", "def main(args): return args\n")
	write(t, dir, "module/api.py", "")
	program(t, dir, "native/exec", 0o755)
	write(t, dir, "native/__main__.py", "")
	write(t, dir, "both/action.yaml", "runtime: http\nhttp: {command: [serve]}\n")
	write(t, dir, "both/__main__.py", "")
	write(t, dir, "my_Func.py", "")
	write(t, dir, "pkg/__main__.py", "")
	program(t, dir, "tool.sh", 0o755)
	write(t, dir, "a.zip", string(zipOf(t, map[string]string{"__main__.py": "", "data.txt": "x"})))
	write(t, dir, "repo-main.zip", string(zipOf(t, map[string]string{"repo-main/api.py": "", "repo-main/README": ""})))
	write(t, dir, "tools.tar.gz", string(tarOf(t, map[string]string{"exec": "#!/bin/sh\n"})))
	write(t, dir, "tools.tgz", string(tarOf(t, map[string]string{"action.yaml": "runtime: executable\nexecutable: {path: run}\n"})))
	write(t, dir, "archive-without-suffix", string(zipOf(t, map[string]string{"action.yaml": "name: other\nruntime: python\n"})))
	c := New(Config{CacheDir: filepath.Join(dir, "cache")})
	for in, want := range map[string]struct{ name, runtime, spec, file string }{
		"./Hello World":            {"hello-world", "python", `{"path":"__main__.py"}`, "Hello World/__main__.py"},
		"./module":                 {"module", "python", `{"path":"api.py"}`, "module/api.py"},
		"./native/":                {"native", "executable", `{"path":"exec"}`, "native/exec"},
		"./both":                   {"both", "http", `{"command":["serve"]}`, "both/action.yaml"},
		"my_Func.py":               {"my_func", "python", `{"path":"my_Func.py"}`, "my_Func.py"},
		"pkg/__main__.py":          {"pkg", "python", `{"path":"__main__.py"}`, "pkg/__main__.py"},
		"./tool.sh":                {"tool", "executable", `{"path":"tool.sh"}`, "tool.sh"},
		"a.zip":                    {"a", "python", `{"path":"__main__.py"}`, ""},
		"./repo-main.zip":          {"repo-main", "python", `{"path":"api.py"}`, ""},
		"tools.tar.gz":             {"tools", "executable", `{"path":"exec"}`, ""},
		"tools.tgz":                {"tools", "executable", `{"path":"run"}`, ""},
		"./archive-without-suffix": {"other", "python", "", ""},
	} {
		m, err := c.Open(t.Context(), in)
		if err != nil || m.Name != want.name || m.Runtime != want.runtime || string(m.Spec) != want.spec || len(m.Arguments) > 0 {
			t.Errorf("%s: got %+v with %s, %v, want %+v", in, m, m.Spec, err, want)
		}
		if !filepath.IsAbs(m.Dir) || want.file != "" && filepath.Dir(filepath.Join(dir, want.file)) != m.Dir {
			t.Errorf("%s: got the folder %s, want that of %s", in, m.Dir, want.file)
		}
	}
	m, err := c.Open(t.Context(), "tools.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(m.Dir, "exec")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("got %v, %v, want exec executable", info, err)
	}
}

// TestOpenKindErrors shows what a person is told who names something else.
func TestOpenKindErrors(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	declaration := "[project.entry-points.\"deepaas.v2.model\"]\nx = \"x.api\"\n"
	write(t, dir, "module/pyproject.toml", declaration)
	write(t, dir, "module/api.py", "")
	write(t, dir, "old/setup.cfg", "[entry_points]\ndeepaas.v2.model =\n    x = x.api\n")
	write(t, dir, "older/setup.py", "setup(entry_points={'deepaas.v2.model': ['x=x.api']})\n")
	write(t, dir, "other/pyproject.toml", "# not for deepaas.v2.model\n[project]\n")
	write(t, dir, "repo.zip", string(zipOf(t, map[string]string{"repo/pyproject.toml": declaration})))
	write(t, dir, "bad.zip", string(zipOf(t, map[string]string{"a": "A"})[:30]))
	write(t, dir, "slip.zip", string(zipOf(t, map[string]string{"../../x": "A"})))
	write(t, dir, "large.zip", string(zipOf(t, map[string]string{"a": strings.Repeat("a", 2000)})))
	write(t, dir, "nothing.tar.gz", string(tarOf(t, map[string]string{"a": "A"})))
	write(t, dir, "notes.txt", "hello")
	write(t, dir, "empty.zip", "")
	program(t, dir, "locked/exec", 0o644)
	program(t, dir, "locked.sh", 0o644)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.py"), 0o644); err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(dir, "cache")
	c := New(Config{CacheDir: cache, Unpack: archive.Limits{Bytes: 1000}})
	for in, want := range map[string]struct {
		code actions.Code
		text string
	}{
		"./module":       {actions.Invalid, "installed first: deepfn add ./module"},
		"./old":          {actions.Invalid, "deepfn add ./old"},
		"./older":        {actions.Invalid, "deepfn add ./older"},
		"./other":        {actions.NotFound, "nothing to serve in ./other; an action is a folder with a file action.yaml"},
		"other":          {actions.NotFound, "for the folder write ./other"},
		"notes.txt":      {actions.NotFound, "for the file write ./notes.txt"},
		"repo.zip":       {actions.Invalid, "deepfn add repo.zip"},
		"bad.zip":        {actions.Invalid, "damaged or cut short"},
		"slip.zip":       {actions.Invalid, "leads out of the folder"},
		"large.zip":      {actions.TooLarge, "more than 1000 bytes"},
		"nothing.tar.gz": {actions.NotFound, "nothing to serve in nothing.tar.gz"},
		"./notes.txt":    {actions.NotFound, "a .py file, an executable, or a .zip or .tar.gz"},
		"empty.zip":      {actions.NotFound, "nothing that can be served"},
		"missing.zip":    {actions.NotFound, "no such file"},
		"./locked":       {actions.Invalid, "chmod +x " + filepath.Join(dir, "locked/exec")},
		"./locked.sh":    {actions.Invalid, "chmod +x " + filepath.Join(dir, "locked.sh")},
		"pipe.py":        {actions.Invalid, "neither a file nor a folder"},
	} {
		_, err := c.Open(t.Context(), in)
		if actions.CodeOf(err) != want.code || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: got %s %v, want %s with %q", in, actions.CodeOf(err), err, want.code, want.text)
		}
	}
	wantClean(t, cache)
	_, err := New(Config{}).Open(t.Context(), "repo.zip")
	wantError(t, err, actions.Unavailable, "no folder is set for the cache")
}

// TestModelName makes names of all kinds of text.
func TestModelName(t *testing.T) {
	for in, want := range map[string]string{
		"hello": "hello", "Hello World": "hello-world", "__main__": "main", ".": "function", "": "function", "日本": "function",
		"-a-": "a", "a_b.c-d": "a_b.c-d", "Ünï": "n", strings.Repeat("a", 62) + "-bc": strings.Repeat("a", 62),
	} {
		got := modelName(in)
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
		if err := (actions.Model{Name: got, Runtime: "any"}).Validate(); err != nil {
			t.Errorf("%q: %v", in, err)
		}
	}
}
