package gpu

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/gpu/gputest"
)

// fares returns the healths of devices, the end of each UUID first: "0 healthy, 1 lost".
func fares(devices []actions.Device) string {
	var texts []string
	for _, d := range devices {
		texts = append(texts, d.UUID[:1]+d.UUID[len(d.UUID)-1:]+" "+string(d.Health))
	}
	return strings.Join(texts, ", ")
}

// TestVanish has devices go away between two readings, in the middle of one, and with the whole
// driver. What is known of them stays, and they are well when they are back.
func TestVanish(t *testing.T) {
	lib := gputest.NVML(t, gputest.Full)
	lib.Set(twoGPUs())
	c := startChild(t, lib.Path())
	first := c.read()
	check := func(what, want, reason string) {
		t.Helper()
		a := c.read()
		if got := fares(a.Devices); got != want {
			t.Fatalf("%s: got %q (%s), want %q", what, got, a.Error, want)
		}
		d := a.Devices[1]
		if d.Name != first.Devices[1].Name || d.MemoryTotal != 80<<30 || !strings.Contains(d.Reason, reason) || d.Usable() != (d.Health == actions.Healthy) {
			t.Errorf("%s: got %+v, want what was known of it, and a reason with %q", what, d, reason)
		}
	}
	check("before", "G0 healthy, G1 healthy", "")

	lib.Set(gputest.State{GPUs: twoGPUs().GPUs[:1]})
	check("not listed", "G0 healthy, G1 lost", "does not list")
	if a := c.do(order{Op: "changed"}); !a.Changed {
		t.Error("nobody was told")
	}
	check("still not listed", "G0 healthy, G1 lost", "does not list")
	lib.Set(twoGPUs())
	check("back", "G0 healthy, G1 healthy", "")

	lost := twoGPUs()
	for n := 1; n <= 15; n++ { // each call about a GPU of a reading
		lost.GPUs[1].LostAfter = n
		lib.Set(lost)
		a := c.read()
		if got := fares(a.Devices); got != "G0 healthy, G1 lost" {
			t.Fatalf("lost at call %d: got %q", n, got)
		}
		lib.Set(twoGPUs())
		check("back again", "G0 healthy, G1 healthy", "")
	}

	gone := twoGPUs()
	gone.Rules = []gputest.Rule{{Function: "nvmlDeviceGetCount_v2", Code: 9}, {Function: "nvmlInit_v2", Code: 9}}
	lib.Set(gone)
	check("no driver", "G0 lost, G1 lost", "driver is gone")
	if a := c.read(); a.State != NoDriver {
		t.Errorf("got %s, want %s", a.State, NoDriver)
	}
	check("still no driver", "G0 lost, G1 lost", "driver is gone")
	lib.Set(twoGPUs())
	check("driver back", "G0 healthy, G1 healthy", "")
}

