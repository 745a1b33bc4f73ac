package environment

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/disk"
)

// AddOptions say how a module is installed.
type AddOptions struct {
	// Name is what the model is called. The default is the name of its entry point, as
	// the DEEPaaS API calls it, else that of the source.
	Name string
	// Python is the interpreter to make its environment with; the default is Config.Python.
	Python string
	// Extras are optional parts of the module's distribution.
	Extras []string
	// Requirements are installed with the module, as pip writes them: what it needs but
	// does not declare.
	Requirements []string
	// EntryPoint is the entry point to use of a module that has several.
	EntryPoint string
	// Editable installs a folder where it is instead of a copy: changes in it take effect
	// with the next start.
	Editable bool
}

// An Installed is a module that is installed, or is about to be.
type Installed struct {
	// Model is the action: runtime python, with the interpreter of its environment.
	Model actions.Model
	// Source is where it was installed from, and Python the version of its interpreter.
	Source, Python string
	// Interpreter is the absolute path of its interpreter.
	Interpreter string
	// EntryPoint is its entry point, or "" for one that is a file.
	EntryPoint string
	// Lock is the absolute path of the list of what is installed.
	Lock string
}

// Add installs a DEEPaaS module from a folder, a zip, tar.gz or wheel, or what git clones
// (https://…, ssh://…, git@…, file://…, a bare repository; with @REF or #REF), in an
// environment of its own, and returns it. Check is called before it counts, to load and
// warm it; with its error, or any other, nothing is changed and an earlier installation
// stays. A nil check is none. Who adds a module of the same name meanwhile waits.
//
// The error is NotFound or Invalid for what is no such source, module or option, Conflict
// when an action of that name was not installed by Add, TooLarge for a source over
// Config.MaxSource, Unsupported for a module of the old API, Unavailable when something
// cannot be had, Canceled or Deadline, or that of check.
func (e *Environments) Add(ctx context.Context, from string, o AddOptions, check func(context.Context, Installed) error) (Installed, error) {
	what := "add " + redacted(from)
	a := adding{e: e, options: o, shown: redacted(from)}
	err := a.prepare(ctx, from)
	if err != nil {
		return Installed{}, coded(ctx, what, errors.Join(err, a.clean()))
	}
	lock, err := e.lock(ctx, filepath.Join(e.cfg.Dir, ".locks", a.name))
	if err != nil {
		return Installed{}, coded(ctx, what, errors.Join(err, a.clean()))
	}
	defer func() { _ = lock.Close() }() // and unlocks
	installed, err := a.install(ctx, check)
	if err != nil {
		return Installed{}, coded(ctx, what, errors.Join(err, a.clean()))
	}
	return installed, a.clean()
}

// An adding is one Add.
type adding struct {
	e       *Environments
	options AddOptions
	shown   string // the source for people
	src     source
	python  string
	// staged is a folder with the source before its name is known; "" when there is none.
	staged, stagedRepo string
	staging            *os.File // the lock of those who have one; nil when there is none

	name string // of the model
	home string // Dir/name
	n    string // the number of this installation
	repo string // the folder of the source at its place, "" for a wheel
	made bool   // home was made for this installation
	done bool
}

// venv, sources and work are the folders of this installation.
func (a *adding) venv() string    { return filepath.Join(a.home, "venv-"+a.n) }
func (a *adding) sources() string { return filepath.Join(a.home, "source-"+a.n) }
func (a *adding) work() string    { return filepath.Join(a.home, "work-"+a.n) }

// prepare checks the options, brings the source, and finds the module's name.
func (a *adding) prepare(ctx context.Context, from string) error {
	cfg := a.e.cfg
	if cfg.Dir == "" {
		return errors.New("no folder is set for modules")
	}
	if _, err := cleaned(a.options.Requirements); err != nil {
		return err
	}
	for _, extra := range a.options.Extras {
		if !extraName.MatchString(extra) {
			return actions.Errorf(actions.Invalid, "%.100q is not the name of an extra", extra)
		}
	}
	if a.options.Name != "" && !isModelName(a.options.Name) {
		return actions.Errorf(actions.Invalid, "%.100q is not a name that a model can have; use lower-case letters, digits, '-', '_' and '.'", a.options.Name)
	}
	var err error
	if a.python, err = a.e.interpreter(a.options.Python); err != nil {
		return err
	}
	if a.src, err = parseSource(from); err != nil {
		return err
	}
	if a.options.Editable && a.src.kind != sourceFolder {
		return actions.Errorf(actions.Invalid, "only a folder can be installed where it is")
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, ".locks"), 0o755); err != nil { // #nosec G301 -- workers of other users read it
		return err
	}
	if err := a.stage(ctx); err != nil {
		return err
	}
	a.name = cmp.Or(a.options.Name, actions.ModelName(cmp.Or(a.options.EntryPoint, a.declaredName(), a.src.base), "module"))
	a.home = filepath.Join(cfg.Dir, a.name)
	return nil
}

