package invoker_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/invoker/tracetest"
)

// ollama is the order in which Ollama gives models up (findRunnerToUnload in its scheduler): by
// how long they were to be kept, which here is the same for all, and then by name. Each value is
// more than all before it together, so that the order alone decides, as it does there.
type ollama struct{}

func (ollama) Value(c invoker.Candidate) float64 {
	n, err := strconv.Atoi(strings.TrimPrefix(c.Model, "model-"))
	if err != nil {
		return math.Inf(1) // no model of a trace
	}
	return math.Ldexp(1, n)
}

func (ollama) Evicted(float64) {}

// A suite is one way to run the pool.
type suite struct {
	name string
	set  func(cfg *invoker.Config)
}

// An outcome is what has come of a trace.
type outcome struct {
	loads   int
	reload  time.Duration // the sum of all loads
	cold    int           // invocations that waited for a load
	waits   []time.Duration
	peaks   []int64
	course  []float64 // hours of reload, at even steps
	refused int       // invocations without an answer
}

// courseSteps is how many steps an outcome's course has.
const courseSteps = 96

// replay runs the trace on a pool with two devices of 80 GB, in fake time.
func replay(t *testing.T, tr tracetest.Trace, length time.Duration, s suite) outcome {
	t.Helper()
	var out outcome
	synctest.Test(t, func(t *testing.T) {
		r := newReplayer(tr, length, s)
		r.run(t)
		if err := r.pool.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := r.fleet.Err(); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if memory, n := r.fleet.Used(); memory != 0 || n != 0 {
			t.Errorf("%s: after the end %d instances have %d bytes", s.name, n, memory)
		}
		r.out.peaks = r.fleet.Peaks()
		slices.Sort(r.out.waits)
		out = r.out
	})
	return out
}

// A replayer runs one trace on one pool.
type replayer struct {
	trace tracetest.Trace
	fleet *tracetest.Fleet
	pool  *invoker.Invoker
	began time.Time
	step  time.Duration

	mu      sync.Mutex // guards everything below
	out     outcome
	started []int // by model, how often
}

func newReplayer(tr tracetest.Trace, length time.Duration, s suite) *replayer {
	r := &replayer{
		trace: tr, fleet: tracetest.NewFleet(2, 80e9), began: time.Now(), step: length / courseSteps,
		started: make([]int, len(tr.Models)), out: outcome{course: make([]float64, courseSteps+1)},
	}
	cfg := invoker.Config{
		Catalog: catalogOf(modelsOf(tr)), Start: r.start, Devices: r.fleet, IdleTime: -1,
		// All invocations are to be answered, however long that takes, so that no policy
		// saves a load by turning somebody away.
		QueueDepth: 1 << 20, MemoryWait: 24 * time.Hour, StartTimeout: time.Hour,
	}
	s.set(&cfg)
	r.pool = invoker.New(cfg)
	return r
}

// modelsOf are the models of a trace, whose versions are their indexes in it.
func modelsOf(tr tracetest.Trace) []actions.Model {
	models := make([]actions.Model, len(tr.Models))
	for i := range tr.Models {
		m := &tr.Models[i]
		models[i] = actions.Model{
			Name: m.Name, Version: strconv.Itoa(i), Runtime: actions.Python,
			Resources: actions.Resources{GPUs: 1, GPUMemory: actions.Bytes(m.Memory)},
		}
	}
	return models
}

// start loads a model, and notes how long that takes.
func (r *replayer) start(ctx context.Context, m actions.Model, devices []string) (invoker.Instance, error) {
	i, err := strconv.Atoi(m.Version)
	if err != nil {
		return nil, err
	}
	model := &r.trace.Models[i]
	r.mu.Lock()
	took := model.Load(r.trace.Seed, r.started[i])
	r.started[i]++
	r.mu.Unlock()
	fixed := min(model.Fixed, took)
	began := time.Now()
	inst, err := r.fleet.Start(ctx, tracetest.Spec{
		Model: model.Name, Memory: model.Memory, Context: model.Context,
		Fixed: fixed, Weights: took - fixed, End: 500 * time.Millisecond,
	}, devices)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.loads++
	r.out.reload += time.Since(began)
	for at := int(time.Since(r.began)/r.step) + 1; at < len(r.out.course); at++ {
		r.out.course[at] += time.Since(began).Hours()
	}
	if err != nil {
		return nil, err
	}
	return inst, nil
}

// run makes the invocations, each when its time has come, and waits for their answers.
func (r *replayer) run(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	for n, v := range r.trace.Invocations {
		time.Sleep(time.Until(r.began.Add(v.At)))
		wg.Go(func() { r.invoke(t, n, v) })
	}
	wg.Wait()
}

// invoke makes one.
func (r *replayer) invoke(t *testing.T, n int, v tracetest.Invocation) {
	t.Helper()
	name, id := r.trace.Models[v.Model].Name, strconv.Itoa(n)
	resp, err := r.pool.Invoke(t.Context(), actions.Request{Model: name, ID: id, Args: strconv.AppendInt(nil, int64(v.Run), 10)})
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.out.refused++
		if r.out.refused == 1 {
			t.Errorf("invocation %s of %s: %v", id, name, err) // the first is enough
		}
		return
	case string(resp.Data) != tracetest.Answer(name, id):
		t.Errorf("invocation %s of %s: got %s", id, name, resp.Data)
	}
	r.out.waits = append(r.out.waits, resp.Timing.Queue+resp.Timing.Start)
	if resp.Timing.Cold {
		r.out.cold++
	}
}

// percentile returns the wait that this share of the invocations did not exceed.
func (o *outcome) percentile(share float64) time.Duration {
	return o.waits[min(int(share*float64(len(o.waits))), len(o.waits)-1)]
}

func (o *outcome) String() string {
	return fmt.Sprintf("%d loads, %v of reloads, %.2f %% cold, waits p50 %v p99 %v p99.9 %v, peaks %d %d",
		o.loads, o.reload.Round(time.Second), 100*float64(o.cold)/float64(len(o.waits)),
		o.percentile(0.5), o.percentile(0.99), o.percentile(0.999), o.peaks[0], o.peaks[1])
}
