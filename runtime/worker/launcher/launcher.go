// Package launcher starts Python models: DEEPaaS modules and plain functions, each in
// the interpreter of its own environment. The Python side, deepfn_launcher, is embedded
// and unpacked into a folder of the cache.
package launcher

import (
	"errors"
	"log/slog"
	"path/filepath"
)

// Config says where a Launcher keeps its files and what all workers get.
type Config struct {
	// Dir is the folder of the cache in which the Python side is unpacked, once for each
	// version of it. Required. It is made when it is missing; one that cannot be written
	// to will do if the Python side is there already.
	Dir string
	// Threads is how many threads the numeric libraries of a worker use (OMP_NUM_THREADS
	// and its like), unless the environment says it. 0 leaves the choice to them.
	Threads int
	// Devices are the GPUs that a worker sees, in the syntax of CUDA_VISIBLE_DEVICES.
	// Empty leaves the variable as it is in the environment.
	Devices string
	// Log takes what workers print outside of calls, and what happens to fork servers.
	// The default is to discard it.
	Log *slog.Logger
}

// A Launcher starts workers. Its methods may be called by many at the same time.
type Launcher struct {
	cfg Config
}

// New returns a Launcher. It touches no file before the first Start.
func New(cfg Config) (*Launcher, error) {
	if cfg.Dir == "" || cfg.Threads < 0 {
		return nil, errors.New("launcher: a Config needs a Dir, and no negative number")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	cfg.Dir = dir
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Launcher{cfg: cfg}, nil
}
