package catalog

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/deepfn/deepfn/actions"
)

func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// model is a model of the files.
func model(files map[string]actions.ModelFile) actions.Model {
	return actions.Model{Name: "cats", Runtime: "onnx", Files: files}
}

// one is a model of one file.
func one(f actions.ModelFile) actions.Model {
	return model(map[string]actions.ModelFile{"weights": f})
}

// wantFile checks that path is absolute and holds content.
func wantFile(t *testing.T, path, content string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != content || !filepath.IsAbs(path) {
		t.Errorf("%s: got %q, %v, want %q", path, got, err, content)
	}
}

// wantError checks an error's code and that its message has all the words.
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

// wantClean checks that the cache holds no file but those named, and no half of one.
func wantClean(t *testing.T, cache string, files ...string) {
	t.Helper()
	var got []string
	err := filepath.WalkDir(cache, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(path, ".lock") {
			got = append(got, path)
		}
		return err
	})
	if err != nil || strings.Join(got, " ") != strings.Join(files, " ") {
		t.Errorf("the cache holds %q, %v, want %q", got, err, files)
	}
}

// wheels makes a folder of wheels of cats-data 1.0 and lets pip look there alone. The
// tag is that of the wheel's name.
func wheels(t *testing.T, tag string, members map[string]string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("PIP_CONFIG_FILE", os.DevNull)
	t.Setenv("PIP_NO_INDEX", "1")
	t.Setenv("PIP_FIND_LINKS", dir)
	t.Setenv("PIP_CACHE_DIR", t.TempDir())
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	all := map[string]string{
		"cats_data-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: cats-data\nVersion: 1.0\nRequires-Python: <3\nRequires-Dist: no-such-package\n",
		"cats_data-1.0.dist-info/WHEEL":    "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: " + tag + "\n",
		"cats_data-1.0.dist-info/RECORD":   "",
		"../escaped.onnx":                  "a member that no path can name",
	}
	for _, m := range []map[string]string{all, members} {
		for name, content := range m {
			w, err := z.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "cats_data-1.0-"+tag+".whl", buf.String())
}

// TestFetchFolder shows files that lie in the action's folder.
func TestFetchFolder(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "sub/cats.onnx", "weights")
	outside := write(t, t.TempDir(), "linked", "weights")
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := New(Config{CacheDir: t.TempDir(), Offline: true})
	fetch := func(path, sum string) (string, error) {
		m := one(actions.ModelFile{Path: path, SHA256: sum})
		m.Dir = dir
		paths, err := c.Fetch(t.Context(), m)
		return paths["weights"], err
	}
	for path, want := range map[string]string{"sub/cats.onnx": file, "link": filepath.Join(dir, "link")} {
		if got, err := fetch(path, strings.ToUpper(hashOf("weights"))); err != nil || got != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	_, err := fetch("sub/cats.onnx", someHash)
	wantError(t, err, actions.Unavailable, "cats: file weights: "+file, hashOf("weights"), someHash, "if the file is the right one")
	_, err = fetch("missing.onnx", someHash)
	wantError(t, err, actions.Unavailable, "there is no file "+filepath.Join(dir, "missing.onnx"))
	for _, path := range []string{"sub", "pipe"} {
		_, err = fetch(path, someHash)
		wantError(t, err, actions.Unavailable, "is not a file")
	}
	for _, path := range []string{"../linked", "sub/../../x", "/etc/passwd", ""} {
		_, err = fetch(path, someHash)
		wantError(t, err, actions.Invalid)
	}
}

// TestPaths: files are where Fetch says that they are, also before it was called.
func TestPaths(t *testing.T) {
	cache, folder := t.TempDir(), t.TempDir()
	c := New(Config{CacheDir: cache})
	m := actions.Model{Name: "m", Dir: folder, Files: map[string]actions.ModelFile{
		"a": {Path: "sub/a.onnx", SHA256: someHash},
		"b": {URL: "https://example.com/x/b.onnx?v=1", SHA256: strings.ToUpper(someHash)},
		"c": {Package: "p==1", Path: "p/c.onnx", SHA256: someHash},
		"d": {URL: "https://example.com/%zz", SHA256: someHash},
	}}
	want := []string{
		filepath.Join(folder, "sub", "a.onnx"),
		filepath.Join(cache, "sha256", strings.ToLower(someHash), "b.onnx"),
		filepath.Join(cache, "sha256", strings.ToLower(someHash), "c.onnx"),
	}
	if got := c.Paths(m); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestFetchShipped shows files of an action that is built into the program.
func TestFetchShipped(t *testing.T) {
	cache := t.TempDir()
	c := New(Config{CacheDir: cache, Offline: true, Shipped: fstest.MapFS{"cats/labels.txt": {Data: []byte("cat\ndog\n")}}})
	want := filepath.Join(cache, "sha256", hashOf("cat\ndog\n"), "labels.txt")
	for range 2 {
		paths, err := c.Fetch(t.Context(), one(actions.ModelFile{Path: "labels.txt", SHA256: hashOf("cat\ndog\n")}))
		if err != nil || paths["weights"] != want {
			t.Fatalf("got %v, %v, want %s", paths, err, want)
		}
		wantFile(t, want, "cat\ndog\n")
	}
	wantClean(t, cache, want)
	_, err := c.Fetch(t.Context(), one(actions.ModelFile{Path: "labels.txt", SHA256: someHash}))
	wantError(t, err, actions.Unavailable, someHash, hashOf("cat\ndog\n"))
	_, err = New(Config{CacheDir: cache}).Fetch(t.Context(), one(actions.ModelFile{Path: "labels.txt", SHA256: someHash}))
	wantError(t, err, actions.Unavailable, "cats/labels.txt")
}

// TestFetchPackage lets the real pip download a wheel, once for all of its files, then
// uses the cache without any Python, and repairs it.
func TestFetchPackage(t *testing.T) {
	wheels(t, "py3-none-any", map[string]string{"cats_data/a.onnx": "A", "cats_data/b.onnx": "B", "cats_data/b.py": "raise SystemExit"})
	cache := t.TempDir()
	a, b := filepath.Join(cache, "sha256", hashOf("A"), "a.onnx"), filepath.Join(cache, "sha256", hashOf("B"), "b.onnx")
	m := model(map[string]actions.ModelFile{
		"first":  {Package: "cats-data==1.0", Path: "cats_data/a.onnx", SHA256: hashOf("A")},
		"second": {Package: "cats-data==1.0", Path: "cats_data/b.onnx", SHA256: hashOf("B")},
	})
	fetch := func(cfg Config) (log string) {
		t.Helper()
		var buf bytes.Buffer
		cfg.CacheDir, cfg.Log = cache, slog.New(slog.NewTextHandler(&buf, nil))
		paths, err := New(cfg).Fetch(t.Context(), m)
		if err != nil || paths["first"] != a || paths["second"] != b {
			t.Fatalf("got %v, %v, want %s and %s", paths, err, a, b)
		}
		wantFile(t, a, "A")
		wantFile(t, b, "B")
		wantClean(t, cache, sorted(a, b)...)
		return buf.String()
	}
	if log := fetch(Config{}); strings.Count(log, "msg=fetching package=\"cats-data==1.0\"") != 1 {
		t.Errorf("got the log\n%s\nwant one download", log)
	}
	if log := fetch(Config{Offline: true, Python: "/nonexistent/python"}); log != "" {
		t.Errorf("got the log\n%s\nwant nothing to happen", log)
	}
	write(t, filepath.Dir(a), "a.onnx", "damaged")
	_, err := New(Config{CacheDir: cache, Offline: true}).Fetch(t.Context(), m)
	wantError(t, err, actions.Unavailable, "offline", a, hashOf("A"))
	if log := fetch(Config{}); !strings.Contains(log, "cached file is damaged") {
		t.Errorf("got the log\n%s\nwant the damage in it", log)
	}
}

func sorted(a, b string) []string {
	if a < b {
		return []string{a, b}
	}
	return []string{b, a}
}

// TestFetchPackageHere shows that pip's configuration may have paths relative to the
// current folder, while no module is imported from there.
func TestFetchPackageHere(t *testing.T) {
	wheels(t, "py3-none-any", map[string]string{"cats_data/a.onnx": "A"})
	t.Chdir(os.Getenv("PIP_FIND_LINKS"))
	t.Setenv("PIP_FIND_LINKS", ".")
	for _, module := range []string{"json.py", "importlib.py", "pip.py"} {
		write(t, ".", module, "raise SystemExit('imported from the current folder')\n")
	}
	c := New(Config{CacheDir: "../cache"})
	paths, err := c.Fetch(t.Context(), one(actions.ModelFile{Package: "cats-data==1.0", Path: "cats_data/a.onnx", SHA256: hashOf("A")}))
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, paths["weights"], "A")
}

// TestFetchPackageErrors shows what a user reads when a package does not come.
func TestFetchPackageErrors(t *testing.T) {
	wheels(t, "py3-none-any", map[string]string{"cats_data/a.onnx": "A"})
	at := func(pinned, path, sum string) actions.ModelFile {
		return actions.ModelFile{Package: pinned, Path: path, SHA256: sum}
	}
	tests := map[string]struct {
		cfg  Config
		file actions.ModelFile
		want []string
	}{
		"version": {Config{}, at("cats-data==2.0", "cats_data/a.onnx", hashOf("A")), []string{"cats: file weights: fetching cats-data==2.0: pip finds no wheel of this version", "from versions: 1.0"}},
		"package": {Config{}, at("dogs-data==1.0", "a", hashOf("A")), []string{"pip finds no wheel", "from versions: none"}},
		"member":  {Config{}, at("cats-data==1.0", "a.onnx", hashOf("A")), []string{"there is no file a.onnx in cats_data-1.0-py3-none-any.whl; correct the path; there are", "cats_data/a.onnx"}},
		"hash":    {Config{}, at("cats-data==1.0", "cats_data/a.onnx", someHash), []string{"cats_data/a.onnx in cats_data-1.0", hashOf("A"), someHash, "correct the source"}},
		"size":    {Config{MaxFile: 1}, at("cats-data==1.0", "cats_data-1.0.dist-info/METADATA", someHash), []string{"has more than 1 bytes"}},
		"python":  {Config{Python: "no-such-python"}, at("cats-data==1.0", "a", hashOf("A")), []string{`there is no Python interpreter "no-such-python"`, "name another"}},
		"false":   {Config{Python: "false"}, at("cats-data==1.0", "a", hashOf("A")), []string{"fetching cats-data==1.0: false: exit status 1"}},
		"offline": {Config{Offline: true}, at("cats-data==1.0", "cats_data/a.onnx", hashOf("A")), []string{"fetching cats-data==1.0 is switched off (offline)", "put a.onnx (sha256 " + hashOf("A") + ") as /"}},
		"nothing": {Config{Offline: true, Python: "no-such-python"}, at("cats-data==1.0", "cats_data/a.onnx", hashOf("A")), []string{"offline"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.cfg.CacheDir = t.TempDir()
			_, err := New(tt.cfg).Fetch(t.Context(), one(tt.file))
			wantError(t, err, actions.Unavailable, tt.want...)
			wantClean(t, tt.cfg.CacheDir)
		})
	}
}

// TestFetchInstalled takes a file from an installed package, offline, when version and
// hash are right.
func TestFetchInstalled(t *testing.T) {
	site := t.TempDir()
	t.Setenv("PYTHONPATH", site)
	write(t, site, "cats_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: cats-data\nVersion: 1.0\n")
	write(t, site, "cats_data/a.onnx", "A")
	cache := t.TempDir()
	c := New(Config{CacheDir: cache, Offline: true})
	paths, err := c.Fetch(t.Context(), one(actions.ModelFile{Package: "cats-data==1.0", Path: "cats_data/a.onnx", SHA256: hashOf("A")}))
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, paths["weights"], "A")
	wantClean(t, cache, filepath.Join(cache, "sha256", hashOf("A"), "a.onnx"))
	for _, f := range []actions.ModelFile{
		{Package: "cats-data==1.1", Path: "cats_data/a.onnx", SHA256: hashOf("A")},
		{Package: "cats-data==1.0", Path: "cats_data/a.onnx", SHA256: hashOf("other")},
		{Package: "cats-data==1.0", Path: "cats_data/b.onnx", SHA256: hashOf("B")},
	} {
		_, err := New(Config{CacheDir: t.TempDir(), Offline: true}).Fetch(t.Context(), one(f))
		wantError(t, err, actions.Unavailable, "offline")
	}
}

