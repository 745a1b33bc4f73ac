package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/deepfn/deepfn/proxy/conformance"
)

// TestConformance runs every case against deepfn itself, with Python and with
// executables: all that apply pass, and each that does not says why.
func TestConformance(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	report, err := conformance.Run(t.Context(), conformance.Config{
		Exec:        "exec '" + self + "' serve --data data --cache cache --log-level warn --python '" + current(t) + "'",
		Env:         environ(t),
		Interpreter: current(t),
		Parallel:    2,
		Progress: func(r conformance.Result) {
			if r.Outcome == conformance.Failed {
				t.Errorf("%s %s: %s", r.Number, r.Name, r.Reason)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		if r.Outcome == conformance.NotApplicable && r.Reason == "" {
			t.Errorf("%s %s does not apply, and does not say why", r.Number, r.Name)
		}
	}
	if passed := report.Count(conformance.Passed); len(report.Kinds) != 2 || passed < 75 {
		t.Errorf("%d cases passed with code of the kinds %v, want at least 75 with python and executable", passed, report.Kinds)
	}
}

// TestConformanceOfModel runs the cases against a container that has its model already.
func TestConformanceOfModel(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := lay(t, "hello.py", "def main(args):\n    return {'hello': args.get('name', 'world')}\n")
	report, err := conformance.Run(t.Context(), conformance.Config{
		Exec:  "exec '" + self + "' serve '" + file + "' --data data --cache cache --log-level warn --python '" + current(t) + "'",
		Env:   environ(t),
		Match: regexp.MustCompile(`^(#1|#2|#41|#42|#43|G24|G26) `),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		if r.Outcome != conformance.Passed {
			t.Errorf("%s %s: %s: %s", r.Number, r.Name, r.Outcome, r.Reason)
		}
	}
	if !report.Stub || len(report.Results) != 7 {
		t.Errorf("%d cases ran, stub %t; want 7 and a container with an action", len(report.Results), report.Stub)
	}
}

func TestConformanceCommand(t *testing.T) {
	t.Parallel()
	nothing := func(string) string { return "" }
	for _, c := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{args: []string{"--list"}, stdout: "#69   node"},
		{args: []string{"--list", "--run", "zip whose"}, stdout: "G9    gaps"},
		{args: nil, code: exitUsage, stderr: "want one of --exec, --image and --url"},
		{args: []string{"--url", "http://127.0.0.1:1", "--exec", "true"}, code: exitUsage, stderr: "want one of"},
		{args: []string{"--exec", "true", "--restart", "true"}, code: exitUsage, stderr: "--restart is for --url"},
		{args: []string{"--exec", "true", "--kind", "cobol"}, code: exitUsage, stderr: "--kind cobol: want auto"},
		{args: []string{"--exec", "true", "--run", "("}, code: exitUsage, stderr: "--run (:"},
		{args: []string{"--exec", "echo oh dear; exit 7", "--run", "zzz"}, code: exitUsage, stderr: `no case matches "zzz"`},
		{args: []string{"--url", "notaurl"}, code: exitUsage, stderr: `"notaurl" is no URL`},
		{args: []string{"--exec", "echo oh dear; exit 7"}, code: exitUnavailable, stderr: "oh dear"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), program{
				args:  append([]string{"conformance", "openwhisk"}, c.args...),
				stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: nothing,
			})
			if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
				t.Errorf("got %d\n%s\n%s, want %d with %q and %q", code, stdout.String(), stderr.String(), c.code, c.stdout, c.stderr)
			}
		})
	}
}

// TestConformanceReports checks a server that a test has started, of which it has the
// address only: what the command prints, its files, and the exit code when a case fails.
func TestConformanceReports(t *testing.T) {
	t.Parallel()
	p := newServer(t)
	p.serve(&p.stdout, "--python", current(t))
	junit, report := t.TempDir()+"/junit.xml", t.TempDir()+"/report.json"
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), program{
		args: []string{
			"conformance", "openwhisk", "--url", p.base, "--kind", "python", "--run", "^(#2|#4|#9) ",
			"--timeout", (20 * time.Second).String(), "--junit", junit, "--json", report,
		},
		stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: func(string) string { return "" },
	})
	if code != exitOK || !strings.Contains(stdout.String(), "\n2 pass, 0 fail, 1 do not apply; ") {
		t.Errorf("got %d\n%s\n%s", code, stdout.String(), stderr.String())
	}
	for file, want := range map[string]string{junit: `name="#4 fail to initialize a second time"`, report: `"number": "#9"`} {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, want %s in it: %s", file, err, want, text)
		}
	}
}

// TestConformanceInterrupted interrupts the command: it writes its files, says how many
// cases did not run, and does not end with 0.
func TestConformanceInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	junit := t.TempDir() + "/junit.xml"
	var stdout, stderr bytes.Buffer
	code := run(ctx, program{
		args:  []string{"conformance", "openwhisk", "--exec", "sleep 60", "--run", "^#[1-9] ", "--junit", junit},
		stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: func(string) string { return "" },
	})
	if code != exitFailed || !strings.Contains(stderr.String(), "interrupted: 9 of 9 cases did not run") || strings.Contains(stdout.String(), "FAIL") {
		t.Errorf("got %d\n%s\n%s", code, stdout.String(), stderr.String())
	}
	if text, err := os.ReadFile(junit); err != nil || !strings.Contains(string(text), `tests="9" failures="0" skipped="9"`) {
		t.Errorf("%v: %s, want 9 tests that were skipped", err, text)
	}
}

// TestConformanceSignalledTwice sends what timeout sends, one signal to the process and one
// to its group: they are one interruption, and the report is written.
func TestConformanceSignalledTwice(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	junit := t.TempDir() + "/junit.xml"
	cmd := exec.CommandContext(t.Context(), self, "conformance", "openwhisk", "--exec", "sleep 60", "--junit", junit)
	cmd.Env = append(os.Environ(), "DEEPFN_TEST_MAIN=1", "GORACE=atexit_sleep_ms=0")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	from := bufio.NewReader(stdout)
	if _, err := from.ReadString('\n'); err != nil { // the head of the table
		t.Fatal(err)
	}
	for range 2 {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if _, err := from.ReadString('\n'); err != nil {
			t.Errorf("the rows of the table: %v", err)
		}
	}
	rest, _ := io.ReadAll(from) // it ends with the process
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(string(rest), "interrupted: 109 cases did not run") {
		t.Errorf("got %v and %s, want exit code 1", err, rest)
	}
	if text, err := os.ReadFile(junit); err != nil || !strings.Contains(string(text), `tests="109"`) {
		t.Errorf("%v: %.200s, want 109 tests", err, text)
	}
}
