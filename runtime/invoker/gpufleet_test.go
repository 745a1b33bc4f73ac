package invoker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const gib = 1 << 30

// A gpuFleet is a fleet on fake devices, whose memory its instances take.
type gpuFleet struct {
	fleet
	*gpus
	models    map[string]actions.Model
	suspend   map[string]*tier // how instances of a model suspend; none cannot
	loadTime  map[string]time.Duration
	takes     map[string]int64 // bytes that an instance really takes; else what the model says
	instances []*gpuFake       // guarded by fleet.mu
}

// A tier says how instances of a model are suspended.
type tier struct {
	time, back      time.Duration
	err, backErr    error
	residue         int64
	suspends, backs int
}

// gpus are fake devices.
type gpus struct {
	mu      sync.Mutex // guards everything below
	devices []actions.Device
	taken   map[string]map[int]int64 // bytes by device and process; process 0 is somebody else
	hidden  bool                     // the driver does not know the processes
	lag     time.Duration            // for which memory of the dead shows as used
	err     error
	reads   int
	changed chan struct{}
	over    []string // devices that had more taken than there is
}

func newGPUs(sizes ...int64) *gpus {
	g := &gpus{taken: map[string]map[int]int64{}, changed: make(chan struct{}, 1)}
	for i, size := range sizes {
		uuid := fmt.Sprintf("GPU-%d", i)
		g.devices = append(g.devices, actions.Device{
			UUID: uuid, Index: i, Name: "Test", MemoryTotal: size, Health: actions.Healthy, ComputeCapability: "8.0",
		})
		g.taken[uuid] = map[int]int64{}
	}
	return g
}

func (g *gpus) Read(context.Context) ([]actions.Device, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reads++
	if g.err != nil {
		return nil, g.err
	}
	found := slices.Clone(g.devices)
	for i := range found {
		d := &found[i]
		for pid, n := range g.taken[d.UUID] {
			d.MemoryUsed += n
			if pid > 0 && !g.hidden {
				d.Processes = append(d.Processes, actions.DeviceProcess{PID: pid, Memory: n})
			}
		}
	}
	return found, nil
}

func (g *gpus) Changed() <-chan struct{} { return g.changed }

// take has a process hold so many bytes of a device.
func (g *gpus) take(pid int, uuid string, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taken[uuid][pid] = n
	if n == 0 {
		delete(g.taken[uuid], pid)
	}
	var sum, total int64
	for n := range maps.Values(g.taken[uuid]) {
		sum += n
	}
	for _, d := range g.devices {
		if d.UUID == uuid {
			total = d.MemoryTotal
		}
	}
	if sum > total {
		g.over = append(g.over, fmt.Sprintf("%s: %d of %d bytes", uuid, sum, total))
	}
}

