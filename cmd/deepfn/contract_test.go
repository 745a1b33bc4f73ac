package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What OpenWhisk's invoker makes of an answer: it goes on with the container, it destroys
// it, with all that is loaded there, or it destroys it and sends the activation elsewhere.
const (
	kept      = "kept"
	destroyed = "destroyed"
	elsewhere = "elsewhere"
)

func fate(status int) string {
	switch status {
	case 200:
		return kept
	case 503:
		return elsewhere
	}
	return destroyed
}

// A row is one line of the table of what a container answers in which situation.
type row struct {
	situation string
	path      string // /run when it is empty
	body      string // {"value":{"do":…}} when it has no brace
	status    int
	want      string // the body, or with ~ a part of it
	container string
	sentinels int    // on each stream
	logs      string // is printed by it, on either stream
	process   string // of the function, afterwards: same, new, or "" if nobody asks
}

// contract sends the rows of a table to a server, one after the other.
type contract struct {
	*process
	outs, errs int // sentinels until now
}

func (c *contract) check(t *testing.T, r row) {
	t.Helper()
	before := 0
	if r.process != "" {
		before = c.functionID(t)
	}
	if r.path == "" {
		r.path = "/run"
	}
	if !strings.Contains(r.body, "{") && r.body != "" && r.path == "/run" && r.situation != "not JSON" {
		r.body = `{"value":{"do":"` + r.body + `"}}`
	}
	stdout, stderr := len(c.stdout.String()), len(c.stderr.String())
	got := c.mustPost(r.path, jsonMedia, []byte(strings.ReplaceAll(r.body, "SOON", strconv.FormatInt(time.Now().Add(2*time.Second).UnixMilli(), 10))))
	part, some := strings.CutPrefix(r.want, "~")
	if got.status != r.status || some && !strings.Contains(got.body, part) || !some && strings.TrimSpace(got.body) != r.want {
		t.Errorf("got %d %.300s, want %d %s", got.status, got.body, r.status, r.want)
	}
	if fate(got.status) != r.container {
		t.Errorf("the container is %s, want %s", fate(got.status), r.container)
	}
	if n := got.header.Get("Content-Length"); n != strconv.Itoa(len(got.body)) {
		t.Errorf("got Content-Length %q of %d bytes", n, len(got.body))
	}
	c.outs, c.errs = c.outs+r.sentinels, c.errs+r.sentinels
	c.sentinels(t)
	eventually(t, "what it printed: "+r.logs, func() bool { // the test reads it from a pipe
		return strings.Contains(c.stdout.String()[stdout:]+c.stderr.String()[stderr:], r.logs)
	})
	if r.process != "" {
		if same := c.functionID(t) == before; same != (r.process == "same") {
			t.Errorf("the next activation met the same process: %v, want the %s one", same, r.process)
		}
	}
}

// sentinels wants exactly those that have been counted.
func (c *contract) sentinels(t *testing.T) {
	t.Helper()
	_, outs := printed(t, &c.stdout, c.outs)
	_, errs := printed(t, &c.stderr, c.errs)
	if outs != c.outs || errs != c.errs {
		t.Errorf("got %d and %d sentinels until now, want %d and %d", outs, errs, c.outs, c.errs)
		c.outs, c.errs = outs, errs
	}
}

// functionID asks the function for the id of its process.
func (c *contract) functionID(t *testing.T) int {
	t.Helper()
	r := c.mustPost("/run", jsonMedia, []byte(`{"value":{"do":"pid"}}`))
	c.outs, c.errs = c.outs+1, c.errs+1
	var answer struct{ Pid int }
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || answer.Pid == 0 {
		t.Fatalf("a good activation: got %d %s, want the id of the process", r.status, r.body)
	}
	return answer.Pid
}

// initOf makes the body of an /init.
func initOf(code string) string {
	return fmt.Sprintf(`{"value":{"name":"guest","main":"main","binary":%v,"code":%q,"env":null}}`, isBase64.MatchString(code), code)
}

// doing is a function that does what it is told.
const doing = `
import os, sys, time
print("at import")
def main(args):
    what = args.get("do") if isinstance(args, dict) else "list"
    print("does", what)
    if what == "pid": return {"pid": os.getpid()}
    if what == "list": return args
    if what == "error": return {"error": {"code": 7}, "more": 1}
    if what == "string": return "text"
    if what == "number": return 5
    if what == "nothing": return None
    if what == "raise": raise ValueError("boom")
    if what == "sys.exit": sys.exit(1)
    if what == "os._exit": os._exit(4)
    if what == "kill": os.kill(os.getpid(), 9)
    if what == "sleep":
        while True: time.sleep(0.01)
    if what == "large": return {"a": "x" * (3 << 20)}
    if what == "env": return {k: v for k, v in os.environ.items() if k in ("__OW_DEADLINE", "__OW_NAMESPACE", "__OW_API_KEY")}
    return args
`

