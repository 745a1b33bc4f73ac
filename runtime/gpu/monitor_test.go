package gpu

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/gpu/gputest"
)

// TestRead reads what a GPU is and how it fares.
func TestRead(t *testing.T) {
	lib := gputest.NVML(t, gputest.Full)
	c := startChild(t, lib.Path())
	busy := gputest.A100(1)
	busy.Used, busy.Utilization, busy.ECC = 30<<30, 75, 2
	busy.Processes = []gputest.Process{
		{PID: 41, Memory: 20 << 30}, {PID: 42, Memory: 1 << 30, Kind: gputest.Graphics}, {PID: 41, Memory: 1 << 20, Kind: gputest.Graphics},
	}
	lib.Set(gputest.State{GPUs: []gputest.GPU{gputest.A100(0), busy}})
	a := c.read()
	want := []actions.Device{{
		UUID: "GPU-00000000-0000-0000-0000-000000000000", Name: "NVIDIA A100-SXM4-80GB", Vendor: "NVIDIA", Architecture: "Ampere",
		PCI: "00000000:07:00.0", ComputeCapability: "8.0", Driver: "570.86.15", CUDA: "12.8",
		MemoryTotal: 80 << 30, MemoryUsed: 1 << 30, Utilization: new(0.0), Temperature: new(31.0), Power: new(62.5), PowerLimit: new(400.0),
		Clock: new(210e6), ECCErrors: new(int64(0)), Health: actions.Healthy,
	}}
	want = append(want, want[0])
	want[1].UUID, want[1].Index, want[1].PCI = "GPU-00000000-0000-0000-0000-000000000001", 1, "00000000:08:00.0"
	want[1].MemoryUsed, want[1].Utilization, want[1].ECCErrors = 30<<30, new(0.75), new(int64(2))
	want[1].Processes = []actions.DeviceProcess{{PID: 41, Memory: 20 << 30}, {PID: 42, Memory: 1 << 30}}
	if diff := cmp.Diff(want, a.Devices); diff != "" || a.State != Ready || a.Error+a.Reason != "" {
		t.Errorf("got %s %q %q (-want +got):\n%s", a.State, a.Error, a.Reason, diff)
	}
}

// TestStates has each thing that can be wrong with the driver as a state of its own, and a
// process that lives on.
func TestStates(t *testing.T) {
	rule := func(function string, code int) gputest.State {
		return gputest.State{GPUs: twoGPUs().GPUs, Rules: []gputest.Rule{{Function: function, Code: code}}}
	}
	for name, tt := range map[string]struct {
		path    string
		variant gputest.Variant
		state   gputest.State
		want    State
		says    string
	}{
		"missing library":    {path: "/nowhere/libnvidia-ml.so.1", want: NoLibrary, says: "No such file"},
		"not a library":      {path: "/proc/self/environ", want: NoLibrary, says: "DEEPFN_NVML"},
		"another library":    {variant: gputest.Empty, want: OldLibrary, says: "nvmlDeviceGetCount"},
		"mismatch":           {variant: gputest.Mismatch, want: Mismatch, says: "restart"},
		"broken":             {variant: gputest.Broken, want: Failing, says: "NVML 999"},
		"no driver":          {state: rule("nvmlInit_v2", 9), want: NoDriver, says: "modprobe"},
		"no permission":      {state: rule("nvmlInit_v2", 4), want: NoPermission, says: "/dev/nvidiactl"},
		"stub of a toolkit":  {state: rule("nvmlInit_v2", 12), want: NoLibrary},
		"no devices":         {want: NoDevices, says: "--gpus"},
		"no count":           {state: rule("nvmlDeviceGetCount_v2", 999), want: Failing},
		"driver gone":        {state: rule("nvmlDeviceGetCount_v2", 9), want: NoDriver},
		"a code of tomorrow": {state: rule("nvmlInit_v2", 77), want: Failing, says: "NVML 77"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.path == "" {
				lib := gputest.NVML(t, tt.variant)
				lib.Set(tt.state)
				tt.path = lib.Path()
			}
			c := startChild(t, tt.path)
			a := c.read()
			if a.State != tt.want || !strings.Contains(a.Reason, tt.says) || len(a.Devices) > 0 {
				t.Errorf("got %s %q with %v, want %s that says %q", a.State, a.Reason, a.Devices, tt.want, tt.says)
			}
			if a.Code != actions.Unavailable && tt.want != NoDevices {
				t.Errorf("got the error %q (%s), want Unavailable", a.Error, a.Code)
			}
			if again := c.read(); again.State != tt.want {
				t.Errorf("got %s at the second time, want %s", again.State, tt.want)
			}
			if a = c.do(order{Op: "close"}); a.Error != "" || a.State != Closed {
				t.Errorf("close: got %q, %s", a.Error, a.State)
			}
		})
	}
}

// TestAgain opens a library for a second time, and then another one, which is refused: the
// functions of the first would be called.
func TestAgain(t *testing.T) {
	lib, other := gputest.NVML(t, gputest.Full), gputest.NVML(t, gputest.Old)
	lib.Set(twoGPUs())
	other.Set(twoGPUs())
	c := startChild(t, lib.Path())
	for range 3 {
		if a := c.read(); a.State != Ready || len(a.Devices) != 2 {
			t.Fatalf("got %s %s, want two devices", a.State, a.Reason)
		}
		c.do(order{Op: "close"})
		c.do(order{Op: "open", Path: lib.Path()})
	}
	c.do(order{Op: "open", Path: other.Path()})
	if a := c.read(); a.State != OtherLibrary || !strings.Contains(a.Reason, "another") {
		t.Errorf("got %s %s, want %s", a.State, a.Reason, OtherLibrary)
	}
	c.do(order{Op: "open", Path: "/nowhere.so"})
	if a := c.read(); a.State != NoLibrary {
		t.Errorf("got %s %s, want %s", a.State, a.Reason, NoLibrary)
	}
}

