package environment

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// zipped packs a folder.
func zipped(t *testing.T, dir, under string) string {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, name := range names(t, dir) {
		w, err := z.Create(under + name)
		if err == nil {
			_, err = w.Write([]byte(read(t, dir, name)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// git runs git in a folder.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestClone shows what git is called with.
func TestClone(t *testing.T) {
	bin := t.TempDir()
	notes := filepath.Join(bin, "notes")
	script := "#!/bin/sh\necho \"$GIT_TERMINAL_PROMPT $GIT_ALLOW_PROTOCOL $*\" >> " + notes + "\n"
	if err := os.Chmod(write(t, bin, "git", script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	hash := strings.Repeat("a1", 20)
	for from, want := range map[string][]string{
		"https://example.com/org/repo.git":  {"clone --depth 1 --recurse-submodules --shallow-submodules -- https://example.com/org/repo.git TO/repo"},
		"git+https://example.com/repo@v1.0": {"clone --branch v1.0 --depth 1 --recurse-submodules --shallow-submodules -- https://example.com/repo TO/repo"},
		"https://example.com/repo#feat/x":   {"clone --branch feat/x --depth 1 --recurse-submodules --shallow-submodules -- https://example.com/repo TO/repo"},
		"https://user@example.com/repo":     {"clone --depth 1 --recurse-submodules --shallow-submodules -- https://user@example.com/repo TO/repo"},
		"git@example.com:org/repo.git@main": {"clone --branch main --depth 1 --recurse-submodules --shallow-submodules -- git@example.com:org/repo.git TO/repo"},
		"git@example.com:repo":              {"clone --depth 1 --recurse-submodules --shallow-submodules -- git@example.com:repo TO/repo"},
		"ssh://git@example.com/repo#" + hash: {
			"init --quiet -- TO/repo", "-C TO/repo fetch --depth 1 -- ssh://git@example.com/repo " + hash, "-C TO/repo checkout --quiet FETCH_HEAD",
		},
	} {
		src, err := parseSource(from)
		if err != nil {
			t.Errorf("%s: %v", from, err)
			continue
		}
		to := filepath.Join(t.TempDir(), "to")
		if _, err := New(Config{}).bring(t.Context(), src, to); err != nil {
			t.Errorf("%s: %v", from, err)
			continue
		}
		var got []string
		for line := range strings.Lines(strings.ReplaceAll(read(t, notes), to, "TO")) {
			got = append(got, strings.TrimPrefix(strings.TrimSpace(line), "0 https:ssh:file "))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", from, diff)
		}
		if err := os.Remove(notes); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCopy shows what is copied of a folder that even holds the installed modules.
func TestCopy(t *testing.T) {
	outer := t.TempDir()
	from := filepath.Join(outer, "from")
	if err := os.Chmod(write(t, from, "run", "#!"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, from, ".git/HEAD", "ref")
	write(t, from, "data/modules/x/file", "installed")
	write(t, outer, "weights", "w")
	for name, to := range map[string]string{"inside": "run", "out": "../weights", "data/absolute": filepath.Join(outer, "weights"), "data/up": "../run"} {
		if err := os.Symlink(to, filepath.Join(from, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(from, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	linked := filepath.Join(outer, "linked")
	if err := os.Symlink(from, linked); err != nil {
		t.Fatal(err)
	}
	src, err := parseSource(linked)
	if err != nil {
		t.Fatal(err)
	}
	e := New(Config{Dir: filepath.Join(linked, "data/modules")})
	into := filepath.Join(e.cfg.Dir, "staged")
	dir, err := e.bring(t.Context(), src, into)
	if err != nil || dir != filepath.Join(into, "linked") {
		t.Fatalf("got %s, %v, want the folder by its name", dir, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "run")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("got %v, %v, want a program that all may run", info, err)
	}
	for name, want := range map[string]string{"inside": "#!", "out": "w", "data/absolute": "w", "data/up": "#!", ".git/HEAD": "ref"} {
		if got := read(t, dir, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if exists(dir, "pipe") || exists(dir, "data/modules") {
		t.Errorf("got %q, want neither the pipe nor the modules", names(t, filepath.Join(dir, "data")))
	}
}
