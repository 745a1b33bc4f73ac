package catalog

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/archive"
)

// TestImport shows what becomes of each kind of code.
func TestImport(t *testing.T) {
	c := New(Config{CacheDir: t.TempDir()})
	function := "def main(args):\n    return args\n"
	for name, tt := range map[string]struct {
		source                actions.Source
		name, runtime, spec   string
		file, content, absent string
	}{
		"source":        {actions.Source{Name: "/guest/pkg/Hello", Main: "main", Data: []byte(function)}, "hello", "python", `{"path":"__main__.py"}`, "__main__.py", function, "exec"},
		"source niam":   {actions.Source{Name: "niam", Main: "niam", Data: []byte("def niam(args): pass")}, "niam", "python", `{"path":"__main__.py","main":"niam"}`, "__main__.py", "def niam(args): pass", ""},
		"no name":       {actions.Source{Data: []byte("x = 1")}, "function", "python", `{"path":"__main__.py"}`, "__main__.py", "x = 1", ""},
		"with a bom":    {actions.Source{Name: "/_/", Data: []byte("\ufeffx = 1")}, "function", "python", `{"path":"__main__.py"}`, "__main__.py", "\ufeffx = 1", ""},
		"function + #!": {actions.Source{Name: "a", Data: []byte("#!/usr/bin/env python3\n" + function)}, "a", "python", `{"path":"__main__.py"}`, "__main__.py", "#!/usr/bin/env python3\n" + function, ""},
		"script":        {actions.Source{Name: "b", Main: "main", Data: []byte("#!/bin/sh\necho\n")}, "b", "executable", `{"path":"exec"}`, "exec", "#!/bin/sh\necho\n", "__main__.py"},
		"python script": {actions.Source{Name: "c", Data: []byte("#!/usr/bin/python\nimport sys\ndef main(argv):\n  for l in sys.stdin: pass\n")}, "c", "executable", `{"path":"exec"}`, "", "", ""},
		"python loop":   {actions.Source{Name: "c", Data: []byte("#!/usr/bin/python\ndef main():\n  input()\nmain()")}, "c", "executable", `{"path":"exec"}`, "", "", ""},
		"program":       {actions.Source{Name: "d", Main: "x", Data: []byte("\x7fELF\x02\x00")}, "d", "executable", `{"path":"exec"}`, "exec", "\x7fELF\x02\x00", ""},
		"zip function":  {actions.Source{Name: "e", Main: "f", Data: zipOf(t, map[string]string{"__main__.py": function, "lib/x.py": ""})}, "e", "python", `{"path":"__main__.py","main":"f"}`, "lib/x.py", "", ""},
		"zip exec":      {actions.Source{Name: "f", Main: "f", Data: zipOf(t, map[string]string{"exec": "#!/bin/sh", "__main__.py": function})}, "f", "executable", `{"path":"exec"}`, "exec", "#!/bin/sh", ""},
		"zip module":    {actions.Source{Name: "g", Data: zipOf(t, map[string]string{"api.py": "1"})}, "g", "python", `{"path":"api.py"}`, "api.py", "1", ""},
		"tar function":  {actions.Source{Name: "h", Data: tarOf(t, map[string]string{"__main__.py": function})}, "h", "python", `{"path":"__main__.py"}`, "__main__.py", function, ""},
		"zip action":    {actions.Source{Name: "/ns/I", Main: "x", Data: zipOf(t, map[string]string{"action.yaml": "name: mine\nruntime: http\nhttp: {port: 1}\n"})}, "i", "http", `{"port":1}`, "action.yaml", "name: mine\nruntime: http\nhttp: {port: 1}\n", ""},
		"zip action 2":  {actions.Source{Data: zipOf(t, map[string]string{"action.yaml": "name: mine\nruntime: http\n"})}, "mine", "http", "", "", "", ""},
		"zip action 3":  {actions.Source{Data: zipOf(t, map[string]string{"action.yaml": "runtime: http\n"})}, "function", "http", "", "", "", ""},
	} {
		tt.source.Env = map[string]string{"A": name}
		m, err := c.Import(t.Context(), tt.source)
		if err != nil || m.Name != tt.name || m.Runtime != tt.runtime || string(m.Spec) != tt.spec || m.Env["A"] != name {
			t.Errorf("%s: got %+v with %s, %v, want %s", name, m, m.Spec, err, tt.spec)
			continue
		}
		if known, err := c.Model(t.Context(), tt.name); err != nil || !cmp.Equal(known, m) {
			t.Errorf("%s: got %+v, %v, want the imported model", name, known, err)
		}
		if data, err := os.ReadFile(filepath.Join(m.Dir, tt.file)); tt.file != "" && (err != nil || string(data) != tt.content) {
			t.Errorf("%s: got %q, %v, want %q", name, data, err, tt.content)
		}
		if _, err := os.Stat(filepath.Join(m.Dir, tt.absent)); tt.absent != "" && err == nil {
			t.Errorf("%s: got a file %s, want none", name, tt.absent)
		}
		if info, err := os.Stat(filepath.Join(m.Dir, "exec")); m.Runtime == actions.Executable && (err != nil || info.Mode().Perm() != 0o755) {
			t.Errorf("%s: got %v, %v, want exec executable", name, info, err)
		}
	}
}

