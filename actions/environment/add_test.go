package environment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// backend is a build system that needs nothing: it is in the project itself, and is told
// by the file "project" what to build.
const backend = `
import os, zipfile
here = os.getcwd()
def parts():
    name, version, editable, requires, entries = open("project").read().split("\n", 4)
    return name, version, editable, requires.split(), entries
def build(folder, files):
    name, version, _, requires, entries = parts()
    info = name + "-" + version + ".dist-info/"
    meta = "Metadata-Version: 2.1\nName: %s\nVersion: %s\nSummary: About %s\nAuthor: A. Cat\nLicense: MIT\n\nmore" % (name, version, name)
    meta = meta.replace("\n\n", "".join("\nRequires-Dist: " + r for r in requires) + "\nProvides-Extra: gpu\nRequires-Dist: dogs; extra == 'gpu'\n\n")
    wheel = "%s-%s-py3-none-any.whl" % (name, version)
    with zipfile.ZipFile(os.path.join(folder, wheel), "w") as z:
        for path, text in files.items():
            z.writestr(path, text)
        z.writestr(info + "METADATA", meta)
        z.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(info + "entry_points.txt", entries)
        z.writestr(info + "RECORD", "")
    return wheel
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = parts()[0]
    return build(folder, {name + ".py": open(name + ".py").read()})
if parts()[2] == "editable":
    def build_editable(folder, config_settings=None, metadata_directory=None):
        return build(folder, {parts()[0] + ".pth": here + "\n"})
`

// A project is a module's source.
type project struct {
	name, requires, entries string
	plain                   bool // its build system cannot install in place
	value                   string
}

// entry is an entry point of the group.
func entry(names ...string) string {
	s := "[deepaas.v2.model]\n"
	for _, name := range names {
		s += name + " = module\n"
	}
	return s
}

// lay writes a project's files into a folder.
func (p project) lay(t *testing.T, dir string) string {
	t.Helper()
	how := "editable"
	if p.plain {
		how = "plain"
	}
	if p.value == "" {
		p.value = "1"
	}
	write(t, dir, "project", strings.Join([]string{p.name, "1.2", how, p.requires, p.entries}, "\n"))
	write(t, dir, "backend.py", backend)
	write(t, dir, "pyproject.toml", "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n")
	write(t, dir, p.name+".py", "value = "+p.value+"\n")
	return dir
}

// installing are Environments with uv and a folder of wheels.
func installing(t *testing.T) (e *Environments, notes string) {
	t.Helper()
	wheels := t.TempDir()
	wheel(t, wheels, "cats", "1.0", "'meow'", "")
	wheel(t, wheels, "dogs", "1.0", "'woof'", "")
	wheel(t, wheels, "deepaas", "2.6.0", "0", entry("deepaas-test"))
	notes = fakeUV(t, wheels)
	return New(Config{Dir: filepath.Join(t.TempDir(), "modules"), Python: python(t)}), notes
}

// names lists what lies in a folder.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

