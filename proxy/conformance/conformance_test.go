package conformance

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// fakeCommand is a command that runs the fake with a fault.
func fakeCommand(t *testing.T, fault string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("CONFORMANCE_FAKE=1 CONFORMANCE_FAULT='%s' exec '%s'", fault, self)
}

// check runs the cases that match against a container.
func check(t *testing.T, cfg Config, match string) Report {
	t.Helper()
	if match != "" {
		cfg.Match = regexp.MustCompile(match)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	cfg.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	report, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// TestRight runs all cases for Python against a container that is right, but those whose
// code comes in archives, which it does not unpack.
func TestRight(t *testing.T) {
	t.Parallel()
	report := check(t, Config{Exec: fakeCommand(t, ""), Parallel: 4}, "")
	if got := fmt.Sprint(report.Kinds); got != "[python]" || report.Stub {
		t.Errorf("the container takes %s, stub %t; want python and no stub", got, report.Stub)
	}
	archives := regexp.MustCompile(`^(#5[12]|#6[45]|G12|G13)$`)
	passed := 0
	for _, r := range report.Results {
		switch {
		case archives.MatchString(r.Number):
		case r.Outcome == Failed:
			t.Errorf("%s %s: %s", r.Number, r.Name, r.Reason)
		case r.Outcome == Passed:
			passed++
		case r.Reason == "":
			t.Errorf("%s %s does not apply, without a reason", r.Number, r.Name)
		}
	}
	if passed < 50 {
		t.Errorf("%d cases passed, want at least 50", passed)
	}
}

// TestFaults plants one fault each and looks whether the case that is for it fails, and
// says what is wrong.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ fault, number, reason string }{
		{"init without code", "#1", "want another status than 200"},
		{"init without code", "#2", "want another status than 200"},
		{"strings", "#3", "want another status than 200"},
		{"double sentinels", "#3", "stdout has 2 sentinels 100ms after the answer, want 1"},
		{"init twice", "#4", "want another status than 200"},
		{"silent second init", "#4", "does not say"},
		{"sentinel of init", "#4", "stdout has 1 sentinels 100ms after the answer, want 0"},
		{"no sentinels", "#5", "has 0 sentinels 100ms after the answer, want 1"},
		{"late sentinels", "#5", "(they were complete "},
		{"late sentinels", "#3", "has 0 sentinels 100ms after the answer, want 1"},
		{"no sentinel on stderr", "#5", "stderr has 0 sentinels 100ms after the answer, want 1"},
		{"status", "#5", "got 201"},
		{"chunks", "#5", "in chunks"},
		{"stale answers", "#6", `want 200 {"string":"❄ ☃ ❄"}`},
		{"lost logs", "#6", `want "hello stdout" in it`},
		{"latin", "#7", `want 200 {"winter":"❄ ☃ ❄"}`},
		{"no environment", "#8", `want 200 {"ANOTHER_VAR":"","SOME_VAR":"xyz"}`},
		{"no deadline variable", "#9", `"deadline":"123"`},
		{"typed environment", "#31", `"NUMBER":"123"`},
		{"accepts anything", "#53", "want 502"},
		{"accepts anything", "#55", "want 502"},
		{"accepts anything", "#62", "want 502"},
		{"exits are 200", "#61", "want 400"},
		{"hangs up", "G1", "the connection was closed without a whole answer"},
		{"stale answers", "G3", "want 200 with the id"},
		{"null answer", "G7", "want 200 with an object or array"},
		{"accepts anything", "G11", "want another status than 200"},
		{"null", "G15", "got 200 null"},
		{"scalars", "G16", "want a refusal"},
		{"old variables", "G20", "want the variable activation-1"},
		{"any method", "G23", "sentinels 100ms after the answer, want 0"},
		{"any path", "G24", "want another status than 200"},
		{"chunks", "G25", "in chunks"},
		{"chunked errors", "G26", "in chunks"},
		{"cut answers", "G27", "1 bytes of data"},
		{"init twice", "G28", "8 of 8 inits at once got 200"},
		{"swapped answers", "G29", "want the caller's own arguments"},
		{"swapped answers", "G30", "want the caller's own arguments"},
		{"double sentinels", "G31", "stdout has 32 sentinels 100ms after the answer, want 16"},
		{"old variables", "G32", "want the variable"},
		{"torn lines", "G33", "want the sentinel alone in its line"},
		{"forged sentinels", "G34", "has 2 sentinels 100ms after the answer, want 1"},
		{"late lines", "G35", "has 2 sentinels 100ms after the answer, want 1"},
		{"no sentinels", "G36", "has 0 sentinels 100ms after the answer, want 1"},
		{"no deadline", "G37", "want an object with the member error"},
		{"no drain", "G38", "the connection was closed without a whole answer"},
		{"new process", "G39", "want the same"},
		{"bare environment", "G40", "want PATH"},
	} {
		t.Run(c.fault+" "+c.number, func(t *testing.T) {
			t.Parallel()
			report := check(t, Config{Exec: fakeCommand(t, c.fault), Kinds: []Kind{Python}}, "^"+c.number+" ")
			if len(report.Results) != 1 {
				t.Fatalf("%d cases ran, want 1", len(report.Results))
			}
			if r := report.Results[0]; r.Outcome != Failed || !strings.Contains(r.Reason, c.reason) {
				t.Errorf("got %s: %s; want it to fail with %q", r.Outcome, r.Reason, c.reason)
			}
		})
	}
}

