package conformance

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// own fails unless the answer has the caller's id and is 200.
func (t *trial) own(r *reply, id any) {
	if r.status != http.StatusOK || encode(r.object()["id"]) != encode(id) {
		t.failf("%s: got %s, want 200 with the id %v", r.what, r.got(), id)
	}
}

// ownOrError fails for an answer of another caller.
func (t *trial) ownOrError(r *reply, id any) {
	_, isError := r.object()["error"]
	if !isError || r.object()["id"] != nil {
		t.own(r, id)
	}
}

// id makes arguments for the tool.
func id(n int, more ...any) map[string]any {
	args := map[string]any{"id": n}
	for i := 0; i+1 < len(more); i += 2 {
		args[fmt.Sprint(more[i])] = more[i+1]
	}
	return args
}

func diesDuring(t *trial) {
	t.load(tool())
	r := t.run(id(1))
	t.own(&r, 1)
	r = t.runOrEnd(id(2, "exit", 3))
	t.wantError(&r)
	for n := 3; n < 6; n++ {
		r = t.runOrEnd(id(n))
		t.ownOrError(&r, n)
	}
	t.sentinels(5)
}

// runOrEnd invokes an action whose process has ended or will. A container that ends with
// it needs no answers: the platform notices, and starts another.
func (t *trial) runOrEnd(args map[string]any) reply {
	r := t.send(http.MethodPost, "/run", []byte(runBody(args, nil)), t.runner.cfg.Timeout)
	if r.err != nil {
		for until := time.Now().Add(time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
			if t.cont.ended() {
				t.skipf("the container ends with its action's process")
			}
		}
	}
	t.whole(&r)
	return r
}

func diesBetween(t *trial) {
	t.load(tool())
	r := t.run(id(1, "exit_later", 0.2))
	t.own(&r, 1)
	time.Sleep(time.Second) // the action's process ends meanwhile
	for n := 2; n < 5; n++ {
		r = t.runOrEnd(id(n))
		t.ownOrError(&r, n)
	}
	t.sentinels(4)
}

func lateAnswer(t *trial) {
	t.load(tool())
	r := t.send(http.MethodPost, "/run", []byte(runBody(id(1, "sleep", 2), nil)), 500*time.Millisecond)
	if r.err == nil {
		t.failf("%s: got %s within half a second, which the action sleeps longer", r.what, r.got())
	}
	for n := 2; n < 5; n++ { // such a container may refuse them while it is busy
		r = t.run(id(n))
		t.ownOrError(&r, n)
	}
	time.Sleep(2500 * time.Millisecond) // it is not busy any more
	r = t.run(id(5))
	t.own(&r, 5)
}

// twoAnswers is an action that answers one request twice.
func twoAnswers(t *trial) {
	t.loadCode(script(loopScript(`echo "{\"id\":\"$name\"}" >&3; [ "$name" != twice ] || echo '{"id":"late"}' >&3`)), "main")
	for _, name := range []string{"one", "twice", "three", "four"} {
		if name == "three" {
			time.Sleep(300 * time.Millisecond) // the second line has come
		}
		r := t.run(map[string]any{"name": name})
		t.ownOrError(&r, name)
	}
}

func exceptionKeeps(t *trial) {
	t.load(tool())
	first := t.run(id(1, "pid", true))
	t.own(&first, 1)
	r := t.run(id(2, "raise", "no reason"))
	t.wantStatus(&r, http.StatusOK)
	t.wantError(&r)
	r = t.run(id(3, "pid", true))
	t.own(&r, 3)
	if a, b := encode(first.object()["pid"]), encode(r.object()["pid"]); a != b {
		t.failf("process %s answered first and %s after the exception, want the same", a, b)
	}
}

func initAgain(t *trial) {
	bad := map[Kind]string{
		Python: "def main(args)\n", Executable: script("#!/bin/sh\nexit 3\n"), Go: "package main\n\nfunc Main(",
	}
	r := t.init(bad[t.kind], "main", nil)
	t.wantStatus(&r, http.StatusBadGateway)
	t.wantError(&r)
	t.load(tool())
	r = t.run(id(1))
	t.own(&r, 1)
}

