package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
)

// boot is what an interpreter of any version runs: it refuses one that is too old, and
// runs main of the module that its second argument names. The module's own imports do not
// see the folder of the launcher, nor the working directory, which -c puts first.
const boot = `import sys
sys.version_info >= (3, 8) or sys.exit("deepfn needs Python 3.8 or later, and this is " + sys.version.split()[0])
getattr(sys.flags, "safe_path", False) or sys.path.pop(0)
sys.path.insert(0, sys.argv[1])
main = getattr(__import__("deepfn_launcher." + sys.argv[2]), sys.argv[2]).main
sys.path.remove(sys.argv[1])
sys.argv[:] = ["deepfn"] + sys.argv[3:]
main()
`

// A Run says which model to start, and where.
type Run struct {
	// Model is the action, and Spec its section.
	Model actions.Model
	Spec  Spec
	// Python is the interpreter, an absolute path. Required.
	Python string
	// Env are more variables, each "KEY=value". Of two of the same name, Env hides
	// Model.Env, which hides Spec.Env, which hides the environment of this process.
	Env []string
	// Dir is the working directory. The default is that of Spec.
	Dir string
	// Setup is what the child is told. The default is NewSetup(Model, Spec).
	Setup Setup
	// MaxPayload, StopGrace, CancelGrace and Output are those of worker.Config.
	MaxPayload  int64
	StopGrace   time.Duration
	CancelGrace time.Duration
	Output      func(actions.LogLine)
	// Concurrency is how many calls the worker takes at a time. The default is that of
	// Spec.
	Concurrency int
	// Fork says that more workers may be wanted with the same Python, Env, Spec and Setup.
	// When the first one is ready, a fork server is started, which imports what that has
	// imported; the next ones are forked from it.
	Fork bool
}

func (r *Run) setDefaults() error {
	if !filepath.IsAbs(r.Python) {
		return fmt.Errorf("python: the interpreter %q is not an absolute path", r.Python)
	}
	if r.Dir == "" && (r.Model.Dir != "" || r.Spec.WorkingDir != "") {
		r.Dir = within(r.Model.Dir, r.Spec.WorkingDir)
	}
	if r.Dir != "" {
		if info, err := os.Stat(r.Dir); err != nil || !info.IsDir() {
			return fmt.Errorf("python: there is no folder %s to work in", r.Dir)
		}
	}
	if r.Setup == (Setup{}) {
		r.Setup = NewSetup(r.Model, r.Spec)
	}
	if r.Concurrency == 0 {
		r.Concurrency = r.Spec.Concurrency
	}
	return nil
}

// Start starts a worker and waits until it has loaded its model. The context bounds the
// start alone.
//
// The error is an *actions.Error, as that of worker.Start; Invalid if the Run is wrong,
// and NotFound if there is no such interpreter.
func (l *Launcher) Start(ctx context.Context, run Run) (*worker.Worker, error) {
	if err := run.setDefaults(); err != nil {
		return nil, actions.Errorf(actions.Invalid, "model %s: %w", run.Model.Name, err)
	}
	var wrong []error
	run.Model.Env, wrong = actions.PossibleEnv(run.Model.Env)
	for _, err := range wrong {
		l.cfg.Log.Warn("a variable of the init is left out", "model", run.Model.Name, "error", err)
	}
	home, err := unpack(l.cfg.Dir)
	if err != nil {
		return nil, &actions.Error{
			Code: actions.Unavailable, Err: err,
			Msg: fmt.Sprintf("python: unpack the launcher: %v; --cache names a folder that can be written to", err),
		}
	}
	cfg, err := l.config(home, &run)
	if err != nil {
		return nil, err
	}
	w, failure := l.startForked(ctx, &run, cfg)
	if w != nil {
		return w, nil
	}
	if ctx.Err() != nil && failure != nil {
		return nil, failure
	}
	if w, err = l.launch(ctx, cfg); err != nil {
		return nil, explain(ctx, run.Python, err)
	}
	if failure != nil {
		l.blame(&cfg, failure)
	}
	if run.Fork {
		l.prepare(home, &run, cfg, w.Info())
	}
	return w, nil
}

// config returns how the worker of a Run is started.
func (l *Launcher) config(home string, run *Run) (worker.Config, error) {
	setup, err := json.Marshal(run.Setup)
	if err != nil {
		return worker.Config{}, fmt.Errorf("model %s: setup: %w", run.Model.Name, err)
	}
	return worker.Config{
		Argv:        argv(run.Python, home, "serve"),
		Env:         l.environment(run),
		Dir:         run.Dir,
		Setup:       setup,
		MaxPayload:  run.MaxPayload,
		Concurrency: run.Concurrency,
		CancelGrace: run.CancelGrace,
		StopGrace:   run.StopGrace,
		Output:      run.Output,
		Log:         l.cfg.Log.With("model", run.Model.Name),
	}, nil
}

// argv returns a command line that runs a module of the launcher. With faulthandler a
// crash in native code says on stderr where it was. The streams are not made unbuffered,
// which would make each print a system call: the launcher flushes them.
func argv(python, home, module string, args ...string) []string {
	return append([]string{python, "-X", "faulthandler", "-c", boot, home, module}, args...)
}

// explain says more of a start that failed when the interpreter is at fault.
func explain(ctx context.Context, python string, err error) error {
	failure, ok := errors.AsType[*actions.Error](err)
	if !ok || failure.Code != actions.Unavailable || ctx.Err() != nil {
		return err
	}
	wrong := probe(ctx, python)
	if wrong == nil {
		return err
	}
	code := actions.Unavailable
	if errors.Is(wrong, fs.ErrNotExist) {
		code = actions.NotFound
	}
	return &actions.Error{Code: code, Msg: "python: " + wrong.Error(), Logs: failure.Logs, Err: err}
}
