package main

import (
	"testing"

	"github.com/deepfn/deepfn/runtime/gpu/gputest"
)

// fakeNVML returns the path of a driver's library with a busy GPU, and one that is divided.
func fakeNVML(t *testing.T) string {
	t.Helper()
	lib := gputest.NVML(t, gputest.Full)
	busy, divided := gputest.A100(0), gputest.A100(1)
	busy.Used, busy.Utilization = 30<<30, 75
	divided.Instances = []gputest.Instance{{
		UUID: "MIG-00000000-0000-0000-0000-000000000007", Total: 9728 << 20, GPUSlices: 1, ComputeSlices: 1,
	}}
	lib.Set(gputest.State{GPUs: []gputest.GPU{busy, divided}})
	return lib.Path()
}