// TestAdd installs a folder, several times, and removes it.
func TestAdd(t *testing.T) {
	e, _ := installing(t)
	p := project{name: "module", requires: "cats deepaas", entries: entry("yolo"), value: "__file__"}
	from := p.lay(t, filepath.Join(t.TempDir(), "my-repo"))
	write(t, from, "setup.cfg", "[entry_points]\ndeepaas.v2.model =\n    yolo = module\n")
	write(t, from, "ai4-metadata.yml", "title: 'Finds: things'\ndescription: Many words.\nlicense: GPL\nlinks: {source_code: https://example.com/yolo}\ntags: [vision, 3]\n")
	write(t, from, "models/weights", "w")
	write(t, from, "__pycache__/x.pyc", "")
	write(t, from, "old-env/pyvenv.cfg", "")
	before := names(t, from)
	var checked Installed
	check := func(_ context.Context, i Installed) error {
		checked = i
		if value(t, i.Interpreter, "cats") != "meow" {
			t.Error("got no cats, want what the module needs")
		}
		return nil
	}
	got, err := e.Add(t.Context(), from, AddOptions{Extras: []string{"gpu"}, Requirements: []string{"cats==1.0"}}, check)
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(e.cfg.Dir, "yolo")
	want := Installed{
		Model: actions.Model{
			Name: "yolo", Version: "1.2", Title: "Finds: things", Description: "Many words.", Author: "A. Cat", License: "GPL",
			Source: "https://example.com/yolo", Keywords: []string{"vision", "3"}, Runtime: "python", Dir: home,
			Spec: []byte(`{"entry_point":"yolo","interpreter":"venv-1/bin/python","working_dir":"source-1/my-repo"}`),
		},
		Source: from, Python: got.Python, Interpreter: filepath.Join(home, "venv-1/bin/python"), EntryPoint: "yolo",
		Lock: filepath.Join(home, "requirements.lock"),
	}
	if diff := cmp.Diff(want, got); diff != "" || !cmp.Equal(got, checked) || !strings.HasPrefix(got.Python, "3.") {
		t.Errorf("(-want +got):\n%s\nchecked %+v", diff, checked)
	}
	repo := filepath.Join(home, "source-1/my-repo")
	if where := value(t, got.Interpreter, "module"); where != filepath.Join(repo, "module.py") {
		t.Errorf("got the module at %s, want it in the copy %s", where, repo)
	}
	if value(t, got.Interpreter, "dogs") != "woof" || read(t, repo, "models/weights") != "w" || read(t, repo, "my-repo/models/weights") != "w" {
		t.Error("got no dogs or weights, want the extra, and the weights by both paths")
	}
	if exists(repo, "__pycache__/x.pyc") || exists(repo, "old-env") {
		t.Errorf("got %q, want no caches and environments", names(t, repo))
	}
	if diff := cmp.Diff(before, names(t, from)); diff != "" {
		t.Errorf("the user's folder has changed: %s", diff)
	}
	if lock := read(t, got.Lock); !strings.HasPrefix(lock, "# yolo, installed from "+from+" for Python "+got.Python+"\n") || !strings.Contains(lock, "cats==1.0\n") {
		t.Errorf("got the lock %q", lock)
	}
	all, err := e.List(t.Context())
	if diff := cmp.Diff([]Installed{got}, all); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	testAgain(t, e, from, home)
}

