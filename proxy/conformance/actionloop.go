package conformance

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
)

// The suites of apache/openwhisk-runtime-go.
const (
	suiteContainer = "runtime-go containers"
	suiteUnit      = "runtime-go units"
)

// loopScript is a shell script that speaks ActionLoop: for each request it runs a line,
// in which $name is the argument name, or empty.
func loopScript(line string) string {
	return `#!/bin/sh
[ -z "$__OW_WAIT_FOR_ACK" ] || echo '{"ok":true}' >&3
while IFS= read -r request
do
  name=""
  case "$request" in *'"name":"'*) name=${request#*\"name\":\"}; name=${name%%\"*};; esac
  ` + line + `
done
`
}

func noStub(t traits) string {
	if t.stub {
		return "the container has an action before any /init"
	}
	return ""
}

// actionLoopWords is for what is said in the words of the Go proxy, behind which the
// kinds Python, Executable and Go run.
func actionLoopWords(t traits) string {
	if !t.takes(Python, Executable, Go) {
		return "the words are those of the ActionLoop proxy, and the container takes none of its kinds of code"
	}
	return noStub(t)
}

func onlyGo(t traits) string {
	if !t.takes(Go) {
		return "it is for containers that take code of the kind go"
	}
	return noStub(t)
}

func onlyAMD64(t traits) string {
	if t.files && runtime.GOARCH != "amd64" {
		return "there is no program of machine code for " + runtime.GOARCH
	}
	return noStub(t)
}

func actionLoopCases() []testCase {
	exe, golang := []Kind{Executable}, []Kind{Go}
	c, u := suiteContainer, suiteUnit
	return []testCase{
		{number: "#11", suite: c, name: "sample with init that does nothing", nocode: true, phase: before, when: actionLoopWords, run: nothing},
		{number: "#12", suite: c, name: "deploy a shell script", kinds: exe, run: shellScript},
		{number: "#13", suite: c, name: "deploy a zip based script", kinds: exe, run: zippedScript},
		{number: "#14", suite: c, name: "Go: sample with init that does nothing", nocode: true, phase: before, when: onlyGo, run: nothing},
		{number: "#15", suite: c, name: "Go: accept a binary main", kinds: golang, run: goBinary},
		{number: "#16", suite: c, name: "Go: accept a source main", kinds: golang, run: goSource("main", false)},
		{number: "#17", suite: c, name: "Go: accept a source with another main", kinds: golang, run: goSource("hello", false)},
		{number: "#18", suite: c, name: "Go: accept a zipped source main", kinds: golang, run: goSource("main", true)},
		{number: "#19", suite: c, name: "Go: accept a zipped source with another main", kinds: golang, run: goSource("hello", true)},
		{number: "#20", suite: c, name: "Go: accept a zipped source with a folder", kinds: golang, run: goFolder},
		{number: "#21", suite: c, name: "support an array as result", kinds: []Kind{Executable, Go}, run: arrayResult},
		{number: "#22", suite: c, name: "support an array as input", kinds: []Kind{Executable, Go}, run: arrayInput},
		{number: "#23", suite: u, name: "answers before init, and to what is no JSON", nocode: true, phase: before, when: actionLoopWords, run: noJSON},
		{number: "#24", suite: u, name: "init with a program of machine code", kinds: exe, when: onlyAMD64, run: machineCode},
		{number: "#25", suite: u, name: "the same in a zip, and with main set", kinds: exe, when: onlyAMD64, run: machineCodeZip},
		{number: "#26", suite: u, name: "answers of a shell script, untouched", kinds: exe, run: untouched},
		{number: "#27", suite: u, name: "compile source, with another main, and zipped", kinds: golang, run: compiled},
		{number: "#28", suite: u, name: "init that cannot start", kinds: exe, when: onlyAMD64, run: badInit},
		{number: "#29", suite: u, name: "init with a zip of a Python program, two runs", kinds: exe, run: zippedPython},
		{
			number: "#30", suite: u, name: "source that does not compile, OW_LOG_INIT_ERROR=1", kinds: golang,
			env: map[string]string{"OW_LOG_INIT_ERROR": "1"}, run: badCompile,
		},
		{number: "#31", suite: u, name: "environment of init that is not text", kinds: []Kind{Python, Executable, Go}, run: initEnvironment},
		{number: "#32", suite: u, name: "environment of execution that does not match, OW_EXECUTION_ENV", kinds: exe, run: executionEnvironment},
	}
}

