package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/catalog"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/onnx"
	"github.com/deepfn/deepfn/runtime/worker"
)

// A house is the wired program: the catalog of models and what starts them.
type house struct {
	*settings
	log     *slog.Logger
	catalog *catalog.Catalog
	// maxPayload is the most bytes of a request to a worker, or of its answer.
	maxPayload int64
}

const (
	// defaultPayload is room for a picture or a tensor without a flag for it.
	defaultPayload = 64 << 20
	// stopGrace is how long a worker that was told to end may take.
	stopGrace = time.Second
)

// open wires the program from its settings.
func (s *settings) open() (*house, error) {
	if err := s.resolve(); err != nil {
		return nil, err
	}
	log, err := s.logger()
	if err != nil {
		return nil, err
	}
	return &house{settings: s, log: log, maxPayload: defaultPayload, catalog: catalog.New(catalog.Config{
		Shipped: actions.Shipped(), Dirs: s.catalog, CacheDir: s.cache,
		Python: s.python, Offline: s.offline, Log: log,
	})}, nil
}

// openModel returns the model of a command line, by its name or the path of its folder,
// if its action is right as far as that can be seen without loading it.
func (h *house) openModel(ctx context.Context, nameOrPath string) (actions.Model, error) {
	m, err := h.catalog.Open(ctx, nameOrPath)
	if err != nil {
		return m, err
	}
	return m, check(m)
}

// check checks an action against the words of its runtime.
func check(m actions.Model) error {
	if m.Runtime != "onnx" {
		return actions.Errorf(actions.Invalid, "model %s: there is no runtime %q; this deepfn has: onnx", m.Name, m.Runtime)
	}
	return onnx.Check(m)
}

// start makes an instance of the model: it fetches what the model needs and starts
// the child program of its runtime.
func (h *house) start(ctx context.Context, m actions.Model) (invoker.Instance, error) {
	if err := check(m); err != nil {
		return nil, err
	}
	setup, err := h.onnxSetup(ctx, m)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(setup)
	if err != nil {
		return nil, fmt.Errorf("model %s: setup: %w", m.Name, err)
	}
	w, err := worker.Start(ctx, worker.Config{
		// The file that this process runs, even if another was installed over it.
		Argv:       []string{"/proc/self/exe", "worker", "onnx"},
		Env:        []string{"GOTRACEBACK=none", "GORACE=atexit_sleep_ms=0"},
		Setup:      raw,
		MaxPayload: h.maxPayload,
		StopGrace:  stopGrace,
		Log:        h.log.With("model", m.Name),
	})
	if err != nil {
		return nil, err
	}
	return w, nil
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

	mu    sync.Mutex // guards known
	known map[string]actions.Model
}

func newFrozen(c *catalog.Catalog) *frozen {
	return &frozen{catalog: c, known: map[string]actions.Model{}}
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
	return models, err
}

func (c *frozen) Model(ctx context.Context, name string) (actions.Model, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m, ok := c.known[name]; ok {
		return m, nil
	}
	m, err := c.catalog.Model(ctx, name)
	if err == nil {
		c.known[name] = m
	}
	return m, err
}

// one is a catalog of one model: what `serve MODEL` shows.
type one struct {
	model actions.Model
}

func (c one) Models(context.Context) ([]actions.Model, error) {
	return []actions.Model{c.model}, nil
}

func (c one) Model(_ context.Context, name string) (actions.Model, error) {
	if name != c.model.Name {
		return actions.Model{}, actions.Errorf(actions.NotFound, "there is no model %q here; this function is %s", name, c.model.Name)
	}
	return c.model, nil
}
