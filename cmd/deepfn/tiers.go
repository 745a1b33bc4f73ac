package main

import (
	"context"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/worker"
)

// An instance is a worker as the pool sees it.
type instance struct {
	*worker.Worker
	origin    actions.Tier
	onDevices bool
}

// Origin says where the model's files were when it was started.
func (i *instance) Origin() actions.Tier { return i.origin }

// Suspend has the model leave its devices: by its own hooks, which leave the process its
// context.
func (i *instance) Suspend(ctx context.Context) (invoker.Suspended, error) {
	if !i.onDevices {
		return invoker.Suspended{}, actions.Errorf(actions.Unsupported, "it is on no device")
	}
	host, err := i.Worker.Suspend(ctx)
	if err != nil {
		return invoker.Suspended{}, err
	}
	return invoker.Suspended{Host: host, Device: contextMemory}, nil
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
