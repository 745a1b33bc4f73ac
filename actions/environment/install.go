package environment

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// An installer makes virtual environments and puts packages into them: uv when it is
// there and pip is not told where to look, since uv does not read pip's configuration;
// else venv and pip.
type installer struct {
	e      *Environments
	python string
	uv     string // its path, "" for pip
}

// installer chooses between uv and pip.
func (e *Environments) installer(ctx context.Context, python string) (installer, error) {
	in := installer{e: e, python: python}
	uv, err := exec.LookPath("uv")
	if err == nil && !e.pipConfigured(ctx, python) {
		in.uv = uv
	}
	return in, ctx.Err()
}

// pipConfigured reports whether the user's configuration or environment tells pip where
// to look for packages, or how.
func (e *Environments) pipConfigured(ctx context.Context, python string) bool {
	out, err := query(ctx, python, "-I", "-m", "pip", "config", "list")
	return err == nil && directs(string(out)) // no pip, no configuration
}

// directs reports whether what "pip config list" prints matters for what is installed.
func directs(list string) bool {
	for line := range strings.Lines(list) {
		key, _, _ := strings.Cut(line, "=")
		switch key[strings.LastIndexByte(key, '.')+1:] {
		case "disable-pip-version-check", "default-timeout", "timeout", "no-cache-dir", "cache-dir", "root-user-action",
			"config-file", "progress-bar", "no-color", "quiet", "verbose", "break-system-packages", "user", "require-virtualenv", "no-input", "":
		default:
			return true
		}
	}
	return false
}

// venv makes a virtual environment.
func (in installer) venv(ctx context.Context, dir string) error {
	cmd := command(ctx, in.python, "-I", "-m", "venv", dir)
	if in.uv != "" {
		cmd = command(ctx, in.uv, "venv", "--python", in.python, dir)
	}
	if err := in.e.tool(cmd); err != nil {
		return advice(fmt.Errorf("making a virtual environment with %s: %w", in.python, err))
	}
	return nil
}

// install installs into a virtual environment, with the arguments of pip install.
func (in installer) install(ctx context.Context, dir string, args ...string) error {
	cmd := command(ctx, binary(dir), append([]string{"-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"}, args...)...)
	cmd.Env = append(cmd.Env, "PIP_USER=0", "PYTHONUTF8=1")
	what := "pip"
	if in.uv != "" {
		what = "uv"
		cmd = command(ctx, in.uv, append([]string{"pip", "install", "--python", binary(dir)}, args...)...)
	}
	if in.e.cfg.Offline {
		cmd.Env = append(cmd.Env, "PIP_NO_INDEX=1", "UV_OFFLINE=1")
	}
	cmd.Env = append(versionless(args), cmd.Env...) // of two the later counts: the user's own
	if err := in.e.tool(cmd); err != nil {
		return advice(fmt.Errorf("%s: %w", what, err))
	}
	return nil
}

// versionless gives a version to sources that know it from their repository only, when
// that is not there.
func versionless(args []string) []string {
	if len(args) < 2 || args[0] != "-e" && args[0] != "--" {
		return nil
	}
	dir, _, _ := strings.Cut(args[1], "[")
	if info, err := os.Stat(dir); err != nil || !info.IsDir() || exists(dir, ".git") {
		return nil
	}
	return []string{"PBR_VERSION=0.0.0", "SETUPTOOLS_SCM_PRETEND_VERSION=0.0.0"}
}

// freeze lists what is installed in a virtual environment, as pip writes it.
func (in installer) freeze(ctx context.Context, dir string) ([]byte, error) {
	if in.uv != "" {
		return query(ctx, in.uv, "pip", "freeze", "--python", binary(dir))
	}
	return query(ctx, binary(dir), "-I", "-m", "pip", "freeze", "--disable-pip-version-check")
}

// notEditable reports whether an error is that of a build system, or a pip, which cannot
// install in place.
func notEditable(err error) bool {
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "editable")
}

// advised adds what to do to the error of a module that misses a package.
func advised(err error) error {
	for _, name := range []string{"marshmallow", "webargs", "deepaas", "aiohttp"} {
		if strings.Contains(err.Error(), "No module named '"+name) {
			return fmt.Errorf("%w; the module does not declare that it needs %s: add it as a requirement (--with %s)", err, name, name)
		}
	}
	return err
}
