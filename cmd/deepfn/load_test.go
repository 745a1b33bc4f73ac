package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// descendants returns the ids of the server's processes, those of fork servers too.
func (p *process) descendants() []int {
	found := p.children()
	for i := 0; i < len(found); i++ {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", found[i]))
		for _, path := range tasks {
			data, _ := os.ReadFile(path) // a thread may have gone
			for field := range strings.FieldsSeq(string(data)) {
				if pid, err := strconv.Atoi(field); err == nil {
					found = append(found, pid)
				}
			}
		}
	}
	return found
}

// A load is clients that send requests with ids and look at the answers.
type load struct {
	p      *process
	body   func(n int64) string // of /run
	next   atomic.Int64
	good   atomic.Int64
	failed atomic.Int64
	slow   atomic.Int64 // nanoseconds of the failed request that took longest
	wg     sync.WaitGroup
	stop   chan struct{}

	mu      sync.Mutex // guards workers and errors
	workers map[int]bool
	errors  map[string]int
}

// begin starts 8 clients.
func begin(p *process, body func(n int64) string) *load {
	l := &load{p: p, body: body, workers: map[int]bool{}, errors: map[string]int{}, stop: make(chan struct{})}
	for range 8 {
		l.wg.Go(l.client)
	}
	return l
}

func (l *load) client() {
	for {
		select {
		case <-l.stop:
			return
		default:
			l.once()
		}
	}
}

// once sends one request. Each must have an answer, with its own number, or an error.
func (l *load) once() {
	n := l.next.Add(1)
	ctx, cancel := context.WithTimeout(l.p.t.Context(), time.Minute) // only to find what hangs
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.p.base+"/run", strings.NewReader(l.body(n)))
	if err != nil {
		l.p.t.Error(err)
		return
	}
	began := time.Now()
	r, err := do(req)
	took := time.Since(began)
	var answer struct {
		N     int64
		Pid   int
		Error string
	}
	switch badly := json.Unmarshal([]byte(r.body), &answer); {
	case err != nil || badly != nil || r.status != 200:
		l.p.t.Errorf("request %d: got %d %.200s, %v, want 200 always", n, r.status, r.body, err)
	case answer.Error != "":
		l.failed.Add(1)
		l.mu.Lock()
		l.slow.Store(max(l.slow.Load(), int64(took)))
		l.errors[answer.Error]++
		l.mu.Unlock()
	case answer.N != n:
		l.p.t.Errorf("request %d: got the answer of %d", n, answer.N)
	default:
		l.good.Add(1)
		l.mu.Lock()
		l.workers[answer.Pid] = true
		l.mu.Unlock()
	}
}

// more waits until n more requests had good answers.
func (l *load) more(n int64) {
	before := l.good.Load()
	eventually(l.p.t, fmt.Sprintf("%d more good answers", n), func() bool { return l.good.Load() >= before+n })
}

// end stops the clients after so many requests at least.
func (l *load) end(requests int64) {
	eventually(l.p.t, "as many requests as wanted", func() bool { return l.next.Load() >= requests })
	close(l.stop)
	l.wg.Wait()
	l.p.t.Logf("%d requests: %d good, %d failed, %d workers; %v", l.next.Load(), l.good.Load(), l.failed.Load(), len(l.workers), l.errors)
}

func numbered(n int64) string { return fmt.Sprintf(`{"value":{"n":%d}}`, n) }

