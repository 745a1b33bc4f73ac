package actionloop_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/actionloop"
	"github.com/deepfn/deepfn/runtime/worker"
)

// folder returns an action with files of testdata in its folder.
func folder(tb testing.TB, spec actionloop.Spec, files ...string) actions.Model {
	tb.Helper()
	m := withSpec(spec)
	m.Dir = tb.TempDir()
	for _, name := range files {
		b, err := os.ReadFile("testdata/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(m.Dir, name), b, 0o700)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	return m
}

func TestBash(t *testing.T) {
	w := startModel(t, folder(t, actionloop.Spec{Path: "echo.sh"}, "echo.sh"))
	for range 3 {
		resp, err := w.Call(t.Context(), actions.Request{
			ID: "i", Args: []byte("{\"a\":\n\"ü 🙂\"}"),
			Texts: []actions.Text{{Origin: actions.FromContext, Name: "__OW_NAMESPACE", Value: "guest"}},
		})
		path, _ := json.Marshal(os.Getenv("PATH"))
		want := fmt.Sprintf(`{"got":{"value":{"a":"ü 🙂"},"namespace":"guest","activation_id":"i"},"path":%s}`, path)
		if err != nil || string(resp.Data) != want || resp.ContentType != "application/json" || resp.Whole {
			t.Fatalf("got %s, %v\nwant %s", resp.Data, err, want)
		}
		if got := logText(resp.Logs); got != "2:in bash\n" {
			t.Errorf("got logs %q", got)
		}
	}
}

func TestGo(t *testing.T) {
	m := folder(t, actionloop.Spec{Path: "bin/exec"})
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", m.Dir+"/bin/exec", "./testdata/echo").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v %s", err, out)
	}
	echoes(t, startModel(t, m), `%s`)
}

func TestPython(t *testing.T) {
	python := os.Getenv("DEEPFN_TEST_PYTHON_CURRENT")
	if python == "" {
		t.Fatal("there is no interpreter for this test; run make test")
	}
	for _, ack := range []bool{false, true} {
		m := folder(t, actionloop.Spec{Command: []string{python, "echo.py"}, Ack: ack, Settle: "1ms"}, "echo.py")
		w := startModel(t, m)
		echoes(t, w, `%s`)
		resp, err := w.Call(t.Context(), actions.Request{})
		if got := logText(resp.Logs); err != nil || got != "1:in python\n" {
			t.Errorf("got %v, logs %q", err, got)
		}
	}
}

// TestPerl has a second script, where there is an interpreter for it.
func TestPerl(t *testing.T) {
	interpreter, format := "perl", `[{"value":%s}]`
	if _, err := exec.LookPath("perl"); err != nil {
		interpreter = "bash"
		format = `{"got":{"value":%s},"path":"` + os.Getenv("PATH") + `"}`
	}
	script := map[string]string{"perl": "echo.pl", "bash": "echo.sh"}[interpreter]
	echoes(t, startModel(t, folder(t, actionloop.Spec{Command: []string{interpreter, script}}, script)), format)
}

// echoes checks that some values come back.
func echoes(tb testing.TB, w *worker.Worker, format string) {
	tb.Helper()
	for _, value := range []string{`{}`, `[]`, `[1,"2"]`, `{"a":"\u0000 \\ü 🙂"}`, `{"a":"` + strings.Repeat("x", 300_000) + `"}`} {
		resp, err := w.Call(tb.Context(), actions.Request{Args: []byte(value)})
		if err != nil {
			tb.Fatalf("%.50s: %v", value, err)
		}
		var got, want any
		if err := json.Unmarshal(resp.Data, &got); err != nil {
			tb.Fatalf("%.50s: %v", resp.Data, err)
		}
		if err := json.Unmarshal(fmt.Appendf(nil, format, value), &want); err != nil {
			tb.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			tb.Errorf("-want +got %.300s", diff)
		}
	}
}

