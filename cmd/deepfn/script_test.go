package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the command as its users do: testdata/script/*.txtar.
func TestScripts(t *testing.T) {
	env := environ(t)
	cache := os.Getenv("DEEPFN_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "deepfn")
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed below
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	examples, err := filepath.Abs(top + "/examples")
	if err != nil {
		t.Fatal(err)
	}
	nvml := fakeNVML(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			for _, kv := range env {
				if name, value, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "DEEPFN_") || name == "GORACE" {
					e.Setenv(name, value)
				}
			}
			e.Setenv("DEEPFN_CACHE", cache)
			e.Setenv("DEEPFN_LOG_LEVEL", "warn")
			e.Setenv("PYTHON", current(t))
			e.Setenv("TAKEN", taken.Addr().String())
			e.Setenv("EXAMPLES", examples)
			e.Setenv("NVML", nvml)
			if err := os.WriteFile(e.Getenv("WORK")+"/line.png", linePNG(t, "Warm start 2026"), 0o600); err != nil {
				return err
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits is the script command `exits CODE PROGRAM ARG...`: it runs the program and
// checks its exit code. The output is there for stdout and stderr.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code: got %d, want %d", got, want)
	}
}
