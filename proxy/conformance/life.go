package conformance

import (
	"net/http"
	"strconv"
	"time"
)

// deadline sleeps longer than the platform waits. Whoever answers late loses the
// container, so the answer has to come before, as an application's error.
func deadline(t *trial) {
	t.load(tool())
	const limit = 2 * time.Second
	until := time.Now().Add(limit)
	r := t.run(id(1, "sleep", 6), map[string]any{"deadline": strconv.FormatInt(until.UnixMilli(), 10)})
	t.wantStatus(&r, http.StatusOK)
	t.wantError(&r)
	if r.took >= limit {
		t.failf("%s: the answer came after %s, the deadline was after %s", r.what, r.took.Round(time.Millisecond), limit)
	}
	r = t.run(id(2))
	t.own(&r, 2)
}

// drain ends a container while it runs.
func drain(t *trial) {
	t.load(tool())
	flying := make(chan reply, 1)
	go func() {
		flying <- t.send(http.MethodPost, "/run", []byte(runBody(id(1, "sleep", 1.5), nil)), t.runner.cfg.Timeout)
	}()
	time.Sleep(300 * time.Millisecond) // the run has begun
	if err := t.cont.terminate(t.ctx); err != nil {
		t.failf("SIGTERM: %v", err)
	}
	time.Sleep(300 * time.Millisecond)
	late := t.send(http.MethodPost, "/run", []byte(runBody(id(2), nil)), t.runner.cfg.Timeout)
	r := <-flying
	t.whole(&r)
	t.own(&r, 1)
	if problem := late.problem(); problem != "" {
		t.failf("a run after SIGTERM: %s, want 503, by which the platform sends it elsewhere", problem)
	}
	t.wantStatus(&late, http.StatusServiceUnavailable)
	for until := time.Now().Add(10 * time.Second); !t.cont.ended(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			t.failf("the container had not ended 10 s after the last answer")
		}
	}
}

// thawed freezes a container as the platform does with one that is idle.
func thawed(t *trial) {
	t.load(tool())
	first := t.run(id(1, "pid", true))
	t.own(&first, 1)
	if err := t.cont.freeze(t.ctx); err != nil {
		t.failf("the container could not be frozen: %v", err)
	}
	time.Sleep(3 * time.Second)
	if err := t.cont.thaw(t.ctx); err != nil {
		t.failf("the container could not be thawed: %v", err)
	}
	r := t.run(id(2, "pid", true))
	t.own(&r, 2)
	if a, b := encode(first.object()["pid"]), encode(r.object()["pid"]); a != b {
		t.failf("process %s answered before it was frozen and %s after, want the same", a, b)
	}
}

func containerVariables(t *trial) {
	t.load(tool())
	r := t.run(id(1, "env", []string{"__OW_CONFORMANCE", "CUDA_VISIBLE_DEVICES", "PATH"}))
	t.own(&r, 1)
	seen, _ := r.object()["env"].(map[string]any)
	if path, _ := seen["PATH"].(string); path == "" || seen["CUDA_VISIBLE_DEVICES"] != "-1" || seen["__OW_CONFORMANCE"] != "http://host:1/?a=b" {
		t.failf("%s: got %s, want PATH, CUDA_VISIBLE_DEVICES=-1 and __OW_CONFORMANCE=http://host:1/?a=b", r.what, r.got())
	}
}
