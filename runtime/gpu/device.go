package gpu

import (
	"fmt"
	"math"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/deepfn/deepfn/actions"
)

// An inspection asks the driver about one device, and keeps what is wrong with that.
type inspection struct {
	driver *driver
	handle nvml.Device
	// lost and reset are codes that mean the whole device, whatever was asked.
	lost, reset bool
}

// ask asks for one fact. It is unknown when the library has no such function, or the driver does
// not tell. The binding panics when a driver counts more than it was given room for.
func ask[T any](in *inspection, name string, f func() (T, nvml.Return)) (value T, err error) {
	var zero T
	if !in.driver.has[name] {
		return zero, &callError{name, nvml.ERROR_FUNCTION_NOT_FOUND}
	}
	defer func() {
		if fault := recover(); fault != nil {
			value, err = zero, fmt.Errorf("%s: the driver's answer makes no sense: %v", name, fault)
		}
	}()
	value, ret := f()
	switch ret {
	case nvml.SUCCESS:
		return value, nil
	case nvml.ERROR_GPU_IS_LOST:
		in.lost = true
	case nvml.ERROR_RESET_REQUIRED:
		in.reset = true
	default: // says nothing of the device
	}
	return zero, &callError{name, ret}
}

// measure asks for a number that is told in other units.
func measure(in *inspection, name string, factor float64, f func() (uint32, nvml.Return)) *float64 {
	value, err := ask(in, name, f)
	if err != nil {
		return nil
	}
	scaled := float64(value) * factor
	return &scaled
}

// gpu reads a GPU, and its MIG instances.
func (d *driver) gpu(index int, handle nvml.Device) ([]unit, error) {
	in := &inspection{driver: d, handle: handle}
	uuid, err := in.uuid()
	if err != nil {
		return nil, err
	}
	u := unit{Device: actions.Device{
		UUID: uuid, Index: index, Vendor: "NVIDIA", Driver: d.version, CUDA: d.cuda, Health: actions.Healthy,
	}}
	in.identify(&u.Device)
	memoryErr := in.memory(&u.Device)
	in.measure(&u.Device)
	u.Processes, u.MPS = in.processes()
	mode, err := ask(in, callMIGMode, func() (int, nvml.Return) {
		current, _, ret := handle.GetMigMode()
		return current, ret
	})
	u.MIG = err == nil && mode == nvml.DEVICE_MIG_ENABLE
	var instances []unit
	if u.MIG {
		instances = in.instances(u.Device)
	}
	in.judge(&u.Device, memoryErr)
	for i := range instances {
		if u.Health != actions.Healthy {
			instances[i].Health, instances[i].Reason = u.Health, u.Reason
		}
	}
	return append([]unit{u}, instances...), nil
}

// uuid reads the name of a device that it keeps for ever.
func (in *inspection) uuid() (string, error) {
	uuid, err := ask(in, callUUID, in.handle.GetUUID)
	if err == nil && text(uuid) == "" {
		err = &callError{callUUID, nvml.ERROR_NO_DATA}
	}
	return text(uuid), err
}

// judge says how a device fares by how it was read.
func (in *inspection) judge(device *actions.Device, memoryErr error) {
	switch {
	case in.lost:
		device.Health = actions.Lost
		device.Reason = "the GPU does not answer any more; reset it (nvidia-smi --gpu-reset) or restart the machine"
	case in.reset:
		device.Health = actions.Unhealthy
		device.Reason = "the GPU must be reset (nvidia-smi --gpu-reset)"
	case memoryErr != nil && !device.MIG:
		device.Health = actions.Unhealthy
		device.Reason = fmt.Sprintf("how much memory it has cannot be read: %v", memoryErr)
	}
}

func (in *inspection) identify(device *actions.Device) {
	handle := in.handle
	name, _ := ask(in, callName, handle.GetName)
	device.Name = text(name)
	if architecture, err := ask(in, callArchitecture, handle.GetArchitecture); err == nil {
		device.Architecture = architectureName(architecture)
	}
	if pci, err := ask(in, callPCI, handle.GetPciInfo); err == nil {
		device.PCI = pciText(pci)
	}
	if capability, err := ask(in, callCapability, func() (string, nvml.Return) {
		major, minor, ret := handle.GetCudaComputeCapability()
		return fmt.Sprintf("%d.%d", major, minor), ret
	}); err == nil {
		device.ComputeCapability = capability
	}
}

