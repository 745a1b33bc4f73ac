package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/actionloop"
	"github.com/deepfn/deepfn/runtime/bridge"
	"github.com/deepfn/deepfn/runtime/command"
	"github.com/deepfn/deepfn/runtime/controller"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/jobs"
	"github.com/deepfn/deepfn/runtime/onnx"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
	"github.com/deepfn/deepfn/runtime/worker/readahead"
)

const (
	// stopGrace is how long a worker that was told to end may take.
	stopGrace = time.Second
	// framing is room for names and paddings beside a payload at its limit.
	framing = 64 << 10
)

// A purpose says what a worker is started for.
type purpose struct {
	// cold leaves out warm(): the worker is for a training, which has no use for it.
	cold bool
	// output takes what the worker prints while it prints it, for who cannot wait for the
	// answer.
	output func(actions.LogLine)
	// env are variables beside those of the model.
	env []string
}

// cancelGrace is how long a call may go on whose caller has left. A job's is over when it
// is cancelled, and who cancels it waits for that. A program cannot be told to end a call,
// and the next caller, who may have less than a second, waits for it or for a new one.
func (p purpose) cancelGrace(m actions.Model) time.Duration {
	switch {
	case m.Runtime == actions.Executable:
		return time.Second
	case p.cold:
		return 2 * time.Second
	}
	return 5 * time.Second
}

// check checks an action against the words of its runtime.
func check(m actions.Model) error {
	switch m.Runtime {
	case actions.ONNX:
		return onnx.Check(m)
	case actions.Python:
		return launcher.Check(m)
	case actions.Executable:
		return actionloop.Check(m)
	case actions.HTTP:
		return bridge.Check(m)
	}
	return actions.Errorf(actions.Invalid, "model %s: there is no runtime %q; there are %s, %s, %s and %s", m.Name, m.Runtime,
		actions.ONNX, actions.Python, actions.Executable, actions.HTTP)
}

// start makes an instance of the model for predictions, on the devices with these UUIDs. A
// nil worker must not become an instance that is not nil.
func (h *house) start(ctx context.Context, m actions.Model, devices []string) (invoker.Instance, error) {
	weights := readahead.Start(h.weightPaths(m)...)
	defer weights.Close()
	p := purpose{env: h.visible(devices)}
	w, err := h.startWorker(ctx, m, p)
	if err != nil {
		return nil, err
	}
	return &instance{Worker: w, origin: weights.Origin(), onDevices: len(devices) > 0, checkpoint: h.checkpointOf(m)}, nil
}

// startJob makes an instance of the model for one job.
func (h *house) startJob(ctx context.Context, m actions.Model, output func(actions.LogLine)) (jobs.Instance, error) {
	w, err := h.startWorker(ctx, m, purpose{cold: true, output: output})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// startWorker fetches what the model needs and starts the child program of its runtime.
func (h *house) startWorker(ctx context.Context, m actions.Model, p purpose) (*worker.Worker, error) {
	m, err := h.settle(ctx, m)
	if err != nil {
		return nil, err
	}
	switch m.Runtime {
	case actions.ONNX:
		setup, err := h.onnxSetup(ctx, m)
		if err != nil {
			return nil, err
		}
		return h.startSelf(ctx, m, p, setup)
	case actions.Python:
		return h.startPython(ctx, m, p)
	default:
		return h.startSelf(ctx, m, p, command.NewSetup(m, h.maxPayload))
	}
}

// startSelf starts this program once more, as the child for the model's runtime.
func (h *house) startSelf(ctx context.Context, m actions.Model, p purpose, setup any) (*worker.Worker, error) {
	raw, err := json.Marshal(setup)
	if err != nil {
		return nil, fmt.Errorf("model %s: setup: %w", m.Name, err)
	}
	env := append([]string{"GORACE=atexit_sleep_ms=0"}, p.env...)
	if m.Runtime == actions.ONNX { // else programs of others would inherit it
		env = append(env, "GOTRACEBACK=none")
	}
	return worker.Start(ctx, worker.Config{
		// The file that this process runs, even if another was installed over it.
		Argv:        []string{"/proc/self/exe", "worker", m.Runtime},
		Env:         env,
		Setup:       raw,
		MaxPayload:  h.maxPayload + framing,
		StopGrace:   stopGrace,
		CancelGrace: p.cancelGrace(m),
		Output:      p.output,
		Log:         h.log.With("model", m.Name),
	})
}

// startPython starts the launcher in the interpreter of the model.
func (h *house) startPython(ctx context.Context, m actions.Model, p purpose) (*worker.Worker, error) {
	spec, err := launcher.ParseSpec(m.Spec)
	if err != nil {
		return nil, err
	}
	python, err := h.interpreter(ctx, m, spec)
	if err != nil {
		return nil, err
	}
	setup := launcher.NewSetup(m, spec)
	setup.Warm = !p.cold
	return h.launcher.Start(ctx, launcher.Run{
		Model: m, Spec: spec, Python: python, Setup: setup,
		Env:        append(h.modelData(m.Name), p.env...),
		MaxPayload: h.maxPayload, StopGrace: stopGrace, CancelGrace: p.cancelGrace(m),
		Output: p.output, Fork: (h.fork || isCode(m)) && !p.cold,
	})
}

// isCode says whether a model is plain code of an action of the API: a program, or a Python
// file with a function.
func isCode(m actions.Model) bool {
	if !controller.MadeOfCode(m.Name) {
		return false
	}
	if m.Runtime == actions.Executable {
		return true
	}
	spec, err := launcher.ParseSpec(m.Spec)
	return m.Runtime == actions.Python && err == nil && filepath.Base(spec.Path) == "__main__.py"
}

// interpreter returns the absolute path of the interpreter that has what the model needs.
func (h *house) interpreter(ctx context.Context, m actions.Model, spec launcher.Spec) (string, error) {
	python := spec.Interpreter
	switch {
	case python == "":
		return h.environments.Ensure(ctx, h.python, spec.Requirements)
	case filepath.IsAbs(python):
		return python, nil
	case strings.ContainsRune(python, filepath.Separator):
		return filepath.Join(m.Dir, python), nil
	}
	path, err := exec.LookPath(python)
	if err != nil {
		return "", actions.Errorf(actions.NotFound, "model %s: interpreter: %w", m.Name, err)
	}
	return filepath.Abs(path)
}

// modelData makes the folder that outlives the workers of a model, where it may keep what
// it has learned, and returns the variable that tells it. Where nothing can be written
// there is none: most models need no such folder.
func (h *house) modelData(model string) []string {
	dir := h.modelFolder(model)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		h.log.Warn("no data folder: name one that can be written to with --data", "model", model, "error", err)
		return nil
	}
	return []string{"DEEPFN_MODEL_DIR=" + dir}
}

// modelFolder is where that folder is.
func (h *house) modelFolder(model string) string { return filepath.Join(h.data, "models", model) }
