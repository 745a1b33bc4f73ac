package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/batch"
	"github.com/deepfn/deepfn/runtime/storage"
)

// A batchRun is one run of the command batch run.
type batchRun struct {
	*settings
	batchFlags
	pool           poolSettings
	dry            bool
	stdout, errOut io.Writer
}

func batchRunCommand(s *settings) *cobra.Command {
	r := &batchRun{settings: s}
	cmd := &cobra.Command{
		Use:   "run MODEL --input URL|PATH --output URL|PATH",
		Short: "Predicts on all rows, or all files, of an input, here",
		Long: "Predicts on all rows, or all files, of an input, here. Ctrl-C, or a kill, loses at most the chunk that\n" +
			"is under way: the same command goes on. At the end it prints what was done; OUTPUT/manifest.json says\n" +
			"more, and OUTPUT/errors-*.ndjson have the rows that failed. Credentials of S3 and the other stores are\n" +
			"those that their own tools use.\n\n" + exitHelp,
		Example: "  deepfn batch run ocr-line --input ./lines/ --match '*.png' --output ./texts --dry-run\n" +
			"  deepfn batch run ./my-model --input s3://in/rows.csv --output s3://out/run-1/ --output-format parquet",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.stdout, r.errOut = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return r.run(cmd.Context(), args[0])
		},
	}
	r.add(cmd.Flags())
	r.pool.addFlags(pflag.NewFlagSet("", pflag.ContinueOnError)) // their defaults
	cmd.Flags().IntVar(&r.pool.instances, "instances", 1, "instances of MODEL, which work beside each other")
	cmd.Flags().DurationVar(&r.pool.timeout, "timeout", 0, "most time for one call; 0: no limit")
	cmd.Flags().BoolVar(&r.dry, "dry-run", false, "predict the first rows alone, write nothing, and say what the whole would take")
	return cmd
}

// run runs the batch, or says what it would be.
func (r *batchRun) run(ctx context.Context, model string) error {
	if r.pool.instances < 1 || r.pool.timeout < 0 {
		return usageError{errors.New("--instances wants 1 or more, --timeout 0 or more")}
	}
	r.quiet = true
	h, err := r.open()
	if err != nil {
		return err
	}
	defer h.close()
	m, err := h.openModel(ctx, model)
	if err != nil {
		return err
	}
	in, err := r.read(m.Name)
	if err != nil {
		return err
	}
	if in.Through != "" || in.Sink != "" {
		return usageError{errors.New("through and sink are for a batch of a server: deepfn batch submit")}
	}
	h.fork = r.pool.instances > 1
	store, err := storage.New(storage.Config{Allow: usersOwn(in), Log: h.log})
	if err != nil {
		return usageError{err}
	}
	engine, end, err := r.engine(h, m, store)
	if err != nil {
		return err
	}
	if r.dry {
		err = r.preview(ctx, engine, in)
	} else {
		err = r.predict(ctx, engine, store, in)
	}
	return errors.Join(reasoned(err), end(ctx))
}

// reasoned adds why something was not reached: a server tells that to its log alone, and here is
// nobody else who would. URLs are not in it, because their queries may be keys.
func reasoned(err error) error {
	e, ok := errors.AsType[*actions.Error](err)
	if !ok || e.Code != actions.Unavailable || e.Err == nil {
		return err
	}
	var reason error
	if lost, ok := errors.AsType[*net.OpError](e.Err); ok {
		reason = lost
	} else {
		for reason = e.Err; errors.Unwrap(reason) != nil; {
			reason = errors.Unwrap(reason)
		}
	}
	if strings.Contains(e.Msg, reason.Error()) {
		return err
	}
	return &actions.Error{Code: e.Code, Msg: fmt.Sprintf("%s: %.300s", e.Msg, reason), Err: err}
}

// usersOwn are the prefixes of all that the user may reach, which are his own.
func usersOwn(in actions.Batch) []string {
	own := []string{"file:///", "s3://", "gs://", "azblob://"}
	for _, u := range []string{in.Input.URL, in.Output.URL} {
		if strings.HasPrefix(u, "http://") || strings.HasPrefix(u, "https://") {
			u, _, _ = strings.Cut(u, "?")
			own = append(own, u)
		}
	}
	return own
}

// engine makes an engine with a pool of the model, which end closes.
func (r *batchRun) engine(h *house, m actions.Model, store batch.Store) (engine *batch.Engine, end func(context.Context) error, err error) {
	pool, done := h.openPool(&r.pool, one{m}, func(actions.Model) int { return 0 })
	engine, err = batch.New(batch.Config{
		Store: store, Model: one{m}.Model, Describe: describe(pool), Invoke: pool.Invoke,
		Instances: func(actions.Model) int { return r.pool.instances }, Log: h.log,
	})
	return engine, func(ctx context.Context) error {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		defer done()
		return pool.Close(closing)
	}, err
}

// predict runs the batch, from where an earlier run has left off.
func (r *batchRun) predict(ctx context.Context, engine *batch.Engine, store batch.Store, in actions.Batch) error {
	id, _, complete, err := batch.JobOf(ctx, store, in.Output.URL)
	if err != nil {
		return err
	}
	if id == "" {
		if id, err = newBatchID(); err != nil {
			return err
		}
	}
	b := newBar(r.errOut)
	began := time.Now()
	manifest, err := engine.Run(ctx, id, in, batch.Watcher{Progress: b.show, Line: b.line})
	b.end()
	switch {
	case err != nil && ctx.Err() != nil:
		_, _ = fmt.Fprintf(r.errOut, "deepfn: stopped. What is done is kept in %s: the same command goes on from there.\n", in.Output.URL)
		return toldError{exitDeadline}
	case err != nil:
		return err
	case complete:
		_, _ = fmt.Fprintf(r.errOut, "deepfn: %s was complete already; nothing was done again.\n", in.Output.URL)
	default:
		_, _ = fmt.Fprintf(r.errOut, "deepfn: done in %s.\n", lasting(time.Since(began).Seconds()))
	}
	_, err = r.stdout.Write(append(batchSummary(manifest, in), '\n'))
	return err
}

// newBatchID is 32 hexadecimal digits.
func newBatchID() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", actions.Errorf(actions.Internal, "an id for the batch: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}
