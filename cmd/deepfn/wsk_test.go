package main

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions/whisk"
)

// A wskSession runs the real wsk in a folder of its own.
type wskSession struct {
	t         *testing.T
	wsk, dir  string
	variables []string
}

// run runs wsk, wants an exit code, and returns what it printed on both streams.
func (s *wskSession) run(code int, args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.wsk, args...) // #nosec G204 -- the program that the caller of the test names
	cmd.Dir, cmd.Env = s.dir, s.variables
	out, err := cmd.CombinedOutput()
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("$ wsk %s\n%s", strings.Join(args, " "), out)
	if got != code {
		s.t.Fatalf("wsk %s: got the exit code %d, want %d", strings.Join(args, " "), got, code)
	}
	return string(out)
}

// says runs wsk and wants a text in what it prints.
func (s *wskSession) says(want string, code int, args ...string) string {
	s.t.Helper()
	out := s.run(code, args...)
	if !strings.Contains(out, want) {
		s.t.Errorf("wsk %s: got %s, want %s", strings.Join(args, " "), out, want)
	}
	return out
}

// answers runs wsk action invoke -r and wants a JSON result.
func (s *wskSession) answers(want string, code int, args ...string) {
	s.t.Helper()
	out := s.run(code, append([]string{"action", "invoke", "-r"}, args...)...)
	var result bytes.Buffer
	if err := json.Compact(&result, []byte(out)); err != nil || result.String() != want {
		s.t.Errorf("wsk action invoke -r %s: got %s, want %s", strings.Join(args, " "), out, want)
	}
}

// zipped writes a zip of one executable file.
func (s *wskSession) zipped(archive, name, text string) {
	s.t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	header := &zip.FileHeader{Name: name}
	header.SetMode(0o755)
	w, err := z.CreateHeader(header)
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err = errors.Join(err, z.Close()); err != nil {
		s.t.Fatal(err)
	}
	s.write(archive, b.Bytes())
}