// TestImportErrors shows what is no code, and that it leaves nothing.
func TestImportErrors(t *testing.T) {
	cache := t.TempDir()
	c := New(Config{CacheDir: cache, Unpack: archive.Limits{Files: 3}})
	zipped := zipOf(t, map[string]string{"__main__.py": "x"})
	for name, tt := range map[string]struct {
		data []byte
		code actions.Code
		want string
	}{
		"none":        {nil, actions.Invalid, "there is none"},
		"latin-1":     {[]byte("x = '\xe9'"), actions.Invalid, "nor the text of a Python function"},
		"zero byte":   {[]byte("x = '\x00'"), actions.Invalid, "nor the text of a Python function"},
		"cut":         {zipped[:len(zipped)-5], actions.Invalid, "damaged or cut short"},
		"slip":        {zipOf(t, map[string]string{"../x": "x"}), actions.Invalid, "leads out"},
		"many":        {zipOf(t, map[string]string{"1": "", "2": "", "3": "", "4": ""}), actions.TooLarge, "more than 3 files"},
		"no main":     {zipOf(t, map[string]string{"main.py": "x"}), actions.Invalid, "Zip file does not include __main__.py or exec"},
		"one folder":  {zipOf(t, map[string]string{"a/__main__.py": "x"}), actions.Invalid, "Zip file does not include"},
		"tar no main": {tarOf(t, map[string]string{"main.py": "x"}), actions.Invalid, "Archive does not include"},
		"empty":       {zipOf(t, nil), actions.Invalid, "Zip file does not include"},
		"main folder": {zipOf(t, map[string]string{"__main__.py/x": "x"}), actions.Invalid, "Zip file does not include"},
		"broken action": {
			zipOf(t, map[string]string{"action.yaml": "runtime: [\n", "__main__.py": ""}), actions.Invalid, "action.yaml:",
		},
		"module": {zipOf(t, map[string]string{"setup.cfg": "deepaas.v2.model ="}), actions.Invalid, "deepfn add"},
	} {
		_, err := c.Import(t.Context(), actions.Source{Name: "bad", Data: tt.data})
		if actions.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %s %v, want %s with %q", name, actions.CodeOf(err), err, tt.code, tt.want)
		}
	}
	if _, err := c.Model(t.Context(), "bad"); actions.CodeOf(err) != actions.NotFound {
		t.Errorf("got %v, want that nothing was imported", err)
	}
	wantClean(t, cache)
	good := actions.Source{Name: "a", Data: zipped}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Import(canceled, good)
	wantError(t, err, actions.Canceled, "code")
	_, err = New(Config{}).Import(t.Context(), good)
	wantError(t, err, actions.Unavailable, "no folder is set for the cache")
	_, err = New(Config{CacheDir: write(t, t.TempDir(), "file", "")}).Import(t.Context(), good)
	wantError(t, err, actions.Unavailable, "not a directory")
}

