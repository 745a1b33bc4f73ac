package environment

import (
	"archive/zip"
	"bytes"
	"context"
	"io/fs"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	script := "#!/bin/sh\n[ $1 = config ] || echo \"$GIT_TERMINAL_PROMPT $GIT_ALLOW_PROTOCOL $GIT_SSH_COMMAND: $*\" >> " + notes + "\n"
	if err := os.Chmod(write(t, bin, "git", script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	hash := strings.Repeat("a1", 20)
	for from, want := range map[string][]string{
		"https://example.com/org/repo.git":  {"clone --depth 1 --recurse-submodules --shallow-submodules -- https://example.com/org/repo.git TO/repo"},
		"git+https://example.com/repo@v1.0": {"clone --branch v1.0 --depth 1 --recurse-submodules --shallow-submodules -- https://example.com/repo TO/repo"},
		"https://example.com/repo#feat/x":   {"clone --branch feat/x --depth 1 --recurse-submodules --shallow-submodules -- https://example.com/repo TO/repo"},
		"https://user@example.com/repo":     {"-c url.https://user@example.com/.insteadOf=https://example.com/ clone --depth 1 --recurse-submodules --shallow-submodules -- https://example.com/repo TO/repo"},
		"git@example.com:org/repo.git@main": {"clone --branch main --depth 1 --recurse-submodules --shallow-submodules -- git@example.com:org/repo.git TO/repo"},
		"git@example.com:repo":              {"clone --depth 1 --recurse-submodules --shallow-submodules -- git@example.com:repo TO/repo"},
		"ssh://git@example.com/repo#" + hash: {
			"init --quiet -- TO/repo", "-C TO/repo remote add -- origin ssh://git@example.com/repo", "-C TO/repo fetch --depth 1 -- origin " + hash,
			"-C TO/repo checkout --quiet FETCH_HEAD", "-C TO/repo submodule update --init --recursive --depth 1",
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
			got = append(got, strings.TrimPrefix(strings.TrimSpace(line), "0 https:ssh ssh -oBatchMode=yes: "))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", from, diff)
		}
		if err := os.Remove(notes); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGitEnv shows that git asks nobody, and what a user has set.
func TestGitEnv(t *testing.T) {
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Chdir(t.TempDir())
	unset := func(name string) {
		t.Setenv(name, "") // so that it is restored
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	unset("GIT_SSH")
	unset("GIT_SSH_COMMAND")
	quiet := []string{"GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=https:ssh"}
	batch := append(slices.Clone(quiet), "GIT_SSH_COMMAND=ssh -oBatchMode=yes")
	if diff := cmp.Diff(batch, gitEnv(t.Context(), false)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := gitEnv(t.Context(), true); got[1] != "GIT_ALLOW_PROTOCOL=https:ssh:file" {
		t.Errorf("got %q, want files for a repository of this machine", got)
	}
	for _, name := range []string{"GIT_SSH", "GIT_SSH_COMMAND"} {
		t.Setenv(name, "my-ssh")
		if diff := cmp.Diff(quiet, gitEnv(t.Context(), false)); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", name, diff)
		}
		unset(name)
	}
	t.Setenv("GIT_CONFIG_GLOBAL", write(t, t.TempDir(), "config", "[core]\n\tsshCommand = my-ssh\n"))
	if diff := cmp.Diff(quiet, gitEnv(t.Context(), false)); diff != "" {
		t.Errorf("core.sshCommand: (-want +got):\n%s", diff)
	}
}

// TestNoTerminal shows that what is run has no terminal to ask at.
func TestNoTerminal(t *testing.T) {
	out, err := query(t.Context(), "sh", "-c", "cut -d' ' -f1,6,7 /proc/self/stat; echo $$; (: < /dev/tty) 2> /dev/null && echo asked; exit 0")
	fields := strings.Fields(string(out)) // the process, its session, its terminal; the shell
	if err != nil || len(fields) != 4 || fields[1] != fields[3] || fields[2] != "0" {
		t.Errorf("got %q, %v, want a session of its own, without a terminal", out, err)
	}
}

// TestRedacted shows what people see of an address.
func TestRedacted(t *testing.T) {
	for s, want := range map[string]string{
		"https://user:secret@example.com/r@v1":    "https://example.com/r@v1",
		"git+https://secret@example.com:8/r#main": "git+https://example.com:8/r#main",
		"https://user:sec@ret%zz@example.com/r":   "https://example.com/r",
		"https://user:sec/secret@example.com/r":   "https://example.com/r",
		"https://user:sec#secret@example.com/r":   "https://example.com/r",
		"ssh://git:secret@example.com/r":          "ssh://git@example.com/r",
		"git@example.com:r@v1":                    "git@example.com:r@v1",
		"./folder@x":                              "./folder@x",
		"https://example.com/org/repo@v1":         "https://example.com/org/repo@v1",
	} {
		if got := redacted(s); got != want {
			t.Errorf("%s: got %s, want %s", s, got, want)
		}
	}
	line := "-e git+https://u:secret@example.com/r@a1#egg=x\ny @ https://secret@example.com/y.whl\n-e git+ssh://git@example.com/z@b2\n"
	want := "-e git+https://example.com/r@a1#egg=x\ny @ https://example.com/y.whl\n-e git+ssh://git@example.com/z@b2\n"
	if got := public(line); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// serveGit serves the bare repositories of a folder over HTTPS to who knows the secret,
// and returns the address with and without it.
func serveGit(t *testing.T, dir string) (with, without string) {
	t.Helper()
	backend := filepath.Join(git(t, dir, "--exec-path"), "git-http-backend")
	handler := &cgi.Handler{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"}}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, password, _ := r.BasicAuth(); name != "user" || password != "secret" {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	t.Setenv("GIT_SSL_NO_VERIFY", "1")
	t.Setenv("NO_PROXY", "127.0.0.1")
	t.Setenv("no_proxy", "127.0.0.1")
	host := strings.TrimPrefix(server.URL, "https://")
	return "https://user:secret@" + host, "https://" + host
}

// repositories makes the bare repository main.git, which has the submodule sub.git by a
// relative address, and foreign.git, which has one by a path of this machine. It returns
// the commit of main.git.
func repositories(t *testing.T, dir string) string {
	t.Helper()
	commit := func(name string) {
		git(t, filepath.Join(dir, name), "add", ".")
		git(t, filepath.Join(dir, name), "commit", "--quiet", "-m", "all")
		git(t, dir, "clone", "--quiet", "--bare", name, name+".git")
		git(t, filepath.Join(dir, name+".git"), "config", "uploadpack.allowAnySHA1InWant", "true")
	}
	project{name: "module", entries: entry("x")}.lay(t, filepath.Join(dir, "main"))
	write(t, dir, "sub/weights", "w")
	write(t, dir, "foreign/api.py", "")
	for _, name := range []string{"sub", "main", "foreign"} {
		git(t, filepath.Join(dir, name), "init", "--quiet", "--initial-branch", "main")
		address := map[string]string{"main": "../sub.git", "foreign": filepath.Join(dir, "sub.git")}[name]
		if address != "" {
			git(t, filepath.Join(dir, name), "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", address, "sub")
		}
		commit(name)
	}
	return git(t, filepath.Join(dir, "main"), "rev-parse", "HEAD")
}

// wantNowhere looks for a secret in all files below a folder.
func wantNowhere(t *testing.T, dir, secret string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if files++; bytes.Contains(data, []byte(secret)) {
			t.Errorf("%s holds the secret", name)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("got %d files, %v", files, err)
	}
}

// TestCloneSubmodules clones with a password, by branch and by commit, and shows that
// submodules come with both, and the password stays nowhere.
func TestCloneSubmodules(t *testing.T) {
	dir := t.TempDir()
	hash := repositories(t, dir)
	with, without := serveGit(t, dir)
	local := "file://" + dir
	for name, tt := range map[string]struct{ from, origin string }{
		"https":           {with + "/main.git", without},
		"https branch":    {with + "/main.git@main", without},
		"https commit":    {with + "/main.git#" + hash, without},
		"file":            {local + "/main.git", local},
		"file commit":     {local + "/main.git#" + hash, local},
		"path":            {filepath.Join(dir, "main.git"), local},
		"path of another": {filepath.Join(dir, "foreign.git"), local},
	} {
		src, err := parseSource(tt.from)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "to")
		repo, err := New(Config{}).bring(t.Context(), src, to)
		if err != nil || read(t, repo, "sub/weights") != "w" {
			t.Errorf("%s: got %v, want the submodule", name, err)
			continue
		}
		if got := git(t, repo, "config", "remote.origin.url"); filepath.Dir(got) != tt.origin && !strings.HasPrefix(got, tt.origin+"/") {
			t.Errorf("%s: got the origin %s, want one at %s", name, got, tt.origin)
		}
		wantNowhere(t, to, "secret")
	}
	for _, from := range []string{with + "/foreign.git", strings.Replace(with, "secret", "wrong-secret", 1) + "/main.git"} {
		src, err := parseSource(from)
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(Config{}).bring(t.Context(), src, filepath.Join(t.TempDir(), "to"))
		if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "git clone "+without) {
			t.Errorf("got %v, want an error without the secret", err)
		}
	}
}

// TestAddSecret shows that an installation from an address with a password does not hold
// it, nor a copy of a folder that was cloned so.
func TestAddSecret(t *testing.T) {
	e, _ := installing(t)
	dir := t.TempDir()
	repositories(t, dir)
	with, _ := serveGit(t, dir)
	git(t, dir, "clone", "--quiet", "--recurse-submodules", with+"/main.git", "cloned")
	cloned := filepath.Join(dir, "cloned")
	git(t, cloned, "config", "http.extraheader", "AUTHORIZATION: basic secret")
	for _, from := range []string{with + "/main.git", cloned} {
		i, err := e.Add(t.Context(), from, AddOptions{}, func(_ context.Context, i Installed) error {
			wantNowhere(t, e.cfg.Dir, "secret")
			return nil
		})
		if err != nil || strings.Contains(i.Source, "secret") || !strings.Contains(read(t, i.Lock), "module") {
			t.Errorf("%s: got %+v, %v", from, i, err)
		}
		wantNowhere(t, e.cfg.Dir, "secret")
	}
	if !strings.Contains(read(t, cloned, ".git/config"), "secret") {
		t.Error("the user's own folder has changed")
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