// workersOf asks until so many workers have answered, and returns their ids.
func workersOf(p *process, want int) []int {
	seen := map[int]bool{}
	var mu sync.Mutex
	eventually(p.t, "as many workers as wanted", func() bool {
		var wg sync.WaitGroup
		for range 4 * want {
			wg.Go(func() {
				r, _ := p.post("/run", jsonMedia, []byte(`{"value":{}}`))
				var answer struct{ Pid int }
				if json.Unmarshal([]byte(r.body), &answer) == nil && answer.Pid != 0 {
					mu.Lock()
					seen[answer.Pid] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for pid := range seen {
			if !alive(pid) {
				delete(seen, pid)
			}
		}
		return len(seen) >= want
	})
	var pids []int
	for pid := range seen {
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	return pids
}

// TestKillPythonWorkers kills workers, and the fork server, at random under load: each
// answer is the caller's own, and only the requests that a killed worker held fail.
func TestKillPythonWorkers(t *testing.T) {
	t.Parallel()
	p := servePython(t, copyOf(t, "faults.py"), "--warm", "2")
	l := begin(p, numbered)
	kills, servers := 0, 0
	for range 12 {
		l.more(50)
		pids := p.descendants()
		if len(pids) == 0 {
			continue // both have just been killed
		}
		pid := pids[rand.IntN(len(pids))]
		l.mu.Lock()
		if l.workers[pid] {
			kills++
		} else {
			servers++
		}
		l.mu.Unlock()
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		began := time.Now()
		l.more(20)
		t.Logf("20 good answers %v after the kill of %d", time.Since(began).Round(time.Millisecond), pid)
	}
	l.end(2000)
	// With a fork server die the workers that it has made; with the only worker, while it
	// is being started, the hope of all who wait.
	if most := int64(kills + 8*servers); l.failed.Load() > most {
		t.Errorf("%d requests failed in %d kills of workers and %d of others, want %d at most", l.failed.Load(), kills, servers, most)
	}
	for text := range l.errors {
		if !strings.Contains(text, "killed") && !strings.Contains(text, "ended") {
			t.Errorf("the error does not say what happened: %s", text)
		}
	}
	workersOf(p, 2)
}

// TestStopPythonWorker stops a worker under load, which looks like one that hangs: the
// requests that it holds end by their deadline, it is killed and replaced, and then all is
// well.
func TestStopPythonWorker(t *testing.T) {
	t.Parallel()
	p := servePython(t, copyOf(t, "faults.py"), "--warm", "2")
	pids := workersOf(p, 2)
	const allowed = 4 * time.Second
	l := begin(p, func(n int64) string {
		return fmt.Sprintf(`{"value":{"n":%d},"deadline":"%d"}`, n, time.Now().Add(allowed).UnixMilli())
	})
	l.more(50)
	if err := syscall.Kill(pids[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, "the stopped worker gone", func() bool {
		return !alive(pids[0])
	})
	t.Logf("the stopped worker was gone after %v; the request that it held had %v and took %v",
		time.Since(began).Round(time.Millisecond), allowed, time.Duration(l.slow.Load()).Round(time.Millisecond))
	l.more(100)
	l.end(0)
	if n := l.failed.Load(); n > 1 {
		t.Errorf("%d requests failed, want the one that the stopped worker held: %v", n, l.errors)
	}
	// Before CancelGrace is over, which the worker would take otherwise.
	if took := time.Duration(l.slow.Load()); took > allowed+3*time.Second {
		t.Errorf("the request that it held took %v, want at most its %v", took, allowed)
	}
	workersOf(p, 2)
}

// TestMemoryLimit has a worker run out of memory: as an exception in Python first, which
// it survives, then as the kernel does it.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	p := servePython(t, lay(t, "hungry.py", "import os\ndef main(args):\n    return {'pid': os.getpid(), 'n': len(bytearray(args.get('mib', 0) << 20))}\n"))
	pid := workersOf(p, 1)[0]
	var size uint64 = 2 << 30
	if err := unix.Prlimit(pid, unix.RLIMIT_AS, &unix.Rlimit{Cur: size, Max: size}, nil); err != nil {
		t.Fatal(err)
	}
	if r := p.run(`{"mib":4096}`); !r.has(200, `{"error":"predict ran out of memory (MemoryError)"}`) {
		t.Errorf("got %d %s, want that it ran out of memory", r.status, r.body)
	}
	if again := workersOf(p, 1)[0]; again != pid {
		t.Errorf("worker %d became %d, want that it lives", pid, again)
	}
	if r := p.run(`{"mib":16}`); !r.has(200, `"n": 16777216`) {
		t.Errorf("after it: got %d %s, want a good answer", r.status, r.body)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, "replaced", func() bool {
		r := p.run(`{}`)
		if r.status != 200 {
			t.Errorf("got %d %s, want 200 always", r.status, r.body)
		}
		return strings.Contains(r.body, `"n": 0`) && !alive(pid)
	})
	t.Logf("recovered %v after the kill", time.Since(began).Round(time.Millisecond))
}