// TestImportAgain shows that the same code is unpacked once, that each import has its own
// name and environment, and that an imported model hides one on disk.
func TestImportAgain(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	write(t, dir, "a/action.yaml", minimal("On disk"))
	write(t, dir, "z/action.yaml", minimal("Last"))
	data := zipOf(t, map[string]string{"__main__.py": "x", "note": "first"})
	c := New(Config{CacheDir: cache, Dirs: []string{dir}})
	a, err := c.Import(t.Context(), actions.Source{Name: "a", Data: data, Env: map[string]string{"A": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, a.Dir, "note", "kept")
	b, err := New(Config{CacheDir: cache}).Import(t.Context(), actions.Source{Name: "b", Main: "f", Data: data})
	if err != nil || b.Dir != a.Dir || b.Name != "b" || len(b.Env) > 0 {
		t.Errorf("got %+v, %v, want the folder of %+v", b, err, a)
	}
	if note, err := os.ReadFile(filepath.Join(b.Dir, "note")); err != nil || string(note) != "kept" {
		t.Errorf("got %q, %v, want that the code was not unpacked again", note, err)
	}
	models, err := c.Models(t.Context())
	if err != nil || len(models) != 2 || models[0].Dir != a.Dir || models[1].Title != "Last" {
		t.Errorf("got %+v, %v, want the imported a, and z", models, err)
	}
}

// TestImportAtOnce imports the same code many times at once.
func TestImportAtOnce(t *testing.T) {
	cache := t.TempDir()
	files := map[string]string{"__main__.py": "x"}
	for _, name := range []string{"b", "c", "d", "e"} {
		files[name] = strings.Repeat(name, 10_000)
	}
	data := zipOf(t, files)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			m, err := New(Config{CacheDir: cache}).Import(t.Context(), actions.Source{Name: "a", Data: data})
			if err != nil {
				t.Error(err)
				return
			}
			for name, want := range files {
				if got, err := os.ReadFile(filepath.Join(m.Dir, name)); err != nil || string(got) != want {
					t.Errorf("%s: got %d bytes, %v, want %d", name, len(got), err, len(want))
				}
			}
		})
	}
	wg.Wait()
	if entries, err := os.ReadDir(filepath.Join(cache, "code")); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v, want the code once", entries, err)
	}
	if err := os.RemoveAll(filepath.Join(cache, "code")); err != nil {
		t.Fatal(err)
	}
	wantClean(t, cache)
}

// TestMaterialize writes the files of an action in the program, and mends them.
func TestMaterialize(t *testing.T) {
	cache := t.TempDir()
	shipped := fstest.MapFS{
		"demo/action.yaml": {Data: []byte("runtime: python\npython: {path: api.py}\n")},
		"demo/api.py":      {Data: []byte("x = 1\n")},
		"demo/lib/run":     {Data: []byte("#!/bin/sh\n")},
		"other/a":          {Data: []byte("")},
	}
	c := New(Config{CacheDir: cache, Shipped: shipped})
	m, err := c.Model(t.Context(), "demo")
	if err != nil || m.Dir != "" {
		t.Fatalf("got %+v, %v, want no folder", m, err)
	}
	for range 3 {
		got, err := c.Materialize(t.Context(), m)
		if err != nil || filepath.Base(got.Dir) != "demo" || !filepath.IsAbs(got.Dir) {
			t.Fatalf("got %+v, %v", got, err)
		}
		for name, want := range map[string]string{"api.py": "x = 1\n", "lib/run": "#!/bin/sh\n", "action.yaml": string(shipped["demo/action.yaml"].Data)} {
			if data, err := os.ReadFile(filepath.Join(got.Dir, name)); err != nil || string(data) != want {
				t.Errorf("%s: got %q, %v, want %q", name, data, err, want)
			}
		}
		if info, err := os.Stat(filepath.Join(got.Dir, "lib/run")); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("got %v, %v, want a program", info, err)
		}
		if entries, err := os.ReadDir(got.Dir); err != nil || len(entries) != 3 {
			t.Errorf("got %v, %v, want three entries", entries, err)
		}
		write(t, got.Dir, "api.py", "broken")
		if err := os.RemoveAll(filepath.Join(got.Dir, "lib")); err != nil {
			t.Fatal(err)
		}
		if again, err := c.Materialize(t.Context(), got); err != nil || !cmp.Equal(again, got) {
			t.Errorf("got %+v, %v, want the model as it was", again, err)
		}
	}
	first, err := c.Materialize(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	shipped["demo/api.py"] = &fstest.MapFile{Data: []byte("x = 2\n")}
	if second, err := c.Materialize(t.Context(), m); err != nil || second.Dir == first.Dir {
		t.Errorf("got %s twice, %v, want another folder for another version", second.Dir, err)
	}
}

