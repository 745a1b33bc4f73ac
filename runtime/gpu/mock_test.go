package gpu

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"

	"github.com/deepfn/deepfn/actions"
)

// mockServer is the binding's mock of a machine with eight GPUs. It has the functions that the mock
// answers, and ends in a panic when another is called.
func mockServer() *dgxa100.Server {
	server := dgxa100.New()
	answered := []string{
		callInit, callShutdown, callDriverVersion, callCUDAVersion, callCount, callHandle, callUUID, callName, callMemory,
		callArchitecture, callPCI, callCapability, callMIGMode,
	}
	server.LookupSymbolFunc = func(symbol string) error {
		if !slices.Contains(answered, symbol) {
			return errors.New("the mock has no answer")
		}
		return nil
	}
	for _, d := range server.Devices {
		d.(*dgxa100.Device).MemoryInfo = nvml.Memory{Total: 40 << 30, Free: 39 << 30, Used: 1 << 30}
	}
	return server
}

func openMock(t *testing.T, server nvml.Interface) *Monitor {
	t.Helper()
	m := openWith(Config{}, func() (*driver, State, error) { return start(server) })
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// TestMock reads the binding's own mock.
func TestMock(t *testing.T) {
	m := openMock(t, mockServer())
	devices, err := m.Read(t.Context())
	if err != nil || len(devices) != 8 {
		t.Fatalf("got %d devices, %v, want 8", len(devices), err)
	}
	d := devices[7]
	if d.Index != 7 || d.Architecture != "Ampere" || d.CUDA != "12.4" || d.MemoryUsed != 1<<30 || !d.Usable() || d.Temperature != nil {
		t.Errorf("got %+v", d)
	}
}

// TestShare has many ask at once. Nobody gets a reading that began before he asked, and those
// who ask during one share the next.
func TestShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := mockServer()
		var readings atomic.Int64
		proceed := make(chan struct{})
		server.DeviceGetCountFunc = func() (int, nvml.Return) {
			readings.Add(1)
			<-proceed
			return int(readings.Load()), nvml.SUCCESS
		}
		m := openMock(t, server)
		var readers sync.WaitGroup
		read := func(want int) {
			readers.Go(func() {
				if devices, err := m.Read(t.Context()); err != nil || len(devices) != want {
					t.Errorf("got %d devices, %v, want reading %d", len(devices), err, want)
				}
			})
		}
		read(1)
		synctest.Wait() // the first reading is under way
		for range 50 {
			read(2)
		}
		synctest.Wait()
		proceed <- struct{}{}
		proceed <- struct{}{}
		readers.Wait()
		if got := readings.Load(); got != 2 {
			t.Errorf("got %d readings for 51 callers, want 2", got)
		}
	})
}

// TestHandleErrors has GPUs that cannot be opened: somebody else's are none of ours, broken ones
// are told in the state.
func TestHandleErrors(t *testing.T) {
	server := mockServer()
	server.DeviceGetHandleByIndexFunc = func(index int) (nvml.Device, nvml.Return) {
		switch index {
		case 1:
			return nil, nvml.ERROR_NO_PERMISSION
		case 2:
			return nil, nvml.ERROR_GPU_IS_LOST
		}
		return server.Devices[index], nvml.SUCCESS
	}
	m := openMock(t, server)
	devices, err := m.Read(t.Context())
	if len(devices) != 6 || err != nil {
		t.Errorf("got %d devices, %v, want 6", len(devices), err)
	}
	state, reason := m.State()
	if state != Ready || actions.CodeOf(reason) != actions.Unavailable {
		t.Errorf("got %s, %v, want a reason", state, reason)
	}
}

// TestHostileNumbers has a driver that makes no sense.
func TestHostileNumbers(t *testing.T) {
	server := mockServer()
	server.DeviceGetCountFunc = func() (int, nvml.Return) { return 1 << 31, nvml.SUCCESS }
	server.DeviceGetHandleByIndexFunc = func(index int) (nvml.Device, nvml.Return) { return server.Devices[index%8], nvml.SUCCESS }
	for i, memory := range []nvml.Memory{{Total: 1 << 63}, {Total: 1, Free: 1 << 62}, {Used: 5}, {Total: 1<<64 - 1, Free: 1<<64 - 1}} {
		server.Devices[i].(*dgxa100.Device).MemoryInfo = memory
	}
	server.Devices[5].(*dgxa100.Device).Device = mock.Device{
		GetUUIDFunc: func() (string, nvml.Return) { return "", nvml.SUCCESS },
	}
	server.LookupSymbolFunc = func(symbol string) error {
		if slices.Contains([]string{callUUID, callMemory, callCompute}, symbol) {
			return nil
		}
		return errors.New("missing")
	}
	server.Devices[5].(*dgxa100.Device).GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_NOT_SUPPORTED }
	for _, d := range server.Devices { // what the binding does when it is told of more than it has asked for
		d.(*dgxa100.Device).GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
			return make([]nvml.ProcessInfo, 1)[:index(d)+9], nvml.SUCCESS
		}
	}
	m := openMock(t, server)
	devices, err := m.Read(t.Context())
	if err != nil || len(devices) != 7 {
		t.Fatalf("got %d devices, %v, want 7: each UUID once, and not the empty one", len(devices), err)
	}
	for _, d := range devices {
		if d.MemoryTotal < 0 || d.MemoryUsed < 0 || d.MemoryUsed > d.MemoryTotal {
			t.Errorf("got %d of %d bytes", d.MemoryUsed, d.MemoryTotal)
		}
	}
}

func index(d nvml.Device) int { return d.(*dgxa100.Device).Index }

// TestProfile names shares of real GPUs as NVIDIA's documentation of MIG does.
func TestProfile(t *testing.T) {
	for _, tt := range []struct {
		gpu, instance float64 // GiB
		gi, ci        uint32
		want          string
	}{
		{39.59, 4.75, 1, 1, "1g.5gb"},
		{39.59, 19.62, 3, 3, "3g.20gb"},
		{39.59, 19.62, 3, 1, "1c.3g.20gb"},
		{79.25, 9.5, 1, 1, "1g.10gb"},
		{79.25, 78.75, 7, 7, "7g.80gb"},
		{0, 9.5, 1, 1, "1g.10gb"},
	} {
		got := profile(nvml.DeviceAttributes{
			GpuInstanceSliceCount: tt.gi, ComputeInstanceSliceCount: tt.ci, MemorySizeMB: uint64(tt.instance * 1024),
		}, int64(tt.gpu*(1<<30)))
		if got != tt.want {
			t.Errorf("%v: got %s, want %s", tt, got, tt.want)
		}
	}
}