// TestEvents has events make devices bad, or not.
func TestEvents(t *testing.T) {
	for name, tt := range map[string]struct {
		events []gputest.Event
		want   string
		reason string
	}{
		"fallen off the bus": {
			[]gputest.Event{{GPU: 1, Type: gputest.XidError, Data: 79}},
			"G0 healthy, M0 healthy, M1 healthy, G1 unhealthy", "Xid 79: the GPU has fallen off the bus",
		},
		"unknown Xid": {
			[]gputest.Event{{GPU: 1, Type: gputest.XidError, Data: 7777}},
			"G0 healthy, M0 healthy, M1 healthy, G1 unhealthy", "Xid 7777",
		},
		"double bit": {
			[]gputest.Event{{GPU: 1, Type: gputest.DoubleBitError}},
			"G0 healthy, M0 healthy, M1 healthy, G1 unhealthy", "double-bit",
		},
		"one instance": {
			[]gputest.Event{{GPU: 0, Type: gputest.XidError, Data: 94, Instance: 2}, {GPU: 1, Type: gputest.XidError, Data: 79}},
			"G0 healthy, M0 unhealthy, M1 healthy, G1 unhealthy", "",
		},
		"a GPU with its instances": {
			[]gputest.Event{{GPU: 0, Type: gputest.XidError, Data: 119}},
			"G0 unhealthy, M0 unhealthy, M1 unhealthy, G1 healthy", "",
		},
		"programs": {[]gputest.Event{
			{Type: gputest.XidError, Data: 13},
			{Type: gputest.XidError, Data: 31},
			{Type: gputest.XidError, Data: 43},
			{Type: gputest.XidError, Data: 45},
			{Type: gputest.XidError, Data: 68},
			{Type: gputest.XidError, Data: 109},
			{Type: gputest.SingleBitError},
			{GPU: 1, Type: gputest.XidError, Data: 79},
		}, "G0 healthy, M0 healthy, M1 healthy, G1 unhealthy", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lib := gputest.NVML(t, gputest.Full)
			state := migState()
			for i := range state.GPUs[0].Instances {
				state.GPUs[0].Instances[i].CI = i + 1
			}
			lib.Set(state)
			c := startChild(t, lib.Path())
			if got := fares(c.read().Devices); got != "G0 healthy, M0 healthy, M1 healthy, G1 healthy" {
				t.Fatalf("got %q before", got)
			}
			for _, e := range tt.events {
				lib.Raise(e)
			}
			bad := strings.Count(tt.want, "unhealthy")
			a := c.do(order{Op: "changed"})
			for a.Changed && strings.Count(fares(a.Devices), "unhealthy") < bad { // each event may be a value of its own
				if a = c.read(); strings.Count(fares(a.Devices), "unhealthy") < bad {
					a = c.do(order{Op: "changed"})
				} else {
					a.Changed = true
				}
			}
			d := a.Devices
			if got := fares(d); got != tt.want || !a.Changed {
				t.Fatalf("got %q, %v, want %q", got, a.Changed, tt.want)
			}
			if !strings.Contains(d[3].Reason, tt.reason) || d[3].Health == actions.Unhealthy && d[3].Usable() {
				t.Errorf("got %q, want %q", d[3].Reason, tt.reason)
			}
			lib.Set(gputest.State{}) // a reset of the GPUs
			c.read()
			lib.Set(state)
			if got := fares(c.read().Devices); got != "G0 healthy, M0 healthy, M1 healthy, G1 healthy" {
				t.Errorf("got %q after a reset", got)
			}
		})
	}
}

// TestMIG reads a GPU that is divided.
func TestMIG(t *testing.T) {
	lib := gputest.NVML(t, gputest.Full)
	state := migState()
	state.GPUs[0].Instances[1].Processes = []gputest.Process{{PID: 9, Memory: 1 << 20}}
	lib.Set(state)
	a := startChild(t, lib.Path()).read()
	if len(a.Devices) != 4 {
		t.Fatalf("got %v, want two GPUs and two instances", a.Devices)
	}
	gpu, big, small := a.Devices[0], a.Devices[1], a.Devices[2]
	if !gpu.MIG || gpu.Usable() || gpu.Parent != "" || a.Devices[3].MIG {
		t.Errorf("got %+v, want a GPU that is divided", gpu)
	}
	for name, got := range map[string]bool{
		"names":       big.Name == "NVIDIA A100-SXM4-80GB MIG 1c.3g.30gb" && small.Name == "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
		"memory":      big.MemoryTotal == 30<<30 && small.MemoryTotal == 10<<30 && small.MemoryUsed == 1<<20,
		"the GPU's":   small.Parent == gpu.UUID && small.PCI == gpu.PCI && small.ComputeCapability == "8.0" && small.CUDA == "12.8",
		"may be used": big.Usable() && small.Usable() && small.UUID[:4] == "MIG-",
		"its own":     small.Utilization == nil && small.Temperature == nil && len(small.Processes) == 1 && len(big.Processes) == 0,
	} {
		if !got {
			t.Errorf("%s: got %+v and %+v of %+v", name, big, small, gpu)
		}
	}
	lib.Set(gputest.State{GPUs: []gputest.GPU{{UUID: state.GPUs[0].UUID, Total: 1, MIG: true}}})
	if a = startChild(t, lib.Path()).read(); len(a.Devices) != 1 || a.Devices[0].Usable() {
		t.Errorf("got %v, want no device that can be used without an instance", a.Devices)
	}
}

