package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/deepfn/deepfn/runtime/gpu/gputest"
)

const (
	soakRelays = 50
	soakModels = 16
	soakLease  = 2 * time.Second
)

// soakModule is the code of each model: it answers with what it was asked and who it is. Every
// second one can be suspended, which the fake driver sees by a file.
const soakModule = `import os, pathlib

here = pathlib.Path(os.environ["DEEPFN_MODEL_DIR"])
away = here / f"suspended-{os.getpid()}"

def predict(n: int, pad: str = "", wait: float = 0):
    import time
    time.sleep(wait)
    if away.exists():
        raise RuntimeError("a call of a suspended model")
    return {"n": n, "pad": len(pad), "model": here.name, "devices": os.environ["CUDA_VISIBLE_DEVICES"]}
`

const soakHooks = `
def suspend():
    away.touch()
    return 1 << 30

def resume():
    away.unlink()
`

// A soak is a node runtime on two fake GPUs, its relays, and what happens to them.
type soak struct {
	t       *testing.T
	node    *process
	socket  string
	program string // deepfn-relay
	library *gputest.Library
	relays  []*soakRelay
	rand    *rand.Rand

	errors map[int][]string // what the messages of a status may have, as documented

	good  atomic.Int64
	drive sync.WaitGroup

	mu       sync.Mutex // guards everything below
	foreign  [2]int64   // bytes that somebody else has of each GPU
	workers  []int      // processes of models, as of the last look
	answers  map[string]int
	disturbs map[string]int
}

// A soakRelay is a relay and its client.
type soakRelay struct {
	soak  *soak
	model string

	mu        sync.Mutex // guards everything below
	p         *process
	disturbed int64 // how often it was killed or frozen
	away      bool  // it is so just now
}

// memory is how many bytes a model takes of a GPU: 10 to 40 GiB, 400 GiB together on 160.
func soakMemory(i int) int64 { return int64(10+2*i) * gib }

// soakTime is for how long: a few seconds, or what DEEPFN_TEST_SOAK says.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("DEEPFN_TEST_SOAK")
	if text == "" {
		return 15 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("DEEPFN_TEST_SOAK=%s: %v", text, err)
	}
	return d
}

// TestSoak: 50 relays on one node runtime, 16 models on two GPUs that do not hold them all, random
// load; relays are killed, frozen past their lease and thawed, workers are killed, and somebody
// else takes memory of the GPUs. Every answer is right or an error that is documented, and in the
// end nothing is left: no memory, descriptor, process or lease.
func TestSoak(t *testing.T) {
	s := startSoak(t)
	idle := s.look()
	for i := range soakRelays {
		r := &soakRelay{soak: s, model: "m" + strconv.Itoa(i%soakModels)}
		r.start()
		s.relays = append(s.relays, r)
	}
	ctx, stop := context.WithTimeout(t.Context(), soakTime(t))
	defer stop()
	var clients sync.WaitGroup
	for i, r := range s.relays {
		clients.Go(func() { r.client(ctx, rand.New(rand.NewPCG(1, uint64(i)))) })
	}
	s.disturb(ctx)
	clients.Wait()
	for _, r := range s.relays {
		r.end()
	}
	s.report()
	s.settled(idle)
}

// startSoak starts the node.
func startSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{
		t: t, socket: filepath.Join(t.TempDir(), "node.sock"), library: gputest.NVML(t, gputest.Full), rand: rand.New(rand.NewPCG(1, 2)),
		errors: documentedErrors(t), answers: map[string]int{}, disturbs: map[string]int{}, program: filepath.Join(t.TempDir(), "deepfn-relay"),
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", s.program, "../deepfn-relay")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	catalog := t.TempDir()
	for i := range soakModels {
		dir := filepath.Join(catalog, "m"+strconv.Itoa(i))
		action := fmt.Sprintf("runtime: python\npython: {path: model.py, interpreter: %s}\nresources: {gpu_memory: %d}\n", current(t), soakMemory(i))
		code := soakModule
		if i%2 == 0 {
			code += soakHooks
		}
		writeAll(t, dir, map[string]string{"action.yaml": action, "model.py": code})
	}
	s.library.Set(gputest.State{GPUs: []gputest.GPU{gputest.A100(0), gputest.A100(1)}})
	s.node = &process{t: t, ended: make(chan struct{}), env: []string{"DEEPFN_NVML=" + s.library.Path()}}
	s.node.start(&s.node.stdout, "node", "--socket", s.socket, "--listen", "127.0.0.1:0",
		"--catalog", catalog, "--lease", soakLease.String(), "--gpu-headroom", "0", "--host-memory", "100 GiB", "--timeout", "20s", "--log-level", "info")
	stop := make(chan struct{})
	s.drive.Go(func() { s.driver(stop) })
	t.Cleanup(func() { close(stop); s.drive.Wait() })
	return s
}

