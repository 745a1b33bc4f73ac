package conformance

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// pythonCases are those of PythonBasicTests and PythonAdvancedTests of
// apache/openwhisk-runtime-python.
func pythonCases() []testCase {
	const suite = "python"
	cases := []testCase{
		{number: "#51", name: "zip with __main__.py and a module, another main", run: pythonZip},
		{number: "#52", name: "zip with a file, read by its relative name", run: pythonFile},
		{number: "#53", name: "zip without __main__.py", run: pythonNoMain},
		{number: "#54", name: "exception in main", run: pythonException},
		{number: "#55", name: "syntax error", run: pythonSyntax},
		{number: "#56", name: "error as a result", run: pythonError},
		{number: "#57", name: "import of a package that is missing", run: pythonImport},
		{number: "#58", name: "the interpreter is Python", run: pythonInterpreter},
		{number: "#59", name: "array as result", run: arrayResult},
		{number: "#60", name: "array as input", run: arrayInput},
		{number: "#61", name: "exit in main", run: pythonExit},
		{number: "#62", name: "exit at import", run: pythonExitAtImport},
		{number: "#63", name: "environment at import, printed into the first activation's log", run: pythonPrint},
		{number: "#64", name: "zip with a virtual environment and a package", run: pythonVirtualenv("tiny/__init__.py")},
		{number: "#65", name: "zip with a virtual environment and a module", run: pythonVirtualenv("tiny.py")},
		{number: "#66", name: "zip with a virtual environment and the wrong main module", run: pythonWrongMain},
		{number: "#67", name: "zip with an invalid virtual environment", run: pythonInvalid},
	}
	for i := range cases {
		cases[i].suite, cases[i].kinds = suite, []Kind{Python}
	}
	return cases
}

func pythonZip(t *trial) {
	t.loadCode(zipOf(map[string]entry{
		"__main__.py": {data: "from echo import echo\ndef niam(args):\n    return echo(args)\n"},
		"echo.py":     {data: "def echo(args):\n    return {'echo': args}\n"},
	}), "niam")
	args := map[string]any{"text": "hello"}
	r := t.run(args)
	t.want(&r, map[string]any{"echo": args})
	t.quiet(1)
}

func pythonFile(t *trial) {
	t.loadCode(zipOf(map[string]entry{
		"__main__.py":    {data: "def main(args):\n    with open('data/words.txt') as f:\n        return {'words': f.read()}\n"},
		"data/words.txt": {data: "beside the code"},
	}), "main")
	r := t.run(map[string]any{})
	t.want(&r, map[string]any{"words": "beside the code"})
	t.quiet(1)
}

// refused gives code to the container, which must refuse it with 502.
func (t *trial) refused(code string) reply {
	r := t.init(code, "main", nil)
	t.wantStatus(&r, http.StatusBadGateway)
	return r
}

// complained fails unless stderr matches a pattern and each stream has one sentinel.
func (t *trial) complained(pattern string) {
	if p, known := t.sentinels(1); known && !regexp.MustCompile(pattern).MatchString(p.stderr) {
		t.failf("stderr has %q, want %s in it", short([]byte(p.stderr)), strings.ReplaceAll(pattern, "|", " or "))
	}
}

func pythonNoMain(t *trial) {
	t.refused(zipOf(map[string]entry{"echo.py": {data: echo().python}}))
	t.complained("Zip file does not include")
}

func pythonException(t *trial) {
	t.load(action{python: "def main(args):\n    raise ValueError('nothing to see here')\n"})
	r := t.run(map[string]any{})
	t.wantError(&r)
	t.complained("Traceback")
}

func pythonSyntax(t *trial) {
	t.refused("def main(args)\n    return {}\n")
}

func pythonError(t *trial) {
	t.load(action{python: "def main(args):\n    return {'error': 'sorry'}\n"})
	r := t.run(map[string]any{})
	t.want(&r, map[string]any{"error": "sorry"})
	t.quiet(1)
}