// TestShared notices who else may use a device.
func TestShared(t *testing.T) {
	pipes := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(pipes, "control"), 0o600); err != nil {
		t.Fatal(err)
	}
	lib := gputest.NVML(t, gputest.Full)
	for name, tt := range map[string]struct {
		dir  string
		kind gputest.Kind
		want [2]bool
	}{
		"the daemon's pipe": {pipes, gputest.Compute, [2]bool{true, true}},
		"a client":          {t.TempDir(), gputest.MPS, [2]bool{true, false}},
		"nothing":           {t.TempDir(), gputest.Compute, [2]bool{}},
	} {
		state := twoGPUs()
		state.GPUs[0].Processes = []gputest.Process{{PID: 3, Kind: tt.kind}}
		lib.Set(state)
		a := startChild(t, lib.Path(), "CUDA_MPS_PIPE_DIRECTORY="+tt.dir).read()
		if got := [2]bool{a.Devices[0].MPS, a.Devices[1].MPS}; got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

// TestTimeSliced reads the words of Kubernetes' plugins.
func TestTimeSliced(t *testing.T) {
	for _, tt := range []struct {
		visible, sharing string
		want             bool
	}{
		{"GPU-1", "", false},
		{"all", "none", false},
		{"GPU-1::2", "", true},
		{"", "time-slicing", true},
		{"", "Tesla-T4-SHARED", true},
		{"", "mps", false},
	} {
		env := map[string]string{"NVIDIA_VISIBLE_DEVICES": tt.visible, "DEEPFN_GPU_SHARING": tt.sharing}
		if got := TimeSliced(func(name string) string { return env[name] }); got != tt.want {
			t.Errorf("%v: got %v, want %v", env, got, tt.want)
		}
	}
}

// TestHang has the driver not answer: who asks returns with his context, and when it answers
// again all is well.
func TestHang(t *testing.T) {
	lib := gputest.NVML(t, gputest.Full)
	slow := twoGPUs()
	slow.Rules = []gputest.Rule{{Function: "nvmlDeviceGetMemoryInfo", Wait: 1500}}
	lib.Set(slow)
	c := startChild(t, lib.Path())
	a := c.do(order{Op: "read", Millis: 50, Times: 20})
	if a.Code != actions.Deadline || !strings.Contains(a.Error, "has not answered") {
		t.Errorf("got %q (%s), want Deadline", a.Error, a.Code)
	}
	lib.Set(twoGPUs())
	if a = c.do(order{Op: "read", Times: 20}); len(a.Devices) != 2 {
		t.Errorf("got %v %s, want the devices when the driver answers again", a.Devices, a.Error)
	}
	slow.Rules = []gputest.Rule{{Function: "nvmlInit_v2", Wait: 60_000}}
	lib.Set(slow)
	c = startChild(t, lib.Path())
	if a = c.do(order{Op: "read", Millis: 50}); a.Code != actions.Deadline || a.State != Opening {
		t.Errorf("got %q (%s), %s, want Deadline while it opens", a.Error, a.Code, a.State)
	}
	if a = c.do(order{Op: "close"}); !strings.Contains(a.Error, "does not answer") {
		t.Errorf("close: got %q, want that it gave up", a.Error)
	}
	if a = c.read(); a.Code != actions.Unavailable || a.State != Closed {
		t.Errorf("got %q (%s), %s, want that it is closed", a.Error, a.Code, a.State)
	}
}