// declaredName is the name of the entry point as far as it is seen without installing.
func (a *adding) declaredName() string {
	if a.src.kind == sourceWheel {
		return wheelEntryPoint(a.src.from)
	}
	return declaredName(a.stagedRepo)
}

// install makes the installation at its place, has it checked, and lets it count.
func (a *adding) install(ctx context.Context, check func(context.Context, Installed) error) (Installed, error) {
	started := time.Now()
	if err := a.place(); err != nil {
		return Installed{}, err
	}
	in, err := a.e.installer(ctx, a.python)
	if err == nil {
		err = in.venv(ctx, a.venv())
	}
	if err == nil {
		err = a.packages(ctx, in)
	}
	if err != nil {
		return Installed{}, err
	}
	installed, err := a.describe(ctx)
	if err != nil {
		return Installed{}, err
	}
	lock, err := a.lockList(ctx, in, installed)
	if err != nil {
		return Installed{}, err
	}
	a.linkItself()
	if check != nil {
		if err := check(ctx, installed); err != nil {
			return Installed{}, advised(err)
		}
	}
	if err := ctx.Err(); err != nil {
		return Installed{}, err
	}
	if err := a.count(installed, lock); err != nil {
		return Installed{}, err
	}
	a.e.cfg.Log.Info("module installed", "model", a.name, "path", a.home, "seconds", time.Since(started).Seconds())
	return installed, nil
}

