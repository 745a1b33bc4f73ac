package environment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxQuery is how many bytes of an answer are read.
const maxQuery = 16 << 20

// shared lets several commands write to one writer, and goes on when it has an error.
type shared struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.w.Write(p) // nobody reads it: no reason to stop an installation
	return len(p), nil
}

// A tail keeps the end of what is written to it.
type tail struct{ kept []byte }

const maxTail = 32 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if extra := len(t.kept) - maxTail; extra > 0 {
		t.kept = slices.Delete(t.kept, 0, extra)
	}
	return len(p), nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxQuery {
		return 0, fmt.Errorf("more than %d bytes", maxQuery)
	}
	return b.Buffer.Write(p)
}

// interpreter returns the absolute path of an interpreter, "" being the one of Config.
func (e *Environments) interpreter(python string) (string, error) {
	if python == "" {
		python = e.cfg.Python
	}
	path, err := exec.LookPath(python)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Errorf("there is no Python interpreter %q; install Python 3.8 or later with venv, or name another interpreter: %w", python, err)
	}
	return path, nil
}

// command is one that ends, with all that it starts, when ctx does. What the user's
// environment says to Python alone does not reach it.
func command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // without a terminal nothing can ask there
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = slices.DeleteFunc(cmd.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{
			"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT",
			"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "__PYVENV_LAUNCHER__",
		}, name)
	})
	return cmd
}

// query runs a command and returns what it prints.
func query(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := command(ctx, program, args...)
	var stdout bounded
	var stderr tail
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, said(err, stderr.kept)
	}
	return stdout.Bytes(), nil
}

// tool runs a command whose output people read. An error has its last lines.
func (e *Environments) tool(cmd *exec.Cmd) error {
	var last tail
	both := io.MultiWriter(e.cfg.Output, &last)
	cmd.Stdout, cmd.Stderr = both, both
	if err := cmd.Run(); err != nil {
		return said(err, last.kept)
	}
	return nil
}

// A toolError is the error of a command with the last lines that it printed.
type toolError struct {
	err   error
	lines []string
}

func (e *toolError) Error() string {
	if len(e.lines) == 0 {
		return e.err.Error()
	}
	return fmt.Sprintf("%v, and said:\n  %s", e.err, strings.Join(e.lines, "\n  "))
}

func (e *toolError) Unwrap() error { return e.err }

// maxLines is how many of the last lines of a command an error has.
const maxLines = 12

// said adds the last lines of its output to the error of a command.
func said(err error, output []byte) error {
	var lines []string
	for line := range strings.Lines(public(strings.ToValidUTF8(string(output), "\uFFFD"))) {
		line = strings.TrimRight(line, " \t\r\n")
		if i := strings.LastIndexByte(line, '\r'); i >= 0 { // a progress bar
			line = line[i+1:]
		}
		if line != "" && !strings.HasPrefix(line, "[notice]") {
			lines = append(lines, line[:min(len(line), 500)])
		}
	}
	return &toolError{err: err, lines: lines[max(0, len(lines)-maxLines):]}
}

// advice says what can be done about an error of pip or uv.
func advice(err error) error {
	var failed *toolError
	if !errors.As(err, &failed) {
		return err
	}
	output := strings.Join(failed.lines, "\n")
	for _, known := range []struct{ signs, do string }{
		{"No space left", "make room, or choose other folders for the cache and the modules"},
		{"ensurepip|python3-venv", "install venv for this Python (Debian: python3-venv), or uv, or name another interpreter"},
		{"requires a different Python|Requires-Python", "name an interpreter of a version that it supports"},
		{"NewConnectionError|Temporary failure in name|ConnectTimeout|Connection refused|ProxyError|dns error|error sending request|SSLError", "the package index cannot be reached; check the network and pip's configuration"},
		{"No matching distribution|No solution found|not found in the package registry", "correct the name or the version, or pip's configuration of where to look"},
		{"ResolutionImpossible|conflicting dependencies", "the versions that are asked for do not go together; loosen one"},
		{"gcc|compiler|Python.h|metadata-generation-failed|Failed building wheel|Failed to build", "it had to be built and could not be; take a version that has a wheel for this Python, or install what the build misses"},
	} {
		for sign := range strings.SplitSeq(known.signs, "|") {
			if strings.Contains(output, sign) {
				return fmt.Errorf("%w\n%s", err, known.do)
			}
		}
	}
	return err
}

// exists reports whether there is something of that name.
func exists(path ...string) bool {
	_, err := os.Stat(filepath.Join(path...))
	return err == nil
}
