package gpu

import (
	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/deepfn/deepfn/actions"
)

// A State is how a Monitor stands with the driver. Only in Ready there are devices.
type State string

// The states of a Monitor.
const (
	// Opening: the driver has not answered yet.
	Opening State = "opening"
	// Ready: devices are read.
	Ready State = "ready"
	// NoDevices: the driver answers and has no GPU for this process.
	NoDevices State = "no_devices"
	// NoLibrary: there is no libnvidia-ml.so.1, or it cannot be loaded.
	NoLibrary State = "no_library"
	// OldLibrary: the library lacks functions without which nothing can be said.
	OldLibrary State = "old_library"
	// OtherLibrary: the process has used another library before.
	OtherLibrary State = "other_library"
	// NoDriver: the library is there, the kernel's driver is not.
	NoDriver State = "no_driver"
	// Mismatch: library and driver are of different versions.
	Mismatch State = "mismatch"
	// NoPermission: this process may not talk to the driver.
	NoPermission State = "no_permission"
	// Failing: the driver answers with an error that has no state of its own.
	Failing State = "failing"
	// Closed: Close was called.
	Closed State = "closed"
)

// advice says what the state means and what to do, for people.
func (s State) advice() string {
	switch s {
	case Opening:
		return "NVIDIA's driver has not answered yet; if that lasts it hangs: see the kernel's log (dmesg, \"NVRM\")"
	case Ready:
		return ""
	case NoDevices:
		return "NVIDIA's driver has no GPU for this process; in a container, hand one to it (docker run --gpus, the resource nvidia.com/gpu)"
	case NoLibrary:
		return "NVIDIA's libnvidia-ml.so.1 cannot be loaded; with a GPU, install its driver; in a container, use NVIDIA's runtime with " +
			"NVIDIA_DRIVER_CAPABILITIES=utility,compute; or say where the library is (DEEPFN_NVML)"
	case OldLibrary:
		return "libnvidia-ml.so.1 lacks functions that are needed: it is too old, or another library of that name; install a newer driver"
	case OtherLibrary:
		return "this process has loaded another libnvidia-ml.so.1 before, and a process can use one only; start it again"
	case NoDriver:
		return "NVIDIA's driver is not loaded in the kernel; load it (modprobe nvidia, or nvidia-smi as root); in a container, hand a GPU to it"
	case Mismatch:
		return "NVIDIA's library is not of the version of the driver that the kernel has loaded, as after an update; restart the machine, " +
			"or the container that has the old library"
	case NoPermission:
		return "this process may not use NVIDIA's driver; let its user open /dev/nvidiactl and /dev/nvidia*"
	case Failing:
		return "NVIDIA's driver answers with an error; see nvidia-smi and the kernel's log (dmesg, \"NVRM\")"
	case Closed:
		return "the monitor of the devices is closed"
	}
	return ""
}

// err is the error of a state, with its cause.
func (s State) err(cause error) error {
	if cause == nil {
		return &actions.Error{Code: actions.Unavailable, Msg: s.advice()}
	}
	return &actions.Error{Code: actions.Unavailable, Msg: s.advice() + " (" + cause.Error() + ")", Err: cause}
}

// stateOf is the state that a code of the whole driver, not of one GPU, means.
func stateOf(code nvml.Return) State {
	switch code {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return NoLibrary
	case nvml.ERROR_FUNCTION_NOT_FOUND:
		return OldLibrary
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return NoDriver
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return Mismatch
	case nvml.ERROR_NO_PERMISSION:
		return NoPermission
	default:
		return Failing
	}
}