// set changes the device with that number.
func (g *gpus) set(i int, change func(*actions.Device)) {
	g.mu.Lock()
	change(&g.devices[i])
	g.mu.Unlock()
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// A gpuFake is a fake instance on devices.
type gpuFake struct {
	*fake
	fleet   *gpuFleet
	model   string
	uuids   []string
	takes   int64
	pid     int
	suspend atomic.Bool
}

func (f *gpuFake) PID() int { return f.pid }

func (f *gpuFake) Call(ctx context.Context, req actions.Request) (actions.Response, error) {
	if f.suspend.Load() {
		panic("a call of a suspended instance")
	}
	return f.fake.Call(ctx, req)
}

func (f *gpuFake) hold(n int64) {
	for _, uuid := range f.uuids {
		f.fleet.take(f.pid, uuid, n)
	}
}

// A suspendable is a fake instance that can be suspended.
type suspendable struct {
	*gpuFake
	tier *tier
}

func (f suspendable) Suspend(ctx context.Context) (Suspended, error) {
	if err := f.pause(ctx, f.tier.time); err != nil {
		return Suspended{}, err
	}
	if f.tier.err != nil {
		return Suspended{}, f.tier.err
	}
	f.tier.suspends++
	f.suspend.Store(true)
	f.hold(f.tier.residue)
	return Suspended{Host: f.takes, Device: f.tier.residue}, nil
}

func (f suspendable) Resume(ctx context.Context) error {
	if err := f.pause(ctx, f.tier.back); err != nil {
		return err
	}
	if f.tier.backErr != nil {
		return f.tier.backErr
	}
	f.tier.backs++
	f.suspend.Store(false)
	f.hold(f.takes)
	return nil
}

func (f suspendable) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-f.done:
		return errors.New("it died")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Model knows the models of the fleet.
func (f *gpuFleet) Model(_ context.Context, name string) (actions.Model, error) {
	m, ok := f.models[name]
	if !ok {
		return m, actions.Errorf(actions.NotFound, "there is no model %q", name)
	}
	return m, nil
}

func (f *gpuFleet) start(ctx context.Context, m actions.Model, devices []string) (Instance, error) {
	takes, ok := f.takes[m.Name]
	if !ok {
		takes = int64(m.Resources.GPUMemory)
	}
	f.fleet.mu.Lock()
	inst := &gpuFake{fleet: f, model: m.Name, uuids: devices, takes: takes, pid: 1000 + len(f.instances)}
	f.instances = append(f.instances, inst)
	f.fleet.mu.Unlock()
	inst.hold(takes / 2) // half way
	if d, ok := f.loadTime[m.Name]; ok {
		time.Sleep(d)
	}
	var err error
	if inst.fake, err = f.startFake(ctx, m); err != nil {
		inst.hold(0)
		return nil, err
	}
	inst.hold(takes)
	go func() { // ends with the instance
		<-inst.done
		time.Sleep(f.lag)
		inst.hold(0)
	}()
	if t := f.suspend[m.Name]; t != nil {
		return suspendable{inst, t}, nil
	}
	return inst, nil
}

// newGPUFleet makes an invoker on devices of these sizes in GiB, with models by the memory
// that they need in GiB.
func newGPUFleet(cfg Config, models map[string]int64, sizes ...int64) (*Invoker, *gpuFleet) {
	for i := range sizes {
		sizes[i] *= gib
	}
	f := &gpuFleet{gpus: newGPUs(sizes...), models: map[string]actions.Model{}, suspend: map[string]*tier{}, loadTime: map[string]time.Duration{}, takes: map[string]int64{}}
	f.startTime = 100 * time.Millisecond
	for name, need := range models {
		f.models[name] = actions.Model{Name: name, Resources: actions.Resources{GPUMemory: actions.Bytes(need * gib)}}
	}
	cfg.Catalog, cfg.Start, cfg.Devices = f, f.start, f.gpus
	if cfg.Headroom == 0 {
		cfg.Headroom = -1
	}
	return New(cfg), f
}

// change changes what a model says of itself.
func (f *gpuFleet) change(name string, change func(*actions.Model)) {
	m := f.models[name]
	change(&m)
	f.models[name] = m
}

// kill kills the instance with that number, -1 for the last.
func (f *gpuFleet) kill(i int) {
	f.fleet.mu.Lock()
	if i < 0 {
		i += len(f.instances)
	}
	inst := f.instances[i]
	f.fleet.mu.Unlock()
	inst.kill()
}

// loads is how many instances were started.
func (f *gpuFleet) loads() int {
	f.fleet.mu.Lock()
	defer f.fleet.mu.Unlock()
	return len(f.instances)
}

// finish checks the invoker and the devices, and closes the invoker.
func (f *gpuFleet) finish(t *testing.T, v *Invoker) {
	t.Helper()
	f.check(t, v)
	closeNow(t, v)
	time.Sleep(f.lag)
	synctest.Wait() // until the dead have given back what they held
	f.check(t, v)
	for uuid, taken := range f.taken {
		delete(taken, 0)
		if len(taken) > 0 {
			t.Errorf("after Close: %s is held by %v", uuid, taken)
		}
	}
}

func (f *gpuFleet) check(t *testing.T, v *Invoker) {
	t.Helper()
	if err := v.Check(); err != nil {
		t.Error(err)
	}
	f.gpus.mu.Lock()
	defer f.gpus.mu.Unlock()
	if len(f.over) > 0 {
		t.Errorf("more memory was taken than there is: %s", strings.Join(f.over, "; "))
		f.over = nil
	}
}

// ask runs one request of a model.
func ask(t *testing.T, v *Invoker, model, args string) (actions.Response, error) {
	t.Helper()
	return v.Invoke(t.Context(), actions.Request{Model: model, Args: []byte(args)})
}

func mustAsk(t *testing.T, v *Invoker, model, args string) actions.Response {
	t.Helper()
	resp, err := ask(t, v, model, args)
	if err != nil {
		t.Fatalf("Invoke(%s, %s): %v", model, args, err)
	}
	return resp
}

// stat returns the statistics of a model.
func stat(t *testing.T, v *Invoker, model string) actions.PoolStats {
	t.Helper()
	for _, st := range v.Stats() {
		if st.Model == model {
			return st
		}
	}
	t.Fatalf("no statistics of %s", model)
	return actions.PoolStats{}
}

// states are the states of a model's instances.
func states(t *testing.T, v *Invoker, model string) string {
	t.Helper()
	var all []string
	for _, inst := range stat(t, v, model).Instances {
		all = append(all, inst.State)
	}
	return strings.Join(all, " ")
}