func nothing(t *trial) {
	r := t.post("/init", "{}")
	t.wantStatus(&r, http.StatusForbidden)
	r = t.post("/run", "{}")
	t.wantStatus(&r, http.StatusInternalServerError)
}

// demo runs an action with the name Demo.
func (t *trial) demo(key, value string) {
	r := t.run(map[string]any{"name": "Demo"})
	t.want(&r, map[string]any{key: value})
}

func shellScript(t *trial) {
	t.loadCode(script(loopScript(`echo "{\"main\":\"Hello, $name\"}" >&3`)), "main")
	t.demo("main", "Hello, Demo")
}

func zippedScript(t *trial) {
	t.loadCode(zipOf(map[string]entry{"exec": {data: loopScript(`echo "{\"exec\":\"Hello, $name\"}" >&3`), mode: 0o755}}), "main")
	t.demo("exec", "Hello, Demo")
}

func goHello(pkg, fn, key string) string {
	return fmt.Sprintf(`package %s

func %s(args map[string]interface{}) map[string]interface{} {
	name, _ := args["name"].(string)
	return map[string]interface{}{%q: "Hello, " + name + "!"}
}
`, pkg, fn, key)
}

func goSource(main string, zipped bool) func(*trial) {
	return func(t *trial) {
		source := goHello("main", strings.ToUpper(main[:1])+main[1:], "main-"+main)
		code := base64.StdEncoding.EncodeToString([]byte(source))
		if zipped {
			code = zipOf(map[string]entry{"main.go": {data: source}})
		}
		t.loadCode(code, main)
		t.demo("main-"+main, "Hello, Demo!")
	}
}

func goBinary(t *trial) {
	comp, ok := t.runner.target.(compiler)
	if !ok {
		t.skipf("the program that the container compiles with -compile is not known")
	}
	program, err := comp.compile(t.ctx, zipOf(map[string]entry{"main.go": {data: goHello("main", "Main", "main-main")}}))
	if err != nil {
		t.failf("-compile main: %v", err)
	}
	t.loadCode(program, "main")
	t.demo("main-main", "Hello, Demo!")
}

func goFolder(t *trial) {
	t.loadCode(zipOf(map[string]entry{
		"hello/hello.go": {data: goHello("hello", "Hello", "hello-Hello")},
		"hello/go.mod":   {data: "module hello\n"},
		"main.go": {data: "package main\n\nimport \"hello\"\n\n" +
			"func Main(args map[string]interface{}) map[string]interface{} { return hello.Hello(args) }\n"},
		"go.mod": {data: "module action\nreplace hello => ./hello\nrequire hello v0.0.0-00010101000000-000000000000\n"},
	}), "main")
	t.demo("hello-Hello", "Hello, Demo!")
}

func arrayResult(t *trial) {
	t.load(action{
		python: "def main(args):\n    return ['a', 'b']\n",
		golang: "package main\n\nfunc Main(args map[string]interface{}) []interface{} { return []interface{}{\"a\", \"b\"} }\n",
	})
	r := t.post("/run", "{}")
	t.want(&r, []any{"a", "b"})
}

func arrayInput(t *trial) {
	a := echo()
	a.golang = "package main\n\nfunc Main(args []interface{}) []interface{} { return args }\n"
	t.load(a)
	r := t.run([]any{"a", "b"})
	t.want(&r, []any{"a", "b"})
}

func noJSON(t *trial) {
	const noInit = `{"error":"Error unmarshaling request: invalid character 'X' looking for beginning of value"}`
	for _, c := range []struct{ path, body, want string }{
		{"/init", "{}", missingCode}, {"/init", "XXX", noInit}, {"/run", "{}", notYet}, {"/run", "XXX", notYet},
	} {
		r := t.post(c.path, c.body)
		t.wantRefused(&r)
		t.exact(&r, c.want+"\n")
	}
}

// exact fails unless the body is this, byte for byte.
func (t *trial) exact(r *reply, want string) {
	if string(r.body) != want {
		t.failf("%s: got %d %q, want the body %q", r.what, r.status, short(r.body), want)
	}
}

