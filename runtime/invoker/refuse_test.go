package invoker_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/invoker/tracetest"
)

// A catalog is some models by their names.
type catalog map[string]actions.Model

func catalogOf(models []actions.Model) catalog {
	c := catalog{}
	for _, m := range models {
		c[m.Name] = m
	}
	return c
}

func (c catalog) Model(_ context.Context, name string) (actions.Model, error) {
	m, ok := c[name]
	if !ok {
		return m, actions.Errorf(actions.NotFound, "no model %s", name)
	}
	return m, nil
}

// newPlain makes a pool of one model on one device, whose instances start in a second and
// take what they say.
func newPlain(memory int64, cfg invoker.Config) (*invoker.Invoker, *tracetest.Fleet) {
	f := tracetest.NewFleet(1, 1000)
	m := actions.Model{Name: "m", Runtime: actions.Python, Resources: actions.Resources{GPUs: 1, GPUMemory: actions.Bytes(memory)}}
	cfg.Catalog, cfg.Devices = catalogOf([]actions.Model{m}), f
	cfg.Start = func(ctx context.Context, m actions.Model, devices []string) (invoker.Instance, error) {
		inst, err := f.Start(ctx, tracetest.Spec{Model: m.Name, Memory: memory, Fixed: time.Second}, devices)
		if err != nil {
			return nil, err
		}
		return inst, nil
	}
	return invoker.New(cfg), f
}

// A second instance that no device can take was asked for again and again at the same moment,
// until the stack was full.
func TestNoDeviceForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newPlain(400, invoker.Config{MaxInstances: 2})
		var wg sync.WaitGroup
		ask := func(run time.Duration, want actions.Code) {
			wg.Go(func() {
				_, err := v.Invoke(t.Context(), actions.Request{Model: "m", ID: "a", Args: strconv.AppendInt(nil, int64(run), 10)})
				if got := actions.CodeOf(err); got != want {
					t.Errorf("got %v, want %q", err, want)
				}
			})
		}
		ask(time.Minute, "")
		time.Sleep(2 * time.Second)
		f.SetHealth(0, actions.Unhealthy, "a test")
		synctest.Wait()
		ask(time.Second, actions.Unavailable)
		wg.Wait()
		if err := errors.Join(v.Close(t.Context()), v.Check(), f.Err()); err != nil {
			t.Error(err)
		}
	})
}

// An instance in the host's memory that was wanted again while the devices could not be read
// was taken out of the pool with its process alive: it was never ended, and Close waited for it.
func TestNoReadingForSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := tracetest.NewFleet(1, 1000)
		models := []actions.Model{
			{Name: "a", Runtime: actions.Python, Resources: actions.Resources{GPUs: 1, GPUMemory: 600}},
			{Name: "b", Runtime: actions.Python, Resources: actions.Resources{GPUs: 1, GPUMemory: 600}},
		}
		v := invoker.New(invoker.Config{
			Catalog: catalogOf(models), Devices: f, HostMemory: 1000, MemoryWait: time.Minute,
			Start: func(ctx context.Context, m actions.Model, devices []string) (invoker.Instance, error) {
				spec := tracetest.Spec{Model: m.Name, Memory: 600, Context: 60, Suspend: tracetest.Suspension{Takes: time.Second}}
				inst, err := f.Start(ctx, spec, devices)
				return suspender{inst}, err
			},
		})
		ask := func(model string, want actions.Code) {
			_, err := v.Invoke(t.Context(), actions.Request{Model: model, ID: "x", Args: []byte("0")})
			if got := actions.CodeOf(err); got != want {
				t.Errorf("%s: got %v, want %q", model, err, want)
			}
		}
		ask("a", "")
		time.Sleep(10 * time.Second)
		ask("b", "") // a is suspended for it
		f.Hide(true)
		time.Sleep(10 * time.Second)
		ask("a", actions.Unavailable)
		f.Hide(false)
		if err := errors.Join(v.Close(t.Context()), v.Check(), f.Err()); err != nil {
			t.Error(err)
		}
		if memory, n := f.Used(); memory != 0 || n != 0 {
			t.Errorf("after the end %d instances have %d bytes", n, memory)
		}
	})
}

// peaks are measurements that a test can look at.
type peaks map[string]int64

func (p peaks) Peak(model, _ string) (int64, bool) { n, ok := p[model]; return n, ok }

func (p peaks) Record(model, _ string, bytes int64) { p[model] = bytes }

// What one instance took while it loaded was measured of another, which had begun later and was
// ready sooner: seven times what it took, kept for good.
func TestMeasureBesideAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := tracetest.NewFleet(1, 1000)
		specs := map[string]tracetest.Spec{
			"slow": {Model: "slow", Memory: 600, Context: 60, Fixed: 5 * time.Second, Weights: 10 * time.Second},
			"fast": {Model: "fast", Memory: 100, Context: 60, Fixed: 4 * time.Second, Weights: 3 * time.Second},
		}
		models := make([]actions.Model, 0, len(specs))
		for name, s := range specs {
			models = append(models, actions.Model{Name: name, Runtime: actions.Python, Resources: actions.Resources{GPUs: 1, GPUMemory: actions.Bytes(s.Memory)}})
		}
		measured := peaks{}
		v := invoker.New(invoker.Config{
			Catalog: catalogOf(models), Devices: f, Peaks: measured,
			Start: func(ctx context.Context, m actions.Model, devices []string) (invoker.Instance, error) {
				return f.Start(ctx, specs[m.Name], devices)
			},
		})
		var wg sync.WaitGroup
		for _, name := range []string{"slow", "fast"} {
			wg.Go(func() {
				if _, err := v.Invoke(t.Context(), actions.Request{Model: name, ID: "x", Args: []byte("0")}); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Second)
		}
		wg.Wait()
		time.Sleep(time.Minute)
		for name, s := range specs {
			if got := measured[name]; got > s.Memory {
				t.Errorf("%s: got %d bytes measured, it takes %d", name, got, s.Memory)
			}
		}
		if err := errors.Join(v.Close(t.Context()), v.Check(), f.Err()); err != nil {
			t.Error(err)
		}
	})
}