func nullAnswer(t *trial) {
	t.load(action{python: "def main(args):\n    return None\n"})
	r := t.run(map[string]any{})
	switch decode(r.body).(type) {
	case map[string]any, []any:
	default:
		if r.status == http.StatusOK {
			t.failf("%s: got %s, want 200 with an object or array, or another status", r.what, r.got())
		}
	}
}

func notUTF8Answer(t *trial) {
	t.load(action{python: "def main(args):\n    return b'{\"text\":\"\\xff\\xfe\"}'\n"})
	r := t.run(map[string]any{})
	if decode(r.body) == nil {
		t.failf("%s: got %d %q, want JSON in UTF-8", r.what, r.status, short(r.body))
	}
}

// outside are names for a file that leads out of an archive's folder, and where they
// lead on this machine.
func outside() (names []string, here string) {
	file := "conformance-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	return []string{"../" + file, "../../" + file, strings.Repeat("../", 24) + "tmp/" + file}, filepath.Join("/tmp", file)
}

// escaped gives an archive to the container and fails when one of its files is outside.
// An archive that was refused is followed by an action that looks.
func (t *trial) escaped(files map[string]entry, names []string, here string) {
	r := t.init(zipOf(files), "main", nil)
	if r.status != http.StatusOK {
		t.wantError(&r)
	}
	t.absent(here)
	if r.status != http.StatusOK {
		t.load(tool())
	}
	r = t.run(id(1, "exists", append(names, here)))
	t.own(&r, 1)
	if there := encode(r.object()["exists"]); there != "[]" {
		t.failf("the archive wrote outside of its folder: %s", there)
	}
}

func zipSlip(t *trial) {
	files := t.packed(tool())
	names, here := outside()
	defer func() { _ = os.Remove(here) }() // it is there if the case has failed
	for _, name := range names {
		files[name] = entry{data: "outside"}
	}
	t.escaped(files, names, here)
}

func zipLink(t *trial) {
	files := t.packed(tool())
	_, here := outside()
	defer func() { _ = os.Remove(here) }() // the same
	files["aside"] = entry{data: "/tmp", mode: 0o777 | os.ModeSymlink}
	files["aside/"+filepath.Base(here)] = entry{data: "outside"}
	t.escaped(files, nil, here)
}

func badZip(t *trial) {
	whole, err := base64.StdEncoding.DecodeString(zipOf(t.packed(tool())))
	if err != nil {
		t.failf("the archive: %v", err)
	}
	for _, data := range []string{"PK\x03\x04 and nothing that follows", string(whole[:len(whole)/2])} {
		r := t.init(base64.StdEncoding.EncodeToString([]byte(data)), "main", nil)
		t.wantRefused(&r)
		t.wantError(&r)
	}
	if t.kind == Node {
		return // it is over with such a container
	}
	t.load(tool())
	r := t.run(id(1))
	t.own(&r, 1)
}

func tarCode(t *trial) {
	t.loadCode(tarOf(t.packed(tool())), "main")
	r := t.run(id(1))
	t.own(&r, 1)
}

func largeCode(t *trial) {
	files := t.packed(tool())
	noise := make([]byte, 5<<20)
	state := uint32(1)
	for i := range noise { // what cannot be compressed
		state = state*1664525 + 1013904223
		noise[i] = byte(state >> 24)
	}
	files["data.bin"] = entry{data: string(noise)}
	t.loadCode(zipOf(files), "main")
	r := t.run(id(1))
	t.own(&r, 1)
}

func badBase64(t *trial) {
	r := t.post("/init", `{"value":{"name":"conformance","main":"main","binary":true,"code":"***"}}`)
	if t.runner.traits.stub && r.status == http.StatusOK {
		t.skipf("the container does not look at code: it has an action of its own")
	}
	t.wantRefused(&r)
	t.wantError(&r)
}