func machineCode(t *trial) {
	r := t.post("/run", "{}")
	t.wantStatus(&r, http.StatusInternalServerError)
	t.exact(&r, notYet+"\n")
	stdout, _ := t.settled()
	refused := min(1, strings.Count(stdout, sentinel)) // such a run may have its own
	t.runMachineCode(elfScript(loopScript(`echo "name=$name"; echo "{\"message\":\"Hello, $name!\"}" >&3`)), "main", `{"message":"Hello, Mike!"}`, refused+1)
	t.fresh(nil)
	t.runMachineCode(elfScript(loopScript(`echo "name=$name"; echo "{\"greetings\":\"Hello, $name\"}" >&3`)), "main", `{"greetings":"Hello, Mike"}`, 1)
}

func machineCodeZip(t *trial) {
	program := elfScript(loopScript(`echo "name=$name"; echo "{\"message\":\"Hello, $name!\"}" >&3`))
	raw, err := base64.StdEncoding.DecodeString(program)
	if err != nil {
		t.failf("the program: %v", err)
	}
	zipped := zipOf(map[string]entry{"exec": {data: string(raw), mode: 0o755}})
	t.runMachineCode(zipped, "main", `{"message":"Hello, Mike!"}`, 1)
	for _, code := range []string{program, zipped} {
		t.fresh(nil)
		t.runMachineCode(code, "hello", `{"message":"Hello, Mike!"}`, 1) // main says nothing to a program
	}
}

func (t *trial) runMachineCode(code, main, want string, sentinels int) {
	r := t.init(code, main, nil)
	t.wantStatus(&r, http.StatusOK)
	t.exact(&r, initialized+"\n")
	r = t.run(map[string]any{"name": "Mike"})
	t.wantStatus(&r, http.StatusOK)
	t.wantText(&r, want)
	t.logged(sentinels, "name=Mike", "")
}

func untouched(t *trial) {
	t.loadCode(script(loopScript(`echo "msg=hello $name"; echo "{\"hello\": \"$name\"}" >&3`)), "main")
	for i, name := range []string{"Mike", "world"} {
		r := t.run(map[string]any{"name": name})
		t.wantStatus(&r, http.StatusOK)
		t.wantText(&r, `{"hello": "`+name+`"}`)
		t.logged(i+1, "msg=hello "+name, "")
	}
	if stdout, _ := t.cont.logs(); t.runner.target.has().logs &&
		!strings.Contains(stdout, "msg=hello Mike\n"+sentinel+"\nmsg=hello world\n"+sentinel+"\n") {
		t.failf("stdout has %q, want each line before the sentinel of its run", short([]byte(stdout)))
	}
}

func compiled(t *trial) {
	source := func(fn string) string {
		return strings.Replace(strings.Replace(goHello("main", fn, "message"), "package main\n", "package main\n\nimport \"fmt\"\n", 1),
			"\treturn", "\tfmt.Printf(\"name=%s\\n\", name)\n\treturn", 1)
	}
	for i, c := range []struct{ code, main string }{
		{source("Main"), "main"},
		{source("Hello"), "hello"},
		{zipOf(map[string]entry{"main.go": {data: source("Main")}}), "main"},
	} {
		if i > 0 {
			t.fresh(nil)
		}
		t.loadCode(c.code, c.main)
		r := t.run(map[string]any{"name": "Mike"})
		t.want(&r, map[string]any{"message": "Hello, Mike!"})
		t.logged(1, "name=Mike", "")
	}
}

func badInit(t *trial) {
	const (
		cannot = `{"error":"cannot start action: command exited"}`
		logged = `{"error":"Cannot start action. Check logs for details."}` // with OW_LOG_INIT_ERROR, as in the official Python image
	)
	r := t.post("/run", "{}")
	t.wantStatus(&r, http.StatusInternalServerError)
	t.wantText(&r, notYet)
	r = t.post("/init", "{}")
	t.wantStatus(&r, http.StatusForbidden)
	t.wantText(&r, missingCode)
	programs := []string{zipOf(map[string]entry{"exec": {data: ""}}), elfHello("hi\n")}
	if !slices.ContainsFunc(t.runner.traits.kinds, func(k Kind) bool { return k != Executable }) {
		programs = append(programs, script(goHello("main", "Main", "message"))) // source, and nobody who takes it
	}
	for _, code := range programs {
		r = t.init(code, "main", nil)
		t.wantStatus(&r, http.StatusBadGateway)
		t.wantText(&r, cannot, logged)
	}
	r = t.post("/run", "{}")
	t.wantStatus(&r, http.StatusInternalServerError)
	t.wantText(&r, notYet)
	if stdout, _ := t.settled(); t.runner.target.has().logs && !strings.Contains(stdout, "hi\n") {
		t.failf("stdout has %q, want what the program printed before it ended: hi", short([]byte(stdout)))
	}
}

