package command

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// find returns the absolute path of a program.
func find(name, folder string, env []string) (string, error) {
	if filepath.IsAbs(name) {
		return executable(name)
	}
	if folder != "" {
		path, err := executable(filepath.Join(folder, name))
		if err == nil || actions.CodeOf(err) != actions.NotFound {
			return path, err
		}
	}
	if strings.Contains(name, "/") {
		return "", actions.Errorf(actions.NotFound, "there is no program %s in the action's folder", name)
	}
	for _, dir := range filepath.SplitList(Lookup(env, "PATH")) {
		if !filepath.IsAbs(dir) {
			continue // relative to what, in a child?
		}
		if path, err := executable(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", actions.Errorf(actions.NotFound, "there is no program %s, neither in the action's folder nor in PATH", name)
}

// executable returns path, absolute, if it is a file that may be executed.
func executable(path string) (string, error) {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return "", actions.Errorf(actions.NotFound, "there is no program %s: %w", path, err)
	case fi.IsDir():
		return "", actions.Errorf(actions.NotFound, "%s is a folder, not a program", path)
	case fi.Mode().Perm()&0o111 == 0:
		return "", actions.Errorf(actions.Invalid, "%s may not be executed; chmod +x makes it a program", path)
	}
	return filepath.Abs(path)
}

// Lookup returns the value of a variable of an environment, or nothing.
func Lookup(env []string, name string) string {
	for _, entry := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}