// TestFetchWithoutPip lets an interpreter without pip make a virtual environment that
// has one, and use it again.
func TestFetchWithoutPip(t *testing.T) {
	wheels(t, "py3-none-any", map[string]string{"cats_data/a.onnx": "A", "cats_data/b.onnx": "B"})
	bare := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "python3", "-m", "venv", "--without-pip", bare).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cache := t.TempDir()
	var log bytes.Buffer
	c := New(Config{CacheDir: cache, Python: filepath.Join(bare, "bin", "python"), Log: slog.New(slog.NewTextHandler(&log, nil))})
	for name, content := range map[string]string{"a": "A", "b": "B"} {
		paths, err := c.Fetch(t.Context(), one(actions.ModelFile{Package: "cats-data==1.0", Path: "cats_data/" + name + ".onnx", SHA256: hashOf(content)}))
		if err != nil {
			t.Fatal(err)
		}
		wantFile(t, paths["weights"], content)
	}
	if n := strings.Count(log.String(), "making a virtual environment"); n != 1 {
		t.Errorf("got %d virtual environments, want one:\n%s", n, &log)
	}
}

// TestLibrary fetches a library for a machine that this one is not.
func TestLibrary(t *testing.T) {
	wheels(t, "cp311-cp311-manylinux_2_28_aarch64", map[string]string{"capi/lib.so.1.27.0": "ELF"})
	cache := t.TempDir()
	c := New(Config{CacheDir: cache})
	c.libraries["linux/test"] = library{
		platform: "manylinux_2_28_aarch64",
		file:     actions.ModelFile{Package: "cats-data==1.0", Path: "capi/lib.so.1.27.0", SHA256: hashOf("ELF")},
	}
	for range 2 {
		path, err := c.library(t.Context(), "linux/test")
		if want := filepath.Join(cache, "sha256", hashOf("ELF"), "lib.so.1.27.0"); err != nil || path != want {
			t.Errorf("got %s, %v, want %s", path, err, want)
		}
		wantFile(t, path, "ELF")
	}
	_, err := c.library(t.Context(), "plan9/mips")
	wantError(t, err, actions.Unsupported, "plan9/mips", "linux/amd64 and linux/arm64")
	_, err = New(Config{CacheDir: cache, Offline: true}).library(t.Context(), "linux/arm64")
	wantError(t, err, actions.Unavailable, "libonnxruntime: not in the cache", "offline", "libonnxruntime.so.1.27.0")
	for platform, l := range libraries() {
		if err := one(l.file).Validate(); err != nil || filepath.Base(l.file.Path) != "libonnxruntime.so.1.27.0" {
			t.Errorf("%s: got %+v, %v", platform, l.file, err)
		}
	}
}

