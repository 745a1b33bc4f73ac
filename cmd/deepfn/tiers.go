package main

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/worker"
)

// An instance is a worker as the pool sees it.
type instance struct {
	*worker.Worker
	origin     actions.Tier
	onDevices  bool
	checkpoint checkpointer // nil without one

	mu           sync.Mutex // guards checkpointed
	checkpointed bool       // the driver has suspended the process, in which nothing answers now
}

// A checkpointer suspends and resumes processes from outside; *gpu.Checkpoint is one.
type checkpointer interface {
	Suspend(ctx context.Context, pid int) error
	Resume(ctx context.Context, pid int) error
}

// Origin says where the model's files were when it was started.
func (i *instance) Origin() actions.Tier { return i.origin }

// Suspendable says whether the model said, when it was loaded, that it can be suspended by itself.
func (i *instance) Suspendable() bool {
	var about actions.Description
	return json.Unmarshal(i.Info(), &about) == nil && about.Suspend != ""
}

// Suspend has the model leave its devices: by its own hooks, which leave the process its
// context, else by the driver's checkpoint, which does not.
func (i *instance) Suspend(ctx context.Context) (invoker.Suspended, error) {
	if !i.onDevices {
		return invoker.Suspended{}, actions.Errorf(actions.Unsupported, "it is on no device")
	}
	host, err := i.Worker.Suspend(ctx)
	if err == nil {
		return invoker.Suspended{Host: host, Device: contextMemory}, nil
	}
	if actions.CodeOf(err) != actions.Unsupported || i.checkpoint == nil {
		return invoker.Suspended{}, err
	}
	if err := i.checkpoint.Suspend(ctx, i.PID()); err != nil {
		return invoker.Suspended{}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.checkpointed = true
	return invoker.Suspended{}, nil
}

// Resume takes that back, in the same way.
func (i *instance) Resume(ctx context.Context) error {
	i.mu.Lock()
	checkpointed := i.checkpointed
	i.checkpointed = false
	i.mu.Unlock()
	if checkpointed {
		return i.checkpoint.Resume(ctx, i.PID())
	}
	return i.Worker.Resume(ctx)
}

// checkpointOf returns what suspends the instances of a model from outside: the driver, where the
// worker itself has the devices. A program, or a server of its own, is a child of the worker, which
// the driver would look for in vain.
func (h *house) checkpointOf(m actions.Model) checkpointer {
	if h.checkpoint == nil || m.Runtime != actions.ONNX && m.Runtime != actions.Python {
		return nil // a nil pointer would be a checkpointer
	}
	return h.checkpoint
}

// weightPaths are the files and folders in which the weights of a model are; what it has learned
// lies in its data folder.
func (h *house) weightPaths(m actions.Model) []string {
	paths := append(h.catalog.Paths(m), h.modelFolder(m.Name))
	if m.Dir != "" && len(m.Files) == 0 {
		paths = append(paths, m.Dir)
	}
	return paths
}
