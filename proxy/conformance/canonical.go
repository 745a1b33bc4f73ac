package conformance

import (
	"net/http"
	"strings"
)

// bodies that the suites want; byte for byte only those of the Go proxy's own units.
const (
	missingCode = `{"error":"Missing main/no code to execute."}`
	noBinary    = `{"error":"The action failed to generate or locate a binary. See logs for details."}`
	notADict    = `{"error":"The action did not return a dictionary or array."}`
	notADictOld = `{"error":"The action did not return a dictionary."}`
	onlyOnce    = "Cannot initialize the action more than once."
	onlyOnceOut = `{"error":"` + onlyOnce + `"}`
	notYet      = `{"error":"no action defined yet"}`
	initialized = `{"ok":true}`
)

// canonicalCases are those of BasicActionRunnerTests, which every runtime has to pass.
func canonicalCases() []testCase {
	const suite = "canonical"
	return []testCase{
		{number: "#1", suite: suite, name: "handle initialization with no code", nocode: true, run: initNoCode},
		{number: "#2", suite: suite, name: "handle initialization with no content", nocode: true, phase: before, when: stubLast, run: initNoContent},
		{number: "#3", suite: suite, name: "error for a function that returns no JSON object", run: notAnObject},
		{number: "#4", suite: suite, name: "fail to initialize a second time", phase: after, run: initTwice},
		{number: "#5", suite: suite, name: "invoke a non-standard entry point", run: otherMain},
		{number: "#6", suite: suite, name: "echo arguments and print messages", run: echoAndPrint},
		{number: "#7", suite: suite, name: "handle unicode in code, arguments, logs and result", run: unicodeText},
		{
			number: "#8", suite: suite, name: "export environment variables before the code is loaded",
			kinds: alive(), run: environmentAtLoad,
		},
		{
			number: "#9", suite: suite, name: "confirm the expected environment variables",
			env: map[string]string{"__OW_API_HOST": "xyz"}, run: expectedEnvironment,
		},
		{number: "#10", suite: suite, name: "echo a large input", phase: after, run: largeInput},
	}
}

// stubLast keeps an /init without code away from the only container there is, when that
// would initialise it.
func stubLast(t traits) string {
	if t.stub && !t.fresh {
		return "it would initialise the only container"
	}
	return ""
}

func initNoCode(t *trial) {
	r := t.init("", "", nil)
	t.wantInitWithout(&r)
}

func initNoContent(t *trial) {
	r := t.post("/init", "{}")
	t.wantInitWithout(&r)
	if !t.runner.traits.stub {
		t.wantJSON(&r, missingCode, noBinary)
	}
}

// wantInitWithout fails unless an /init without code works exactly where there is an
// action already.
func (t *trial) wantInitWithout(r *reply) {
	if t.runner.traits.stub {
		t.wantStatus(r, http.StatusOK)
		return
	}
	t.wantRefused(r)
}

func notAnObject(t *trial) {
	t.load(action{
		python: "def main(args):\n    return \"not a json object\"\n",
		node:   "function main(args) { return \"not a json object\"; }\n",
		golang: "", // the official compiler's launcher refuses it when it starts
	})
	r := t.post("/run", "{}")
	t.wantRefused(&r)
	t.wantJSON(&r, notADict, notADictOld)
	if t.kind == Node || t.kind == Stub { // they print what they got instead
		t.logged(1, "", "")
		return
	}
	t.quiet(1)
}

func initTwice(t *trial) {
	t.loadEcho()
	r := t.init(t.code(echo()), "main", nil)
	t.wantRefused(&r)
	t.wantJSON(&r, onlyOnceOut)
	if p, known := t.sentinels(0); known && !strings.Contains(p.stdout+p.stderr, onlyOnce) {
		t.failf("what the container printed does not say %q", onlyOnce)
	}
}

func otherMain(t *trial) {
	t.load(named("niam"))
	args := map[string]any{"string": "hello"}
	r := t.run(args)
	t.want(&r, args)
	t.quiet(1)
}

