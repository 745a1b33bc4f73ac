package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/deepfn/deepfn/actions/whisk"
)

// createAction makes a Python action.
func (p *process) createAction(name, code, more string) {
	p.t.Helper()
	text, err := json.Marshal(code)
	if err != nil {
		p.t.Fatal(err)
	}
	if r := p.own(http.MethodPut, "actions/"+name+"?overwrite=true", `{"exec":{"kind":"python:3","code":`+string(text)+`}`+more+`}`); r.status != 200 {
		p.t.Fatalf("the action: got %d %s", r.status, r.body)
	}
}

// wait invokes an action and waits for its activation.
func (p *process) wait(action, args string) (a whisk.Activation) {
	p.t.Helper()
	r := p.own(http.MethodPost, "actions/"+action+"?blocking=true", args)
	if err := json.Unmarshal([]byte(r.body), &a); err != nil {
		p.t.Errorf("%s: got %d %s", action, r.status, r.body)
	}
	return a
}

// recurse is an action that invokes itself, and waits for that.
const recurse = `
import base64, json, os, urllib.request

def main(args):
    n = args["n"]
    if n == 0:
        return {"depth": 0}
    request = urllib.request.Request(
        os.environ["__OW_API_HOST"] + "/api/v1/namespaces/_/actions/recurse?blocking=true&result=true",
        data=json.dumps({"n": n - 1}).encode(),
        headers={
            "Content-Type": "application/json",
            "Authorization": "Basic " + base64.b64encode(os.environ["__OW_API_KEY"].encode()).decode(),
        },
    )
    with urllib.request.urlopen(request) as answer:
        return {"depth": json.load(answer)["depth"] + 1}
`

// meet ends when as many processes as it is told run it at the same time.
const meet = `
import os, time

def main(args):
    open(os.path.join(args["folder"], str(os.getpid())), "w").close()
    while len(os.listdir(args["folder"])) < args["wanted"]:
        time.sleep(0.01)
    return {"pid": os.getpid()}
`

// Code runs more than once at a time, so an action may invoke itself, and callers do not
// stand in line. A model has the instances of the flag.
func TestCodeInstances(t *testing.T) {
	p := serveWhisk(t)
	p.createAction("recurse", recurse, `,"annotations":[{"key":"provide-api-key","value":true}]`)
	if a := p.wait("recurse", `{"n":4}`); plainJSON(t, string(a.Response.Result)) != `{"depth":4}` {
		t.Errorf("got %d %s", a.Response.Code, a.Response.Result)
	}
	p.createAction("meet", meet, "")
	folder, err := json.Marshal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex // guards pids
	var pids []string
	for range codeInstances {
		all.Go(func() {
			a := p.wait("meet", `{"folder":`+string(folder)+`,"wanted":8}`)
			mu.Lock()
			defer mu.Unlock()
			pids = append(pids, string(a.Response.Result))
		})
	}
	all.Wait()
	slices.Sort(pids)
	if pids = slices.Compact(pids); len(pids) != codeInstances || !strings.Contains(pids[0], "pid") {
		t.Errorf("they were run by %s", pids)
	}
}

// The process of code that no action has any more ends, with that of its last run.
func TestCodeRetires(t *testing.T) {
	p := serveWhisk(t)
	alive := func(pid string) bool {
		_, err := os.Stat("/proc/" + pid)
		return err == nil
	}
	old := ""
	for version := range 3 {
		p.createAction("pid", fmt.Sprintf("import os\n\ndef main(args):\n    return {'pid': os.getpid(), 'version': %d}\n", version), "")
		a := p.wait("pid", `{}`)
		var result struct{ PID, Version int }
		if err := json.Unmarshal(a.Response.Result, &result); err != nil || result.Version != version {
			t.Fatalf("got %s, %v", a.Response.Result, err)
		}
		if old != "" {
			eventually(t, "the old process has ended", func() bool { return !alive(old) })
		}
		if old = strconv.Itoa(result.PID); !alive(old) {
			t.Errorf("the process %s is not there", old)
		}
	}
	if r := p.own(http.MethodDelete, "actions/pid", ""); r.status != 200 {
		t.Fatalf("got %d %s", r.status, r.body)
	}
	eventually(t, "the last process has ended", func() bool { return !alive(old) })
}

// A server that is told to end leaves what it has accepted and not begun to the next one, and
// ends well.
func TestAcceptedGoesOn(t *testing.T) {
	p := serveWhisk(t, "--grace", "100ms")
	p.createAction("slow", "import time\n\ndef main(args):\n    time.sleep(args['seconds'])\n    return {'n': args['n']}\n", "")
	p.wait("slow", `{"n":0,"seconds":0}`)
	const all = 60
	ids := make([]string, all)
	for n := range ids {
		seconds := 0
		if n < codeInstances {
			seconds = 30
		}
		r := p.own(http.MethodPost, "actions/slow", fmt.Sprintf(`{"n":%d,"seconds":%d}`, n, seconds))
		var a whisk.Activation
		if err := json.Unmarshal([]byte(r.body), &a); err != nil || r.status != 202 {
			t.Fatalf("got %d %s", r.status, r.body)
		}
		ids[n] = a.ID
	}
	if code := p.stop(); code != 0 {
		t.Errorf("it ended with %d: %s", code, p.stderr.String())
	}
	if !strings.Contains(p.stderr.String(), "left_for_the_next_start=") || strings.Contains(p.stderr.String(), "activation failed") {
		t.Errorf("the server said %s", p.stderr.String())
	}
	again := &process{t: t, ended: make(chan struct{}), temp: p.temp, data: p.data, env: p.env}
	again.serve(&again.stdout, "--python", current(t))
	ran := 0
	for n, id := range ids[codeInstances:] {
		var a whisk.Activation
		eventually(t, id, func() bool {
			r := again.own(http.MethodGet, "activations/"+id, "")
			return r.status == 200 && json.Unmarshal([]byte(r.body), &a) == nil
		})
		if plainJSON(t, string(a.Response.Result)) == fmt.Sprintf(`{"n":%d}`, n+codeInstances) {
			ran++
		}
	}
	if want := all - 2*codeInstances; ran < want {
		t.Errorf("%d ran, want at least %d", ran, want)
	}
}