// TestSpaces checks a container that writes JSON with spaces, as Python does: bodies are
// compared as JSON, but in the cases of the Go proxy's units, which compare bytes.
func TestSpaces(t *testing.T) {
	t.Parallel()
	report := check(t, Config{Exec: fakeCommand(t, "spaced"), Kinds: []Kind{Python}, Parallel: 2}, "^(#2|#3|#4|#5|#23|G28) ")
	for _, r := range report.Results {
		want := Passed
		if r.Number == "#23" {
			want = Failed
		}
		if r.Outcome != want {
			t.Errorf("%s %s: got %s, want %s: %s", r.Number, r.Name, r.Outcome, want, r.Reason)
		}
	}
}

// TestAddress checks one container that is not restarted: it is initialised once.
func TestAddress(t *testing.T) {
	t.Parallel()
	base := startFake(t, "")
	report := check(t, Config{URL: base}, "")
	outcomes := map[string]Outcome{}
	for _, r := range report.Results {
		outcomes[r.Number] = r.Outcome
		if r.Outcome == Failed {
			t.Errorf("%s %s: %s", r.Number, r.Name, r.Reason)
		}
	}
	for number, want := range map[string]Outcome{
		"#2": Passed, "#23": Passed, "#4": Passed, "#10": Passed, "G15": Passed, "G29": Passed, "#3": NotApplicable, "#9": NotApplicable, "G38": NotApplicable,
	} {
		if outcomes[number] != want {
			t.Errorf("%s: got %s, want %s", number, outcomes[number], want)
		}
	}
}

// startFake starts a fake that stays until the test ends.
func startFake(t *testing.T, fault string) string {
	t.Helper()
	port, err := freePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", fakeCommand(t, fault))
	cmd.Env = append(os.Environ(), "PORT="+port, "GORACE=atexit_sleep_ms=0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	address := net.JoinHostPort("127.0.0.1", port)
	if !waitForPort(t.Context(), address, nil) {
		t.Fatal("the container does not listen")
	}
	return "http://" + address
}

// TestRestart checks a container that a command restarts: each case has a fresh one.
func TestRestart(t *testing.T) {
	t.Parallel()
	port, err := freePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pid := t.TempDir() + "/pid"
	restart := fmt.Sprintf("[ ! -f %[1]s ] || kill -9 $(cat %[1]s); export PORT=%[2]s; (%[3]s) >/dev/null 2>&1 & echo $! > %[1]s; sleep 0.2", pid, port, fakeCommand(t, ""))
	t.Cleanup(func() {
		_ = exec.CommandContext(context.WithoutCancel(t.Context()), "/bin/sh", "-c", "kill -9 $(cat "+pid+")").Run()
	})
	report := check(t, Config{URL: "http://127.0.0.1:" + port, Restart: restart, Kinds: []Kind{Python}}, "^(#3|#4|#6|G5|#9) ")
	for _, r := range report.Results {
		want := Passed
		if r.Number == "#9" {
			want = NotApplicable // its variables cannot be given
		}
		if r.Outcome != want {
			t.Errorf("%s %s: got %s, want %s: %s", r.Number, r.Name, r.Outcome, want, r.Reason)
		}
	}
}

// TestRefused says what cannot be checked at all.
func TestRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"nothing":                {Config{}, "want one container"},
		"two":                    {Config{URL: "http://x", Exec: "x"}, "want one container"},
		"restart of a command":   {Config{Exec: "x", Restart: "y"}, "restart"},
		"no URL":                 {Config{URL: "127.0.0.1:1"}, "no URL"},
		"no host":                {Config{URL: "http://"}, "no URL"},
		"no case":                {Config{Exec: "exit 3", Match: regexp.MustCompile("zzz")}, `no case matches "zzz"`},
		"nobody at the URL":      {Config{URL: "http://127.0.0.1:1", Timeout: 100 * time.Millisecond}, "nothing accepts"},
		"command that ends":      {Config{Exec: "echo oh dear; exit 3"}, "oh dear"},
		"command without a port": {Config{Exec: "exec sleep 60", Timeout: 200 * time.Millisecond}, "listens neither on its PORT nor on 8080"},
		"restart that fails":     {Config{URL: "http://127.0.0.1:1", Restart: "echo no; exit 1"}, "the restart command: exit status 1: no"},
		"no docker":              {Config{Image: "x", Env: []string{"PATH=/nowhere"}, Timeout: time.Second}, "docker"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Run(t.Context(), c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

// TestInterrupted interrupts a run after its first result, and before any: the other cases
// are reported as not run.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]int{"after a case": 1, "before all": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if after == 0 {
				cancel()
			}
			report, err := Run(ctx, Config{
				Exec: fakeCommand(t, ""), Env: os.Environ(), Kinds: []Kind{Python}, Match: regexp.MustCompile("^#[1-9] "),
				Progress: func(Result) { cancel() },
			})
			if !errors.Is(err, context.Canceled) || len(report.Results) != 9 {
				t.Fatalf("got %d results and %v, want 9 and that it was canceled", len(report.Results), err)
			}
			if ran := len(report.Results) - report.Interrupted(); ran < after || ran > 8*after || report.Count(Passed) != ran {
				t.Errorf("%d cases ran and %d passed, want %d or a few more, all passed: %+v", ran, report.Count(Passed), after, report.Results)
			}
			var text bytes.Buffer
			if err := errors.Join(report.WriteSummary(&text), report.WriteJUnit(&text)); err != nil ||
				!strings.Contains(text.String(), "interrupted: ") || !strings.Contains(text.String(), `<skipped message="interrupted">`) {
				t.Errorf("got %v and %s, want to be told of the interruption", err, text.String())
			}
		})
	}
}

