package environment

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// python is the interpreter of the tests. It has pip.
func python(t *testing.T) string {
	t.Helper()
	path := os.Getenv("DEEPFN_TEST_PYTHON_TOOLS")
	if path == "" {
		t.Fatal("DEEPFN_TEST_PYTHON_TOOLS names no interpreter: run make test")
	}
	return path
}

// write puts a file into dir, with the folders that it needs, and returns its path.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// read returns what is in a file.
func read(t *testing.T, name ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(name...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// wheel writes a wheel of a package with one module, which has its name and value, and
// returns its path.
func wheel(t *testing.T, dir, name, version, value, entryPoints string) string {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	info := name + "-" + version + ".dist-info/"
	for _, f := range [][2]string{
		{name + ".py", "value = " + value + "\n"},
		{info + "METADATA", "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\nSummary: About " + name + "\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "entry_points.txt", entryPoints},
		{info + "RECORD", ""},
	} {
		w, err := z.Create(f[0])
		if err == nil {
			_, err = w.Write([]byte(f[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return write(t, dir, name+"-"+version+"-py3-none-any.whl", buf.String())
}

// plainPip lets pip see no configuration, no index, and the wheels of one folder.
func plainPip(t *testing.T, wheels string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PIP_") || strings.HasPrefix(name, "UV_") {
			t.Setenv(name, "") // so that it is restored
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("PIP_CONFIG_FILE", os.DevNull)
	if wheels != "" {
		t.Setenv("PIP_NO_INDEX", "1")
		t.Setenv("PIP_FIND_LINKS", wheels)
	}
}

// fakeUV puts a program uv first in PATH that notes its arguments, and does with venv and
// pip what uv does, only without an index. It returns the file of its notes.
func fakeUV(t *testing.T, wheels string) string {
	t.Helper()
	plainPip(t, "")
	bin := t.TempDir()
	notes := filepath.Join(bin, "notes")
	pip := fmt.Sprintf("PIP_NO_INDEX=1 PIP_FIND_LINKS='%s' exec '%s' -m pip --disable-pip-version-check --python", wheels, python(t))
	script := `#!/bin/sh
echo "$*" >> '` + notes + `'
case "$1 $2 $3" in
"venv --python "*) exec "$3" -m venv --without-pip "$4" ;;
"pip install --python") py=$4; shift 4; ` + pip + ` "$py" install --no-input "$@" ;;
"pip freeze --python") ` + pip + ` "$4" freeze ;;
esac
echo "uv: what is $*?" >&2
exit 2
`
	if err := os.Chmod(write(t, bin, "uv", script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return notes
}

// wantError checks the code of an error and its words.
func wantError(t *testing.T, err error, code actions.Code, words ...string) {
	t.Helper()
	if err == nil || actions.CodeOf(err) != code {
		t.Errorf("got %q %v, want %s", actions.CodeOf(err), err, code)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want it to say %q", err, word)
		}
	}
}

// value asks an interpreter for the value of a module.
func value(t *testing.T, interpreter, module string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), interpreter, "-c", "import "+module+"; print("+module+".value)").CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v: %s", interpreter, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestEnsure makes an environment with pip, finds it again, and mends it.
func TestEnsure(t *testing.T) {
	wheels, cache := t.TempDir(), t.TempDir()
	wheel(t, wheels, "cats", "1.0", "'meow'", "")
	wheel(t, wheels, "dogs", "1.0", "'woof'", "")
	plainPip(t, wheels)
	var output bytes.Buffer
	e := New(Config{CacheDir: cache, Python: python(t), Output: &output})
	got, err := e.Ensure(t.Context(), "", []string{"dogs==1.0", " cats"})
	if err != nil {
		t.Fatal(err)
	}
	if value(t, got, "cats") != "meow" || value(t, got, "dogs") != "woof" || !strings.HasPrefix(got, filepath.Join(cache, "envs")) {
		t.Errorf("got %s, want an environment in the cache with both", got)
	}
	if !strings.Contains(output.String(), "Successfully installed cats-1.0 dogs-1.0") {
		t.Errorf("got %q, want what pip says", &output)
	}
	dir := filepath.Dir(filepath.Dir(got))
	write(t, dir, "note", "")
	offline := New(Config{CacheDir: cache, Python: python(t), Offline: true})
	for _, requirements := range [][]string{{"cats", "dogs==1.0"}, {"cats", "dogs==1.0", "cats "}} {
		again, err := offline.Ensure(t.Context(), python(t), requirements)
		if err != nil || again != got || !exists(dir, "note") {
			t.Errorf("%q: got %s, %v, want %s as it was", requirements, again, err, got)
		}
	}
	if _, err := offline.Ensure(t.Context(), "", []string{"cats"}); err == nil {
		t.Error("got an environment for other requirements, want none")
	} else {
		wantError(t, err, actions.Unavailable, "cats: not in the cache", "offline")
	}
	if err := os.Remove(filepath.Join(dir, "ready")); err != nil {
		t.Fatal(err)
	}
	again, err := e.Ensure(t.Context(), "", []string{"cats", "dogs==1.0"})
	if err != nil || again != got || exists(dir, "note") || value(t, got, "cats") != "meow" {
		t.Errorf("got %s, %v, want it made again", again, err)
	}
	if err := os.Remove(got); err != nil { // as after the interpreter was removed
		t.Fatal(err)
	}
	_, err = offline.Ensure(t.Context(), "", []string{"cats", "dogs==1.0"})
	wantError(t, err, actions.Unavailable, "offline")
}

// TestEnsureAtOnce shows that who comes at once waits for the one who makes it, and that
// uv makes it when it is there.
func TestEnsureAtOnce(t *testing.T) {
	wheels, cache := t.TempDir(), t.TempDir()
	wheel(t, wheels, "cats", "1.0", "'meow'", "")
	notes := fakeUV(t, wheels)
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			got, err := New(Config{CacheDir: cache, Python: python(t), Log: logger}).Ensure(t.Context(), "", []string{"cats"})
			if err != nil || value(t, got, "cats") != "meow" {
				t.Errorf("got %s, %v, want an environment with cats", got, err)
			}
		})
	}
	wg.Wait()
	lines := strings.Split(strings.TrimSpace(read(t, notes)), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "venv --python "+python(t)+" "+cache) || !strings.HasSuffix(lines[1], "bin/python -- cats") {
		t.Errorf("got %q, want uv called twice", lines)
	}
	if got := strings.Count(log.String(), `msg="environment made"`); got != 1 {
		t.Errorf("got %d made, want one: %s", got, &log)
	}
}

// TestInstaller shows that pip's configuration holds: uv, which does not read it, is
// used only when there is none.
func TestInstaller(t *testing.T) {
	for list, want := range map[string]bool{
		"": false,
		"global.timeout='60'\n:env:.no-cache-dir='true'\n:env:.config-file='/dev/null'\n": false,
		"global.timeout='60'\nglobal.index-url='https://pypi.example.com/simple'\n":       true,
		"install.find-links='wheels'\n":                true,
		":env:.proxy='http://proxy.example.com?a=b'\n": true,
		"global.cert='/etc/ssl/cert.pem'":              true,
		"install.constraint='constraints.txt'\n":       true,
	} {
		if got := directs(list); got != want {
			t.Errorf("%q: got %v, want %v", list, got, want)
		}
	}
	fakeUV(t, "")
	if in, err := New(Config{}).installer(t.Context(), python(t)); err != nil || in.uv == "" {
		t.Errorf("got %+v, %v, want uv", in, err)
	}
	t.Setenv("PIP_INDEX_URL", "https://pypi.example.com/simple")
	if in, err := New(Config{}).installer(t.Context(), python(t)); err != nil || in.uv != "" {
		t.Errorf("got %+v, %v, want pip, which knows the index", in, err)
	}
}

// TestEnsurePlain shows when no environment is made.
func TestEnsurePlain(t *testing.T) {
	e := New(Config{Python: python(t)})
	for _, in := range []string{"", python(t)} {
		if got, err := e.Ensure(t.Context(), in, nil); err != nil || got != python(t) {
			t.Errorf("%q: got %s, %v, want %s", in, got, err, python(t))
		}
	}
	if got, err := New(Config{}).Ensure(t.Context(), "sh", []string{}); err != nil || filepath.Base(got) != "sh" || !filepath.IsAbs(got) {
		t.Errorf("got %s, %v, want the path of sh", got, err)
	}
}

// TestEnsureErrors shows what a person is told.
func TestEnsureErrors(t *testing.T) {
	cache, wheels := t.TempDir(), t.TempDir()
	fakeUV(t, wheels)
	e := New(Config{CacheDir: cache, Python: python(t)})
	broken := write(t, t.TempDir(), "python", "#!/bin/sh\necho something is wrong >&2\nexit 1\n")
	if err := os.Chmod(broken, 0o755); err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		e            *Environments
		python       string
		requirements []string
		code         actions.Code
		words        []string
	}{
		"missing package":     {e, "", []string{"no-such-package==9"}, actions.Unavailable, []string{"No matching distribution", "correct the name or the version"}},
		"option":              {e, "", []string{"--index-url=http://example.com"}, actions.Invalid, []string{"is not a requirement"}},
		"two lines":           {e, "", []string{"a\nb"}, actions.Invalid, []string{"is not a requirement"}},
		"empty":               {e, "", []string{" "}, actions.Invalid, []string{"is not a requirement"}},
		"no interpreter":      {e, "/no/such/python", []string{"a"}, actions.Unavailable, []string{`no Python interpreter "/no/such/python"`}},
		"not an interpreter":  {e, "true", []string{"a"}, actions.Unavailable, []string{"not a Python 3 interpreter"}},
		"broken interpreter":  {e, broken, []string{"a"}, actions.Unavailable, []string{"something is wrong"}},
		"canceled":            {e, "", []string{"a"}, actions.Canceled, nil},
		"no cache":            {New(Config{Python: python(t)}), "", []string{"a"}, actions.Unavailable, []string{"no folder is set for the cache"}},
		"cache is not usable": {New(Config{Python: python(t), CacheDir: broken}), "", []string{"a"}, actions.Unavailable, []string{"not a directory"}},
	} {
		ctx := t.Context()
		if tt.code == actions.Canceled {
			ctx = canceled
		}
		_, err := tt.e.Ensure(ctx, tt.python, tt.requirements)
		if actions.CodeOf(err) != tt.code {
			t.Errorf("%s: got %v, want %s", name, err, tt.code)
			continue
		}
		wantError(t, err, tt.code, tt.words...)
	}
	entries, err := filepath.Glob(filepath.Join(cache, "envs", "*"))
	for _, entry := range entries {
		if !strings.HasSuffix(entry, ".lock") {
			t.Errorf("got %s, %v, want only locks left", entry, err)
		}
	}
}

// TestEnsureCanceled shows that an installation ends with its context, and with it all
// that it has started.
func TestEnsureCanceled(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	plainPip(t, "")
	started, alive := filepath.Join(dir, "started"), filepath.Join(dir, "alive")
	for _, pipe := range []string{started, alive} {
		if err := syscall.Mkfifo(pipe, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The grandchild holds the pipe open for as long as it lives.
	script := "#!/bin/sh\nsh -c 'exec 3> " + alive + "; echo > " + started + "; sleep 600; true' & wait\n"
	if err := os.Chmod(write(t, dir, "uv", script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(t.Context())
	e := New(Config{CacheDir: cache, Python: python(t)})
	ended := make(chan error, 1)
	go func() {
		_, err := e.Ensure(ctx, "", []string{"cats"})
		ended <- err
		for _, pipe := range []string{started, alive} { // if it has ended too early, nobody waits in vain
			if f, err := os.OpenFile(pipe, os.O_RDWR, 0); err == nil {
				_ = f.Close()
			}
		}
	}()
	held, err := os.Open(alive) // waits for the grandchild
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	_ = read(t, started)
	cancel()
	wantError(t, <-ended, actions.Canceled)
	if n, _ := held.Read(make([]byte, 1)); n != 0 { // the end of the file: nobody holds it
		t.Errorf("got %d bytes, want the end", n)
	}
	if left, _ := fs.Glob(os.DirFS(cache), "envs/*/*"); len(left) > 0 {
		t.Errorf("got %q, want nothing left", left)
	}
}

// TestSync shows that an environment counts only when all of it is on the disk.
func TestSync(t *testing.T) {
	wheels, cache := t.TempDir(), t.TempDir()
	wheel(t, wheels, "cats", "1.0", "'meow'", "")
	fakeUV(t, wheels)
	e := New(Config{CacheDir: cache, Dir: filepath.Join(cache, "modules"), Python: python(t)})
	var synced []string
	broken := func(dir string) error {
		synced = append(synced, filepath.Base(dir))
		if exists(dir, "ready") || exists(filepath.Dir(dir), actionFile) {
			t.Errorf("%s counted before it was on the disk", dir)
		}
		return &fs.PathError{Op: "sync", Path: dir, Err: syscall.EIO}
	}
	whole := e.sync
	e.sync = broken
	_, err := e.Ensure(t.Context(), "", []string{"cats"})
	wantError(t, err, actions.Unavailable, "input/output error")
	from := project{name: "module", entries: entry("x")}.lay(t, filepath.Join(t.TempDir(), "repo"))
	_, err = e.Add(t.Context(), from, AddOptions{}, nil)
	wantError(t, err, actions.Unavailable, "input/output error")
	if ready, _ := filepath.Glob(filepath.Join(cache, "envs/*/ready")); len(ready) > 0 || exists(cache, "modules/x") || len(synced) != 2 {
		t.Errorf("got %q, %q synced, want nothing that counts", ready, synced)
	}
	e.sync = func(dir string) error {
		synced = append(synced, filepath.Base(dir))
		return whole(dir)
	}
	if _, err := e.Add(t.Context(), from, AddOptions{}, nil); err != nil || !strings.HasSuffix(strings.Join(synced, " "), "venv-1 source-1 work-1") {
		t.Errorf("got %v, %q synced, want the folders of the installation", err, synced)
	}
}