func (s *wskSession) write(name string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

const (
	helloSource = "def main(args):\n    print('log of hello')\n    return {'greeting': 'hello ' + args.get('name', 'x')}\n"
	yearsSource = "import re\n\ndef main(args):\n    return {'years': re.findall('20[0-9][0-9]', args['text'])}\n"
	execSource  = "#!/bin/sh\nwhile read -r line; do echo '{\"native\": true}' >&3; done\n"
)

// TestWsk drives a server with the real wsk, which the variable WSK names.
func TestWsk(t *testing.T) {
	wsk := os.Getenv("WSK")
	if wsk == "" {
		t.Skip("WSK is not set; it names the wsk that this test runs (TestWhiskGolden replays what one has sent)")
	}
	p := serveWhisk(t)
	s := &wskSession{t: t, wsk: wsk, dir: t.TempDir()}
	s.variables = []string{"HOME=" + s.dir, "WSK_CONFIG_FILE=" + filepath.Join(s.dir, "wskprops"), "PATH=" + os.Getenv("PATH")}
	s.write("hello.py", []byte(helloSource))
	s.write("apperr.py", []byte("def main(args):\n    return {'error': 'no such thing'}\n"))
	s.write("years.py", []byte(yearsSource))
	s.zipped("fn.zip", "__main__.py", "def main(args):\n    return {'zip': True, 'n': args.get('n')}\n")
	s.zipped("native.zip", "exec", execSource)
	image, _ := json.Marshal(map[string]string{"image": base64.StdEncoding.EncodeToString(linePNG(t, "Report of 2026"))})
	s.write("image.json", image)

	s.run(0, "property", "set", "--apihost", p.base, "--auth", whisk.GuestAuth)
	s.says("whisk namespace\t\tguest", 0, "property", "get", "--all")
	s.says("guest", 0, "namespace", "list")
	for _, part := range []struct {
		name string
		do   func(*wskSession)
	}{
		{"actions", wskActions},
		{"models", wskModels},
		{"packages", wskPackages},
		{"rules", wskRules},
		{"activations", wskActivations},
	} {
		t.Run(part.name, func(t *testing.T) {
			own := *s
			own.t = t
			part.do(&own)
		})
	}
	s.says("/guest/hello", 0, "namespace", "get")
	s.says("/guest/hello", 0, "list")
	s.run(145, "action", "list", "--auth", "nobody:nothing")
}

func wskActions(s *wskSession) {
	s.says("ok: created action hello", 0, "action", "create", "hello", "hello.py")
	s.says("resource already exists", 153, "action", "create", "hello", "hello.py")
	s.answers(`{"greeting":"hello Ada"}`, 0, "hello", "-p", "name", "Ada")
	s.says(`"greeting": "hello x"`, 0, "action", "invoke", "hello", "-b")
	s.says("ok: invoked /_/hello with id ", 0, "action", "invoke", "hello")
	s.run(0, "action", "create", "apperr", "apperr.py")
	s.says(`"status": "application error"`, 246, "action", "invoke", "apperr", "-b")
	s.says("no such thing", 246, "action", "invoke", "apperr", "-r")
	s.run(0, "action", "invoke", "apperr")
	s.says(`"memory":512`, 0, "action", "update", "hello", "hello.py", "-m", "512", "-v")
	s.says(`"kind": "python:3"`, 0, "action", "get", "hello")
	s.says("action /guest/hello", 0, "action", "get", "hello", "--summary")
	s.run(0, "action", "get", "hello", "--save-as", "saved.py")
	if saved, err := os.ReadFile(filepath.Join(s.dir, "saved.py")); err != nil || string(saved) != helloSource {
		s.t.Errorf("saved %q, %v", saved, err)
	}
	s.says("The requested resource does not exist.", 148, "action", "get", "nope")
	s.says("python:3", 0, "action", "list")
	s.run(0, "action", "create", "zipped", "fn.zip", "--kind", "python:3", "-t", "300000", "-p", "n", "3", "-a", "provide-api-key", "true")
	s.answers(`{"n":3,"zip":true}`, 0, "zipped")
	s.run(0, "action", "create", "native", "native.zip", "--native")
	s.answers(`{"native":true}`, 0, "native")
	s.says("is not supported by this platform", 144, "action", "create", "js", "hello.py", "--kind", "nodejs:20")
	s.run(0, "action", "create", "webbed", "hello.py", "--web", "true")
	s.says("/api/v1/web/guest/default/webbed", 0, "action", "get", "webbed", "--url")
	s.run(0, "action", "delete", "zipped")
	s.run(148, "action", "delete", "zipped")
}

func wskModels(s *wskSession) {
	s.run(0, "action", "create", "ocr", "--docker", "deepfn/ocr-line")
	s.says(`"Report of 2026"`, 0, "action", "invoke", "ocr", "-r", "-P", "image.json")
	s.says(`"Report of 2026"`, 0, "action", "invoke", "/whisk.system/models/ocr-line", "-r", "-P", "image.json")
	s.run(0, "action", "create", "years", "years.py")
	s.run(0, "action", "create", "seq", "--sequence", "ocr,years")
	s.answers(`{"years":["2026"]}`, 0, "seq", "-P", "image.json")
	s.says("sequence", 0, "activation", "list", "-l", "10")
	s.says("/whisk.system/models/ocr-line", 0, "package", "get", "/whisk.system/models", "--summary")
	s.run(0, "package", "bind", "/whisk.system/models", "m")
	s.says(`"Report of 2026"`, 0, "action", "invoke", "m/ocr-line", "-r", "-P", "image.json")
}

func wskPackages(s *wskSession) {
	s.run(148, "action", "create", "pkg/hello", "hello.py")
	s.run(0, "package", "create", "pkg", "-p", "name", "pkg", "--shared", "yes")
	s.run(0, "action", "create", "pkg/hello", "hello.py")
	s.answers(`{"greeting":"hello pkg"}`, 0, "/guest/pkg/hello")
	s.run(0, "package", "bind", "/guest/pkg", "bound", "-p", "name", "bound")
	s.answers(`{"greeting":"hello bound"}`, 0, "bound/hello")
	s.answers(`{"greeting":"hello Ada"}`, 0, "bound/hello", "-p", "name", "Ada")
	s.says("/guest/pkg/hello", 0, "action", "list", "pkg")
	s.says("/guest/bound", 0, "package", "list")
	s.says("refreshed successfully", 0, "package", "refresh")
	s.run(0, "package", "update", "pkg", "-p", "name", "other")
	s.says("Package not empty (contains 1 entity).", 153, "package", "delete", "pkg")
	s.run(0, "package", "delete", "bound")
}

func wskRules(s *wskSession) {
	s.run(0, "trigger", "create", "t1", "-p", "name", "trigger")
	s.run(0, "trigger", "update", "t1", "-p", "name", "trigger")
	s.says("ok: triggered /_/t1 with id \n", 0, "trigger", "fire", "t1")
	s.run(0, "rule", "create", "r1", "t1", "hello")
	s.run(0, "rule", "update", "r1", "t1", "hello")
	s.says("is active", 0, "rule", "status", "r1")
	s.run(0, "rule", "disable", "r1")
	s.says("is inactive", 0, "rule", "status", "r1")
	s.run(0, "rule", "enable", "r1")
	s.says("active", 0, "rule", "list")
	s.says(`"trigger"`, 0, "rule", "get", "r1")
	fired := s.run(0, "trigger", "fire", "t1", "-p", "name", "fire")
	id := regexp.MustCompile(`with id ([0-9a-f]{32})`).FindStringSubmatch(fired)
	if id == nil {
		s.t.Fatalf("got %s, want an id", fired)
	}
	s.says("guest/r1", 0, "activation", "logs", id[1])
	s.says(`"guest/r1"`, 0, "trigger", "get", "t1")
	s.says("/guest/t1", 0, "trigger", "list")
	s.says("does not exist", 148, "trigger", "create", "t2", "--feed", "/whisk.system/alarms/alarm", "-p", "cron", "* * * * *")
	s.run(148, "trigger", "get", "t2")
	s.run(0, "rule", "delete", "r1")
	s.run(148, "rule", "delete", "--disable", "r1")
	s.run(0, "trigger", "delete", "t1")
}

func wskActivations(s *wskSession) {
	invoked := s.run(0, "action", "invoke", "hello", "-b", "-p", "name", "record")
	id := regexp.MustCompile(`with id ([0-9a-f]{32})`).FindStringSubmatch(invoked)
	if id == nil {
		s.t.Fatalf("got %s, want an id", invoked)
	}
	s.says(id[1], 0, "activation", "list")
	s.says(id[1], 0, "activation", "list", "hello", "-l", "1")
	s.says(`"greeting": "hello record"`, 0, "activation", "get", id[1])
	s.says("stdout: log of hello", 0, "activation", "logs", id[1])
	if out := s.run(0, "activation", "logs", "--last", "--strip"); out != "log of hello\n" {
		s.t.Errorf("stripped: got %q", out)
	}
	s.says(`"greeting": "hello record"`, 0, "activation", "result", "--last")
	s.says(`"log`, 0, "activation", "list", "--full", "-l", "1")
	s.says("log of hello", 0, "activation", "poll", "hello", "--exit", "1", "--since-minutes", "5")
	s.run(148, "activation", "get", strings.Repeat("0", 32))
	s.run(144, "activation", "get", "abc")
}
