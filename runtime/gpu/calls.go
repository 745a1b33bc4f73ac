package gpu

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// The functions of NVML that are called, by the names of their first versions.
const (
	callInit            = "nvmlInit"
	callShutdown        = "nvmlShutdown"
	callDriverVersion   = "nvmlSystemGetDriverVersion"
	callCUDAVersion     = "nvmlSystemGetCudaDriverVersion"
	callCUDAVersion2    = "nvmlSystemGetCudaDriverVersion_v2"
	callCount           = "nvmlDeviceGetCount"
	callHandle          = "nvmlDeviceGetHandleByIndex"
	callUUID            = "nvmlDeviceGetUUID"
	callName            = "nvmlDeviceGetName"
	callMemory          = "nvmlDeviceGetMemoryInfo"
	callArchitecture    = "nvmlDeviceGetArchitecture"
	callPCI             = "nvmlDeviceGetPciInfo"
	callCapability      = "nvmlDeviceGetCudaComputeCapability"
	callUtilization     = "nvmlDeviceGetUtilizationRates"
	callTemperature     = "nvmlDeviceGetTemperature"
	callPower           = "nvmlDeviceGetPowerUsage"
	callPowerLimit      = "nvmlDeviceGetEnforcedPowerLimit"
	callClock           = "nvmlDeviceGetClockInfo"
	callECC             = "nvmlDeviceGetTotalEccErrors"
	callMIGMode         = "nvmlDeviceGetMigMode"
	callMIGCount        = "nvmlDeviceGetMaxMigDeviceCount"
	callMIGHandle       = "nvmlDeviceGetMigDeviceHandleByIndex"
	callAttributes      = "nvmlDeviceGetAttributes_v2"
	callGPUInstance     = "nvmlDeviceGetGpuInstanceId"
	callComputeInstance = "nvmlDeviceGetComputeInstanceId"
	callCompute         = "nvmlDeviceGetComputeRunningProcesses"
	callGraphics        = "nvmlDeviceGetGraphicsRunningProcesses"
	callMPS             = "nvmlDeviceGetMPSComputeRunningProcesses"
	callEventSet        = "nvmlEventSetCreate"
	callEventTypes      = "nvmlDeviceGetSupportedEventTypes"
	callEventRegister   = "nvmlDeviceRegisterEvents"
	callEventWait       = "nvmlEventSetWait"
	callEventWait2      = "nvmlEventSetWait_v2"
	callEventFree       = "nvmlEventSetFree"
)

// A call is a function of NVML with the symbols of its versions, one of which is enough.
type call struct {
	name    string
	symbols []string
	// required ones are those without which nothing can be said of a device.
	required bool
}

// calls are all functions of NVML that this package calls. The versions are those that the
// binding knows how to call: it looks for the newest by itself, and calls the first when it
// finds none, whether that one is there or not.
func calls() []call {
	all := []call{
		{callInit, versions(callInit, 2), true},
		{callShutdown, nil, true},
		{callCount, versions(callCount, 2), true},
		{callHandle, versions(callHandle, 2), true},
		{callUUID, nil, true},
		{callMemory, nil, true},
		{callPCI, versions(callPCI, 2, 3), false},
		{callEventWait, versions(callEventWait, 2), false},
		{callCompute, versions(callCompute, 2, 3), false},
		{callGraphics, versions(callGraphics, 2, 3), false},
		{callMPS, versions(callMPS, 2, 3), false},
	}
	for _, name := range []string{
		callDriverVersion, callCUDAVersion, callCUDAVersion2, callName, callArchitecture, callCapability,
		callUtilization, callTemperature, callPower, callPowerLimit, callClock, callECC, callMIGMode,
		callMIGCount, callMIGHandle, callAttributes, callGPUInstance, callComputeInstance,
		callEventSet, callEventTypes, callEventRegister, callEventWait2, callEventFree,
	} {
		all = append(all, call{name: name})
	}
	for i := range all {
		if all[i].symbols == nil {
			all[i].symbols = []string{all[i].name}
		}
	}
	return all
}

