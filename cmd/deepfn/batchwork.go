package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/batch"
	"github.com/deepfn/deepfn/runtime/jobs"
)

// progressTime is how often the sink is told how far a batch is.
const progressTime = 10 * time.Second

// A batchWork is the work of one job.
type batchWork struct {
	*batches
	job actions.Job
	out jobs.Output
}

// start readies the work of a job.
func (b *batches) start(_ context.Context, job actions.Job, out jobs.Output) (jobs.Instance, error) {
	return &batchWork{batches: b, job: job, out: out}, nil
}

// Close ends nothing: the end of its context ends a call.
func (w *batchWork) Close() error { return nil }

// Call runs the batch to its end, from where an earlier call has left off.
func (w *batchWork) Call(ctx context.Context, req actions.Request) (actions.Response, error) {
	in, err := actions.ParseBatch(req.Args)
	if err != nil {
		return actions.Response{}, err
	}
	job := w.job
	job.State = actions.JobRunning
	teller := &progressTeller{}
	stop := w.tellProgress(ctx, in, job, teller)
	manifest, err := w.engine.Run(ctx, job.ID, in, batch.Watcher{
		Progress: func(p actions.Progress) {
			w.out.Progress(p)
			teller.set(p)
		},
		Line: func(text string) { w.out.Line(actions.LogLine{Stream: actions.Stderr, Text: text}) },
	})
	stop()
	if ctx.Err() != nil {
		return actions.Response{}, ctx.Err()
	}
	job.Progress, job.Finished = teller.last(), time.Now().UTC().Round(0)
	kind := cloudevent.BatchDone
	if err != nil {
		job.State, job.Error, kind = actions.JobFailed, err.Error(), cloudevent.BatchFailed
	} else {
		job.State, job.Result = actions.JobDone, batchSummary(manifest, in)
	}
	w.events.send(ctx, in, &job, kind)
	if ctx.Err() != nil { // nobody has heard of the end: the next server says it
		return actions.Response{}, ctx.Err()
	}
	if err != nil {
		w.out.Line(actions.LogLine{Stream: actions.Stderr, Text: err.Error()})
		return actions.Response{}, err
	}
	return actions.Response{ContentType: jsonMediaType, Data: job.Result}, nil
}

const jsonMediaType = "application/json"

// batchSummary is the manifest without its lists, which may be long, and where it is.
func batchSummary(manifest json.RawMessage, in actions.Batch) json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal(manifest, &members) != nil {
		return manifest
	}
	for _, name := range []string{"parts", "errors", "batch", "version"} {
		delete(members, name)
	}
	for name, text := range map[string]string{"output": in.Output.URL, "manifest": in.Output.URL + "manifest.json"} {
		members[name], _ = json.Marshal(text) // a text always can be
	}
	summary, err := json.Marshal(members)
	if err != nil {
		return manifest
	}
	return summary
}

// A progressTeller has the last progress of a batch.
type progressTeller struct {
	mu       sync.Mutex // guards progress
	progress *actions.Progress
}

func (t *progressTeller) set(p actions.Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress = &p
}

func (t *progressTeller) last() *actions.Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.progress
}

// tellProgress sends events of the progress until stop is called, which waits for the last one.
func (w *batchWork) tellProgress(ctx context.Context, in actions.Batch, job actions.Job, t *progressTeller) (stop func()) {
	if !w.events.wanted(in) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { // ends with ctx
		ticks := time.NewTicker(progressTime)
		defer ticks.Stop()
		var told *actions.Progress
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
			}
			if p := t.last(); p != nil && p != told {
				told, job.Progress = p, p
				w.events.send(ctx, in, &job, cloudevent.BatchProgress)
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// batchEvents sends the events of batches. Without a sink it does nothing.
type batchEvents struct {
	sink proxy.Sink // nil without one
	log  *slog.Logger
}

// maySend says whether the events of a batch may go to a URL.
func (e batchEvents) maySend(to string) error {
	if e.sink == nil {
		return actions.Errorf(actions.Unsupported, "this server sends no events; leave the sink out")
	}
	return e.sink.MaySend(to)
}

// wanted says whether there is somebody who takes the events of a batch.
func (e batchEvents) wanted(in actions.Batch) bool {
	return e.sink != nil && (in.Sink != "" || e.sink.Configured())
}

// send sends an event of a job. That nobody takes it ends no batch.
func (e batchEvents) send(ctx context.Context, in actions.Batch, job *actions.Job, kind string) {
	if !e.wanted(in) {
		return
	}
	data, err := json.Marshal(job)
	if err == nil {
		err = e.sink.Send(ctx, in.Sink, &cloudevent.Event{
			ID: job.ID + "-" + eventSuffix(kind), Source: "/v2/models/" + url.PathEscape(job.Model) + "/batch/", Type: kind, Subject: job.ID,
			Time: time.Now().UTC().Format(time.RFC3339Nano), DataContentType: jsonMediaType, Data: data,
		})
	}
	if err != nil && ctx.Err() == nil {
		e.log.Warn("event of a batch not sent", "job", job.ID, "type", kind, "error", err)
	}
}

// eventSuffix tells the events of a job apart: there are many of its progress, and one of its end,
// which has the same id when it is sent again.
func eventSuffix(kind string) string {
	if kind == cloudevent.BatchProgress {
		return strconv.FormatInt(time.Now().UnixNano(), 36)
	}
	return "end"
}
