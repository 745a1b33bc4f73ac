package conformance

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// An action is one function in the languages it was written in. The Python of it makes
// the executables too.
type action struct {
	python, node, golang string
	main                 string // the entry point, empty for main
}

// code returns what /init gets for a kind: source, or a program in base64.
func (a action) code(k Kind, interpreter string) (code string, ok bool) {
	switch k {
	case Python:
		code = a.python
	case Node:
		code = a.node
	case Go:
		code = a.golang
	case Stub: // takes scripts as they are, and of what is base64 only archives
		if a.python != "" {
			code = a.executable(k, interpreter)
		}
	case Executable:
		if a.python != "" {
			code = base64.StdEncoding.EncodeToString([]byte(a.executable(k, interpreter)))
		}
	case None:
	}
	return code, code != ""
}

// executable makes a program of an action: a script that a shell reads first, which
// looks for the interpreter, and then the interpreter.
func (a action) executable(k Kind, interpreter string) string {
	name := a.main
	if name == "" {
		name = "main"
	}
	loop := actionLoop
	if k == Stub {
		loop = onceLoop
	}
	return strings.NewReplacer("@INTERPRETER@", shellQuote(interpreter), "@SOURCE@", a.python, "@MAIN@", name).Replace(polyglot + loop)
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// polyglot is the beginning of a program. To a shell its second line is a command that
// does nothing; to Python all up to the line of quotes is a text.
const polyglot = `#!/bin/sh
''':'
for python in @INTERPRETER@ /usr/bin/python3 /usr/local/bin/python3 /usr/local/bin/python; do
  [ -x "$python" ] && exec "$python" -X utf8 -u "$0" "$@"
done
exec python3 -X utf8 -u "$0" "$@"
'''
@SOURCE@
`

// actionLoop reads one request in a line and writes one answer in a line to descriptor 3,
// as docs/ACTION.md of apache/openwhisk-runtime-go has it.
const actionLoop = `
def _loop():
    import json, os, sys, traceback
    out = os.fdopen(3, "wb", 0)
    if os.environ.get("__OW_WAIT_FOR_ACK"):
        out.write(b'{"ok":true}\n')
    while True:
        line = sys.stdin.buffer.readline()
        if not line:
            break
        try:
            request = json.loads(line)
            for key, value in request.items():
                if key != "value" and isinstance(value, str) and key and not set(key) & {"=", "\0"}:
                    os.environ["__OW_" + key.upper()] = value
            result = @MAIN@({} if request.get("value") is None else request["value"])
        except Exception as error:
            traceback.print_exc()
            result = {"error": str(error)}
        data = result if isinstance(result, bytes) else json.dumps(result).encode()
        out.write(data + b"\n")

_loop()
`

// onceLoop is the docker skeleton's way: one process for each run, the arguments in its
// first argument or, when they are long, on its standard input, the answer in the last
// line that it prints.
const onceLoop = `
import json, sys
print("\n" + json.dumps(@MAIN@(json.loads(sys.argv[1] if len(sys.argv) > 1 else sys.stdin.read()))))
`

// echo returns its arguments.
func echo() action {
	return action{
		python: "def main(args):\n    return args\n",
		node:   "function main(args) { return args; }\n",
		golang: "package main\n\nfunc Main(args map[string]interface{}) map[string]interface{} { return args }\n",
	}
}

// named returns an echo with another entry point.
func named(name string) action {
	return action{
		main:   name,
		python: "def " + name + "(args):\n    return args\n",
		node:   "function " + name + "(args) { return args; }\n",
		golang: "package main\n\nfunc " + strings.ToUpper(name[:1]) + name[1:] + "(args map[string]interface{}) map[string]interface{} { return args }\n",
	}
}

// An entry is one member of an archive.
type entry struct {
	data string
	mode fs.FileMode // 0 means a file that anybody may read
}

// zipOf makes a zip of files by their names, in base64.
func zipOf(files map[string]entry) string {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		mode := files[name].mode
		if mode == 0 {
			mode = 0o644
		}
		h.SetMode(mode)
		part, err := w.CreateHeader(h)
		if err == nil {
			_, err = part.Write([]byte(files[name].data))
		}
		if err != nil {
			panic(fmt.Sprintf("conformance: zip in memory: %v", err)) // only a fault of ours
		}
	}
	if err := w.Close(); err != nil {
		panic(fmt.Sprintf("conformance: zip in memory: %v", err))
	}
	return base64.StdEncoding.EncodeToString(buf.Bytes())
}

// tarOf makes a tar.gz of files by their names, in base64.
func tarOf(files map[string]entry) string {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		mode := files[name].mode
		if mode == 0 {
			mode = 0o644
		}
		err := w.WriteHeader(&tar.Header{Name: name, Mode: int64(mode), Size: int64(len(files[name].data)), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = w.Write([]byte(files[name].data))
		}
		if err != nil {
			panic(fmt.Sprintf("conformance: tar in memory: %v", err))
		}
	}
	for _, c := range []interface{ Close() error }{w, z} {
		if err := c.Close(); err != nil {
			panic(fmt.Sprintf("conformance: tar in memory: %v", err))
		}
	}
	return base64.StdEncoding.EncodeToString(buf.Bytes())
}

// packed puts an action into files of an archive, as its kind wants it.
func (t *trial) packed(a action) map[string]entry {
	switch t.kind {
	case Python:
		if a.python != "" {
			return map[string]entry{"__main__.py": {data: a.python}}
		}
	case Executable, Stub:
		if a.python != "" {
			return map[string]entry{"exec": {data: a.executable(t.kind, t.runner.cfg.Interpreter), mode: 0o755}}
		}
	case Go:
		if a.golang != "" {
			return map[string]entry{"main.go": {data: a.golang}, "go.mod": {data: "module action\n"}}
		}
	case Node:
		if a.node != "" {
			return map[string]entry{"index.js": {data: a.node + "exports.main = main;\n"}, "package.json": {data: `{"main":"index.js"}`}}
		}
	case None:
	}
	t.skipf("there is no archive of this case for the kind %s", t.kind)
	return nil
}

// loadCode initialises the container with code as it is.
func (t *trial) loadCode(code, main string) {
	r := t.init(code, main, nil)
	t.wantStatus(&r, 200)
}

// script is a program in base64.
func script(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
