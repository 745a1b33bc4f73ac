package main

import (
	"context"
	"path/filepath"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/jobs"
)

// maxTraining is how long the result of a training may be: each who asks for its status
// gets it. Larger things belong into the model's data folder.
const maxTraining = 8 << 20

// openJobs opens the records of the trainings. Without a folder that can be written to,
// as in some containers, nothing can be trained, but all else works.
func (h *house) openJobs(models proxy.Catalog) *jobs.Jobs {
	opened, err := jobs.Open(jobs.Config{
		Dir: filepath.Join(h.data, "jobs"),
		Start: func(ctx context.Context, job actions.Job, out jobs.Output) (jobs.Instance, error) {
			m, err := models.Model(ctx, job.Model)
			if err != nil {
				return nil, err
			}
			return h.startJob(ctx, m, out.Line)
		},
		MaxResult: maxTraining,
		Log:       h.log,
	})
	if err != nil {
		h.log.Warn("no trainings: their folder cannot be used; name another with --data", "error", err)
		return nil
	}
	return opened
}