// TestOldLibrary reads what a library tells that has few functions, in their first versions.
func TestOldLibrary(t *testing.T) {
	lib := gputest.NVML(t, gputest.Old)
	state := twoGPUs()
	state.GPUs[0].Processes = []gputest.Process{{PID: 7, Memory: 5}, {PID: 8, Memory: 6}, {PID: 9, Memory: 7}}
	lib.Set(state)
	c := startChild(t, lib.Path())
	a := c.read()
	if len(a.Devices) != 2 || a.State != Ready {
		t.Fatalf("got %v, %s %s, want two devices", a.Devices, a.State, a.Reason)
	}
	got := a.Devices[0]
	want := actions.Device{
		UUID: state.GPUs[0].UUID, Name: state.GPUs[0].Name, Vendor: "NVIDIA", PCI: "00000000:07:00.", Driver: "570.86.15",
		MemoryTotal: 80 << 30, MemoryUsed: 1 << 30, Utilization: new(0.0), Temperature: new(31.0), Power: new(62.5), Clock: new(210e6),
		Health: actions.Healthy, Processes: []actions.DeviceProcess{{PID: 7, Memory: 5}, {PID: 8, Memory: 6}, {PID: 9, Memory: 7}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	lib.Raise(gputest.Event{GPU: 1, Type: gputest.XidError, Data: 79})
	if a = c.do(order{Op: "changed"}); !a.Changed {
		t.Error("an event in the first version's words was not heard")
	}
	if a = c.read(); a.Devices[1].Health != actions.Unhealthy || a.Devices[0].Health != actions.Healthy {
		t.Errorf("got %v, want the second unhealthy", a.Devices)
	}
}

// TestMissingSymbols reads with a library that lacks one function, for each of them.
func TestMissingSymbols(t *testing.T) {
	for _, tt := range calls() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lib := gputest.NVML(t, gputest.Full, tt.symbols...)
			lib.Set(migState())
			c := startChild(t, lib.Path())
			a := c.read()
			switch {
			case tt.required && (a.State != OldLibrary || !strings.Contains(a.Reason, tt.name)):
				t.Errorf("got %s %s, want %s that names it", a.State, a.Reason, OldLibrary)
			case !tt.required && (a.State != Ready || len(a.Devices) < 2 || !a.Devices[1].Usable()):
				t.Errorf("got %s %s %v, want the devices without what it tells", a.State, a.Reason, a.Devices)
			}
			if a = c.do(order{Op: "close"}); a.Error != "" {
				t.Errorf("close: %s", a.Error)
			}
		})
	}
}

// TestCallsFail has each function that is called answer each of a set of errors. Devices and
// states are told, the process lives on, and when the error is over all is as before.
func TestCallsFail(t *testing.T) {
	for _, tt := range calls() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lib := gputest.NVML(t, gputest.Full)
			c := startChild(t, lib.Path())
			for _, code := range []int{1, 2, 3, 4, 6, 9, 10, 12, 13, 14, 15, 16, 17, 18, 20, 25, 999, 12345} {
				lib.Set(failing(tt, code))
				checkFailing(t, tt, code, c.read())
				checkFailing(t, tt, code, c.read())
			}
			lib.Set(migState())
			if a := c.read(); a.State != Ready || a.Reason != "" || len(a.Devices) != 4 || !a.Devices[1].Usable() || !a.Devices[3].Usable() {
				t.Errorf("got %s %s %v afterwards, want the devices as they were", a.State, a.Reason, a.Devices)
			}
			if a := c.do(order{Op: "close"}); a.Error != "" || a.State != Closed {
				t.Errorf("close: %q, %s", a.Error, a.State)
			}
		})
	}
}

// failing is a state in which a function answers a code, by each of its symbols.
func failing(f call, code int) gputest.State {
	state := migState()
	for _, symbol := range f.symbols {
		state.Rules = append(state.Rules, gputest.Rule{Function: symbol, Code: code})
	}
	return state
}

func checkFailing(t *testing.T, f call, code int, a answer) {
	t.Helper()
	if a.State == Opening || a.State == Closed || len(a.Devices) == 0 && a.Reason == "" {
		t.Errorf("code %d: got %s, %v, neither a device nor a reason", code, a.State, a.Devices)
	}
	for _, d := range a.Devices {
		if d.Health != actions.Healthy && d.Reason == "" {
			t.Errorf("code %d: got %s of %s without a reason", code, d.Health, d.UUID)
		}
		if code == 15 && f.about() && d.Health == actions.Healthy && d.Parent == "" && !d.MIG {
			t.Errorf("%s says that %s is lost, which is %s", f.name, d.UUID, d.Health)
		}
	}
}

// about says whether a GPU that is whole is asked by the function in each reading.
func (c call) about() bool {
	return strings.HasPrefix(c.name, "nvmlDeviceGet") && c.name != callCount && !strings.Contains(c.name, "Instance") &&
		!strings.Contains(c.name, "MigDevice") && c.name != callAttributes && c.name != callEventTypes && c.name != callHandle
}

// migState is a GPU of which two thirds are instances, and one that is whole.
func migState() gputest.State {
	state := twoGPUs()
	for i, slices := range []int{3, 1} {
		state.GPUs[0].Instances = append(state.GPUs[0].Instances, gputest.Instance{
			UUID: fmt.Sprintf("MIG-00000000-0000-0000-0000-00000000000%d", i), Total: int64(slices) * 10 << 30, Used: 1 << 20,
			GI: i + 1, GPUSlices: slices, ComputeSlices: 1,
		})
	}
	return state
}
