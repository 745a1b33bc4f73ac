package conformance

import (
	"net/http"
	"strings"
)

// skeletonCases are those of ActionProxyContainerTests of apache/openwhisk-runtime-docker,
// whose containers have an action before any /init, and whose programs are started for
// each run.
func skeletonCases() []testCase {
	const suite = "docker skeleton"
	stub := []Kind{Stub}
	return []testCase{
		{number: "#41", suite: suite, name: "run without init", nocode: true, phase: before, when: onlyStub, run: stubRun},
		{number: "#42", suite: suite, name: "init with null, and run", nocode: true, when: onlyStub, run: stubNull},
		{number: "#43", suite: suite, name: "init that does nothing, and run", nocode: true, when: onlyStub, run: stubNothing},
		{number: "#44", suite: suite, name: "404 for an argument that is no dictionary or array", kinds: stub, run: stubArgument},
		{number: "#45", suite: suite, name: "fail to run a bad script", kinds: stub, run: stubScript},
		{number: "#46", suite: suite, name: "compatible zip with exec", kinds: stub, run: stubZip},
		{number: "#47", suite: suite, name: "the current folder is the action's", kinds: stub, run: stubFolder},
		{number: "#48", suite: suite, name: "array as result and as input", kinds: stub, run: stubArrays},
		{number: "#49", suite: suite, name: "DockerExample: run without init, with two arguments", nocode: true, when: onlyStub, run: stubExample},
		{
			number: "#50", suite: suite, name: "containers that are wrong on purpose",
			never: "it checks OpenWhisk's test harness with containers that hang and crash; G1 to G3 are about actions that do",
		},
	}
}

func onlyStub(t traits) string {
	if !t.stub {
		return "it is for containers that have an action before any /init"
	}
	return ""
}

const stubAnswer = "This is a stub action. Replace it with custom logic."

// wantStub fails unless the container's own action has answered: in the skeleton's words
// where it is the skeleton.
func (t *trial) wantStub(r *reply, sentinels int) {
	t.wantStatus(r, http.StatusOK)
	if t.runner.traits.takes(Stub) && t.runner.traits.kinds != nil {
		t.want(r, map[string]any{"error": stubAnswer})
	} else if r.object() == nil {
		t.failf("%s: got %s, want 200 with an object", r.what, r.got())
	}
	t.sentinels(sentinels)
}

func stubRun(t *trial) {
	r := t.post("/run", "{}")
	t.wantStub(&r, 1)
}

func stubNull(t *trial) {
	r := t.post("/init", initBody(nil, "main", nil))
	t.wantStatus(&r, http.StatusOK)
	r = t.post("/run", "{}")
	t.wantStub(&r, 1)
}

func stubNothing(t *trial) {
	r := t.post("/init", "{}")
	t.wantStatus(&r, http.StatusOK)
	r = t.post("/run", "{}")
	t.wantStub(&r, 1)
}

func stubArgument(t *trial) {
	r := t.run("A")
	t.wantStatus(&r, http.StatusNotFound)
	t.quiet(1)
}

func stubScript(t *trial) {
	t.loadCode("", "main")
	r := t.post("/run", "null")
	t.wantStatus(&r, http.StatusBadGateway)
	t.wantJSON(&r, notADict)
	t.logged(1, "error", "")
}

func stubZip(t *trial) {
	const line = "This is an example zip used with the docker skeleton action."
	code := zipOf(map[string]entry{"exec": {data: "#!/bin/sh\necho '" + line + "'\necho '{\"msg\":\"hello zip\"}'\n", mode: 0o755}})
	r := t.post("/init", encode(map[string]any{"value": map[string]any{"code": code, "binary": true}}))
	t.wantStatus(&r, http.StatusOK)
	r = t.post("/run", "{}")
	t.want(&r, map[string]any{"msg": "hello zip"})
	if p, known := t.sentinels(1); known && (p.stdout != line || p.stderr != "") {
		t.failf("stdout has %q and stderr %q, want %q and nothing", short([]byte(p.stdout)), short([]byte(p.stderr)), line)
	}
}

func stubFolder(t *trial) {
	t.loadCode("#!/bin/sh\necho \"{\\\"pwd_env\\\":\\\"$PWD\\\",\\\"pwd_cmd\\\":\\\"$(pwd)\\\"}\"\n", "main")
	r := t.run(map[string]any{})
	t.want(&r, map[string]any{"pwd_env": "/action", "pwd_cmd": "/action"})
}

func stubArrays(t *trial) {
	t.load(action{python: "def main(args):\n    return ['a', 'b']\n"})
	r := t.post("/run", "{}")
	t.want(&r, []any{"a", "b"})
	t.fresh(nil)
	t.load(echo())
	r = t.run([]any{"a", "b"})
	t.want(&r, []any{"a", "b"})
}

func stubExample(t *trial) {
	const greeting = "Hello from arbitrary C program!"
	r := t.post("/run", "{}")
	if msg, _ := r.object()["msg"].(string); msg != greeting {
		t.skipf("it is for the image openwhisk/example, whose program answers %q", greeting)
	}
	t.fresh(nil)
	r = t.post("/init", "{}")
	t.wantStatus(&r, http.StatusOK)
	for i, args := range []map[string]any{{"a": "A"}, {"i": 1}} {
		r = t.run(args)
		t.want(&r, map[string]any{"msg": greeting, "args": args})
		p, known := t.sentinels(i + 1)
		if known && !strings.Contains(p.stdout, "This is an example log message") {
			t.failf("stdout has %q, want the example's message", short([]byte(p.stdout)))
		}
	}
}