// count lets the installation count, when it is on the disk. The list of what is installed makes the folder ours,
// so the first time it comes first.
func (a *adding) count(installed Installed, lock []byte) error {
	for _, dir := range []string{a.venv(), a.sources(), a.work()} {
		if err := a.e.sync(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	previous := current(a.home)
	if a.made || !exists(installed.Lock) {
		if err := disk.WriteFile(installed.Lock, lock, 0o644); err != nil {
			return err
		}
	}
	if err := writeAction(a.home, installed.Model); err != nil {
		return err
	}
	a.done = true
	if err := disk.WriteFile(installed.Lock, lock, 0o644); err != nil {
		a.e.cfg.Log.Warn("the list of what is installed is that of before", "path", installed.Lock, "error", err)
	}
	a.e.tidy(a.home, a.n, previous)
	return nil
}

// place makes the folder of the module, finds the number of this installation, and moves
// the source there.
func (a *adding) place() error {
	if exists(a.home, actionFile) && !exists(a.home, lockFile) {
		return actions.Errorf(actions.Conflict, "%s is an action that was not installed; remove it, or give the module another name", a.home)
	}
	a.made = !exists(a.home)
	if err := os.MkdirAll(a.home, 0o755); err != nil { // #nosec G301 -- workers of other users read it
		return err
	}
	n, err := nextNumber(a.home)
	if err != nil {
		return err
	}
	a.n = n
	if a.staged != "" {
		rel, err := filepath.Rel(a.staged, a.stagedRepo)
		if err != nil {
			return err
		}
		if err := os.Rename(a.staged, a.sources()); err != nil {
			return err
		}
		a.staged, a.repo = "", filepath.Join(a.sources(), rel)
		return a.unlockStage()
	}
	a.repo = a.stagedRepo
	if a.src.kind == sourceWheel {
		return os.Mkdir(a.work(), 0o755) // #nosec G301 -- as above
	}
	return nil
}

// packages installs the module and what it needs.
func (a *adding) packages(ctx context.Context, in installer) error {
	requirements, err := cleaned(a.options.Requirements)
	if err != nil {
		return err
	}
	extras := ""
	if len(a.options.Extras) > 0 {
		extras = "[" + strings.Join(a.options.Extras, ",") + "]"
	}
	with := append([]string{"--"}, requirements...)
	switch {
	case a.src.kind == sourceWheel:
		return in.install(ctx, a.venv(), append([]string{"--", a.src.from + extras}, requirements...)...)
	case isProject(a.repo):
		err := in.install(ctx, a.venv(), append([]string{"-e", a.repo + extras}, with...)...)
		if err != nil && ctx.Err() == nil && !a.options.Editable && notEditable(err) {
			a.e.cfg.Log.Info("not editable, installed plainly", "model", a.name)
			err = in.install(ctx, a.venv(), append([]string{"--", a.repo + extras}, requirements...)...)
		}
		return err
	case exists(a.repo, "requirements.txt"):
		return in.install(ctx, a.venv(), append([]string{"-r", filepath.Join(a.repo, "requirements.txt")}, with...)...)
	case len(requirements) > 0:
		return in.install(ctx, a.venv(), with...)
	}
	return nil
}

// describe makes the action of the installation.
func (a *adding) describe(ctx context.Context) (Installed, error) {
	about, err := a.e.ask(ctx, binary(a.venv()))
	if err != nil {
		return Installed{}, err
	}
	where := a.repo
	if a.src.kind == sourceWheel {
		where = a.src.from
	}
	var found []distribution
	if a.src.kind == sourceWheel || isProject(a.repo) { // a plain api.py counts itself
		if found, err = a.e.survey(ctx, a.venv(), where); err != nil {
			return Installed{}, err
		}
	}
	entry, err := entryPoint(found, a.options.EntryPoint)
	if err != nil {
		return Installed{}, err
	}
	spec := section{EntryPoint: entry, Interpreter: filepath.Join(filepath.Base(a.venv()), "bin", "python")}
	if entry == "" {
		if a.repo == "" || a.options.Editable || !exists(a.repo, "api.py") {
			return Installed{}, noEntryPoint()
		}
		spec.Path = a.inside(filepath.Join(a.repo, "api.py"))
	}
	spec.WorkingDir = a.inside(cmp.Or(a.repo, a.work()))
	m := actions.Model{Name: a.name, Runtime: actions.Python, Dir: a.home}
	var own distribution
	for _, d := range found {
		if len(found) == 1 || entry != "" && slices.Contains(d.EntryPoints, entry) {
			own = d
		}
	}
	describe(&m, a.repo, own)
	m.Spec, err = spec.json()
	return Installed{
		Model: m, Source: a.shown, Python: about.Version, EntryPoint: entry,
		Interpreter: binary(a.venv()), Lock: filepath.Join(a.home, lockFile),
	}, err
}

// inside is a path as the action writes it: relative to its folder when it is in there.
func (a *adding) inside(path string) string {
	if rel, err := filepath.Rel(a.home, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// linkItself lets the module's folder be found in itself, for paths that begin with its
// name, as they do where the working folder is the one above. Without it most modules run
// as well, so an error is only logged.
func (a *adding) linkItself() {
	if a.repo == "" || a.options.Editable || exists(a.repo, filepath.Base(a.repo)) {
		return
	}
	if err := os.Symlink(".", filepath.Join(a.repo, filepath.Base(a.repo))); err != nil {
		a.e.cfg.Log.Info("the module's folder is not found in itself", "path", a.repo, "error", err)
	}
}

// lockList is the list of what is installed.
func (a *adding) lockList(ctx context.Context, in installer, i Installed) ([]byte, error) {
	frozen, err := in.freeze(ctx, a.venv())
	if err != nil {
		return nil, fmt.Errorf("listing what is installed: %w", err)
	}
	var list bytes.Buffer
	fmt.Fprintf(&list, "# %s, installed from %s for Python %s\n", a.name, strings.Join(strings.Fields(a.shown), " "), i.Python)
	list.WriteString(public(string(frozen)))
	return list.Bytes(), nil
}

// clean removes what an installation that does not count has left.
func (a *adding) clean() error {
	var errs []error
	if a.staged != "" {
		errs = append(errs, os.RemoveAll(a.staged))
	}
	errs = append(errs, a.unlockStage())
	if a.done || a.n == "" {
		return errors.Join(errs...)
	}
	dirs := []string{a.venv(), a.sources(), a.work()}
	if a.made {
		dirs = []string{a.home}
	}
	for _, dir := range dirs {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}