const (
	notADictionary = `{"error":"The action did not return a dictionary or array."}`
	noArguments    = `{"error":"The action did not receive a dictionary or array as an argument."}`
)

// TestContract has each row of the tables of what OpenWhisk's invoker makes of a
// container's answers, with functions in Python.
func TestContract(t *testing.T) {
	t.Parallel()
	p := newServer(t)
	p.serve(&p.stdout, "--python", current(t))
	c := &contract{process: p}
	for _, r := range []row{
		{situation: "not initialized", body: `{}`, status: 500, want: `{"error":"no action defined yet"}`, container: destroyed, sentinels: 1},
		{situation: "init: not JSON", path: "/init", body: `XXX`, status: 400, want: `{"error":"Error unmarshaling request: invalid character 'X' looking for beginning of value"}`, container: destroyed},
		{situation: "init: no code", path: "/init", body: `{}`, status: 403, want: `{"error":"Missing main/no code to execute."}`, container: destroyed},
		{situation: "init: empty code", path: "/init", body: initOf(""), status: 403, want: `{"error":"Missing main/no code to execute."}`, container: destroyed},
		{situation: "init: bad base64", path: "/init", body: `{"value":{"code":"%%%%","binary":true}}`, status: 400, want: "~cannot decode the request: ", container: destroyed},
		{situation: "init: code that does not compile", path: "/init", body: initOf("def main(args)\n"), status: 502, want: "~Cannot start action", container: destroyed, sentinels: 1, logs: "SyntaxError"},
		{situation: "init: code that raises", path: "/init", body: initOf("1/0\n"), status: 502, want: "~ZeroDivisionError", container: destroyed, sentinels: 1, logs: "Traceback"},
		{situation: "init: code that exits", path: "/init", body: initOf("import sys\nprint('bye')\nsys.exit(0)\n"), status: 502, want: "~Cannot start action", container: destroyed, sentinels: 1, logs: "Command exited abruptly during initialization."},
		{situation: "init: code that kills itself", path: "/init", body: initOf("import os\nos.kill(os.getpid(), 9)\n"), status: 502, want: "~Cannot start action", container: destroyed, sentinels: 1},
		{situation: "init: the model is not there", path: "/init", body: initOf(`{"model":"nope"}`), status: 502, want: "~there is no model", container: destroyed},
		{situation: "still not initialized", body: `{}`, status: 500, want: `{"error":"no action defined yet"}`, container: destroyed, sentinels: 1},
		{situation: "init: ready", path: "/init", body: initOf(doing), status: 200, want: `{"ok":true}`, container: kept},
		{situation: "init: a second time", path: "/init", body: initOf(doing), status: 403, want: `{"error":"Cannot initialize the action more than once."}`, container: destroyed, logs: initOnceLine},
		{situation: "object; printed at import", body: `{"value":{"do":"echo","a":"❄"}}`, status: 200, want: `{"do": "echo", "a": "\u2744"}`, container: kept, sentinels: 1, logs: "at import\ndoes echo\n" + whiskSentinel},
		{situation: "array", body: `{"value":[1,"a"]}`, status: 200, want: `[1, "a"]`, container: kept, sentinels: 1, process: "same"},
		{situation: "no value", body: `{}`, status: 200, want: `{}`, container: kept, sentinels: 1},
		{situation: "value null", body: `{"value":null}`, status: 200, want: `{}`, container: kept, sentinels: 1},
		{situation: "value of another type", body: `{"value":"A"}`, status: 404, want: noArguments, container: destroyed, sentinels: 1},
		{situation: "not JSON", body: `XXX`, status: 200, want: "~Error unmarshaling request", container: kept, sentinels: 1, process: "same"},
		{situation: "an error in the result", body: "error", status: 200, want: `{"error": {"code": 7}, "more": 1}`, container: kept, sentinels: 1, process: "same"},
		{situation: "an exception", body: "raise", status: 200, want: "~ValueError: boom", container: kept, sentinels: 1, logs: "Traceback", process: "same"},
		{situation: "a string", body: "string", status: 502, want: notADictionary, container: destroyed, sentinels: 1, process: "same"},
		{situation: "a number", body: "number", status: 502, want: notADictionary, container: destroyed, sentinels: 1, process: "same"},
		{situation: "no result", body: "nothing", status: 502, want: notADictionary, container: destroyed, sentinels: 1, process: "same"},
		{situation: "sys.exit", body: "sys.exit", status: 400, want: `{"error":"command exited"}`, container: destroyed, sentinels: 1, logs: "exit status 1", process: "new"},
		{situation: "_exit", body: "os._exit", status: 400, want: `{"error":"command exited"}`, container: destroyed, sentinels: 1, logs: "does os._exit\n", process: "new"},
		{situation: "killed, as for want of memory", body: "kill", status: 200, want: "~signal: killed", container: kept, sentinels: 1, logs: "does kill\n", process: "new"},
		{situation: "over the deadline", body: `{"value":{"do":"sleep"},"deadline":"SOON"}`, status: 200, want: `{"error":"the call took longer than it was allowed to"}`, container: kept, sentinels: 1, process: "same"},
		{situation: "over the limit", body: "large", status: 200, want: "~result_to", container: kept, sentinels: 1, process: "same"},
		{situation: "what the platform says", body: `{"value":{"do":"env"},"namespace":"zzz","api_key":"abc","deadline":"123"}`, status: 200, want: `{"__OW_NAMESPACE": "zzz", "__OW_API_KEY": "abc", "__OW_DEADLINE": "123"}`, container: kept, sentinels: 1},
		{situation: "and does not say again", body: "env", status: 200, want: `{}`, container: kept, sentinels: 1},
	} {
		t.Run(r.situation, func(t *testing.T) { c.check(t, r) })
	}
	c.sentinels(t)
}

