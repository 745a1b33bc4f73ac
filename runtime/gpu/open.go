package gpu

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// systemNVML is the library that the system's loader looks for.
const systemNVML = "libnvidia-ml.so.1"

// load returns the driver of a library, or the state that the lack of one means.
func load(path string) (*driver, State, error) {
	if state, err := check(path); err != nil {
		return nil, state, err
	}
	return start(nvml.New(nvml.WithLibraryPath(path)))
}

// check makes sure that the library can be handed to the binding, which would end the process
// if a function were missing that it calls without being asked.
func check(path string) (State, error) {
	lib, err := openLibrary(path, true)
	if err != nil {
		return NoLibrary, err
	}
	var missing []string
	for _, c := range calls() {
		found := slices.ContainsFunc(c.symbols, func(symbol string) bool { return lib.symbol(symbol) != nil })
		if c.required && !found {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return OldLibrary, fmt.Errorf("%s has no %s", path, strings.Join(missing, ", "))
	}
	for _, c := range calls() {
		for _, symbol := range c.symbols {
			if own := lib.symbol(symbol); own != nil && bound(symbol) != own {
				return OtherLibrary, fmt.Errorf("%s is not where %s would be called", path, symbol)
			}
		}
	}
	return Ready, nil
}

// start initialises NVML.
func start(lib nvml.Interface) (*driver, State, error) {
	if ret := lib.Init(); ret != nvml.SUCCESS {
		return nil, stateOf(ret), &callError{callInit, ret}
	}
	return newDriver(lib), Ready, nil
}

// gone says that an error is of a driver that has to be opened again.
func gone(err error) bool {
	e, ok := errors.AsType[*callError](err)
	return ok && slices.Contains([]nvml.Return{
		nvml.ERROR_UNINITIALIZED, nvml.ERROR_DRIVER_NOT_LOADED, nvml.ERROR_LIB_RM_VERSION_MISMATCH,
	}, e.code)
}
