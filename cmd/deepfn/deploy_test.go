package main

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// whiskServer starts a server whose OpenWhisk API the command deploys to.
func whiskServer(t *testing.T, args ...string) *process {
	t.Helper()
	p := newServer(t)
	p.env = append(p.env, "DEEPFN_PYTHON="+current(t), "WSK_CONFIG_FILE="+filepath.Join(p.temp, "wskprops"), "WHISK_APIHOST=", "WHISK_AUTH=")
	p.serve(&p.stdout, args...)
	p.env = append(p.env, "WHISK_APIHOST="+p.base)
	return p
}

// invokeAction invokes an action and waits for its result.
func (p *process) invokeAction(name, args string) reply {
	p.t.Helper()
	url := p.base + "/api/v1/namespaces/_/actions/" + name + "?blocking=true&result=true"
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, url, strings.NewReader(args))
	if err != nil {
		p.t.Fatal(err)
	}
	user, key, _ := strings.Cut(whisk.GuestAuth, ":")
	req.SetBasicAuth(user, key)
	req.Header.Set("Content-Type", jsonMedia)
	r, err := do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// A model goes to a platform, answers, is changed in place, shows what it printed, and
// goes.
func TestDeployOpenWhisk(t *testing.T) {
	p := whiskServer(t)
	deployed := func(what string, code int, words []string, args ...string) outcome {
		t.Helper()
		o := p.command(append([]string{"deploy", "openwhisk"}, args...)...)
		o.want(t, what, code, words...)
		return o
	}
	deployed("create", 0, []string{"created package models", "created action models/ocr-line", "/api/v1/web/guest/models/ocr-line"},
		"ocr-line", "--package", "models", "--web", "yes")
	const text = "Deployed 2026"
	picture := base64.StdEncoding.EncodeToString(linePNG(t, text))
	if r := p.invokeAction("models/ocr-line", `{"image":"`+picture+`"}`); r.status != 200 || textOf(t, r.body) != text {
		t.Errorf("invoke: got %d %s, want the text %q", r.status, r.body, text)
	}
	deployed("the same again", 0, []string{"unchanged package models", "unchanged action models/ocr-line"}, "ocr-line", "--package", "models")
	deployed("a limit", 0, []string{"updated action models/ocr-line: limits.memory 256 → 384"}, "ocr-line", "--package", "models", "--memory", "384")
	p.command("status", "openwhisk", "models/ocr-line").want(t, "status", 0, "models/ocr-line", "0.0.2", "384 MiB", "current")
	p.command("logs", "openwhisk", "models/ocr-line").want(t, "logs", 0, "ocr-line success")

	function := lay(t, "hello.py", "def main(args):\n    print('hello', args['name'])\n    return {'greeting': args['name']}\n")
	deployed("code", 0, []string{"created action hello", "called", "application error"}, function, "--warm") // a KeyError: it ran
	if r := p.invokeAction("hello", `{"name":"Ada"}`); r.status != 200 || strings.TrimSpace(r.body) != `{"greeting":"Ada"}` {
		t.Errorf("code: got %d %s", r.status, r.body)
	}
	p.command("logs", "openwhisk", function).want(t, "logs of code", 0, "stdout: hello Ada")
	p.command("status", "openwhisk", function).want(t, "status of code", 0, "current")
	if err := os.WriteFile(function, []byte("def main(args):\n    return {'greeting': 'new'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.command("status", "openwhisk", function).want(t, "status of changed code", 0, "the model here is another one")
	deployed("changed code", 0, []string{"updated action hello: code"}, function)
	if r := p.invokeAction("hello", `{}`); r.status != 200 || strings.TrimSpace(r.body) != `{"greeting":"new"}` {
		t.Errorf("changed code: got %d %s", r.status, r.body)
	}
	deployed("a function that does not start", 1, []string{"does not start"}, lay(t, "broken.py", "def main(args:\n"), "--warm")

	p.command("undeploy", "openwhisk", function, "broken", "nobody").want(t, "undeploy", 0, "removed action hello", "not there: action nobody")
	p.command("undeploy", "openwhisk", "hello").want(t, "undeploy what is gone", exitNotFound, "there is no action hello")
	p.command("undeploy", "openwhisk", "--all", "--package", "models").want(t, "undeploy all", 0, "removed action models/ocr-line", "removed package models")
	p.command("status", "openwhisk", "hello").want(t, "status of what is gone", exitNotFound)
	p.command("logs", "openwhisk", "hello").want(t, "logs of what is gone", exitNotFound)
}

// The folder of an action travels as its code; --all deploys the catalog, and a second run
// leaves it alone.
func TestDeployAllAndFolder(t *testing.T) {
	p := whiskServer(t)
	p.command("deploy", "openwhisk", "--all", "--web", "no").want(t, "all", 0, "created package deepfn", "created action deepfn/ocr", "created action deepfn/digits")
	again := p.command("deploy", "openwhisk", "--all")
	again.want(t, "again", 0, "unchanged action deepfn/demo")
	if strings.Contains(again.stdout, "created") || strings.Contains(again.stdout, "updated") {
		t.Errorf("again: got %s, want it left alone", again.stdout)
	}
	p.command("status", "openwhisk", "--package", "deepfn").want(t, "status", 0, "deepfn/text-angle", "current")
	folder := filepath.Join(t.TempDir(), "echo")
	for name, text := range map[string]string{"__main__.py": "import words\ndef main(args):\n    return {'said': words.SAID}\n", "words.py": "SAID = 'from a folder'\n"} {
		if err := os.MkdirAll(folder, 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.command("deploy", "openwhisk", folder, "--name", "said").want(t, "folder", 0, "created action said")
	if r := p.invokeAction("said", "{}"); r.status != 200 || !strings.Contains(r.body, "from a folder") {
		t.Errorf("folder: got %d %s", r.status, r.body)
	}
}

// Logs are followed until the command is interrupted, which is no error.
func TestFollowLogs(t *testing.T) {
	p := whiskServer(t)
	function := lay(t, "say.py", "def main(args):\n    print('said', args['n'])\n    return {}\n")
	p.command("deploy", "openwhisk", function).want(t, "deploy", 0, "created action say")
	p.invokeAction("say", `{"n":1}`)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr syncBuffer
	cmd := exec.CommandContext(t.Context(), exe, "logs", "openwhisk", "say", "--follow")
	cmd.Env = append(environ(t), p.env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := 1
	eventually(t, "a line of an activation that came later", func() bool {
		n++
		p.invokeAction("say", fmt.Sprintf(`{"n":%d}`, n))
		return strings.Contains(stdout.String(), "stdout: said ")
	})
	_ = cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted: got %v: %s", err, stderr.String())
	}
	if out := stdout.String(); strings.Contains(out, "said 1\n") || strings.Count(out, "say success") != strings.Count(out, "stdout: said") {
		t.Errorf("got %s, want activations of later alone, each with its line", out)
	}
}

// A prewarmed container of a kind of runtimes.json has its model from the environment of
// its image: it is warm before its /init, which says no more than that it is chosen.
func TestStemCell(t *testing.T) {
	p := newServer(t)
	p.env = append(p.env, "DEEPFN_MODEL=ocr-line", "__OW_API_HOST=http://controller")
	p.serve(&p.stdout)
	eventually(t, "warm before /init", func() bool { return p.mustGet("/readyz").status == 200 })
	workers := p.children()
	began := time.Now()
	for _, body := range []string{
		`{"value":{"name":"m","main":"main","binary":false,"env":{"__OW_ACTION_NAME":"/guest/m"}}}`,
	} {
		if r := p.mustPost("/init", jsonMedia, []byte(body)); r.status != 200 {
			t.Fatalf("/init without code: got %d %s, want 200", r.status, r.body)
		}
	}
	t.Logf("/init took %s", time.Since(began))
	const text = "Stem cell 2026"
	if r := p.mustPost("/run", jsonMedia, runBody(linePNG(t, text))); r.status != 200 || textOf(t, r.body) != text {
		t.Errorf("/run: got %d %s, want %q", r.status, r.body, text)
	}
	if after := p.children(); len(workers) != 1 || !slices.Equal(after, workers) {
		t.Errorf("workers: got %v, want %v, the one that was there before /init", after, workers)
	}
}

// The same container takes the code that an action of its kind has to have.
func TestStemCellWithCode(t *testing.T) {
	p := newServer(t)
	p.env = append(p.env, "DEEPFN_MODEL=ocr-line")
	p.serve(&p.stdout)
	code := `{"value":{"name":"m","main":"main","code":"{\"model\":\"ocr-line\"}"}}`
	if r := p.mustPost("/init", jsonMedia, []byte(code)); r.status != 200 {
		t.Errorf("/init with code: got %d %s, want 200", r.status, r.body)
	}
}

// The platform is that of a flag, else of the environment, else of wsk's file.
func TestPlatformSettings(t *testing.T) {
	props := filepath.Join(t.TempDir(), "wskprops")
	if err := os.WriteFile(props, []byte("APIHOST=https://file\nAUTH=f:i=l=e\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".wskprops"), []byte("APIHOST=https://home\nAUTH=h:ome\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name       string
		flags      platform
		env        map[string]string
		host, auth string
		err        string
	}{
		{"flags", platform{apihost: "http://flag", auth: "f:lag"}, map[string]string{"WHISK_APIHOST": "https://env", "WSK_CONFIG_FILE": props}, "http://flag", "f:lag", ""},
		{"environment", platform{}, map[string]string{"WHISK_APIHOST": "https://env", "WHISK_AUTH": "e:nv", "WSK_CONFIG_FILE": props}, "https://env", "e:nv", ""},
		{"each for itself", platform{}, map[string]string{"WHISK_APIHOST": "https://env", "WSK_CONFIG_FILE": props}, "https://env", "f:i=l=e", ""},
		{"file", platform{}, map[string]string{"WSK_CONFIG_FILE": props, "HOME": home}, "https://file", "f:i=l=e", ""},
		{"home", platform{}, map[string]string{"HOME": home}, "https://home", "h:ome", ""},
		{"a file that is not there", platform{apihost: "https://flag", auth: "a:b"}, map[string]string{"WSK_CONFIG_FILE": "/nowhere/x"}, "https://flag", "a:b", ""},
		{"this machine needs no key", platform{apihost: "http://localhost:8080"}, nil, "http://localhost:8080", whisk.GuestAuth, ""},
		{"others do", platform{apihost: "https://ow.example"}, nil, "", "", "no key for https://ow.example"},
		{"none", platform{}, nil, "", "", "no OpenWhisk is named"},
		{"a folder as a file", platform{apihost: "x"}, map[string]string{"WSK_CONFIG_FILE": home}, "", "", "wsk's settings"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.flags.env = func(name string) string { return test.env[name] }
			host, auth, err := test.flags.resolve()
			if host != test.host || auth != test.auth {
				t.Errorf("got %q %q, want %q %q", host, auth, test.host, test.auth)
			}
			if (err != nil) != (test.err != "") || (err != nil && (!strings.Contains(err.Error(), test.err) || exitCode(err) != exitUsage)) {
				t.Errorf("got %v, want %q", err, test.err)
			}
		})
	}
}

func TestZipFolder(t *testing.T) {
	dir := t.TempDir()
	lay := func(name, text string, mode os.FileMode) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	lay("exec", "#!/bin/sh\n", 0o700)
	lay("sub/data.txt", "x", 0o600)
	lay(".git/config", "secret", 0o600)
	lay("sub/__pycache__/a.pyc", "x", 0o600)
	lay(".env", "KEY=secret", 0o600)
	one, err := zipFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "exec"), past, past); err != nil {
		t.Fatal(err)
	}
	if two, err := zipFolder(dir); err != nil || !bytes.Equal(one, two) {
		t.Errorf("the same folder later: got another zip, %v", err)
	}
	r, err := zip.NewReader(bytes.NewReader(one), int64(len(one)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range r.File {
		names = append(names, f.Name+" "+f.Mode().String())
	}
	if want := []string{"exec -rwxr--r--", "sub/data.txt -rw-r--r--"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := zipFolder(dir); actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a link: got %v, want Invalid", err)
	}
}

func TestCodeThatIsTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big.zip")
	if err := os.WriteFile(path, []byte("PK\x03\x04"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, maxCode+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readCode(path); actions.CodeOf(err) != actions.TooLarge || !strings.Contains(err.Error(), "put the model into the image") {
		t.Errorf("got %v, want TooLarge", err)
	}
}

// A folder is too large as soon as its zip is: what comes after that is not looked at.
func TestFolderThatIsTooLarge(t *testing.T) {
	dir := t.TempDir()
	random := make([]byte, maxCode+1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(random)
	if err := os.WriteFile(filepath.Join(dir, "a"), random, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if data, err := zipFolder(dir); actions.CodeOf(err) != actions.TooLarge || len(data) > maxCode {
		t.Errorf("got %d bytes, %v, want TooLarge", len(data), err)
	}
}

func TestKeyValues(t *testing.T) {
	got, err := keyValues("-p", []string{"n=3", "text=a=b", "list=[1]", "empty=", "quoted=\"x\"", "half={"})
	want := whisk.KeyValues{}
	for _, pair := range [][2]string{{"n", "3"}, {"text", `"a=b"`}, {"list", "[1]"}, {"empty", `""`}, {"quoted", `"x"`}, {"half", `"{"`}} {
		want = append(want, whisk.KeyValue{Key: pair[0], Value: json.RawMessage(pair[1])})
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, text := range []string{"x", "=1", ""} {
		if _, err := keyValues("-p", []string{text}); exitCode(err) != exitUsage {
			t.Errorf("%q: got %v, want a usage error", text, err)
		}
	}
}

func TestActionName(t *testing.T) {
	dir := t.TempDir()
	for arg, want := range map[string]string{
		"ocr": "ocr", "models/ocr": "models/ocr", "./My Dates.py": "my-dates", dir + "/": actions.ModelName(filepath.Base(dir), ""),
		"a/b/x.zip": "a/b/x.zip", "./x.tar.gz": "x",
	} {
		if got := actionName(arg, ""); got != want {
			t.Errorf("%s: got %s, want %s", arg, got, want)
		}
	}
	if got := actionName("ocr", "p") + " " + actionName("q/ocr", "p"); got != "p/ocr q/ocr" {
		t.Errorf("in a package: got %s", got)
	}
}
