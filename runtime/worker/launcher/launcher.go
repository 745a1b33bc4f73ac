// Package launcher starts Python models: DEEPaaS modules and plain functions, each in
// the interpreter of its own environment. The Python side, deepfn_launcher, is embedded
// and unpacked into a folder of the cache.
package launcher

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"
)

const defaultIdleTime = 10 * time.Minute

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
	// ForkPatience is how long a fork server may take to make a worker until a fresh
	// interpreter is started. The default is 5 seconds.
	ForkPatience time.Duration
	// IdleTime is how long a fork server without workers is kept. The default is 10
	// minutes.
	IdleTime time.Duration
	// Log takes what workers print outside of calls, and what happens to fork servers.
	// The default is to discard it.
	Log *slog.Logger
}

// A Launcher starts workers. Its methods may be called by many at the same time.
type Launcher struct {
	cfg     Config
	tasks   sync.WaitGroup // the goroutines of fork servers; Add under mu
	uploads *uploads

	mu      sync.Mutex // guards everything below
	servers map[key]*server
	learned map[key]key                    // from modelKey to the key of the server
	cancels map[*server]context.CancelFunc // of those that are hatching
	nests   map[*nest]bool                 // those that live
	closed  bool
}

// New returns a Launcher. It touches no file before the first Start. Close ends it.
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
	if cfg.IdleTime <= 0 {
		cfg.IdleTime = defaultIdleTime
	}
	return &Launcher{
		cfg: cfg, uploads: newUploads(), servers: map[key]*server{}, learned: map[key]key{},
		cancels: map[*server]context.CancelFunc{}, nests: map[*nest]bool{},
	}, nil
}
