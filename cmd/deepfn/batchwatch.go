package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/actions"
)

// watchTime is how often a server is asked how far a batch is.
const watchTime = time.Second

// list prints the batches of a model, or of all.
func (a *batchAPI) list(cmd *cobra.Command, args []string) error {
	models := args
	if len(models) == 0 {
		var err error
		if models, err = a.models(cmd.Context()); err != nil {
			return err
		}
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tMODEL\tSTATE\tCREATED\tPROGRESS")
	for _, model := range models {
		var jobs []actions.Job
		if err := a.ask(cmd.Context(), http.MethodGet, batchesOf(model), nil, &jobs); err != nil {
			return err
		}
		for _, job := range jobs {
			progress := job.Error
			if job.Progress != nil && progress == "" {
				progress = progressText(*job.Progress)
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", job.ID, job.Model, job.State, job.Created.Local().Format(time.DateTime), shortened([]byte(progress)))
		}
	}
	return w.Flush()
}

// status prints a job.
func (a *batchAPI) status(cmd *cobra.Command, name string) error {
	job, _, err := a.find(cmd.Context(), name)
	if err != nil {
		return err
	}
	return printJob(cmd, job)
}

func printJob(cmd *cobra.Command, job actions.Job) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(job)
}

// watch shows how far a batch is until it ends.
func (a *batchAPI) watch(cmd *cobra.Command, name string) error {
	_, path, err := a.find(cmd.Context(), name)
	if err != nil {
		return err
	}
	return a.follow(cmd, name, path)
}

// follow shows how far the batch at a path is until it ends. A server that is away comes back, and
// its batches with it.
func (a *batchAPI) follow(cmd *cobra.Command, name, path string) error {
	ctx := cmd.Context()
	b := newBar(cmd.ErrOrStderr())
	ticks := time.NewTicker(watchTime)
	defer ticks.Stop()
	away := false
	for {
		var job actions.Job
		err := a.ask(ctx, http.MethodGet, path, nil, &job)
		switch {
		case ctx.Err() != nil:
			b.end()
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "deepfn: the batch goes on; 'deepfn batch watch %s' shows it again, 'deepfn batch cancel %s' ends it.\n", name, name)
			return toldError{exitDeadline}
		case err != nil && actions.CodeOf(err) != actions.Unavailable:
			b.end()
			return vanished(err)
		case err != nil && !away:
			b.line(err.Error() + "; waiting for it")
		case err == nil && job.State.Final():
			return ended(cmd, b, job)
		case err == nil && job.Progress != nil:
			b.show(*job.Progress)
		}
		away = err != nil
		select {
		case <-ticks.C:
		case <-ctx.Done():
		}
	}
}

// vanished is the error of a batch that was there.
func vanished(err error) error {
	if actions.CodeOf(err) == actions.NotFound {
		return actions.Errorf(actions.Canceled, "the batch was cancelled")
	}
	return err
}

// ended shows the end of a batch, and prints its result.
func ended(cmd *cobra.Command, b *bar, job actions.Job) error {
	if job.Progress != nil {
		b.show(*job.Progress)
	}
	b.end()
	switch job.State {
	case actions.JobDone:
		_, err := cmd.OutOrStdout().Write(append(job.Result, '\n'))
		return err
	case actions.JobCancelled:
		return vanished(actions.Errorf(actions.NotFound, ""))
	case actions.JobFailed, actions.JobInterrupted, actions.JobQueued, actions.JobRunning:
	}
	return actions.Errorf(actions.Failed, "the batch failed: %s", job.Error)
}

// cancel ends a batch.
func (a *batchAPI) cancel(cmd *cobra.Command, name string) error {
	_, path, err := a.find(cmd.Context(), name)
	if err != nil {
		return err
	}
	var job actions.Job
	if err := a.ask(context.WithoutCancel(cmd.Context()), http.MethodDelete, path, nil, &job); err != nil {
		return err
	}
	return printJob(cmd, job)
}

// logs prints what a batch said.
func (a *batchAPI) logs(cmd *cobra.Command, name string) error {
	_, path, err := a.find(cmd.Context(), name)
	if err != nil {
		return err
	}
	var text []byte
	if err := a.ask(cmd.Context(), http.MethodGet, path+"/logs", nil, &text); err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(text)
	return err
}
