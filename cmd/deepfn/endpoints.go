package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/jobs"
)

// resolveEndpoints fills in from the environment which routes there are.
func (srv *server) resolveEndpoints() error {
	for _, v := range []struct {
		flag  string
		value *bool
	}{
		{"predict-endpoint", &srv.predictOn},
		{"train-endpoint", &srv.trainOn},
		{"doc-endpoint", &srv.docsOn},
		{"debug-endpoint", &srv.debugOn},
	} {
		name := "DEEPFN_" + strings.ToUpper(strings.ReplaceAll(v.flag, "-", "_"))
		text := srv.getenv(name)
		if text == "" || srv.flags.Changed(v.flag) {
			continue
		}
		on, err := strconv.ParseBool(text)
		if err != nil {
			return usageError{fmt.Errorf("%s=%s: want true or false", name, text)}
		}
		*v.value = on
	}
	if !srv.flags.Changed("base-path") {
		srv.basePath = srv.getenv("DEEPFN_BASE_PATH")
	}
	if srv.basePath = strings.Trim(srv.basePath, "/"); srv.basePath == "" {
		return nil
	}
	srv.basePath = "/" + srv.basePath
	for segment := range strings.SplitSeq(srv.basePath[1:], "/") {
		if segment == "" || segment == "." || segment == ".." || strings.ContainsAny(segment, "?#%{}\\ ") {
			return usageError{fmt.Errorf("--base-path %s: want names between slashes, such as /models/cats", srv.basePath)}
		}
	}
	return nil
}

// maxTraining is how long the result of a training may be: each who asks for its status
// gets it. Larger things belong into the model's data folder.
const maxTraining = 8 << 20

// openJobs opens the records of the trainings. Without a folder that can be written to,
// as in some containers, nothing can be trained, but all else works.
func (h *house) openJobs(models proxy.Catalog) *jobs.Jobs {
	opened, err := jobs.Open(jobs.Config{
		Dir: filepath.Join(h.data, "jobs"),
		Start: func(ctx context.Context, model string, output func(actions.LogLine)) (jobs.Instance, error) {
			m, err := models.Model(ctx, model)
			if err != nil {
				return nil, err
			}
			return h.startJob(ctx, m, output)
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
