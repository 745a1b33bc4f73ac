package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/batch"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/jobs"
	"github.com/deepfn/deepfn/runtime/storage"
)

// *batches is what the front wants.
var _ proxy.Batches = (*batches)(nil)

// batchSettings say how a server does batch predictions.
type batchSettings struct {
	most    int
	through []string
}

func (b *batchSettings) addFlags(f *pflag.FlagSet) {
	f.IntVar(&b.most, "batches", 2, "batch predictions that run at the same time; 0: none are taken (DEEPFN_BATCHES)")
	f.StringArrayVar(&b.through, "batch-through", nil, "openwhisk:/NAMESPACE/ACTION that callers may have the chunks of a batch done by\n(DEEPFN_BATCH_THROUGH, separated by spaces)")
}

// resolve fills in from the environment what no flag has set.
func (b *batchSettings) resolve(f *pflag.FlagSet, getenv func(string) string) (err error) {
	if text := getenv("DEEPFN_BATCHES"); text != "" && !f.Changed("batches") {
		if b.most, err = strconv.Atoi(text); err != nil {
			return usageError{fmt.Errorf("DEEPFN_BATCHES=%s: want a number", text)}
		}
	}
	if b.most < 0 {
		return usageError{errors.New("--batches wants 0 or more")}
	}
	return b.resolveThrough(f, getenv)
}

// describe returns what says what a model takes. One that says so itself is loaded for that.
func describe(pool *invoker.Invoker) func(context.Context, actions.Model) (*actions.Description, error) {
	return func(ctx context.Context, m actions.Model) (*actions.Description, error) {
		if !m.ParsesArguments() {
			return nil, nil
		}
		if pool.Info(m.Name) == nil {
			if err := pool.Await(ctx, m.Name); err != nil {
				return nil, err
			}
		}
		d := new(actions.Description)
		if err := json.Unmarshal(pool.Info(m.Name), d); err != nil {
			return nil, actions.Errorf(actions.Internal, "model %s: what it says of itself: %w", m.Name, err)
		}
		return d, nil
	}
}

// batches are the batch predictions of a server: the engine does them, as jobs that outlive it.
type batches struct {
	engine   *batch.Engine
	storage  *storage.Storage
	dispatch *dispatcher
	jobs     *jobs.Jobs // nil without a folder that can be written to
	events   batchEvents
	log      *slog.Logger
	telling  sync.WaitGroup // what Cancel has left to be done
}

// openBatches opens the batch predictions of a server, nil if it takes none. Without a folder of
// its own it does the chunks of others' alone.
func (srv *server) openBatches(r *running) (*batches, error) {
	if srv.batches.most == 0 {
		return nil, nil
	}
	b := &batches{storage: r.storage, events: batchEvents{sink: r.sink, log: r.log}, log: r.log}
	b.dispatch = &dispatcher{sink: r.chunks, allowed: srv.batches.through, platform: platform{env: srv.getenv}}
	var err error
	b.engine, err = batch.New(batch.Config{
		Store: r.storage, Model: r.models.Model, Describe: describe(r.pool), Invoke: r.pool.Invoke,
		Instances: func(m actions.Model) int { return max(srv.instances, srv.functionInstances(m)) },
		Dispatch:  b.dispatch.dispatch, Log: r.log,
	})
	if err != nil {
		return nil, err
	}
	b.jobs, err = jobs.Open(jobs.Config{
		Dir: filepath.Join(r.data, "batches"), MaxRunning: srv.batches.most, Resume: true, Start: b.start, Log: r.log,
		Knows: func(model string) bool {
			_, err := r.models.Model(context.Background(), model)
			return err == nil
		},
	})
	if err != nil {
		r.log.Warn("no batches are taken, only their chunks: their folder cannot be used; name another with --data", "error", err)
		b.jobs = nil
	}
	return b, nil
}

// close leaves what runs to the next server, by the end of ctx at the latest. A nil receiver has
// nothing.
func (b *batches) close(ctx context.Context) error {
	if b == nil {
		return nil
	}
	b.telling.Wait() // it has a time of its own
	if b.jobs == nil {
		return nil
	}
	return b.jobs.Close(ctx)
}

// Submit checks a batch and begins it.
func (b *batches) Submit(ctx context.Context, in actions.Batch) (actions.Job, error) {
	if b.jobs == nil {
		return actions.Job{}, actions.Errorf(actions.Unavailable, "this server has no folder to keep batches in; its operator names one with --data")
	}
	if in.Sink != "" {
		if err := b.events.maySend(in.Sink); err != nil {
			return actions.Job{}, err
		}
	}
	if in.Through != "" {
		if err := b.dispatch.check(in.Through); err != nil {
			return actions.Job{}, err
		}
	}
	if err := b.engine.Check(ctx, in); err != nil {
		return actions.Job{}, err
	}
	if err := b.storage.MayStore(in.Output.URL + "manifest.json"); err != nil {
		return actions.Job{}, err
	}
	args, err := json.Marshal(in)
	if err != nil {
		return actions.Job{}, actions.Errorf(actions.Invalid, "the batch: %w", err)
	}
	return b.jobs.Submit(ctx, actions.Request{Model: in.Model, Verb: actions.Predict, Args: args}, args)
}

// Do does one chunk of a batch and returns when it is committed.
func (b *batches) Do(ctx context.Context, c actions.Chunk) error { return b.engine.Do(ctx, c) }

// List returns the batches of a model, the oldest first.
func (b *batches) List(ctx context.Context, model string) ([]actions.Job, error) {
	if b.jobs == nil {
		return nil, nil
	}
	return b.jobs.List(ctx, model)
}

// Job returns one.
func (b *batches) Job(ctx context.Context, model, id string) (actions.Job, error) {
	if b.jobs == nil {
		return actions.Job{}, noBatch(model)
	}
	return b.jobs.Job(ctx, model, id)
}

// Logs returns what one said.
func (b *batches) Logs(ctx context.Context, model, id string) ([]byte, error) {
	if b.jobs == nil {
		return nil, noBatch(model)
	}
	return b.jobs.Logs(ctx, model, id)
}

func noBatch(model string) error {
	return actions.Errorf(actions.NotFound, "model %.80q has no such batch", model)
}

// cancelTime is how long the replicas and the sink are told that a batch was cancelled.
const cancelTime = 30 * time.Second

// Cancel ends a batch and removes its record; what it has written stays. Those who have chunks of
// it, and its sink, are told so afterwards.
func (b *batches) Cancel(ctx context.Context, model, id string) (actions.Job, error) {
	if b.jobs == nil {
		return actions.Job{}, noBatch(model)
	}
	job, err := b.jobs.Cancel(ctx, model, id)
	if err != nil || job.State != actions.JobCancelled {
		return job, err
	}
	in, err := actions.ParseBatch(job.Args)
	if err != nil {
		return job, nil //nolint:nilerr // it is cancelled all the same
	}
	b.telling.Go(func() { // ends within cancelTime
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
		defer cancel()
		if in.Through != "" {
			if err := b.engine.Abandon(ctx, in); err != nil {
				b.log.Warn("chunks of a cancelled batch go on", "job", job.ID, "error", err)
			}
		}
		b.events.send(ctx, in, &job, cloudevent.BatchCancelled)
	})
	return job, nil
}
