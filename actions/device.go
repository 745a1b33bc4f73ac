package actions

// A Device is what an instance can be placed on: a GPU, or a MIG instance of one, as its
// driver shows it. Its JSON is what `deepfn devices --json` prints. Pointers are nil where the
// driver does not say.
type Device struct {
	// UUID identifies the device, "GPU-…" or "MIG-…", and is what CUDA_VISIBLE_DEVICES
	// takes. Parent is the UUID of the GPU that a MIG instance is of, else empty.
	UUID   string `json:"uuid"`
	Parent string `json:"parent,omitempty"`
	// Index is the driver's number of the GPU, which may be another after a restart: for
	// people only.
	Index int `json:"index"`
	// Name is the product ("NVIDIA A100-SXM4-80GB"; of a MIG instance with its profile), and
	// what measurements of one device hold for on another.
	Name         string `json:"name"`
	Vendor       string `json:"vendor,omitempty"`
	Architecture string `json:"architecture,omitempty"`
	// PCI is the bus id of the GPU, "00000000:07:00.0".
	PCI string `json:"pci,omitempty"`
	// ComputeCapability is CUDA's, "8.0". Driver and CUDA are versions.
	ComputeCapability string `json:"compute_capability,omitempty"`
	Driver            string `json:"driver,omitempty"`
	CUDA              string `json:"cuda,omitempty"`

	// MemoryTotal and MemoryUsed are bytes of the device's memory. Used is by everybody.
	MemoryTotal int64 `json:"memory_total_bytes"`
	MemoryUsed  int64 `json:"memory_used_bytes"`
	// Utilization is the share of the last sample in which a kernel ran, 0 to 1.
	Utilization *float64 `json:"utilization,omitempty"`
	// Temperature is in degrees Celsius, Power and PowerLimit in watts, Clock of the
	// multiprocessors in hertz.
	Temperature *float64 `json:"temperature_celsius,omitempty"`
	Power       *float64 `json:"power_watts,omitempty"`
	PowerLimit  *float64 `json:"power_limit_watts,omitempty"`
	Clock       *float64 `json:"clock_hertz,omitempty"`
	// ECCErrors counts the uncorrected errors of memory since the driver was loaded.
	ECCErrors *int64 `json:"ecc_errors,omitempty"`

	// Health says whether the device may be used, Reason why not.
	Health Health `json:"health"`
	Reason string `json:"reason,omitempty"`
	// MIG says that the GPU is divided: its instances are devices, it is none itself. MPS
	// and TimeSliced say that others may run on the device at the same time: NVIDIA's
	// multi-process service is there; Kubernetes hands out shares of the GPU.
	MIG        bool `json:"mig,omitempty"`
	MPS        bool `json:"mps,omitempty"`
	TimeSliced bool `json:"time_sliced,omitempty"`

	// Processes are those that use the device, by the process ids that the driver knows,
	// which in a container may not be those of the container.
	Processes []DeviceProcess `json:"processes,omitempty"`
}

// A DeviceProcess is a process that holds memory of a device.
type DeviceProcess struct {
	PID    int   `json:"pid"`
	Memory int64 `json:"memory_bytes"`
}

// Health is whether a device may be used.
type Health string

// The healths of a Device.
const (
	// Healthy devices take instances.
	Healthy Health = "healthy"
	// Unhealthy ones have reported errors: they take no new instance, and those that are on
	// them are ended.
	Unhealthy Health = "unhealthy"
	// Lost ones do not answer any more.
	Lost Health = "lost"
)

// Usable says whether instances can be placed on the device.
func (d *Device) Usable() bool { return d.Health == Healthy && !d.MIG && d.MemoryTotal > 0 }
