package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/catalog"
	"github.com/deepfn/deepfn/actions/environment"
	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/controller"
	"github.com/deepfn/deepfn/runtime/gpu"
	"github.com/deepfn/deepfn/runtime/onnx"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// A house is the wired program: the catalog of models and what starts them.
type house struct {
	*settings
	log          *slog.Logger
	catalog      *catalog.Catalog
	environments *environment.Environments
	launcher     *launcher.Launcher
	// maxPayload is the most bytes of a request to a worker, or of its answer.
	maxPayload int64
	// placed says that instances are placed on GPUs, which others do not see then.
	placed bool
	// checkpoint is the driver's way to suspend a process; nil where instances are not
	// placed.
	checkpoint *gpu.Checkpoint
	// fork says that there may be more than one instance of a model, so that a fork
	// server for Python models is worth its memory.
	fork bool
}

// defaultPayload is room for a picture or a tensor without a flag for it.
const defaultPayload = 64 << 20

// open wires the program from its settings.
func (s *settings) open() (*house, error) {
	if err := s.resolve(); err != nil {
		return nil, err
	}
	log, err := s.logger()
	if err != nil {
		return nil, err
	}
	// What is kept is the user's own. Who needs the folder says so when it is not there.
	_ = os.MkdirAll(s.modules(), 0o700)
	python, err := launcher.New(launcher.Config{Dir: s.cache, Threads: s.threads, Devices: s.devices(), Log: log})
	if err != nil {
		return nil, err
	}
	return &house{
		settings: s, log: log, maxPayload: defaultPayload, launcher: python,
		catalog: catalog.New(catalog.Config{
			Shipped: actions.Shipped(), Dirs: append(slices.Clone(s.catalog), s.modules()), CacheDir: s.cache,
			Python: s.python, Offline: s.offline, Log: log,
		}),
		environments: environment.New(environment.Config{
			Dir: s.modules(), CacheDir: s.cache, Python: s.python, Offline: s.offline, Log: log, Output: s.stderr,
		}),
	}, nil
}

// close ends what no instance owns.
func (h *house) close() { _ = h.launcher.Close() }

// openModel returns the model of a command line, by its name or the path of its folder,
// if its action is right as far as that can be seen without loading it.
func (h *house) openModel(ctx context.Context, nameOrPath string) (actions.Model, error) {
	m, err := h.catalog.Open(ctx, nameOrPath)
	if err != nil {
		return m, err
	}
	return h.settle(ctx, m)
}

// settle checks a model, after a Python model that is built into the program got a folder.
func (h *house) settle(ctx context.Context, m actions.Model) (actions.Model, error) {
	if m.Runtime == actions.Python {
		var err error
		if m, err = h.catalog.Materialize(ctx, m); err != nil {
			return m, err
		}
	}
	return m, check(m)
}

func (h *house) onnxSetup(ctx context.Context, m actions.Model) (onnx.Setup, error) {
	library, err := h.library(ctx)
	if err != nil {
		return onnx.Setup{}, err
	}
	files, err := h.catalog.Fetch(ctx, m)
	if err != nil {
		return onnx.Setup{}, err
	}
	hashes := make(map[string]string, len(m.Files))
	for name, f := range m.Files {
		hashes[name] = f.SHA256
	}
	return onnx.Setup{
		Spec: m.Spec, Arguments: m.Arguments, Files: files, SHA256: hashes, Library: library,
		CacheDir: filepath.Join(h.cache, "optimized"), Threads: h.threads, Device: h.device,
	}, nil
}

// library returns the libonnxruntime to load: the user's own, else the fetched one.
func (h *house) library(ctx context.Context) (string, error) {
	if h.onnxruntime == "" {
		return h.catalog.Library(ctx)
	}
	if _, err := os.Stat(h.onnxruntime); err != nil {
		return "", &actions.Error{
			Code: actions.NotFound, Err: err,
			Msg: fmt.Sprintf("libonnxruntime: there is no file %s; correct --onnxruntime or DEEPFN_ONNXRUNTIME, or leave it out and the library is fetched", h.onnxruntime),
		}
	}
	return filepath.Abs(h.onnxruntime)
}

// A frozen catalog shows each model as it was when it was first asked for: the front
// checks arguments by it and the pool has it loaded, so both have to see the same.
type frozen struct {
	catalog *catalog.Catalog
	changed func(model string) // is told of a name that means another model now

	mu    sync.Mutex // guards known and kept
	known map[string]actions.Model
	kept  []actions.Model // those that the catalog may not know
}

func newFrozen(c *catalog.Catalog) *frozen {
	return &frozen{catalog: c, changed: func(string) {}, known: map[string]actions.Model{}}
}

// keep makes a model known that was opened by its path.
func (c *frozen) keep(m actions.Model) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[m.Name] = m
	c.kept = append(c.kept, m)
}

func (c *frozen) Models(ctx context.Context) ([]actions.Model, error) {
	models, err := c.catalog.Models(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range models {
		if m, ok := c.known[models[i].Name]; ok {
			models[i] = m
		}
	}
	for _, m := range c.kept {
		if !slices.ContainsFunc(models, func(other actions.Model) bool { return other.Name == m.Name }) {
			models = append(models, m)
		}
	}
	return models, err
}

// Import makes the code of an /init a model.
func (c *frozen) Import(ctx context.Context, source actions.Source) (actions.Model, error) {
	m, err := c.catalog.Import(ctx, source)
	if err != nil {
		return m, err
	}
	c.mu.Lock()
	c.known[m.Name] = m
	c.mu.Unlock()
	c.changed(m.Name)
	return m, nil
}

// forget takes out what Import has made.
func (c *frozen) forget(model string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, model)
	c.catalog.Forget(model)
}

func (c *frozen) Model(ctx context.Context, name string) (actions.Model, error) {
	c.mu.Lock()
	m, ok := c.known[name]
	c.mu.Unlock()
	if ok {
		return m, nil
	}
	m, err := c.catalog.Model(ctx, name) // reads the disk
	if err != nil {
		return m, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if first, ok := c.known[name]; ok { // somebody else was faster
		return first, nil
	}
	c.known[name] = m
	return m, nil
}

// withoutCode is a catalog whose list leaves out the code of the API's actions, which have
// names of their own there.
type withoutCode struct{ proxy.Catalog }

func (c withoutCode) Models(ctx context.Context) ([]actions.Model, error) {
	models, err := c.Catalog.Models(ctx)
	return slices.DeleteFunc(models, func(m actions.Model) bool { return controller.MadeOfCode(m.Name) }), err
}

// one is a catalog of one model: what `serve MODEL` shows.
type one struct {
	model actions.Model
}

func (c one) Models(context.Context) ([]actions.Model, error) {
	return []actions.Model{c.model}, nil
}

// Import is not called for the function of the command line.
func (c one) Import(context.Context, actions.Source) (actions.Model, error) {
	return actions.Model{}, actions.Errorf(actions.Conflict, "this function is %s and takes no code", c.model.Name)
}

func (c one) Model(_ context.Context, name string) (actions.Model, error) {
	if name != c.model.Name {
		return actions.Model{}, actions.Errorf(actions.NotFound, "there is no model %q here; this function is %s", name, c.model.Name)
	}
	return c.model, nil
}