// testAgain adds a module that is there, with and without success, and removes it.
func testAgain(t *testing.T, e *Environments, from, home string) {
	t.Helper()
	action, lock := read(t, home, actionFile), read(t, home, lockFile)
	refused := actions.Errorf(actions.Failed, "it says: No module named 'marshmallow'")
	_, err := e.Add(t.Context(), from, AddOptions{}, func(context.Context, Installed) error { return refused })
	wantError(t, err, actions.Failed, "add "+from, "No module named", "--with marshmallow")
	if !errors.Is(err, refused) {
		t.Errorf("got %v, want the cause in its chain", err)
	}
	_, err = e.Add(t.Context(), from, AddOptions{Requirements: []string{"no-such-package"}}, nil)
	wantError(t, err, actions.Unavailable, "No matching distribution")
	first := []string{"action.yaml", "requirements.lock", "source-1", "venv-1"}
	if diff := cmp.Diff(first, names(t, home)); diff != "" || read(t, home, actionFile) != action || read(t, home, lockFile) != lock {
		t.Errorf("the earlier installation has changed: %s", diff)
	}
	write(t, home, "venv-7/left", "by one that was killed")
	write(t, home, "notes.txt", "by a person")
	for _, want := range [][]string{
		{"action.yaml", "notes.txt", "requirements.lock", "source-1", "source-8", "venv-1", "venv-8"},
		{"action.yaml", "notes.txt", "requirements.lock", "source-8", "source-9", "venv-8", "venv-9"},
	} {
		i, err := e.Add(t.Context(), from, AddOptions{Name: "yolo"}, nil)
		if err != nil || value(t, i.Interpreter, "cats") != "meow" {
			t.Fatalf("got %+v, %v", i, err)
		}
		if diff := cmp.Diff(want, names(t, home)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if got := names(t, e.cfg.Dir); !cmp.Equal(got, []string{".locks", "yolo"}) {
		t.Errorf("got %q, want nothing else left", got)
	}
	if err := e.Remove(t.Context(), "yolo"); err != nil || exists(home) {
		t.Errorf("got %v, want the module gone", err)
	}
	if all, err := e.List(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("got %+v, %v, want none", all, err)
	}
	wantError(t, e.Remove(t.Context(), "yolo"), actions.NotFound, "there are: none")
}

// TestAddWithPip installs with venv and pip, in place.
func TestAddWithPip(t *testing.T) {
	wheels := t.TempDir()
	wheel(t, wheels, "cats", "1.0", "'meow'", "")
	plainPip(t, wheels)
	from := project{name: "module", requires: "cats", entries: entry("x"), value: "__file__"}.lay(t, filepath.Join(t.TempDir(), "repo"))
	e := New(Config{Dir: filepath.Join(t.TempDir(), "modules"), Python: python(t), Offline: true})
	i, err := e.Add(t.Context(), from, AddOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := value(t, i.Interpreter, "module"), filepath.Join(i.Model.Dir, "source-1/repo/module.py"); got != want || value(t, i.Interpreter, "cats") != "meow" {
		t.Errorf("got the module at %s, want %s, and cats", got, want)
	}
	if lock := read(t, i.Lock); !strings.Contains(lock, "cats==1.0\n") {
		t.Errorf("got the lock %q, want cats in it", lock)
	}
}

// TestAddKinds installs modules of all kinds of sources.
func TestAddKinds(t *testing.T) {
	e, notes := installing(t)
	dir := t.TempDir()
	one := project{name: "module", entries: entry("One_Model")}.lay(t, filepath.Join(dir, "one"))
	plain := project{name: "module", entries: entry("plain"), plain: true}.lay(t, filepath.Join(dir, "plain"))
	several := project{name: "module", entries: entry("b", "a")}.lay(t, filepath.Join(dir, "several"))
	file := project{name: "module", entries: ""}.lay(t, filepath.Join(dir, "with-api"))
	write(t, file, "api.py", "")
	bare := filepath.Dir(write(t, dir, "only-file/api.py", ""))
	write(t, bare, "requirements.txt", "cats\n")
	archived := write(t, dir, "repo-main.zip", zipped(t, one, "repo-main/"))
	wheel := wheel(t, dir, "whl_module", "3.0", "1", entry("of_wheel"))
	repo := project{name: "module", entries: entry("x"), value: "'old'"}.lay(t, filepath.Join(dir, "work"))
	git(t, repo, "init", "--quiet", "--initial-branch", "main")
	git(t, repo, "add", ".")
	git(t, repo, "commit", "--quiet", "-m", "old")
	git(t, repo, "tag", "v1")
	old := git(t, repo, "rev-parse", "HEAD")
	write(t, repo, "module.py", "value = 'new'\n")
	git(t, repo, "commit", "--quiet", "-am", "new")
	git(t, dir, "clone", "--quiet", "--bare", repo, "bare.git")
	git(t, filepath.Join(dir, "bare.git"), "config", "uploadpack.allowAnySHA1InWant", "true")
	url := "file://" + filepath.Join(dir, "bare.git")
	for _, tt := range []struct {
		from    string
		options AddOptions
		name    string
		entry   string
		working string
		value   string
	}{
		{one, AddOptions{}, "one", "One_Model", "source-1/one", "1"},
		{one, AddOptions{Editable: true, Name: "in-place"}, "in-place", "One_Model", one, "1"},
		{plain, AddOptions{}, "plain", "plain", "source-1/plain", "1"},
		{several, AddOptions{EntryPoint: "a"}, "a", "a", "source-1/several", "1"},
		{file, AddOptions{}, "with-api", "", "source-1/with-api", "1"},
		{bare, AddOptions{}, "only-file", "", "source-1/only-file", ""},
		{archived, AddOptions{}, "repo", "One_Model", "source-1/repo/repo-main", "1"},
		{wheel, AddOptions{}, "of_wheel", "of_wheel", "work-1", ""},
		{url, AddOptions{}, "bare", "x", "source-1/bare", "new"},
		{url + "@v1", AddOptions{Name: "v1"}, "v1", "x", "source-1/bare", "old"},
		{url + "#" + old, AddOptions{Name: "commit"}, "commit", "x", "source-1/bare", "old"},
		{filepath.Join(dir, "bare.git"), AddOptions{Name: "path"}, "path", "x", "source-1/bare", "new"},
	} {
		i, err := e.Add(t.Context(), tt.from, tt.options, nil)
		if err != nil {
			t.Errorf("%s: %v", tt.from, err)
			continue
		}
		spec := string(i.Model.Spec)
		if i.Model.Name != tt.name || i.EntryPoint != tt.entry || !strings.Contains(spec, fmt.Sprintf(`"working_dir":%q`, tt.working)) {
			t.Errorf("%s: got %s, %q, %s, want %s, %q, %s", tt.from, i.Model.Name, i.EntryPoint, spec, tt.name, tt.entry, tt.working)
		}
		if tt.entry == "" && !strings.Contains(spec, `"path":"`+tt.working+`/api.py"`) {
			t.Errorf("%s: got %s, want api.py as path", tt.from, spec)
		}
		if working := filepath.Join(i.Model.Dir, tt.working); !filepath.IsAbs(tt.working) && !exists(working) {
			t.Errorf("%s: there is no %s", tt.from, working)
		}
		if tt.value != "" && value(t, i.Interpreter, "module") != tt.value {
			t.Errorf("%s: got the value %s, want %s", tt.from, value(t, i.Interpreter, "module"), tt.value)
		}
	}
	if got := read(t, notes); !strings.Contains(got, "venv-1/bin/python -r "+filepath.Join(e.cfg.Dir, "only-file/source-1/only-file/requirements.txt")) {
		t.Errorf("got %s, want the file of requirements", got)
	}
	if all, err := e.List(t.Context()); err != nil || len(all) != 12 {
		t.Errorf("got %d modules, %v, want 12", len(all), err)
	}
}

// TestAddErrors shows what is refused, and that nothing is left of it.
func TestAddErrors(t *testing.T) {
	e, _ := installing(t)
	dir := t.TempDir()
	several := project{name: "module", entries: entry("b", "a")}.lay(t, filepath.Join(dir, "several"))
	none := project{name: "module", requires: "deepaas"}.lay(t, filepath.Join(dir, "none"))
	old := project{name: "module", entries: "[deepaas.model]\nx = module\n"}.lay(t, filepath.Join(dir, "old"))
	broken := project{name: "module", entries: entry("x")}.lay(t, filepath.Join(dir, "broken"))
	write(t, broken, "backend.py", "raise ImportError('the build is broken')\n")
	empty := filepath.Dir(write(t, dir, "empty/readme", ""))
	large := filepath.Dir(write(t, dir, "large/api.py", strings.Repeat("#", 2<<20)))
	bad := write(t, dir, "bad.zip", "PK\x03\x04")
	text := write(t, dir, "text.txt", "hello")
	taken := filepath.Dir(write(t, e.cfg.Dir, "taken/action.yaml", "runtime: onnx\n"))
	if err := os.Mkdir(filepath.Join(e.cfg.Dir, ".locks"), 0o755); err != nil { // not all get so far
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	small := New(Config{Dir: e.cfg.Dir, Python: python(t), MaxSource: 1 << 20})
	offline := New(Config{Dir: e.cfg.Dir, Python: python(t), Offline: true})
	for name, tt := range map[string]struct {
		e       *Environments
		from    string
		options AddOptions
		code    actions.Code
		want    string
	}{
		"several":        {e, several, AddOptions{}, actions.Invalid, "several entry points of deepaas.v2.model: a, b; choose"},
		"wrong one":      {e, several, AddOptions{EntryPoint: "c"}, actions.NotFound, `no entry point "c" of deepaas.v2.model; it has a, b`},
		"none":           {e, none, AddOptions{}, actions.Invalid, "it declares no entry point"},
		"none wanted":    {e, none, AddOptions{EntryPoint: "deepaas-test"}, actions.NotFound, `no entry point "deepaas-test"`},
		"old":            {e, old, AddOptions{}, actions.Unsupported, "old DEEPaaS API"},
		"broken":         {e, broken, AddOptions{}, actions.Unavailable, "the build is broken"},
		"no project":     {e, empty, AddOptions{}, actions.Invalid, "not a Python project"},
		"large":          {small, large, AddOptions{}, actions.TooLarge, "more than 1048576 bytes"},
		"bad archive":    {e, bad, AddOptions{}, actions.Invalid, "damaged"},
		"text":           {e, text, AddOptions{}, actions.Invalid, "neither a zip nor a tar.gz nor a wheel"},
		"nothing":        {e, filepath.Join(dir, "missing"), AddOptions{}, actions.NotFound, "there is no folder or file of that name"},
		"no repository":  {e, "file://" + dir, AddOptions{}, actions.Unavailable, "git clone"},
		"transport":      {e, "ext::sh -c date", AddOptions{}, actions.NotFound, "no repository"},
		"http":           {e, "http://example.com/x.git", AddOptions{}, actions.Invalid, "use https"},
		"option as ref":  {e, "https://example.com/x@--upload-pack=x", AddOptions{}, actions.Invalid, "not the address"},
		"offline":        {offline, "https://name:secret@example.com/x", AddOptions{}, actions.Unavailable, "add https://example.com/x: cloning is switched off"},
		"name":           {e, several, AddOptions{Name: "../x"}, actions.Invalid, "not a name that a model can have"},
		"extra":          {e, several, AddOptions{Extras: []string{"a]x["}}, actions.Invalid, "not the name of an extra"},
		"requirement":    {e, several, AddOptions{Requirements: []string{"-r x"}}, actions.Invalid, "not a requirement"},
		"interpreter":    {e, several, AddOptions{Python: "/no/python"}, actions.Unavailable, "no Python interpreter"},
		"editable":       {e, bad, AddOptions{Editable: true}, actions.Invalid, "only a folder"},
		"taken":          {e, several, AddOptions{Name: "taken"}, actions.Conflict, "was not installed"},
		"canceled":       {e, several, AddOptions{EntryPoint: "a"}, actions.Canceled, ""},
		"no folder":      {New(Config{}), several, AddOptions{}, actions.Unavailable, "no folder is set"},
		"check refuses":  {e, several, AddOptions{EntryPoint: "a"}, actions.Internal, "refused"},
		"damaged wheels": {e, write(t, dir, "a-1-py3-none-any.whl", "PK"), AddOptions{}, actions.Unavailable, "uv"},
	} {
		ctx := t.Context()
		if tt.code == actions.Canceled {
			ctx = canceled
		}
		_, err := tt.e.Add(ctx, tt.from, tt.options, func(context.Context, Installed) error {
			return actions.Errorf(actions.Internal, "refused")
		})
		if actions.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %s %v, want %s with %q", name, actions.CodeOf(err), err, tt.code, tt.want)
		}
		if got := names(t, e.cfg.Dir); !cmp.Equal(got, []string{".locks", "taken"}) {
			t.Errorf("%s: got %q, want nothing left", name, got)
		}
	}
	wantError(t, e.Remove(t.Context(), "taken"), actions.Conflict, "was not installed")
	for _, name := range []string{"..", ".locks", "", "/", "x"} {
		wantError(t, e.Remove(t.Context(), name), actions.NotFound)
	}
	if !exists(taken, actionFile) {
		t.Error("got no action.yaml, want it as it was")
	}
}
