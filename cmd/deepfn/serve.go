package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/cmd/relay"
	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/jobs"
	"github.com/deepfn/deepfn/runtime/sink"
	"github.com/deepfn/deepfn/runtime/storage"
)

// A server is one run of the serve command.
type server struct {
	*settings
	flags          *pflag.FlagSet
	stdout, errOut io.Writer

	relay.Front
	node relay.Node
	poolSettings
	model   string
	warm    int
	try     []string
	api     apiSettings
	storage storageSettings
	batches batchSettings
}

func serveCommand(s *settings) *cobra.Command {
	srv := &server{settings: s}
	cmd := &cobra.Command{
		Use:   "serve [MODEL]",
		Short: "Serves a model over HTTP: OpenWhisk's /init and /run, the DEEPaaS V2 API, an OpenWhisk for wsk",
		Long: "Serves a model over HTTP. MODEL is a name from 'deepfn models list'; or a path: the folder of\n" +
			"an action, a Python file with a function or a DEEPaaS module, a zip of one, an executable.\n" +
			"Without it DEEPFN_MODEL decides, else the code of OpenWhisk's /init, which is a function or\n" +
			`names a model, {"model": "ocr-line"}; until then every model of the catalog answers under /v2/.` + "\n\n" + exitHelp,
		Example: "  deepfn serve ocr-line\n  deepfn serve ./hello.py\n  deepfn serve ./my-model --listen 127.0.0.1:9000 --warm 2 --instances 4",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			srv.stdout, srv.errOut, srv.flags = cmd.OutOrStdout(), cmd.ErrOrStderr(), cmd.Flags()
			srv.model = s.getenv("DEEPFN_MODEL")
			if len(args) > 0 {
				srv.model = args[0]
			}
			return srv.run(cmd.Context())
		},
	}
	srv.addFlags(cmd.Flags())
	return cmd
}

func (srv *server) addFlags(f *pflag.FlagSet) {
	srv.AddFlags(f)
	srv.node.AddFlags(f)
	f.IntVar(&srv.warm, "warm", 1, "instances of MODEL to start at once and to keep (DEEPFN_WARM)")
	srv.poolSettings.addFlags(f)
	srv.api.addFlags(f)
	srv.storage.addFlags(f)
	srv.batches.addFlags(f)
	f.StringArrayVar(&srv.try, "try", nil, "when ready, send this request (NAME=@FILE or NAME=VALUE) to the server and print the answer")
}

// resolve fills in from the environment what no flag has set.
func (srv *server) resolve() error {
	if err := srv.resolveFront(); err != nil {
		return err
	}
	if err := srv.poolSettings.resolve(srv.flags, srv.getenv); err != nil {
		return err
	}
	if err := srv.batches.resolve(srv.flags, srv.getenv); err != nil {
		return err
	}
	if srv.warm > srv.instances && (srv.flags.Changed("instances") || srv.getenv("DEEPFN_INSTANCES") != "") {
		return usageError{fmt.Errorf("--warm %d: there may be only --instances %d", srv.warm, srv.instances)}
	}
	srv.instances = max(srv.instances, srv.warm)
	return nil
}

// resolveFront is resolve for what a relay has, too.
func (srv *server) resolveFront() error {
	err := errors.Join(srv.Resolve(srv.flags, srv.getenv),
		srv.api.resolve(srv.flags, srv.getenv), srv.resolveStorage())
	if err != nil {
		return err
	}
	if text := srv.getenv("DEEPFN_WARM"); text != "" && !srv.flags.Changed("warm") {
		if srv.warm, err = strconv.Atoi(text); err != nil {
			return usageError{fmt.Errorf("DEEPFN_WARM=%s: want a number", text)}
		}
	}
	if srv.warm < 0 {
		return usageError{errors.New("--warm wants 0 or more")}
	}
	return nil
}

// run serves until ctx ends, then drains.
func (srv *server) run(ctx context.Context) error {
	if srv.node.Asked(srv.flags, srv.getenv) {
		return srv.relay(ctx)
	}
	if err := srv.resolve(); err != nil {
		return err
	}
	h, err := srv.open()
	if err != nil {
		return err
	}
	defer h.close()
	h.maxPayload, h.fork = max(srv.MaxBody+1<<20, defaultPayload), srv.instances > 1
	r := running{house: h, all: newFrozen(h.catalog)}
	r.models = r.all
	if srv.model != "" {
		m, err := h.openModel(ctx, srv.model)
		if err != nil {
			return err
		}
		r.all.keep(m)
		r.models, srv.model = one{m}, m.Name
	}
	if r.listener, err = relay.Listen(ctx, srv.Listen); err != nil {
		return err
	}
	if err := srv.build(ctx, &r); err != nil {
		closing, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel() // nothing is under way
		return errors.Join(err, r.listener.Close(), r.close(closing))
	}
	return srv.serve(ctx, &r)
}

// A running server is what one run of the serve command has opened.
type running struct {
	*house
	listener  net.Listener
	all       *frozen       // the models that the actions of the API are of
	models    proxy.Catalog // those that DEEPaaS shows
	pool      *invoker.Invoker
	done      func() // when the pool is closed
	trainings *jobs.Jobs
	storage   *storage.Storage
	sink      *sink.Sink
	chunks    *sink.Sink
	batches   *batches // nil where none are taken
	api       localAPI
	front     *proxy.Server
	flush     func(context.Context) // sends the last spans; nil before there can be any
}

