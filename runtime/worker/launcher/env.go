package launcher

import (
	"maps"
	"os"
	"slices"
	"strconv"
)

// environment returns what a Run adds to the environment of this process; of two
// variables of the same name the later counts.
func (l *Launcher) environment(run *Run) []string {
	var env []string
	unset := func(name, value string) {
		if _, ok := os.LookupEnv(name); !ok {
			env = append(env, name+"="+value)
		}
	}
	if n := l.cfg.Threads; n > 0 {
		for _, name := range []string{"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"} {
			unset(name, strconv.Itoa(n))
		}
	}
	// Kernels that are loaded when they are used take less memory and time to start.
	unset("CUDA_MODULE_LOADING", "LAZY")
	if l.cfg.Devices != "" {
		env = append(env, "CUDA_VISIBLE_DEVICES="+l.cfg.Devices)
	}
	for _, more := range []map[string]string{run.Spec.Env, run.Model.Env} {
		for _, name := range slices.Sorted(maps.Keys(more)) {
			env = append(env, name+"="+more[name])
		}
	}
	return append(env, run.Env...)
}
