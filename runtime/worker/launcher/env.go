package launcher

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// visible is the variable that says which devices CUDA shows to a process.
const visible = "CUDA_VISIBLE_DEVICES="

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
		env = append(env, visible+l.cfg.Devices)
	}
	for _, more := range []map[string]string{run.Spec.Env, run.Model.Env} {
		for _, name := range slices.Sorted(maps.Keys(more)) {
			env = append(env, name+"="+more[name])
		}
	}
	return append(env, run.Env...)
}

// anyDevice returns the environment with the number of devices in place of the devices. A
// fork server uses none itself, so that workers on different devices can be forked from one;
// how many there are, packages may want to know when they are imported.
func anyDevice(env []string) []string {
	device := regexp.MustCompile(`^(\d+|(GPU|MIG)-[\w/-]+)$`)
	var kept []string
	for _, variable := range env {
		if names, ok := strings.CutPrefix(variable, visible); ok {
			list := strings.Split(names, ",")
			if !slices.ContainsFunc(list, func(name string) bool { return !device.MatchString(name) }) {
				variable = fmt.Sprintf("%s%d of any", visible, len(list))
			}
		}
		kept = append(kept, variable)
	}
	return kept
}
