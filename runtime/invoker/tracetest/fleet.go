package tracetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A Fleet is some devices without a GPU and what is on them. It watches itself: memory that is
// taken beyond what a device has, a call of an instance that can take none, and the like are
// faults of who uses it, which Err tells. Many may use it.
type Fleet struct {
	changed chan struct{}

	mu      sync.Mutex // guards everything below
	devices []*device
	// hidden says that the driver does not answer.
	hidden bool
	living int
	faults []error
}

// A device of a Fleet.
type device struct {
	actions.Device
	peak   int64
	others int64 // what somebody else has of it
}

// NewFleet returns a fleet of n devices with so many bytes of memory each.
func NewFleet(n int, memory int64) *Fleet {
	f := &Fleet{changed: make(chan struct{}, 1)}
	for i := range n {
		f.devices = append(f.devices, &device{Device: actions.Device{
			UUID: fmt.Sprintf("GPU-%d", i), Index: i, Name: "a device of the tests", ComputeCapability: "9.0",
			MemoryTotal: memory, Health: actions.Healthy,
		}})
	}
	return f
}

// Read returns the devices as they are now.
func (f *Fleet) Read(ctx context.Context) ([]actions.Device, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("tracetest: read the devices: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hidden {
		return nil, errors.New("tracetest: the driver does not answer")
	}
	found := make([]actions.Device, len(f.devices))
	for i, d := range f.devices {
		found[i] = d.Device
	}
	return found, nil
}

// Changed has a value when the health of a device has changed since the last one was taken.
func (f *Fleet) Changed() <-chan struct{} { return f.changed }

// SetHealth makes a device healthy, or not.
func (f *Fleet) SetHealth(i int, health actions.Health, reason string) {
	f.mu.Lock()
	f.devices[i].Health, f.devices[i].Reason = health, reason
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// Hide has Read fail, or work again.
func (f *Fleet) Hide(hidden bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hidden = hidden
}

// Take has somebody else use so many bytes of a device, as far as they are free: nobody gets
// memory that another has.
func (f *Fleet) Take(i int, memory int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.devices[i]
	free := d.MemoryTotal - d.MemoryUsed + d.others
	memory = min(memory, free)
	d.MemoryUsed += memory - d.others
	d.others = memory
	d.peak = max(d.peak, d.MemoryUsed)
}

// Peaks returns the most that was used of each device at any time, in bytes.
func (f *Fleet) Peaks() []int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	peaks := make([]int64, len(f.devices))
	for i, d := range f.devices {
		peaks[i] = d.peak
	}
	return peaks
}

// Used returns what instances use of all devices now, without somebody else's, and how many
// instances there are.
func (f *Fleet) Used() (memory int64, instances int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.devices {
		memory += d.MemoryUsed - d.others
	}
	return memory, f.living
}

// Err returns what was done that must not be, nil for nothing.
func (f *Fleet) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.faults...)
}

// fault notes what must not be; the first hundred are enough.
func (f *Fleet) fault(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faultLocked(format, args...)
}

func (f *Fleet) faultLocked(format string, args ...any) {
	if len(f.faults) < 100 {
		f.faults = append(f.faults, fmt.Errorf(format, args...))
	}
}

// errNoMemory is what a driver says when a device is full.
func errNoMemory(uuid string, memory int64) error {
	return &actions.Error{Code: actions.Unavailable, Msg: fmt.Sprintf("device %s has no %d bytes left", uuid, memory)}
}

// claim takes memory of the devices, or gives it back. To take what there is not is a fault,
// unless somebody else has it, whom the pool cannot foresee.
func (f *Fleet) claim(uuids []string, memory int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	devices := make([]*device, len(uuids))
	for i, uuid := range uuids {
		at := slices.IndexFunc(f.devices, func(d *device) bool { return d.UUID == uuid })
		if at < 0 {
			f.faultLocked("an instance on %s, which is no device", uuid)
			return errNoMemory(uuid, memory)
		}
		devices[i] = f.devices[at]
		if free := devices[i].MemoryTotal - devices[i].MemoryUsed; memory > free {
			if devices[i].others == 0 {
				f.faultLocked("%d bytes wanted of %s, which has %d left", memory, uuid, free)
			}
			return errNoMemory(uuid, memory)
		}
	}
	for _, d := range devices {
		d.MemoryUsed += memory
		d.peak = max(d.peak, d.MemoryUsed)
		if d.MemoryUsed < 0 {
			f.faultLocked("%d bytes used of %s", d.MemoryUsed, d.UUID)
		}
	}
	return nil
}

// A Spec says how an instance behaves.
type Spec struct {
	Model string
	// Memory and Context are what Model says: Context is taken at once, all of it after Fixed.
	Memory, Context int64
	// Fixed is the first part of the start, Weights the second, and End how long its end takes.
	Fixed, Weights, End time.Duration
	// Calls is how many calls it takes at a time. Zero is one.
	Calls int
	// Suspend is what it does when it is suspended or resumed.
	Suspend Suspension
	// FailStart has the start fail when its time is over.
	FailStart bool
}

// A Suspension says what an instance does when it is suspended, and resumed.
type Suspension struct {
	// Takes is how long it takes each way. Zero means that it cannot be done at all.
	Takes time.Duration
	// Refuses answers Unsupported to the first one. FailsOut and FailsIn are errors on the way
	// out and back.
	Refuses, FailsOut, FailsIn bool
}

// Start makes an instance on the devices. It takes the time that the spec says, and ctx ends it
// before.
func (f *Fleet) Start(ctx context.Context, s Spec, uuids []string) (*Instance, error) {
	i := &Instance{fleet: f, spec: s, devices: slices.Clone(uuids), done: make(chan struct{})}
	i.settled = sync.NewCond(&i.mu)
	if err := i.load(ctx); err != nil {
		i.give()
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.living++
	return i, nil
}

// wait is time.Sleep that ends with ctx.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// An answer is what an instance answers to a call: what it was called with, for the test to
// see that it is the right one.
type answer struct {
	Model string `json:"model"`
	ID    string `json:"id"`
}

// Answer is what an instance of the model answers to the request of that ID.
func Answer(model, id string) string {
	data, err := json.Marshal(answer{model, id})
	if err != nil { // two strings
		panic(err)
	}
	return string(data)
}
