package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// frozenTime is for how long the tests freeze a server: DEEPFN_TEST_FREEZE, by default 15 s.
func frozenTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("DEEPFN_TEST_FREEZE")
	if text == "" {
		return 15 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("DEEPFN_TEST_FREEZE: %v", err)
	}
	return d
}

// freeze stops the server and all processes below it, as OpenWhisk does between two
// activations, and returns what lets them go on.
func (p *process) freeze() (thaw func()) {
	p.t.Helper()
	stopped := []int{p.cmd.Process.Pid}
	_ = syscall.Kill(stopped[0], syscall.SIGSTOP)
	for _, pid := range p.descendants() { // nobody starts more
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		stopped = append(stopped, pid)
	}
	for _, pid := range stopped {
		eventually(p.t, fmt.Sprintf("process %d stopped", pid), func() bool { return stateOf(pid) == "T" })
	}
	p.t.Logf("froze %d processes", len(stopped))
	return func() {
		for _, pid := range stopped { // the server first: it finds its workers frozen
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
}

// stateOf returns the state of a process as in ps: T is stopped.
func stateOf(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(data), ") ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

// A late answer is one to a request that was sent to a frozen server.
type late struct {
	reply
	err error
}

// send sends a request and does not wait for the answer. A fresh one has a connection of its
// own.
func (p *process) send(body string, fresh bool) <-chan late {
	answer := make(chan late, 1)
	go func() { // ends with the request
		ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute+frozenTime(p.t))
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+"/run", bytes.NewReader([]byte(body)))
		if err != nil {
			answer <- late{err: err}
			return
		}
		req.Header.Set("Content-Type", jsonMedia)
		req.Close = fresh
		r, err := do(req)
		answer <- late{r, err}
	}()
	return answer
}

const pidFunction = `
import os, time

def main(args):
    for _ in range(args.get("tenths", 0)):
        time.sleep(0.1)
    return {"pid": os.getpid(), "n": args.get("n")}
`

// pidOf returns the id of the worker that gave an answer.
func pidOf(t *testing.T, r reply) int {
	t.Helper()
	var answer struct{ Pid int }
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || r.status != 200 || answer.Pid == 0 {
		t.Errorf("got %d %s, %v", r.status, r.body, err)
	}
	return answer.Pid
}

// unharmed sees that the first instance is still the only one.
func (p *process) unharmed() {
	p.t.Helper()
	metrics := p.mustGet("/metrics").body
	for line := range strings.SplitSeq(metrics, "\n") {
		name, value, _ := strings.Cut(line, " ")
		name, _, _ = strings.Cut(name, "{")
		want, ok := map[string]string{"deepfn_cold_starts_total": "1", "deepfn_idle_stops_total": "0", "deepfn_instance_deaths_total": "0"}[name]
		if ok && value != want {
			p.t.Errorf("%s, want %s", line, want)
		}
	}
}

// TestFreeze freezes a server for longer than its instances may be idle. What was sent
// meanwhile, and what comes then, has the warm instance.
func TestFreeze(t *testing.T) {
	t.Parallel()
	p := servePython(t, "", "--idle-time", "5s", "--warm", "0", "--instances", "2")
	if r := p.initialize(pidFunction, "main", nil); r.status != 200 {
		t.Fatalf("/init: got %d %s", r.status, r.body)
	}
	first := pidOf(t, p.mustPost("/run", jsonMedia, []byte(`{"value":{}}`)))
	for n, idle := range []time.Duration{0, 3 * time.Second} {
		time.Sleep(idle) // of the five seconds
		thaw := p.freeze()
		answer := p.send(fmt.Sprintf(`{"value":{"n":%d}}`, n), n == 0)
		time.Sleep(frozenTime(t))
		thaw()
		a := <-answer
		if pid := pidOf(t, a.reply); a.err != nil || pid != first || !strings.Contains(a.body, fmt.Sprintf(`"n": %d`, n)) {
			t.Errorf("frozen after %s: worker %d, was %d: %s, %v", idle, pid, first, a.body, a.err)
		}
		if pid := pidOf(t, p.mustPost("/run", jsonMedia, []byte(`{"value":{}}`))); pid != first {
			t.Errorf("after the thaw: worker %d, was %d", pid, first)
		}
		p.unharmed()
	}
}

// TestFreezeIdle freezes a server while nobody asks for anything. The instance does not
// expire beside the request that comes then, but it does later.
func TestFreezeIdle(t *testing.T) {
	t.Parallel()
	p := servePython(t, lay(t, "pid.py", pidFunction), "--idle-time", "5s", "--warm", "0", "--instances", "2")
	first := pidOf(t, p.mustPost("/run", jsonMedia, []byte(`{"value":{}}`)))
	thaw := p.freeze()
	time.Sleep(frozenTime(t))
	thaw()
	if pid := pidOf(t, p.mustPost("/run", jsonMedia, []byte(`{"value":{}}`))); pid != first {
		t.Errorf("after the thaw: worker %d, was %d", pid, first)
	}
	p.unharmed()
	eventually(t, "expired", func() bool { return !alive(first) })
}

// TestFreezeInFlight freezes a server that works on a request, until long after its
// deadline. It has an error at the thaw, and the instance is there for the next.
func TestFreezeInFlight(t *testing.T) {
	t.Parallel()
	p := servePython(t, lay(t, "pid.py", pidFunction), "--idle-time", "5s", "--warm", "0", "--instances", "2")
	first := pidOf(t, p.mustPost("/run", jsonMedia, []byte(`{"value":{}}`)))
	allowed := frozenTime(t) / 2
	deadline := time.Now().Add(allowed)
	answer := p.send(fmt.Sprintf(`{"value":{"tenths":%d},"deadline":"%d"}`, 2*allowed/(time.Second/10), deadline.UnixMilli()), true)
	eventually(t, "working", func() bool {
		return strings.Contains(p.mustGet("/metrics").body, `state="in_use"} 1`)
	})
	thaw := p.freeze()
	time.Sleep(frozenTime(t))
	thaw()
	thawed := time.Now()
	a := <-answer
	if a.err != nil || a.status != 200 || !strings.Contains(a.body, `"error"`) {
		t.Errorf("got %d %s, %v, want the error of a deadline", a.status, a.body, a.err)
	}
	t.Logf("%s after the thaw: %s", time.Since(thawed), a.body)
	if pid := pidOf(t, p.mustPost("/run", jsonMedia, []byte(`{"value":{}}`))); pid != first {
		t.Errorf("after the thaw: worker %d, was %d", pid, first)
	}
	p.unharmed()
}

// TestFreezeONNX is TestFreeze with a model that is no function.
func TestFreezeONNX(t *testing.T) {
	t.Parallel()
	p := serve(t, "--idle-time", "5s")
	if r := p.initialize(`{"model": "ocr-line"}`, "main", nil); r.status != 200 {
		t.Fatalf("/init: got %d %s", r.status, r.body)
	}
	const text = "Frozen 15 s"
	body := string(runBody(linePNG(t, text)))
	before := p.descendants()
	thaw := p.freeze()
	answer := p.send(strings.Replace(body, "9999999999999", fmt.Sprint(time.Now().Add(time.Hour).UnixMilli()), 1), true)
	time.Sleep(frozenTime(t))
	thaw()
	if a := <-answer; a.err != nil || textOf(t, a.body) != text {
		t.Errorf("got %d %s, %v, want the text %q", a.status, a.body, a.err, text)
	}
	if after := p.descendants(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the processes were %v and are %v", before, after)
	}
	p.unharmed()
}
