package invoker_test

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/invoker/tracetest"
)

// walkModels returns models of all kinds: small and large ones, on several devices, on none,
// pinned, kept, and one that fits nowhere.
func walkModels() []actions.Model {
	model := func(name string, memory int64, change func(m *actions.Model)) actions.Model {
		m := actions.Model{Name: name, Runtime: actions.Python, Resources: actions.Resources{GPUs: 1, GPUMemory: actions.Bytes(memory)}}
		if change != nil {
			change(&m)
		}
		return m
	}
	return []actions.Model{
		model("tiny", 50, nil),
		model("small", 150, nil),
		model("other", 250, nil),
		model("third", 400, func(m *actions.Model) { m.Scale.Max = 1 }),
		model("large", 600, nil),
		model("whole", 940, nil),
		model("pair", 350, func(m *actions.Model) { m.Resources.GPUs = 2 }),
		model("pinned", 120, func(m *actions.Model) { m.Scale = actions.Scale{Pin: true, Max: 1} }),
		model("kept", 100, func(m *actions.Model) { m.Scale = actions.Scale{Min: 1, Max: 2} }),
		model("nowhere", 1200, nil),
		model("host", 0, func(m *actions.Model) { m.Resources = actions.Resources{NoGPU: true} }),
	}
}

// start makes an instance that may do anything but break its promises.
func (w *walk) start(ctx context.Context, m actions.Model, devices []string) (invoker.Instance, error) {
	if want := m.Resources.GPUs; !m.Resources.NoGPU && len(devices) != want {
		w.t.Errorf("seed %d: %s is started on %q, want %d devices", w.seed, m.Name, devices, want)
	}
	s := w.spec(m)
	inst, err := w.fleet.Start(ctx, s, devices)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.living = append(w.living, inst)
	if s.Suspend.Takes > 0 {
		return suspender{inst}, nil
	}
	return inst, nil
}

// spec draws what an instance does.
func (w *walk) spec(m actions.Model) tracetest.Spec {
	w.mu.Lock()
	defer w.mu.Unlock()
	rng := w.starts
	memory := int64(m.Resources.GPUMemory)
	memory -= memory / 4 * rng.Int64N(2) // what is said is the most
	s := tracetest.Spec{
		Model: m.Name, Memory: memory, Context: memory / 10, Calls: 1 + 3*rng.IntN(2),
		Fixed: shortTime(rng), Weights: shortTime(rng), End: shortTime(rng),
		FailStart: rng.IntN(12) == 0,
	}
	if rng.IntN(30) == 0 {
		s.Fixed = time.Hour // it hangs
	}
	if rng.IntN(2) == 0 {
		s.Suspend = tracetest.Suspension{
			Takes: shortTime(rng) + 1, Refuses: rng.IntN(5) == 0, FailsOut: rng.IntN(10) == 0, FailsIn: rng.IntN(10) == 0,
		}
		if rng.IntN(20) == 0 {
			s.Suspend.Takes = time.Hour
		}
	}
	return s
}

// shortTime draws a time below two seconds, mostly a short one, sometimes none.
func shortTime(rng *rand.Rand) time.Duration {
	return time.Duration(max(0, rng.Int64N(1<<(20+rng.IntN(12)))-1<<20))
}

// A suspender is an instance that can be suspended.
type suspender struct{ *tracetest.Instance }

func (s suspender) Suspend(ctx context.Context) (invoker.Suspended, error) {
	host, device, err := s.Instance.Suspend(ctx)
	return invoker.Suspended{Host: host, Device: device}, err
}
