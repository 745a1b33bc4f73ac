package environment

import (
	"io/fs"
	"os"
	"strings"
	"unicode"

	"github.com/deepfn/deepfn/actions"
)

// noProject says what to do with the folder dir, in which there is nothing to install.
func noProject(src source, shown, dir string) error {
	const what = "it is not a Python project: it has neither pyproject.toml nor setup.cfg nor setup.py, and no api.py"
	files, err := fs.Glob(os.DirFS(dir), "*.py")
	if err != nil || len(files) == 0 || src.kind != sourceFolder {
		return actions.Errorf(actions.Invalid, "%s", what)
	}
	name := files[0]
	if len(files) > 1 {
		name = "FILE.py"
	}
	return actions.Errorf(actions.Invalid, "%s; a file needs no installation: deepfn serve %s",
		what, argument(strings.TrimRight(shown, "/")+"/"+name))
}

// noEntryPoint says what a module has to declare.
func noEntryPoint() error {
	return actions.Errorf(actions.Invalid, "it declares no entry point of the group %[1]s, so it is no DEEPaaS module; "+
		"one is declared by two lines in pyproject.toml:\n[project.entry-points.%[1]q]\nname = \"package.api\"", group)
}

// argument is a text as one argument of a command line.
func argument(s string) string {
	plain := func(r rune) bool {
		return strings.ContainsRune("_-./+=:@,%", r) || unicode.IsLetter(r) || unicode.IsDigit(r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
