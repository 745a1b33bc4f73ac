package invoker_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/invoker/tracetest"
)

// TestSteps walks at random through all that can happen to a pool, and checks after each step
// that what it knows of itself agrees. `make steps` takes a million steps.
func TestSteps(t *testing.T) {
	const round = 4000
	steps := 5 * round
	if s := os.Getenv("DEEPFN_TEST_STEPS"); s != "" {
		var err error
		if steps, err = strconv.Atoi(s); err != nil {
			t.Fatalf("DEEPFN_TEST_STEPS: %v", err)
		}
	}
	seen := map[string]int64{}
	for seed := range uint64(max(1, steps/round)) {
		synctest.Test(t, func(t *testing.T) {
			w := newWalk(t, seed)
			w.seen = seen
			for n := range round {
				w.step(n)
				if err := errors.Join(w.pool.Check(), w.fleet.Err()); err != nil {
					t.Fatalf("seed %d, step %d: %v", seed, n, err)
				}
				if t.Failed() {
					t.Fatalf("seed %d, step %d", seed, n)
				}
			}
			w.end()
		})
	}
	events := []string{
		"answer", "busy", "unavailable", "deadline", "canceled", "conflict", "cold start", "failed start", "resume",
		"evict memory", "evict health", "evict failed", "evict pause", "suspend memory", "suspend pause",
		"expiry", "death", "warm", "host", "disk",
	}
	if steps >= 100_000 { // of 20,000 it may happen in none; TestHostMemory has it always
		events = append(events, "evict host_memory")
	}
	for _, what := range events {
		if seen[what] == 0 {
			t.Errorf("in %d steps there was no %s", steps, what)
		}
	}
	t.Logf("in %d steps: %v", steps, seen)
}

// A walk is one pool with what happens to it.
type walk struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand // of the steps; what the instances do is in their starts
	fleet  *tracetest.Fleet
	pool   *invoker.Invoker
	models []actions.Model
	open   sync.WaitGroup // requests that have no answer yet
	hidden bool

	mu     sync.Mutex // guards everything below
	starts *rand.Rand
	living []*tracetest.Instance // some have ended
	seen   map[string]int64      // what has happened, how often
}

// What a walk's devices and host have, in bytes, and what the queues take.
const (
	walkDevices, walkMemory, walkHost = 3, 1000, 600
	walkQueue                         = 8
)

func newWalk(t *testing.T, seed uint64) *walk {
	t.Helper()
	w := &walk{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), starts: rand.New(rand.NewPCG(seed, 2)),
		fleet: tracetest.NewFleet(walkDevices, walkMemory), models: walkModels(),
	}
	policies := []invoker.Policy{invoker.NewGDSF(), invoker.NewLRU()}
	w.pool = invoker.New(invoker.Config{
		Catalog: catalogOf(w.models), Start: w.start, Devices: w.fleet, Policy: policies[seed/2%2],
		MaxInstances: 2, QueueDepth: walkQueue, IdleTime: 20 * time.Second, StartTimeout: 10 * time.Second,
		HostMemory: walkHost, DeviceCalls: []int{1, 2, -1}[seed%3],
		ReleaseTime: []time.Duration{0, 4 * time.Second}[seed%2],
	})
	return w
}

// step does one thing.
func (w *walk) step(n int) {
	switch dice := w.rng.IntN(1000); {
	case dice < 450:
		w.request(n)
	case dice < 465:
		w.kill()
	case dice < 495:
		w.fleet.Take(w.rng.IntN(walkDevices), w.rng.Int64N(walkMemory/2)*w.rng.Int64N(2))
	case dice < 515:
		health := []actions.Health{actions.Unhealthy, actions.Lost}[w.rng.IntN(2)]
		if w.rng.IntN(5) > 0 {
			health = actions.Healthy
		}
		w.fleet.SetHealth(w.rng.IntN(walkDevices), health, "a test")
	case dice < 525:
		w.hidden = !w.hidden && w.rng.IntN(3) == 0
		w.fleet.Hide(w.hidden)
	case dice < 540:
		w.keep()
	case dice < 560:
		w.pool.Cool(w.model().Name)
	case dice < 565:
		name := w.model().Name
		w.count(name)
		w.pool.Forget(name)
	case dice < 575:
		w.look()
	case dice < 700:
		synctest.Wait()
	case dice < 995:
		time.Sleep(shortTime(w.rng))
	default:
		time.Sleep(time.Duration(w.rng.Int64N(int64(time.Minute))))
	}
}

func (w *walk) model() actions.Model { return w.models[w.rng.IntN(len(w.models))] }

// kill ends an instance from outside.
func (w *walk) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.living) == 0 {
		return
	}
	i := w.rng.IntN(len(w.living))
	inst := w.living[i]
	w.living[i] = w.living[len(w.living)-1]
	w.living = w.living[:len(w.living)-1]
	if w.rng.IntN(4) > 0 { // the others have ended by themselves, or go on
		inst.Die()
	}
}

// keep asks for warm instances, and waits for one or not.
func (w *walk) keep() {
	m, n := w.model(), 1+w.rng.IntN(2)
	ctx, cancel := context.WithTimeout(w.t.Context(), shortTime(w.rng))
	if w.rng.IntN(2) == 0 {
		defer cancel()
		if err := w.pool.Keep(ctx, m.Name, n); err != nil {
			w.t.Errorf("keep %s: %v", m.Name, err)
		}
		return
	}
	w.open.Go(func() {
		defer cancel()
		if err := w.pool.Warm(ctx, m.Name, n); err != nil {
			w.fail(m.Name, err)
		}
	})
}