// writeAll writes files into a folder.
func writeAll(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// start starts the relay, or starts it again.
func (r *soakRelay) start() {
	env := append(os.Environ(), "DEEPFN_LOG_LEVEL=info")
	p := &process{t: r.soak.t, ended: make(chan struct{})}
	err := p.launch(r.soak.program, env, &p.stdout, r.model, "--listen", "127.0.0.1:0", "--node", "unix://"+r.soak.socket, "--grace", "1s")
	if err != nil {
		r.soak.t.Error(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.p = p
}

// end ends the relay as a platform does.
func (r *soakRelay) end() {
	if code := r.p.stop(); code != 0 {
		r.soak.t.Errorf("a relay ended with %d: %s", code, r.p.stderr.String())
	}
}

// client sends requests, one after the other, until ctx ends.
func (r *soakRelay) client(ctx context.Context, random *rand.Rand) {
	for n := int64(1); ctx.Err() == nil; n++ {
		r.once(n, random)
		time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond) // load, not a wait for something
	}
}

// once sends one request and looks at the answer.
func (r *soakRelay) once(n int64, random *rand.Rand) {
	s := r.soak
	r.mu.Lock()
	base, before, away := r.p.base, r.disturbed, r.away
	r.mu.Unlock()
	pad := strings.Repeat("x", random.IntN(1<<random.IntN(19)))
	body, err := json.Marshal(map[string]any{"n": n, "pad": pad, "wait": float64(random.IntN(20)) / 1000})
	if err != nil {
		s.t.Error(err)
		return
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute) // only to find what hangs
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v2/models/"+r.model+"/predict/", bytes.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Close = true
	answer, err := do(req)
	r.mu.Lock()
	undisturbed := before == r.disturbed && !away
	r.mu.Unlock()
	if err != nil {
		if undisturbed {
			s.t.Errorf("%s, request %d: %v", r.model, n, err)
		}
		s.count("connection lost to a relay that was killed")
		return
	}
	s.judge(r.model, n, len(pad), answer)
}

// judge looks at an answer: it is right, or an error that says what to do.
func (s *soak) judge(model string, n int64, pad int, r reply) {
	var got struct {
		Predictions struct {
			N, Pad  int64
			Model   string
			Devices string
		}
		Message string
		Error   string
	}
	if err := json.Unmarshal([]byte(r.body), &got); err != nil {
		s.t.Errorf("%s, request %d: %d %.200s: %v", model, n, r.status, r.body, err)
		return
	}
	p := got.Predictions
	switch {
	case r.status == http.StatusOK && p.N == n && p.Pad == int64(pad) && p.Model == model && strings.HasPrefix(p.Devices, "GPU-"):
		s.good.Add(1)
	case r.status == http.StatusOK:
		s.t.Errorf("%s, request %d with %d bytes: got the answer %.200s", model, n, pad, r.body)
	case r.status == http.StatusTooManyRequests, r.status == http.StatusServiceUnavailable, r.status == http.StatusGatewayTimeout:
		if known := s.documented(r.status, got.Message+got.Error); known != "" {
			s.count(strconv.Itoa(r.status) + " " + known)
			return
		}
		s.t.Errorf("%s, request %d: an error that is not documented: %d %.300s", model, n, r.status, r.body)
	default:
		s.t.Errorf("%s, request %d: %d %.300s", model, n, r.status, r.body)
	}
}

func (s *soak) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[what]++
}

// disturb does something bad every tenth of a second or so, until ctx ends.
func (s *soak) disturb(ctx context.Context) {
	var wg sync.WaitGroup
	for ctx.Err() == nil {
		time.Sleep(time.Duration(50+s.rand.IntN(200)) * time.Millisecond) // the pace of what happens
		r := s.relays[s.rand.IntN(len(s.relays))]
		what := ""
		switch s.rand.IntN(5) {
		case 0:
			what = "relay killed"
			wg.Go(r.restart)
		case 1:
			what = "relay frozen"
			d := time.Duration(s.rand.Int64N(int64(3 * soakLease)))
			wg.Go(func() { r.freeze(d) })
		case 2:
			what = "worker killed"
			s.killWorker()
		default:
			what = "memory taken or given back"
			s.mu.Lock()
			s.foreign[s.rand.IntN(2)] = s.rand.Int64N(60) * gib * s.rand.Int64N(2)
			s.mu.Unlock()
		}
		s.mu.Lock()
		s.disturbs[what]++
		s.mu.Unlock()
	}
	wg.Wait()
	s.mu.Lock()
	s.foreign = [2]int64{}
	s.mu.Unlock()
}

// take marks the relay as disturbed, unless it is so already.
func (r *soakRelay) take() *process {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return nil
	}
	r.away = true
	r.disturbed++
	return r.p
}

func (r *soakRelay) back() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = false
	r.disturbed++
}

// restart kills the relay and starts it again.
func (r *soakRelay) restart() {
	p := r.take()
	if p == nil {
		return
	}
	p.kill()
	r.start()
	r.back()
}

// freeze stops the relay for a while.
func (r *soakRelay) freeze(d time.Duration) {
	p := r.take()
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(d) // shorter and longer than a lease
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	r.back()
}

// killWorker kills the process of some model.
func (s *soak) killWorker() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.workers) > 0 {
		_ = syscall.Kill(s.workers[s.rand.IntN(len(s.workers))], syscall.SIGKILL)
	}
}

// report says what happened.
func (s *soak) report() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.Logf("%d good answers; other answers: %v; disturbances: %v", s.good.Load(), s.answers, s.disturbs)
	if s.good.Load() < soakRelays { // on a machine that is busy with something else, too
		s.t.Errorf("only %d good answers", s.good.Load())
	}
	var stats struct {
		Models []struct {
			From, Evictions, Suspensions map[string]int64
			Died                         int64
		}
	}
	if err := json.Unmarshal([]byte(s.node.stats()), &stats); err != nil {
		s.t.Error(err)
	}
	from, evictions, died := map[string]int64{}, map[string]int64{}, int64(0)
	for _, m := range stats.Models {
		died += m.Died
		for tier, n := range m.From {
			from[tier] += n
		}
		for reason, n := range m.Evictions {
			evictions["ended for "+reason] += n
		}
		for reason, n := range m.Suspensions {
			evictions["suspended for "+reason] += n
		}
	}
	s.t.Logf("requests by tier: %v; evictions: %v; workers that died: %d", from, evictions, died)
}