func echoAndPrint(t *trial) {
	t.load(action{
		python: "import sys\ndef main(args):\n    print('hello stdout')\n    print('hello stderr', file=sys.stderr)\n    return args\n",
		node:   "function main(args) { console.log('hello stdout'); console.error('hello stderr'); return args; }\n",
		golang: "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n)\n\nfunc Main(args map[string]interface{}) map[string]interface{} {\n" +
			"\tfmt.Println(\"hello stdout\")\n\tfmt.Fprintln(os.Stderr, \"hello stderr\")\n\treturn args\n}\n",
	})
	for _, args := range []map[string]any{
		{"string": "hello"}, {"string": "❄ ☃ ❄"}, {"numbers": []any{42, 1}}, {"object": map[string]any{"a": "A"}},
	} {
		r := t.run(args)
		t.want(&r, args)
	}
	if t.kind == Stub {
		t.logged(4, "hello stdout", "") // the skeleton's programs have their last line for the answer
		return
	}
	t.logged(4, "hello stdout", "hello stderr")
}

func unicodeText(t *trial) {
	t.load(action{
		python: "def main(args):\n    text = args['delimiter'] + ' ☃ ' + args['delimiter']\n    print(text)\n    return {'winter': text}\n",
		node:   "function main(args) { const text = args.delimiter + ' ☃ ' + args.delimiter; console.log(text); return { winter: text }; }\n",
		golang: "package main\n\nimport \"fmt\"\n\nfunc Main(args map[string]interface{}) map[string]interface{} {\n" +
			"\td := args[\"delimiter\"].(string)\n\ttext := d + \" ☃ \" + d\n\tfmt.Println(text)\n\treturn map[string]interface{}{\"winter\": text}\n}\n",
	})
	r := t.run(map[string]any{"delimiter": "❄"})
	t.want(&r, map[string]any{"winter": "❄ ☃ ❄"})
	t.logged(1, "❄ ☃ ❄", "")
}

func environmentAtLoad(t *trial) {
	t.loadWith(action{
		python: "import os\nseen = {n: os.environ[n] for n in ('SOME_VAR', 'ANOTHER_VAR')}\ndef main(args):\n    return seen\n",
		node:   "const { SOME_VAR, ANOTHER_VAR } = process.env;\nfunction main(args) { return { SOME_VAR, ANOTHER_VAR }; }\n",
		golang: "package main\n\nimport \"os\"\n\nvar seen = map[string]interface{}{\"SOME_VAR\": os.Getenv(\"SOME_VAR\"), \"ANOTHER_VAR\": os.Getenv(\"ANOTHER_VAR\")}\n\n" +
			"func Main(args map[string]interface{}) map[string]interface{} { return seen }\n",
	}, map[string]any{"SOME_VAR": "xyz", "ANOTHER_VAR": ""})
	r := t.run(map[string]any{})
	t.want(&r, map[string]any{"SOME_VAR": "xyz", "ANOTHER_VAR": ""})
	t.quiet(1)
}

func expectedEnvironment(t *trial) {
	const names = "api_host api_key namespace action_name action_version activation_id deadline"
	quoted := "'" + strings.ReplaceAll(names, " ", "', '") + "'"
	t.load(action{
		python: "import os\ndef main(args):\n    return {n: os.environ['__OW_' + n.upper()] for n in (" + quoted + ")}\n",
		node: "function main(args) { const seen = {}; for (const n of [" + quoted + "]) seen[n] = process.env['__OW_' + n.toUpperCase()]; " +
			"return seen; }\n",
		golang: "package main\n\nimport (\n\t\"os\"\n\t\"strings\"\n)\n\nfunc Main(args map[string]interface{}) map[string]interface{} {\n\tseen := map[string]interface{}{}\n" +
			"\tfor _, n := range strings.Fields(\"" + names + "\") {\n\t\tseen[n] = os.Getenv(\"__OW_\" + strings.ToUpper(n))\n\t}\n\treturn seen\n}\n",
	})
	sent := map[string]any{
		"api_key": "abc", "namespace": "zzz", "action_name": "xxx", "action_version": "0.0.1", "activation_id": "iii", "deadline": "123",
	}
	r := t.run(map[string]any{}, sent)
	sent["api_host"] = "xyz"
	t.want(&r, sent)
	t.quiet(1)
}

func largeInput(t *trial) {
	t.loadEcho()
	args := map[string]any{"arg": strings.Repeat("a", 1<<20-15)}
	r := t.run(args)
	t.want(&r, args)
}
