package gpu

import (
	"fmt"
	"math"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/deepfn/deepfn/actions"
)

// whole is the id of an instance that means the whole GPU.
const whole = math.MaxUint32

// instances reads the MIG instances of a GPU.
func (in *inspection) instances(gpu actions.Device) []unit {
	count, err := ask(in, callMIGCount, in.handle.GetMaxMigDeviceCount)
	if err != nil {
		return nil
	}
	var units []unit
	for i := range min(count, maxInstances) {
		handle, err := ask(in, callMIGHandle, func() (nvml.Device, nvml.Return) {
			return in.handle.GetMigDeviceHandleByIndex(i)
		})
		if err != nil { // places without an instance are among those that are counted
			continue
		}
		if u, err := in.driver.instance(gpu, handle); err == nil {
			units = append(units, u)
		}
	}
	return units
}

// instance reads a MIG instance. What the driver does not tell of instances is the GPU's.
func (d *driver) instance(gpu actions.Device, handle nvml.Device) (unit, error) {
	in := &inspection{driver: d, handle: handle}
	uuid, err := in.uuid()
	if err != nil {
		return unit{}, err
	}
	u := unit{gi: whole, ci: whole, Device: actions.Device{
		UUID: uuid, Parent: gpu.UUID, Index: gpu.Index, Vendor: gpu.Vendor, Architecture: gpu.Architecture, PCI: gpu.PCI,
		ComputeCapability: gpu.ComputeCapability, Driver: gpu.Driver, CUDA: gpu.CUDA, Health: actions.Healthy,
	}}
	memoryErr := in.memory(&u.Device)
	u.Name = in.instanceName(gpu)
	u.Processes, u.MPS = in.processes()
	if id, err := ask(in, callGPUInstance, handle.GetGpuInstanceId); err == nil {
		u.gi = uint32(id)
	}
	if id, err := ask(in, callComputeInstance, handle.GetComputeInstanceId); err == nil {
		u.ci = uint32(id)
	}
	in.judge(&u.Device, memoryErr)
	return u, nil
}

// instanceName is the product with the instance's profile, as newer drivers tell it by
// themselves: "NVIDIA A100-SXM4-80GB MIG 1g.10gb".
func (in *inspection) instanceName(gpu actions.Device) string {
	if name, err := ask(in, callName, in.handle.GetName); err == nil && strings.Contains(name, "MIG ") {
		return text(name)
	}
	attributes, err := ask(in, callAttributes, in.handle.GetAttributes)
	if err != nil {
		return gpu.Name + " MIG"
	}
	return gpu.Name + " MIG " + profile(attributes, gpu.MemoryTotal)
}

// profile names the share of a GPU that an instance has, by its slices and its gigabytes:
// 3g.40gb, with fewer compute slices than the GPU instance has 1c.3g.40gb. NVIDIA counts memory
// in eighths of the GPU's, rounded up, so that an instance of 9.5 GiB of 80 is one of 10.
func profile(a nvml.DeviceAttributes, total int64) string {
	gigabytes := math.Round(float64(a.MemorySizeMB) / 1024)
	if total > 0 {
		eighths := math.Ceil(float64(a.MemorySizeMB) * (1 << 20) / float64(total) * 8)
		gigabytes = math.Round(eighths / 8 * math.Ceil(float64(total)/(1<<30)))
	}
	text := fmt.Sprintf("%dg.%.0fgb", a.GpuInstanceSliceCount, gigabytes)
	if a.ComputeInstanceSliceCount < a.GpuInstanceSliceCount {
		text = fmt.Sprintf("%dc.%s", a.ComputeInstanceSliceCount, text)
	}
	return text
}