// memory reads the bytes. What the driver keeps for itself counts as used.
func (in *inspection) memory(device *actions.Device) error {
	memory, err := ask(in, callMemory, in.handle.GetMemoryInfo)
	if err != nil {
		return err
	}
	total := min(memory.Total, math.MaxInt64)
	device.MemoryTotal = int64(total)
	device.MemoryUsed = int64(total - min(memory.Free, total))
	return nil
}

func (in *inspection) measure(device *actions.Device) {
	handle := in.handle
	device.Utilization = measure(in, callUtilization, 0.01, func() (uint32, nvml.Return) {
		u, ret := handle.GetUtilizationRates()
		return min(u.Gpu, 100), ret
	})
	device.Temperature = measure(in, callTemperature, 1, func() (uint32, nvml.Return) {
		return handle.GetTemperature(nvml.TEMPERATURE_GPU)
	})
	device.Power = measure(in, callPower, 1e-3, handle.GetPowerUsage)
	device.PowerLimit = measure(in, callPowerLimit, 1e-3, handle.GetEnforcedPowerLimit)
	device.Clock = measure(in, callClock, 1e6, func() (uint32, nvml.Return) {
		return handle.GetClockInfo(nvml.CLOCK_SM)
	})
	if errors, err := ask(in, callECC, func() (uint64, nvml.Return) {
		return handle.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC)
	}); err == nil {
		count := int64(min(errors, math.MaxInt64))
		device.ECCErrors = &count
	}
}

// processes lists who uses the device, each process once, and says whether one of them is a
// client of the multi-process service.
func (in *inspection) processes() (list []actions.DeviceProcess, mps bool) {
	index := map[uint32]int{}
	add := func(infos []nvml.ProcessInfo) {
		for _, info := range infos {
			bytes := int64(info.UsedGpuMemory)
			if info.UsedGpuMemory > math.MaxInt64 { // NVML_VALUE_NOT_AVAILABLE
				bytes = 0
			}
			if at, found := index[info.Pid]; found {
				list[at].Memory = max(list[at].Memory, bytes)
				continue
			}
			index[info.Pid] = len(list)
			list = append(list, actions.DeviceProcess{PID: int(info.Pid), Memory: bytes})
		}
	}
	compute, _ := ask(in, callCompute, in.handle.GetComputeRunningProcesses)
	add(compute)
	graphics, _ := ask(in, callGraphics, in.handle.GetGraphicsRunningProcesses)
	add(graphics)
	shared, _ := ask(in, callMPS, in.handle.GetMPSComputeRunningProcesses)
	add(shared)
	return list, len(shared) > 0
}

// architectureName names NVIDIA's generations, by NVML's numbers of them.
func architectureName(architecture nvml.DeviceArchitecture) string {
	names := map[nvml.DeviceArchitecture]string{
		nvml.DEVICE_ARCH_KEPLER: "Kepler", nvml.DEVICE_ARCH_MAXWELL: "Maxwell", nvml.DEVICE_ARCH_PASCAL: "Pascal",
		nvml.DEVICE_ARCH_VOLTA: "Volta", nvml.DEVICE_ARCH_TURING: "Turing", nvml.DEVICE_ARCH_AMPERE: "Ampere",
		nvml.DEVICE_ARCH_ADA: "Ada", nvml.DEVICE_ARCH_HOPPER: "Hopper", nvml.DEVICE_ARCH_BLACKWELL: "Blackwell",
	}
	return names[architecture]
}

// pciText is the bus id, which old libraries tell in a shorter form.
func pciText(pci nvml.PciInfo) string {
	if id := cText(pci.BusId[:]); id != "" {
		return id
	}
	return cText(pci.BusIdLegacy[:])
}

func cText(bytes []uint8) string {
	for i, b := range bytes {
		if b == 0 {
			return string(bytes[:i])
		}
	}
	return string(bytes)
}