// TestFetchCache shows what a cache that cannot be used says.
func TestFetchCache(t *testing.T) {
	f := actions.ModelFile{URL: "https://example.com/a.onnx", SHA256: someHash}
	_, err := New(Config{}).Fetch(t.Context(), one(f))
	wantError(t, err, actions.Unavailable, "no folder is set for the cache")
	file := write(t, t.TempDir(), "file", "")
	_, err = New(Config{CacheDir: file}).Fetch(t.Context(), one(f))
	wantError(t, err, actions.Unavailable, "not a directory")
	err = fetchError(t.Context(), "cats", fmt.Errorf("write: %w", syscall.ENOSPC))
	wantError(t, err, actions.Unavailable, "make room, or choose another folder for the cache")
	if !errors.Is(err, syscall.ENOSPC) {
		t.Error("got no cause, want it in the chain")
	}
}

// TestFetchCanceledPip shows that an ended context ends pip.
func TestFetchCanceledPip(t *testing.T) {
	dir := t.TempDir()
	started := filepath.Join(dir, "started")
	if err := syscall.Mkfifo(started, 0o644); err != nil {
		t.Fatal(err)
	}
	slow := write(t, dir, "python", "#!/bin/sh\necho > "+started+"\nexec sleep 60\n")
	if err := os.Chmod(slow, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = os.ReadFile(started) // until the interpreter has opened it
		cancel()
	}()
	cache := t.TempDir()
	_, err := New(Config{CacheDir: cache, Python: slow}).Fetch(ctx, one(actions.ModelFile{Package: "cats-data==1.0", Path: "a", SHA256: someHash}))
	wantError(t, err, actions.Canceled, "cats: ")
	wantClean(t, cache)
}
