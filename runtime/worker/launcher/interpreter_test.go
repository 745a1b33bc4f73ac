package launcher_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// script makes an executable file.
func script(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestInterpreters(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name, python, wrong string
		code                actions.Code
	}{
		{"relative", "bin/python", "is not an absolute path", actions.Invalid},
		{"missing", dir + "/python", "there is no interpreter " + dir + "/python", actions.NotFound},
		{"folder", dir, "is a folder", actions.Unavailable},
		{"not executable", script(t, "#!/bin/sh\n", 0o600), "chmod +x", actions.Unavailable},
		{"a program of its own", script(t, "#!/bin/sh\necho hello >&2; exit 3\n", 0o700), `is not a Python interpreter that works: it says "hello"`, actions.Unavailable},
		{"silent", script(t, "#!/bin/sh\n", 0o700), "it says nothing", actions.Unavailable},
		{"broken", script(t, "#!/nonexistent/python\n", 0o700), "is not a Python interpreter that works", actions.Unavailable},
		{"old", script(t, "#!/bin/sh\nprintf 'Python 2.7'\n", 0o700), "is Python 2.7; 3.8 or later is needed", actions.Unavailable},
		{"nearly", script(t, "#!/bin/sh\nprintf 'Python 3.7'\n", 0o700), "is Python 3.7; 3.8 or later is needed", actions.Unavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := launcher.New(launcher.Config{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			_, err = l.Start(t.Context(), launcher.Run{Model: actions.Model{Name: "m"}, Python: tt.python})
			if actions.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("got %q %v, want %q %s", actions.CodeOf(err), err, tt.code, tt.wrong)
			}
		})
	}
}

func TestStartNowhere(t *testing.T) {
	l, err := launcher.New(launcher.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Start(t.Context(), launcher.Run{Python: "/bin/false", Dir: "/nonexistent"})
	if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), "there is no folder /nonexistent") {
		t.Errorf("got %v", err)
	}
}

func TestNewNeedsADir(t *testing.T) {
	if _, err := launcher.New(launcher.Config{}); err == nil {
		t.Error("got no error")
	}
}
