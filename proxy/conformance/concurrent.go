package conformance

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
)

func initsAtOnce(t *trial) {
	code := t.code(tool())
	replies := t.together(8, func(int) (path, text string) { return "/init", initBody(code, "main", nil) })
	good := 0
	for i := range replies {
		r := &replies[i]
		t.whole(r)
		if r.status == http.StatusOK {
			good++
			continue
		}
		t.wantStatus(r, http.StatusForbidden)
		t.wantJSON(r, onlyOnceOut)
	}
	if good != 1 {
		t.failf("%d of 8 inits at once got 200, want 1", good)
	}
	r := t.run(id(1))
	t.own(&r, 1)
}

// callers sends runs from several callers at once, each of which waits for its answer. A
// refusal is right where a container takes one run at a time; an answer of another caller
// never is.
func callers(n int) func(*trial) {
	return func(t *trial) {
		t.loadEcho()
		const each = 30
		var mu sync.Mutex // guards faults and answered
		var fault string
		answered := 0
		var wg sync.WaitGroup
		for caller := range n {
			wg.Go(func() {
				for i := range each {
					mu.Lock()
					stop := fault != ""
					mu.Unlock()
					if stop {
						return
					}
					args := map[string]any{"caller": fmt.Sprintf("%d-%d", caller, i), "pad": strings.Repeat("p", 200*caller)}
					r := t.send(http.MethodPost, "/run", []byte(runBody(args, nil)), t.runner.cfg.Timeout)
					bad, right := foreign(&r, args)
					mu.Lock()
					if bad != "" && fault == "" {
						fault = bad
					}
					if right {
						answered++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if fault != "" {
			t.failf("%s", fault)
		}
		if answered == 0 {
			t.failf("no run of %d callers was answered with 200", n)
		}
		if answered < n*each {
			t.note(fmt.Sprintf("%d of %d runs at once were refused", n*each-answered, n*each))
		}
		t.ownEcho("after")
	}
}

// foreign says what is wrong with an answer that is neither the caller's nor a refusal.
func foreign(r *reply, args map[string]any) (fault string, right bool) {
	if problem := r.problem(); problem != "" {
		return fmt.Sprintf("%s: %s", r.what, problem), false
	}
	if r.status == http.StatusOK && r.object()["caller"] == args["caller"] && r.object()["pad"] == args["pad"] {
		return "", true
	}
	if _, refused := r.object()["error"]; refused {
		return "", false
	}
	return fmt.Sprintf("%s: got %s, want the caller's own arguments, or an error", r.what, r.got()), false
}

func sentinelsAtOnce(t *trial) {
	t.load(tool())
	const n = 16
	replies := t.together(n, func(i int) (path, text string) { return "/run", runBody(id(i, "say", "said\n"), nil) })
	for i := range replies {
		t.whole(&replies[i])
		t.ownOrError(&replies[i], i)
	}
	p, known := t.sentinels(n)
	if known && strings.Contains(p.stdout+p.stderr, "_WHISK_") {
		t.failf("a sentinel is not whole; the streams are: %s", short([]byte(p.stdout+p.stderr)))
	}
	t.lines()
}

// lines fails unless each sentinel is a line of its own.
func (t *trial) lines() {
	stdout, stderr := t.cont.logs()
	for name, text := range map[string]string{"stdout": stdout, "stderr": stderr} {
		for line := range strings.Lines(text) {
			if strings.Contains(line, sentinel) && strings.TrimRight(line, "\r\n") != sentinel {
				t.failf("%s has the line %q, want the sentinel alone in its line", name, short([]byte(line)))
			}
		}
	}
}

func variablesAtOnce(t *trial) {
	t.load(tool())
	activation := func(i int) string { return fmt.Sprintf("activation-%d", i) }
	replies := t.together(8, func(i int) (path, text string) {
		return "/run", runBody(id(i, "sleep", 0.05, "env", []string{"__OW_ACTIVATION_ID"}), map[string]any{"activation_id": activation(i)})
	})
	for i := range replies {
		r := &replies[i]
		t.whole(r)
		t.ownOrError(r, i)
		if _, refused := r.object()["error"]; !refused && encode(r.object()["env"]) != encode(map[string]any{"__OW_ACTIVATION_ID": activation(i)}) {
			t.failf("%s: got %s, want the variable %s", r.what, r.got(), activation(i))
		}
	}
}

func noNewline(t *trial) {
	t.load(tool())
	for n := range 2 {
		r := t.run(id(n, "say", "no end of line"))
		t.own(&r, n)
	}
	t.logged(2, "no end of line", "no end of line")
	t.lines()
}

func forgedSentinel(t *trial) {
	t.load(tool())
	r := t.run(id(1, "say", sentinel+"\nafter it\n"))
	t.own(&r, 1)
	t.logged(1, "after it", "after it")
	stdout, stderr := t.cont.logs()
	for name, text := range map[string]string{"stdout": stdout, "stderr": stderr} {
		if strings.Contains(text, sentinel) && strings.Index(text, sentinel) < strings.Index(text, "after it") {
			t.failf("%s has the printed sentinel before the end of the log", name)
		}
	}
}

func manyLines(t *trial) {
	t.load(tool())
	const n = 2000
	r := t.run(id(1, "lines", n))
	t.own(&r, 1)
	if _, known := t.sentinels(1); !known {
		return
	}
	stdout, stderr := t.cont.logs()
	for name, text := range map[string]string{"stdout": stdout, "stderr": stderr} {
		first, rest, _ := strings.Cut(text, sentinel)
		if got := strings.Count(first, "line "); got != n || strings.TrimSpace(rest) != "" {
			t.failf("%s has %d lines before the sentinel and %d bytes after it, want %d and 0", name, got, len(strings.TrimSpace(rest)), n)
		}
	}
}

func failedSentinels(t *trial) {
	t.load(tool())
	r := t.run(id(1, "say", "said\n", "raise", "no reason"))
	t.wantError(&r)
	t.logged(1, "said", "said")
}