// fail checks an error: one that its caller can act on.
func (w *walk) fail(model string, err error) {
	e, ok := errors.AsType[*actions.Error](err)
	if !ok {
		// The cause of a start that failed reaches those who warm as it is.
		e = &actions.Error{Code: actions.Internal}
	}
	switch e.Code {
	case actions.Busy, actions.Unavailable, actions.Deadline, actions.Canceled, actions.Failed:
	default:
		w.t.Errorf("seed %d: %s: %v (%s)", w.seed, model, err, e.Code)
	}
}

// look reads what operators read.
func (w *walk) look() {
	for _, st := range w.pool.Stats() {
		if st.Waiting > st.QueueDepth {
			w.t.Errorf("%s: %d wait in a queue for %d", st.Model, st.Waiting, st.QueueDepth)
		}
	}
	_ = w.pool.Ready() // an error is fine
	if host := w.pool.HostMemory(); host > walkHost {
		w.t.Errorf("%d bytes of the host's memory are taken, %d may be", host, walkHost)
	}
}

// A demand is one request of a walk.
type demand struct {
	id       string
	model    string
	deadline time.Duration // zero for none
	leaves   time.Duration // when the caller leaves, zero for never
	begin    error         // what Begin returns
	run      time.Duration
	limit    time.Duration
}

// request begins a request, whose answer is checked when it comes.
func (w *walk) request(n int) {
	d := demand{id: fmt.Sprint(n), model: w.model().Name, run: shortTime(w.rng)}
	switch w.rng.IntN(6) {
	case 0:
		d.deadline = shortTime(w.rng) + 1
	case 1:
		d.leaves = shortTime(w.rng) + 1
	case 2:
		d.limit = shortTime(w.rng) + 1
	case 3:
		if w.rng.IntN(5) == 0 {
			d.begin = &actions.Error{Code: actions.Conflict, Msg: "the test begins nothing"}
		}
	}
	w.open.Go(func() { w.ask(d) })
}

// ask makes a request and checks its answer: the right one, in time, or an error that has a
// reason.
func (w *walk) ask(d demand) {
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	if d.deadline > 0 {
		ctx, cancel = context.WithTimeout(ctx, d.deadline)
		defer cancel()
	}
	if d.leaves > 0 {
		defer time.AfterFunc(d.leaves, cancel).Stop()
	}
	began := time.Now()
	resp, err := w.pool.Invoke(ctx, actions.Request{
		Model: d.model, ID: d.id, Args: strconv.AppendInt(nil, int64(d.run), 10), Limit: d.limit,
		Begin: func(context.Context) error { return d.begin },
	})
	took := time.Since(began)
	w.mu.Lock()
	w.seen[cmp.Or(string(actions.CodeOf(err)), "answer")]++
	w.mu.Unlock()
	if d.deadline > 0 && took > d.deadline || d.leaves > 0 && took > d.leaves {
		w.t.Errorf("seed %d: %+v: an answer after %v", w.seed, d, took)
	}
	switch code := actions.CodeOf(err); {
	case err == nil && string(resp.Data) == tracetest.Answer(d.model, d.id) && took >= d.run && d.begin == nil && d.model != "nowhere":
	case code == actions.Busy, code == actions.Unavailable: // the pool, or chance
	case code == actions.Deadline && (d.deadline > 0 && took == d.deadline || d.limit > 0 && took >= d.limit):
	case code == actions.Canceled && d.leaves > 0 && took == d.leaves:
	case d.begin != nil && errors.Is(err, d.begin):
	default:
		w.t.Errorf("seed %d: %+v: got %q, %v after %v", w.seed, d, resp.Data, err, took)
	}
}

// end lets all come to rest, and sees that everything ends: each request has an answer with
// nobody's help, and nothing is left when the pool has closed.
func (w *walk) end() {
	w.fleet.Hide(false)
	for i := range walkDevices {
		w.fleet.Take(i, 0)
		w.fleet.SetHealth(i, actions.Healthy, "")
	}
	answered := make(chan struct{})
	go func() { // ends with the last answer
		w.open.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(10 * time.Minute):
		w.t.Fatalf("seed %d: requests without an answer for ten minutes; %+v", w.seed, w.pool.Stats())
	}
	w.count("")
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if err := w.pool.Close(ctx); err != nil {
		w.t.Errorf("seed %d: close: %v", w.seed, err)
	}
	if err := errors.Join(w.pool.Check(), w.fleet.Err()); err != nil {
		w.t.Errorf("seed %d: after the end: %v", w.seed, err)
	}
	if memory, n := w.fleet.Used(); memory != 0 || n != 0 {
		w.t.Errorf("seed %d: after the end %d instances have %d bytes", w.seed, n, memory)
	}
	if _, err := w.pool.Invoke(w.t.Context(), actions.Request{Model: "tiny"}); actions.CodeOf(err) != actions.Unavailable {
		w.t.Errorf("seed %d: after the end: got %v, want Unavailable", w.seed, err)
	}
}

// count adds what the pool has counted of a model, or of all, to what was seen.
func (w *walk) count(model string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, st := range w.pool.Stats() {
		if model != "" && st.Model != model {
			continue
		}
		w.seen["cold start"] += st.ColdStarts
		w.seen["failed start"] += st.StartFailures
		w.seen["resume"] += st.Resumes
		w.seen["expiry"] += st.MaxIdleTimeClosed
		w.seen["death"] += st.Died
		for reason, n := range st.Evictions {
			w.seen["evict "+string(reason)] += n
		}
		for reason, n := range st.Suspensions {
			w.seen["suspend "+string(reason)] += n
		}
		for tier, n := range st.From {
			w.seen[string(tier)] += n
		}
	}
}