// TestList looks for all official numbers, once each and in order.
func TestList(t *testing.T) {
	t.Parallel()
	var official, gaps []string
	for _, r := range List() {
		if strings.HasPrefix(r.Number, "#") {
			official = append(official, r.Number)
		} else {
			gaps = append(gaps, r.Number)
		}
	}
	for i, number := range official {
		if want := fmt.Sprintf("#%d", i+1); number != want {
			t.Errorf("case %d: got number %s, want %s", i, number, want)
		}
	}
	for i, number := range gaps {
		if want := fmt.Sprintf("G%d", i+1); number != want {
			t.Errorf("gap %d: got number %s, want %s", i, number, want)
		}
	}
	if len(official) != 69 || len(gaps) != 40 {
		t.Errorf("got %d official cases and %d gaps, want 69 and 40", len(official), len(gaps))
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	report := Report{Kinds: []Kind{Python, Executable}, Results: []Result{
		{Number: "#1", Suite: "one", Name: "right", Outcome: Passed},
		{Number: "#2", Suite: "one", Name: "wrong <b>", Outcome: Failed, Reason: "got \x1b 500, want 200"},
		{Number: "G1", Suite: "two", Name: "absent", Outcome: NotApplicable, Reason: "no code", Notes: []string{"noted"}},
	}}
	var junit, text bytes.Buffer
	if err := report.WriteJUnit(&junit); err != nil {
		t.Fatal(err)
	}
	var doc junitSuites
	if err := xml.Unmarshal(junit.Bytes(), &doc); err != nil {
		t.Fatalf("%v in %s", err, junit.String())
	}
	if doc.Tests != 3 || doc.Failures != 1 || doc.Skipped != 1 || doc.Time != "0.000" {
		t.Errorf("got %d tests, %d failures, %d skipped in %s s, want 3, 1, 1 in 0.000", doc.Tests, doc.Failures, doc.Skipped, doc.Time)
	}
	if len(doc.Suites) != 2 || doc.Suites[0].Failures != 1 || doc.Suites[0].Tests != 2 || doc.Suites[1].Skipped != 1 ||
		doc.Suites[0].Cases[1].Name != "#2 wrong <b>" || doc.Suites[0].Cases[1].Failure == nil {
		t.Errorf("got %+v", doc)
	}
	for _, r := range report.Results {
		if err := r.WriteRow(&text); err != nil {
			t.Fatal(err)
		}
	}
	if err := report.WriteSummary(&text); err != nil {
		t.Fatal(err)
	}
	const want = "pass  #1            right\nFAIL  #2            wrong <b>: got \x1b 500, want 200\nn.a.  G1            absent: no code (noted)\n\n" +
		"1 pass, 1 fail, 1 do not apply; the container takes code of the kinds p python, e executable\n"
	if text.String() != want {
		t.Errorf("got\n%s\nwant\n%s", text.String(), want)
	}
}

// TestListensOn looks for a socket of this process, which is not a child's.
func TestListensOn(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed below
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	if !listensOn(os.Getpid(), port) || listensOn(cmd.Process.Pid, port) {
		t.Errorf("got %t for this process and %t for a child, want true and false", listensOn(os.Getpid(), port), listensOn(cmd.Process.Pid, port))
	}
}
