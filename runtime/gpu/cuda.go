package gpu

/*
#include <string.h>

// The functions and structures of
// https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__CHECKPOINT.html. CUresult and
// CUprocessState are enumerations, which are ints here. The arguments of all but the lock are
// optional, and absent.
typedef struct {
	unsigned int timeout_ms;
	unsigned int reserved0;
	unsigned long long reserved1[7];
} deepfn_lock_args;

static int deepfn_init(void *f) { return ((int (*)(unsigned int))f)(0); }

static int deepfn_lock(void *f, int pid, unsigned int timeout_ms) {
	deepfn_lock_args args;
	memset(&args, 0, sizeof args); // what is reserved must be zero
	args.timeout_ms = timeout_ms;
	return ((int (*)(int, deepfn_lock_args *))f)(pid, &args);
}

static int deepfn_process(void *f, int pid) { return ((int (*)(int, void *))f)(pid, NULL); }

static int deepfn_state(void *f, int pid, int *state) { return ((int (*)(int, int *))f)(pid, state); }

static const char *deepfn_error_name(void *f, int code) {
	const char *name = NULL;
	if (!f || ((int (*)(int, const char **))f)(code, &name) != 0)
		return NULL;
	return name;
}
*/
import "C"

import (
	"fmt"
	"strings"
	"unsafe"
)

// The states of a process, CUprocessState.
const (
	stateRunning      = 0
	stateLocked       = 1
	stateCheckpointed = 2
)

// A cuda is libcuda's functions for checkpoints. They return a CUresult, zero for success.
type cuda struct {
	lockFunc, checkpointFunc, restoreFunc, unlockFunc, stateFunc unsafe.Pointer

	errorName unsafe.Pointer // may be absent
}

// loadCUDA loads libcuda and initialises it.
func loadCUDA(path string) (cuda, error) {
	lib, err := openLibrary(path, false)
	if err != nil {
		return cuda{}, err
	}
	var c cuda
	var initialize unsafe.Pointer
	var missing []string
	for name, to := range map[string]*unsafe.Pointer{
		"cuInit":                        &initialize,
		"cuCheckpointProcessLock":       &c.lockFunc,
		"cuCheckpointProcessCheckpoint": &c.checkpointFunc,
		"cuCheckpointProcessRestore":    &c.restoreFunc,
		"cuCheckpointProcessUnlock":     &c.unlockFunc,
		"cuCheckpointProcessGetState":   &c.stateFunc,
	} {
		if *to = lib.symbol(name); *to == nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return cuda{}, fmt.Errorf("%s has no %s", path, strings.Join(missing, ", "))
	}
	c.errorName = lib.symbol("cuGetErrorName")
	if code := int(C.deepfn_init(initialize)); code != 0 {
		return cuda{}, c.error("cuInit", code)
	}
	return c, nil
}

func (c cuda) lock(pid int, millis uint) int {
	return int(C.deepfn_lock(c.lockFunc, C.int(pid), C.uint(millis)))
}

func (c cuda) checkpoint(pid int) int { return int(C.deepfn_process(c.checkpointFunc, C.int(pid))) }

func (c cuda) restore(pid int) int { return int(C.deepfn_process(c.restoreFunc, C.int(pid))) }

func (c cuda) unlock(pid int) int { return int(C.deepfn_process(c.unlockFunc, C.int(pid))) }

func (c cuda) state(pid int) (state, code int) {
	var s C.int
	code = int(C.deepfn_state(c.stateFunc, C.int(pid), &s))
	return int(s), code
}

// error says what a code means, by the driver's name of it.
func (c cuda) error(what string, code int) error {
	if name := C.deepfn_error_name(c.errorName, C.int(code)); name != nil {
		return fmt.Errorf("%s: %s (%d)", what, C.GoString(name), code)
	}
	return fmt.Errorf("%s: CUDA error %d", what, code)
}