func pythonImport(t *trial) {
	t.refused("import package_that_is_nowhere\n" + echo().python)
	t.complained("Traceback|cannot start")
}

func pythonInterpreter(t *trial) {
	t.load(action{python: "import sys\ndef main(args):\n    return {'interpreter': sys.executable}\n"})
	r := t.run(map[string]any{})
	t.wantStatus(&r, http.StatusOK)
	if path, _ := r.object()["interpreter"].(string); !strings.Contains(path, "python") {
		t.failf("%s: got %s, want the path of a Python", r.what, r.got())
	}
}

func pythonExit(t *trial) {
	t.load(action{python: "import sys\ndef main(args):\n    sys.exit(1)\n"})
	r := t.run(map[string]any{})
	t.wantStatus(&r, http.StatusBadRequest)
	if !strings.Contains(r.errorText(), "command exited") {
		t.failf("%s: got %s, want an error with the words: command exited", r.what, r.got())
	}
	t.sentinels(1)
}

func pythonExitAtImport(t *trial) {
	r := t.refused("import sys\nsys.exit(1)\n" + echo().python)
	if !strings.Contains(r.errorText(), "Cannot start action") {
		t.failf("%s: got %s, want an error with the words: Cannot start action", r.what, r.got())
	}
	t.complained("Command exited abruptly during initialization.")
}

func pythonPrint(t *trial) {
	t.loadWith(action{python: "import os\nprint('SOME_VAR is ' + os.environ['SOME_VAR'])\n" + echo().python}, map[string]any{"SOME_VAR": "xyz"})
	t.sentinels(0)
	r := t.run(map[string]any{})
	t.want(&r, map[string]any{})
	t.logged(1, "SOME_VAR is xyz", "")
	if stdout, _ := t.cont.logs(); t.runner.target.has().logs && strings.Index(stdout, "SOME_VAR") > strings.Index(stdout, sentinel) {
		t.failf("stdout has %q, want the line of the import before the first sentinel", short([]byte(stdout)))
	}
}

// activate is what a virtual environment's activate_this.py does.
const activate = `import os, site, sys
base = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
site.addsitedir(os.path.join(base, "lib", "python%d.%d" % sys.version_info[:2], "site-packages"))
`

// sitePackages is the folder of packages in a virtual environment for the container's
// Python.
func (t *trial) sitePackages() string {
	t.load(action{python: "import sys\ndef main(args):\n    return {'version': 'python%d.%d' % sys.version_info[:2]}\n"})
	r := t.run(map[string]any{})
	version, _ := r.object()["version"].(string)
	if version == "" {
		t.failf("%s: got %s, want the version of Python", r.what, r.got())
	}
	t.fresh(nil)
	return fmt.Sprintf("virtualenv/lib/%s/site-packages/", version)
}

func pythonVirtualenv(file string) func(*trial) {
	return func(t *trial) {
		site := t.sitePackages()
		t.loadCode(zipOf(map[string]entry{
			"__main__.py":                     {data: "import tiny\ndef main(args):\n    return {'tiny': tiny.value}\n"},
			"virtualenv/bin/activate_this.py": {data: activate},
			site + file:                       {data: "value = 7\n"},
		}), "main")
		r := t.run(map[string]any{})
		t.want(&r, map[string]any{"tiny": 7})
		t.quiet(1)
	}
}

func pythonWrongMain(t *trial) {
	site := t.sitePackages()
	t.refused(zipOf(map[string]entry{
		"main.py":                         {data: "import tiny\n" + echo().python},
		"virtualenv/bin/activate_this.py": {data: activate},
		site + "tiny.py":                  {data: "value = 7\n"},
	}))
}

func pythonInvalid(t *trial) {
	t.refused(zipOf(map[string]entry{"__main__.py": {data: echo().python}, "virtualenv/README": {data: "nothing is here\n"}}))
}