func TestInfo(t *testing.T) {
	w := startModel(t, model(startPlain))
	if got, want := string(w.Info()), `{"predict":{"parameters":[],"open":true},"train":null}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestVerbs(t *testing.T) {
	w := startModel(t, model(startPlain))
	for _, verb := range []actions.Verb{actions.Train, actions.ParseTrain, actions.Metadata, "dance"} {
		_, err := w.Call(t.Context(), actions.Request{Verb: verb})
		wantError(t, err, actions.Unsupported, "an executable cannot "+string(verb))
	}
	echo(t, w)
}

func TestBadArguments(t *testing.T) {
	w := startModel(t, model(startPlain))
	before := pid(t, w, knobs{PID: true})
	_, err := w.Call(t.Context(), actions.Request{Args: []byte("XXX")})
	wantError(t, err, actions.Invalid, "not JSON")
	if pid(t, w, knobs{PID: true}) != before {
		t.Error("the executable was started again")
	}
}

// The environment is the server's, hidden by the action's, hidden by that of an /init.
func TestEnvironment(t *testing.T) {
	t.Setenv("CUDA_VISIBLE_DEVICES", "1,2")
	t.Setenv("OW_EXECUTION_ENV", "some/image")
	m := model(startPlain, "B=spec", "C=a=b=c")
	m.Env = map[string]string{"A": "init", "B": "init", "__OW_API_HOST": "http://h:1/?a=b"}
	t.Setenv("A", "server")
	w := startModel(t, m)
	for name, want := range map[string]string{
		"CUDA_VISIBLE_DEVICES": "1,2", "PATH": os.Getenv("PATH"), "HOME": os.Getenv("HOME"), "A": "init", "B": "init",
		"C": "a=b=c", "__OW_API_HOST": "http://h:1/?a=b", "__OW_WAIT_FOR_ACK": "", "__OW_EXECUTION_ENV": "some/image", "DEEPFN_WORKER": "",
	} {
		if got := call(t, w, knobs{Env: name}); got != fmt.Sprintf("[%q]", want) {
			t.Errorf("%s: got %s, want %q", name, got, want)
		}
	}
}

// A variable of an /init that no program can have does not keep the others from theirs.
func TestEnvironmentOfInit(t *testing.T) {
	m := model(startPlain)
	m.Env = map[string]string{
		"a b": "odd", "A=B": "x", "": "x", "Z\x00": "x", "ZERO": "\x00", "LONG": strings.Repeat("x", 1<<20), "DEEPFN_WORKER": "1",
	}
	w := startModel(t, m)
	resp, err := w.Call(t.Context(), knobs{Env: "a b"}.request())
	if err != nil || string(resp.Data) != `["odd"]` {
		t.Fatalf("got %s, %v", resp.Data, err)
	}
	logs := logText(resp.Logs)
	for _, name := range []string{`"A=B"`, `""`, `"Z\x00"`, `"ZERO"`, `"LONG"`, `"DEEPFN_WORKER"`} {
		if want := "2:deepfn: a variable of the /init is left out: " + name + " cannot be a variable: "; !strings.Contains(logs, want) {
			t.Errorf("got logs %q, want %q", logs, want)
		}
	}
	if got := call(t, w, knobs{Env: "DEEPFN_WORKER"}); got != `[""]` {
		t.Errorf("got %s for the variable of the worker", got)
	}
}

// Where OpenWhisk's images tell their programs to say when they are ready, so do we.
func TestAckOfTheImage(t *testing.T) {
	for _, name := range []string{"OW_WAIT_FOR_ACK", "__OW_WAIT_FOR_ACK"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "1")
			m := model(startAck)
			m.Spec = []byte(strings.Replace(string(m.Spec), `"ack":true,`, "", 1))
			echo(t, startModel(t, m))
		})
	}
}

func TestWorkingDir(t *testing.T) {
	other := t.TempDir()
	for _, test := range []struct{ name, dir, want string }{
		{"default", "", "."},
		{"in the folder", "data", "data"},
		{"absolute", other, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := actionloop.Spec{
				Command: []string{"/proc/self/exe"}, WorkingDir: test.dir, Settle: "1ms",
				Env: map[string]string{executableVariable: startPlain},
			}
			m := folder(t, spec)
			if err := os.Mkdir(m.Dir+"/data", 0o700); err != nil {
				t.Fatal(err)
			}
			want := other
			if test.want != "" {
				want = filepath.Join(m.Dir, test.want)
			}
			if got := call(t, startModel(t, m), knobs{Dir: true}); got != fmt.Sprintf("[%q]", want) {
				t.Errorf("got %s, want %q", got, want)
			}
		})
	}
}

// A program that cannot be started is named, with what to do.
func TestNoProgram(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"plain": 0o600, "text": 0o700} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("hello"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir+"/folder", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		spec actionloop.Spec
		code actions.Code
		msg  string
	}{
		{"absent", actionloop.Spec{Path: "exec"}, actions.NotFound, "there is no program ./exec in the action's folder"},
		{"not in PATH", actionloop.Spec{Path: "sh"}, actions.NotFound, "there is no program ./sh"},
		{"no such command", actionloop.Spec{Command: []string{"no-such-program"}}, actions.NotFound, "neither in the action's folder nor in PATH"},
		{"another PATH", actionloop.Spec{Command: []string{"sh"}, Env: map[string]string{"PATH": dir}}, actions.NotFound, "nor in PATH"},
		{"folder", actionloop.Spec{Path: "folder"}, actions.NotFound, "there is no program"},
		{"not executable", actionloop.Spec{Path: "plain"}, actions.Invalid, "chmod +x"},
		{"not a program", actionloop.Spec{Path: "text"}, actions.Invalid, "begins with #!"},
		{"no working folder", actionloop.Spec{Command: []string{"sh"}, WorkingDir: "none"}, actions.Invalid, "does not start"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := withSpec(test.spec)
			m.Dir = dir
			_, err := worker.Start(t.Context(), config(t, m))
			wantError(t, err, test.code, test.msg)
		})
	}
}

func TestBadSetup(t *testing.T) {
	for _, test := range []struct{ name, setup, msg string }{
		{"not a setup", `{"model":1}`, "setup: unknown key"},
		{"bad spec", `{"spec":{}}`, "say either path or command"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config(t, model(startPlain))
			cfg.Setup = []byte(test.setup)
			_, err := worker.Start(t.Context(), cfg)
			wantError(t, err, actions.Invalid, test.msg)
		})
	}
}