// loopScript is an executable that does what it is told.
const loopScript = `#!/bin/bash
while read -r line; do
  echo "does something"
  case "$line" in
    *'"do":"pid"'*) echo "{\"pid\": $$}" >&3 ;;
    *'"do":"string"'*) echo '"not json"' >&3 ;;
    *'"do":"null"'*) echo 'null' >&3 ;;
    *'"do":"garbage"'*) echo 'not json' >&3 ;;
    *'"do":"twice"'*) printf '{"a":1}\n{"a":2}\n' >&3 ;;
    *'"do":"exit"'*) exit 3 ;;
    *'"do":"kill"'*) kill -9 $$ ;;
    *'"value":['*) echo '["a","b"]' >&3 ;;
    *) echo '{"error": "sorry"}' >&3 ;;
  esac
done
`

// TestContractOfExecutables has the rows in which executables differ.
func TestContractOfExecutables(t *testing.T) {
	t.Parallel()
	p := newServer(t)
	p.serve(&p.stdout)
	c := &contract{process: p}
	for _, r := range []row{
		{situation: "init: it exits", path: "/init", body: initOf("#!/bin/bash\necho hi\nexit 3\n"), status: 502, want: `{"error":"cannot start action: command exited"}`, container: destroyed, sentinels: 1, logs: "hi\n"},
		{situation: "init: ready", path: "/init", body: initOf(loopScript), status: 200, want: `{"ok":true}`, container: kept},
		{situation: "an error in the result", body: `{}`, status: 200, want: `{"error": "sorry"}`, container: kept, sentinels: 1, logs: "does something\n" + whiskSentinel, process: "same"},
		{situation: "array", body: `{"value":["a","b"]}`, status: 200, want: `["a","b"]`, container: kept, sentinels: 1},
		{situation: "a string", body: "string", status: 502, want: notADictionary, container: destroyed, sentinels: 1, process: "same"},
		{situation: "null", body: "null", status: 502, want: notADictionary, container: destroyed, sentinels: 1, process: "same"},
		{situation: "not JSON as an answer", body: "garbage", status: 502, want: notADictionary, container: destroyed, sentinels: 1, logs: "not a line of JSON", process: "new"},
		// When they come apart the first is the answer. The second is nobody's either way.
		{situation: "two answers", body: "twice", status: 200, want: "~{", container: kept, sentinels: 1, process: "new"},
		{situation: "it exits", body: "exit", status: 400, want: `{"error":"command exited"}`, container: destroyed, sentinels: 1, logs: "exit status 3", process: "new"},
		{situation: "it is killed", body: "kill", status: 200, want: "~the command exited: signal: killed", container: kept, sentinels: 1, process: "new"},
	} {
		t.Run(r.situation, func(t *testing.T) { c.check(t, r) })
	}
	c.sentinels(t)
}

