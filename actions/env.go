package actions

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	// workerVariable tells a child that it is a worker; package worker sets it.
	workerVariable = "DEEPFN_WORKER"
	// maxVariable is the most bytes of "name=value" and the zero behind it that Linux
	// gives to a program.
	maxVariable = 128 << 10
)

// CheckEnv refuses variables that the program of a model cannot have, whatever its
// runtime. An action with one is wrong; of an /init use PossibleEnv.
func CheckEnv(env map[string]string) error {
	if _, wrong := PossibleEnv(env); len(wrong) > 0 {
		return fmt.Errorf("env: %w", wrong[0])
	}
	return nil
}

// PossibleEnv returns the variables of env that the program of a model can have and, in
// the order of their names, why it cannot have the others. The parameters of an action
// that a platform hands over as variables may have any name, and a function that needs
// none of the odd ones runs without them.
func PossibleEnv(env map[string]string) (possible map[string]string, wrong []error) {
	possible = make(map[string]string, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if err := checkVariable(name, env[name]); err != nil {
			wrong = append(wrong, err)
			continue
		}
		possible[name] = env[name]
	}
	return possible, wrong
}

func checkVariable(name, value string) error {
	problem := ""
	switch {
	case name == "":
		problem = "its name is empty"
	case strings.ContainsAny(name, "=\x00"):
		problem = "its name has a '=' or a zero byte"
	case strings.Contains(value, "\x00"):
		problem = "its value has a zero byte"
	case len(name)+len(value)+2 > maxVariable:
		problem = fmt.Sprintf("it is longer than %d bytes", maxVariable-2)
	case name == workerVariable:
		problem = "it belongs to deepfn"
	default:
		return nil
	}
	return fmt.Errorf("%q cannot be a variable: %s", shorten(name), problem)
}