// TestMaterializeErrors shows what cannot be given a folder.
func TestMaterializeErrors(t *testing.T) {
	shipped := fstest.MapFS{"demo/action.yaml": {Data: []byte("runtime: python\n")}}
	m := actions.Model{Name: "demo"}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := New(Config{Shipped: shipped, CacheDir: t.TempDir()}).Materialize(canceled, m)
	wantError(t, err, actions.Canceled, "model demo")
	_, err = New(Config{Shipped: shipped}).Materialize(t.Context(), m)
	wantError(t, err, actions.Unavailable, "no folder is set for the cache")
	_, err = New(Config{CacheDir: t.TempDir()}).Materialize(t.Context(), m)
	wantError(t, err, actions.NotFound, "is not in the program")
	_, err = New(Config{Shipped: shipped, CacheDir: write(t, t.TempDir(), "file", "")}).Materialize(t.Context(), m)
	wantError(t, err, actions.Unavailable, "not a directory")
}

// TestImportSync shows that code which is not on the disk is not in the cache either.
func TestImportSync(t *testing.T) {
	cache := t.TempDir()
	c := New(Config{CacheDir: cache})
	c.publish = func(dir, _ string) error {
		return &os.PathError{Op: "sync", Path: dir, Err: syscall.EIO}
	}
	source := actions.Source{Name: "a", Data: []byte("def main(args): pass")}
	_, err := c.Import(t.Context(), source)
	wantError(t, err, actions.Unavailable, "input/output error")
	if entries, err := os.ReadDir(filepath.Join(cache, "code")); err != nil || len(entries) > 0 {
		t.Errorf("got %v, %v, want nothing kept", entries, err)
	}
	if _, err := New(Config{CacheDir: cache}).Import(t.Context(), source); err != nil {
		t.Errorf("again, with a disk that works: %v", err)
	}
}

// TestImportForgets shows that nothing is remembered of folders that do not stay.
func TestImportForgets(t *testing.T) {
	c := New(Config{CacheDir: t.TempDir()})
	for _, content := range []string{"runtime: http\n", "runtime: http\ntitle: A\n", "runtime: [\n"} {
		_, err := c.Import(t.Context(), actions.Source{Name: "a", Data: zipOf(t, map[string]string{"action.yaml": content})})
		if bad := strings.Contains(content, "["); (err != nil) != bad {
			t.Errorf("%q: got %v", content, err)
		}
	}
	if len(c.readings) != 2 {
		t.Errorf("got %d readings, want those of the two in the cache", len(c.readings))
	}
	for key := range c.readings {
		if file, _, _ := strings.Cut(key, "\x00"); !strings.Contains(file, "/code/") {
			t.Errorf("%s is remembered", file)
		} else if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
}

// TestForget takes out what was imported, and nothing else.
func TestForget(t *testing.T) {
	c := New(Config{CacheDir: t.TempDir()})
	for _, name := range []string{"gone", "stays"} {
		if _, err := c.Import(t.Context(), actions.Source{Name: name, Data: []byte("def main(args):\n    return args\n")}); err != nil {
			t.Fatal(err)
		}
	}
	c.Forget("gone")
	c.Forget("never seen")
	if _, err := c.Model(t.Context(), "gone"); actions.CodeOf(err) != actions.NotFound {
		t.Errorf("got %v", err)
	}
	if _, err := c.Model(t.Context(), "stays"); err != nil {
		t.Error(err)
	}
}
