package gpu_test

import (
	"context"
	"fmt"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/gpu"
)

// A machine without a driver is no error of a program: it has no devices, and knows why.
func ExampleOpen() {
	monitor := gpu.Open(gpu.Config{Library: "/nowhere/libnvidia-ml.so.1"})
	defer func() { _ = monitor.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	devices, err := monitor.Read(ctx)
	state, _ := monitor.State()
	fmt.Println(len(devices), actions.CodeOf(err), state)
	// Output: 0 unavailable no_library
}