func versions(name string, later ...int) []string {
	symbols := []string{name}
	for _, v := range later {
		symbols = append(symbols, fmt.Sprintf("%s_v%d", name, v))
	}
	return symbols
}

// A driver is NVML, and which of the calls its library has.
type driver struct {
	lib nvml.Interface
	has map[string]bool
	// version and cuda are for people.
	version, cuda string
}

// newDriver looks the calls up in a library that was initialised.
func newDriver(lib nvml.Interface) *driver {
	d := &driver{lib: lib, has: map[string]bool{}}
	for _, c := range calls() {
		for _, symbol := range c.symbols {
			d.has[c.name] = d.has[c.name] || lib.Extensions().LookupSymbol(symbol) == nil
		}
	}
	if d.has[callDriverVersion] {
		if version, ret := lib.SystemGetDriverVersion(); ret == nvml.SUCCESS {
			d.version = version
		}
	}
	d.cuda = d.readCUDA()
	return d
}

// readCUDA returns the version of CUDA that the driver supports, "12.8".
func (d *driver) readCUDA() string {
	version, ret := 0, nvml.ERROR_FUNCTION_NOT_FOUND
	if d.has[callCUDAVersion2] { // what the libcuda that is installed says, not this library
		version, ret = d.lib.SystemGetCudaDriverVersion_v2()
	}
	if ret != nvml.SUCCESS && d.has[callCUDAVersion] {
		version, ret = d.lib.SystemGetCudaDriverVersion()
	}
	if ret != nvml.SUCCESS || version <= 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d", version/1000, version%1000/10)
}

// A callError is a call of NVML that did not succeed.
type callError struct {
	call string
	code nvml.Return
}

func (e *callError) Error() string { return fmt.Sprintf("%s: %s", e.call, codeText(e.code)) }

// codeText puts a code of NVML into words.
func codeText(code nvml.Return) string {
	texts := map[nvml.Return]string{
		nvml.ERROR_UNINITIALIZED:           "not initialised",
		nvml.ERROR_INVALID_ARGUMENT:        "wrong argument",
		nvml.ERROR_NOT_SUPPORTED:           "not supported",
		nvml.ERROR_NO_PERMISSION:           "no permission",
		nvml.ERROR_NOT_FOUND:               "not found",
		nvml.ERROR_INSUFFICIENT_SIZE:       "too little room",
		nvml.ERROR_INSUFFICIENT_POWER:      "a power cable is missing",
		nvml.ERROR_DRIVER_NOT_LOADED:       "the driver is not loaded",
		nvml.ERROR_TIMEOUT:                 "timeout",
		nvml.ERROR_IRQ_ISSUE:               "interrupts do not arrive",
		nvml.ERROR_LIBRARY_NOT_FOUND:       "the library is not found",
		nvml.ERROR_FUNCTION_NOT_FOUND:      "the library lacks the function",
		nvml.ERROR_CORRUPTED_INFOROM:       "the GPU's infoROM is corrupted",
		nvml.ERROR_GPU_IS_LOST:             "the GPU is lost: it does not answer on the bus",
		nvml.ERROR_RESET_REQUIRED:          "the GPU must be reset",
		nvml.ERROR_OPERATING_SYSTEM:        "the operating system refuses",
		nvml.ERROR_LIB_RM_VERSION_MISMATCH: "driver and library are of different versions",
		nvml.ERROR_IN_USE:                  "in use",
		nvml.ERROR_MEMORY:                  "no memory",
		nvml.ERROR_NO_DATA:                 "no data",
		nvml.ERROR_UNKNOWN:                 "unknown error",
	}
	if text := texts[code]; text != "" {
		return fmt.Sprintf("%s (NVML %d)", text, int32(code))
	}
	return fmt.Sprintf("NVML %d", int32(code))
}