// build opens what stands behind the front, and the front.
func (srv *server) build(ctx context.Context, r *running) (err error) {
	r.pool, r.done = r.openPool(&srv.poolSettings, r.all, srv.functionInstances)
	r.all.changed = r.pool.Forget
	r.trainings = r.openJobs(r.models)
	if r.storage, err = srv.storage.open(srv.MaxBody, r.log); err != nil {
		return err
	}
	if r.sink, err = srv.Sink.Open(r.storage.Poster, r.log); err != nil {
		return err
	}
	if r.chunks, err = srv.openChunks(r); err != nil {
		return err
	}
	if r.batches, err = srv.openBatches(r); err != nil {
		return err
	}
	if r.api, err = srv.openAPI(r); err != nil {
		return err
	}
	cfg, err := srv.config(r)
	if err != nil {
		return err
	}
	r.flush = r.trace(ctx, &cfg)
	r.front = proxy.New(cfg)
	if r.api.controller != nil {
		r.api.controller.Resume()
	}
	if srv.model != "" && srv.warm > 0 { // before the first question whether it is ready
		return r.pool.Keep(ctx, srv.model, srv.warm)
	}
	return nil
}

// serve serves until ctx ends, then drains and closes all that is open.
func (srv *server) serve(ctx context.Context, r *running) error {
	r.log.Info("listening", "address", r.listener.Addr().String(), "model", srv.model)
	r.api.tell(srv.errOut)
	// A log collector that goes away is no reason to end.
	signal.Ignore(syscall.SIGPIPE)
	var wg sync.WaitGroup
	wg.Go(func() { srv.prepare(ctx, r.house, r.pool, r.listener.Addr().String()) })
	// Front, activations, pool and trainings share the grace, which begins with the signal.
	ended := make(chan time.Time, 1)
	defer context.AfterFunc(ctx, func() { ended <- time.Now() })()
	// Batches are left to the next server at once: those who wait get the instances.
	defer context.AfterFunc(ctx, func() { // which close waits for
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), srv.Grace)
		defer cancel()
		if err := r.batches.close(leaving); err != nil {
			r.log.Warn("batches are not left in order", "error", err)
		}
	})()
	err := r.front.Serve(ctx, r.listener)
	began := time.Now()
	if ctx.Err() != nil {
		began = <-ended
	}
	closing, cancel := context.WithDeadline(context.WithoutCancel(ctx), began.Add(srv.Grace))
	defer cancel()
	err = errors.Join(err, r.close(closing))
	wg.Wait()
	return err
}

// close ends what is under way, by the end of ctx at the latest: the trainings, and the
// activations before the pool that they run in.
func (r *running) close(ctx context.Context) error {
	var wg sync.WaitGroup
	var apiErr, poolErr, jobsErr, batchErr, sinkErr error
	wg.Go(func() {
		apiErr = r.api.close(ctx)
		batchErr = r.batches.close(ctx) // before the pool, whose end would be the rows' fault
		poolErr = r.pool.Close(ctx)
		r.done()
	})
	wg.Go(func() { jobsErr = closeJobs(ctx, r.trainings) })
	wg.Wait()
	for _, s := range []*sink.Sink{r.chunks, r.sink} { // after all who send
		if s != nil {
			sinkErr = errors.Join(sinkErr, s.Close(ctx))
		}
	}
	if r.flush != nil {
		r.flush(ctx)
	}
	return errors.Join(apiErr, poolErr, jobsErr, batchErr, sinkErr)
}

// config says what the front serves.
func (srv *server) config(r *running) (proxy.Config, error) {
	entry, err := relay.Entry(srv.getenv, r.log)
	if err != nil {
		return proxy.Config{}, err
	}
	cfg := proxy.Config{
		Entry: entry, Storage: r.storage, Sink: r.sink,
		Invoker: r.pool, Devices: r.pool.DeviceStats, Catalog: withoutCode{r.models}, Actions: r.all, Model: srv.model, Ready: r.pool.Ready,
		Warm:    func(ctx context.Context, model string) error { return srv.initialize(ctx, r.pool, model) },
		MaxBody: srv.MaxBody, MaxPayload: srv.PayloadLimit, Grace: relay.GraceOf(srv.Grace),
		Stdout: srv.stdout, Stderr: srv.errOut, Log: r.log, Version: release,
		BasePath: srv.BasePath, NoPredict: !srv.Predict, NoTrain: !srv.Train, NoDocs: !srv.Docs, Debug: srv.Debug,
	}
	srv.Events.Apply(&cfg)
	if r.trainings != nil {
		cfg.Jobs = r.trainings
	}
	if r.batches != nil {
		cfg.Batches = r.batches
	}
	if r.api.controller != nil {
		cfg.Controller = r.api.controller
	}
	return cfg, nil
}

// closeJobs ends the trainings, if there are any.
func closeJobs(ctx context.Context, trainings *jobs.Jobs) error {
	if trainings == nil {
		return nil
	}
	return trainings.Close(ctx)
}

// initialize warms the model that /init has chosen. A model that cannot be warmed is
// forgotten, because the next /init may choose another; the model of the command line is
// tried on.
func (srv *server) initialize(ctx context.Context, pool *invoker.Invoker, model string) error {
	if srv.warm == 0 {
		return nil
	}
	err := pool.Warm(ctx, model, srv.warm)
	if err != nil && model != srv.model {
		pool.Cool(model)
	}
	return err
}

// prepare warms the model, sets readiness by it, and makes the --try request.
func (srv *server) prepare(ctx context.Context, h *house, pool *invoker.Invoker, addr string) {
	if srv.model == "" {
		return
	}
	if err := srv.initialize(ctx, pool, srv.model); err != nil && ctx.Err() == nil {
		h.log.Warn("not ready yet; it is tried again", "model", srv.model) // the pool has logged why
	}
	if len(srv.try) == 0 || ctx.Err() != nil {
		return
	}
	if err := srv.tryOnce(ctx, addr); err != nil && ctx.Err() == nil {
		_, _ = fmt.Fprintln(srv.errOut, "deepfn: --try:", err)
	}
}