func zippedPython(t *trial) {
	a := action{python: "def main(args):\n    return {'python': 'Hello, ' + args.get('name', 'Mike')}\n"}
	t.loadCode(zipOf(t.packed(a)), "main")
	r := t.run(map[string]any{})
	t.wantStatus(&r, http.StatusOK)
	t.wantText(&r, `{"python": "Hello, Mike"}`)
	r = t.run(map[string]any{"name": "World"})
	t.wantText(&r, `{"python": "Hello, World"}`)
	t.quiet(2)
}

func badCompile(t *trial) {
	r := t.init("package main\n\nfunc Main(args map[string]interface{}) map[string]interface{} { return missing }\n", "main", nil)
	t.wantRefused(&r)
	t.wantText(&r, noBinary)
	if p, known := t.sentinels(1); known && p.stdout+p.stderr == "" {
		t.failf("the container printed nothing, want what the compiler said")
	}
}

func initEnvironment(t *trial) {
	t.loadWith(action{
		python: "import os\ndef main(args):\n    return {n: os.environ[n] for n in ('TEXT', 'NUMBER', 'ARRAY', 'OBJECT')}\n",
		golang: "package main\n\nimport \"os\"\n\nfunc Main(args map[string]interface{}) map[string]interface{} {\n\tseen := map[string]interface{}{}\n" +
			"\tfor _, n := range []string{\"TEXT\", \"NUMBER\", \"ARRAY\", \"OBJECT\"} {\n\t\tseen[n] = os.Getenv(n)\n\t}\n\treturn seen\n}\n",
	}, map[string]any{"TEXT": "a b", "NUMBER": 123, "ARRAY": []any{1, 2, 3}, "OBJECT": map[string]any{"a": 1, "b": 2}})
	r := t.run(map[string]any{})
	t.want(&r, map[string]any{"TEXT": "a b", "NUMBER": "123", "ARRAY": "[1,2,3]", "OBJECT": `{"a":1,"b":2}`})
}

// executionEnvironment gives a container a program that was compiled for another one,
// which a file beside it says.
//
// The variable that says which one the container is belongs to the official proxy, which
// tells its version to every action.
func executionEnvironment(t *trial) {
	const version = "__OW_PROXY_VERSION"
	t.fresh(nil)
	t.load(tool())
	r := t.run(id(1, "env", []string{version}))
	t.own(&r, 1)
	if seen, _ := r.object()["env"].(map[string]any); seen[version] == nil {
		t.skipf("OW_EXECUTION_ENV is a setting of the official proxy, on which this container is not built: its actions have no %s", version)
	}
	t.fresh(map[string]string{"OW_EXECUTION_ENV": "bad/env"})
	program := loopScript(`echo '{"right":true}' >&3`)
	files := map[string]entry{"exec": {data: program, mode: 0o755}, "exec.env": {data: "exec/env"}}
	r = t.init(zipOf(files), "main", nil)
	t.wantRefused(&r)
	t.wantText(&r, `{"error":"cannot start action: Execution environment version mismatch. See logs for details."}`)
	if p, known := t.sentinels(0); known && !strings.Contains(p.stdout+p.stderr, "Expected exec.env should start with bad/env\nActual value: exec/env") {
		t.failf("the logs do not name both environments; they are: %s", short([]byte(p.stdout+p.stderr)))
	}
	files["exec.env"] = entry{data: "bad/env"}
	r = t.init(zipOf(files), "main", nil)
	t.wantStatus(&r, http.StatusOK)
	r = t.run(map[string]any{})
	t.want(&r, map[string]any{"right": true})
	t.fresh(map[string]string{"OW_EXECUTION_ENV": ""}) // nothing is wanted, nothing is compared
	t.loadCode(zipOf(files), "main")
}