// TestContractOfModules has those in which modules differ, whose container is worth more.
func TestContractOfModules(t *testing.T) {
	t.Parallel()
	p := servePython(t, copyOf(t, "faults.py"))
	c := &contract{process: p}
	for _, r := range []row{
		{situation: "init of a baked-in model", path: "/init", body: `{}`, status: 200, want: `{"ok":true}`, container: kept},
		{situation: "a scalar", body: `{"value":{"fault":"scalar"}}`, status: 200, want: `{"result":7}`, container: kept, sentinels: 1, process: "same"},
		{situation: "sys.exit", body: `{"value":{"fault":"exit"}}`, status: 200, want: "~predict called sys.exit(3)", container: kept, sentinels: 1, process: "same"},
		{situation: "_exit", body: `{"value":{"fault":"_exit"}}`, status: 200, want: "~the process ended: exit status 3", container: kept, sentinels: 1, process: "new"},
		{situation: "a crash", body: `{"value":{"fault":"segfault"}}`, status: 200, want: "~segmentation fault", container: kept, sentinels: 1, process: "new"},
	} {
		t.Run(r.situation, func(t *testing.T) { c.check(t, r) })
	}
	c.sentinels(t)
}

// TestContractOfTheDrain: after SIGTERM new activations go elsewhere, and the one that is
// in progress is answered.
func TestContractOfTheDrain(t *testing.T) {
	t.Parallel()
	p := newServer(t)
	gate := filepath.Join(p.temp, "gate")
	p.serve(&p.stdout, lay(t, "slow.py", "import os, time\ndef main(args):\n    while args and not os.path.exists(args['gate']): time.sleep(0.01)\n    return {'done': True}\n"), "--python", current(t))
	c := &contract{process: p}
	c.check(t, row{body: `{}`, status: 200, want: `{"done": true}`, container: kept, sentinels: 1})
	answered := make(chan reply, 1)
	go func() {
		r, err := p.post("/run", jsonMedia, []byte(`{"value":{"gate":"`+gate+`"}}`))
		if err != nil {
			r.body = err.Error()
		}
		answered <- r
	}()
	eventually(t, "the activation runs", func() bool {
		return strings.Contains(p.mustGet("/metrics").body, "deepfn_requests_in_flight 2")
	})
	_ = p.cmd.Process.Signal(os.Interrupt)
	eventually(t, "the drain", func() bool { return p.mustGet("/readyz").status == 503 })
	c.check(t, row{body: `{}`, status: 503, want: "~shutting down", container: elsewhere, sentinels: 1})
	c.check(t, row{path: "/init", body: initOf(doing), status: 503, want: "~shutting down", container: elsewhere})
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := <-answered; r.status != 200 || r.body != `{"done": true}` {
		t.Errorf("the activation in progress: got %d %s", r.status, r.body)
	}
	c.outs, c.errs = c.outs+1, c.errs+1
	c.sentinels(t)
	<-p.ended
}

// TestContractOfConcurrentRuns: activations that overlap wait for their turn, whatever
// __OW_ALLOW_CONCURRENT says. Each gets its own arguments, variables and lines.
func TestContractOfConcurrentRuns(t *testing.T) {
	t.Parallel()
	const runs = 40
	for name, variable := range map[string]string{"not set": "X=y", "false": "__OW_ALLOW_CONCURRENT=false", "true": "__OW_ALLOW_CONCURRENT=true"} {
		t.Run(name, func(t *testing.T) {
			p := newServer(t)
			p.env = append(p.env, variable)
			p.serve(&p.stdout, "--python", current(t))
			code := "import os, sys\ndef main(args):\n    own = os.environ['__OW_ACTIVATION_ID']\n    print('out', own)\n    print('err', own, file=sys.stderr)\n    return {'args': args, 'own': own}\n"
			if r := p.initialize(code, "main", nil); r.status != 200 {
				t.Fatalf("/init: got %d %s", r.status, r.body)
			}
			var all sync.WaitGroup
			for i := range runs {
				all.Go(func() {
					want := fmt.Sprintf(`{"args":{"n":%d},"own":"a%d"}`, i, i)
					r, err := p.post("/run", jsonMedia, fmt.Appendf(nil, `{"activation_id":"a%d","value":{"n":%d}}`, i, i))
					if err != nil || r.status != 200 || plainJSON(t, r.body) != want {
						t.Errorf("got %d %s %v, want %s", r.status, r.body, err, want)
					}
				})
			}
			all.Wait()
			for stream, text := range map[string]*syncBuffer{"out": &p.stdout, "err": &p.stderr} {
				if _, found := printed(t, text, runs); found != runs {
					t.Errorf("got %d sentinels on %s, want %d", found, stream, runs)
				}
				seen := map[string]bool{}
				block := regexp.MustCompile(stream + ` (a\d+)\n` + whiskSentinel)
				for _, m := range block.FindAllStringSubmatch(text.String(), -1) {
					seen[m[1]] = true
				}
				if len(seen) != runs {
					t.Errorf("%d activations have their line before a sentinel on %s, want %d", len(seen), stream, runs)
				}
			}
		})
	}
}
