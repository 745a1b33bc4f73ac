package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// An outcome is what a command came to.
type outcome struct {
	code           int
	stdout, stderr string
}

// command runs deepfn with the data of a server that need not run.
func (p *process) command(args ...string) outcome {
	p.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.CommandContext(p.t.Context(), exe, args...)
	cmd.Env = append(environ(p.t), append(p.env, "DEEPFN_PYTHON="+current(p.t), "DEEPFN_LOG_LEVEL=warn")...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// want checks the exit code, and that each word is in what was printed.
func (o outcome) want(t *testing.T, what string, code int, words ...string) {
	t.Helper()
	if o.code != code {
		t.Errorf("%s: got the exit code %d, want %d: %s%s", what, o.code, code, o.stdout, o.stderr)
	}
	for _, word := range words {
		if !strings.Contains(o.stdout+o.stderr, word) {
			t.Errorf("%s: got %s%s, want %q in it", what, o.stdout, o.stderr, word)
		}
	}
}

// moduleSource lays out the source of a DEEPaaS module and returns its folder.
func moduleSource(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "box-module")
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"backend.py", "box.py"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		write(name, string(text))
	}
	write("pyproject.toml", "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"+
		"[project]\nname = 'box'\nversion = '1.0'\n[project.entry-points.'deepaas.v2.model']\nbox = 'box'\n")
	return dir
}

// TestAddModule installs a module without a network, serves and invokes it, adds versions
// of it that do not load, and removes it.
func TestAddModule(t *testing.T) {
	t.Parallel()
	p := newServer(t)
	source := moduleSource(t)
	box := filepath.Join(source, "box.py")
	sound, err := os.ReadFile(box)
	if err != nil {
		t.Fatal(err)
	}
	p.command("models", "added").want(t, "nothing added yet", 0)
	p.command("serve", source, "--listen", "127.0.0.1:0").want(t, "serving its source", 2, "deepfn add")
	p.command("add", source, "--offline").want(t, "add", 0, "box: Python 3.", "loads and warms", "deepfn serve box")
	p.command("models", "list").want(t, "models list", 0, "box", "Finds boxes")
	p.command("models", "added").want(t, "models added", 0, "box", source)
	p.command("invoke", "box").want(t, "invoke", 0, `"warm": true`, "first")

	p.serve(&p.stdout, "box")
	eventually(t, "ready", func() bool { return p.mustGet("/readyz").status == 200 })
	if r := p.mustPost("/v2/models/box/predict/", jsonMedia, nil); !r.has(200, `{"boxes": [1, 2], "warm": true, "version": "first"}`) {
		t.Errorf("predict: got %d %s", r.status, r.body)
	}
	if r := p.mustGet("/v2/models/box/"); !r.has(200, "A. Cat") {
		t.Errorf("metadata: got %d %s", r.status, r.body)
	}

	for _, bad := range []struct{ name, text, want string }{
		{"raises at import", "print('looking for weights')\nraise ValueError('no weights')\n", "no weights"},
		{"does not warm", strings.ReplaceAll(string(sound), `STATE["warm"] = True`, "raise OSError('no GPU')"), "no GPU"},
	} {
		if err := os.WriteFile(box, []byte(bad.text), 0o600); err != nil {
			t.Fatal(err)
		}
		o := p.command("add", source, "--offline")
		o.want(t, bad.name, 1, bad.want)
		record(t, "add: a module that "+bad.name, "exit code 1, `"+strings.TrimSpace(lastLine(o.stderr))+"`", "-", "the installed one stays")
		p.command("invoke", "box").want(t, "invoke after a bad add", 0, "first")
	}
	if err := os.WriteFile(box, []byte(strings.ReplaceAll(string(sound), "first", "second")), 0o600); err != nil {
		t.Fatal(err)
	}
	p.command("add", source, "--offline").want(t, "add again", 0, "loads and warms")
	p.command("invoke", "box").want(t, "invoke the second", 0, "second")

	p.command("remove", "box").want(t, "remove", 0)
	p.command("invoke", "box").want(t, "invoke what was removed", 3, "box")
	p.command("remove", "box").want(t, "remove it again", 3, "box")
	if left, err := filepath.Glob(filepath.Join(p.data, "modules", "[^.]*")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v are left, want nothing", left, err)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code of the server: got %d, want 0", code)
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// TestAddFaults adds what is no module.
func TestAddFaults(t *testing.T) {
	t.Parallel()
	p := newServer(t)
	p.command("add", "./nowhere", "--offline").want(t, "no such folder", 3, "nowhere")
	p.command("add", t.TempDir(), "--offline").want(t, "an empty folder", 2)
	p.command("remove", "never-added").want(t, "remove", 3, "never-added")
	p.command("remove", "../escape").want(t, "a name that is a path", 3)
	needs := moduleSource(t)
	toml, err := os.ReadFile(filepath.Join(needs, "pyproject.toml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(toml), "requires = []", "requires = ['no-such-build-system']", 1)
	if err := os.WriteFile(filepath.Join(needs, "pyproject.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.command("add", needs, "--offline").want(t, "what is not there offline", 4, "no-such-build-system")
	p.command("models", "added").want(t, "nothing was added", 0)
	if o := p.command("models", "added"); strings.Contains(o.stdout, "box") {
		t.Errorf("got %s, want no module", o.stdout)
	}
}
