package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/jobs"
)

// defaultListen is where a server of one's own listens. The image sets DEEPFN_LISTEN
// to all addresses.
const defaultListen = "127.0.0.1:8080"

// maxMaxBody bounds --max-body: shared memory of that size is reserved for each worker,
// and taken when it is used.
const maxMaxBody = 16 << 30

// A server is one run of the serve command.
type server struct {
	*settings
	flags          *pflag.FlagSet
	stdout, errOut io.Writer

	poolSettings
	model   string
	listen  string
	warm    int
	maxBody int64
	grace   time.Duration
	try     []string
	api     apiSettings
	storage storageSettings

	basePath                            string
	predictOn, trainOn, docsOn, debugOn bool
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

func (srv *server) addListenFlag(f *pflag.FlagSet) {
	f.StringVar(&srv.listen, "listen", "", "address to listen on (DEEPFN_LISTEN; default "+defaultListen+"; PORT replaces the port)")
}

func (srv *server) addFlags(f *pflag.FlagSet) {
	srv.addListenFlag(f)
	f.IntVar(&srv.warm, "warm", 1, "instances of MODEL to start at once and to keep (DEEPFN_WARM)")
	srv.poolSettings.addFlags(f)
	f.Int64Var(&srv.maxBody, "max-body", 48<<20, "bytes of a request's body (DEEPFN_MAX_BODY)")
	f.DurationVar(&srv.grace, "grace", 30*time.Second, "time for requests in flight after SIGTERM (DEEPFN_GRACE)")
	f.StringVar(&srv.basePath, "base-path", "", "path below which the DEEPaaS API is served, such as /models/cats (DEEPFN_BASE_PATH)")
	f.BoolVar(&srv.predictOn, "predict-endpoint", true, "answer predictions of the DEEPaaS API; false: 402 (DEEPFN_PREDICT_ENDPOINT)")
	f.BoolVar(&srv.trainOn, "train-endpoint", true, "take trainings of the DEEPaaS API; false: 402 (DEEPFN_TRAIN_ENDPOINT)")
	f.BoolVar(&srv.docsOn, "doc-endpoint", true, "serve the page at /api (DEEPFN_DOC_ENDPOINT)")
	f.BoolVar(&srv.debugOn, "debug-endpoint", false, "show what models print at /v2/debug/ (DEEPFN_DEBUG_ENDPOINT)")
	srv.api.addFlags(f)
	srv.storage.addFlags(f)
	f.StringArrayVar(&srv.try, "try", nil, "when ready, send this request (NAME=@FILE or NAME=VALUE) to the server and print the answer")
}

// resolveListen finds the address from the flag, DEEPFN_LISTEN and PORT.
func (srv *server) resolveListen() error {
	if !srv.flags.Changed("listen") {
		srv.listen = srv.getenv("DEEPFN_LISTEN")
	}
	if srv.listen == "" {
		srv.listen = defaultListen
	}
	if port := srv.getenv("PORT"); port != "" && !srv.flags.Changed("listen") {
		host, _, err := net.SplitHostPort(srv.listen)
		if err != nil {
			return usageError{fmt.Errorf("DEEPFN_LISTEN=%s: %w", srv.listen, err)}
		}
		srv.listen = net.JoinHostPort(host, port)
	}
	return nil
}

// resolve fills in from the environment what no flag has set.
func (srv *server) resolve() error {
	if err := srv.resolveListen(); err != nil {
		return err
	}
	for _, v := range []struct {
		flag, name string
		set        func(int64)
	}{
		{"warm", "DEEPFN_WARM", func(n int64) { srv.warm = int(n) }},
		{"max-body", "DEEPFN_MAX_BODY", func(n int64) { srv.maxBody = n }},
	} {
		text := srv.getenv(v.name)
		if text == "" || srv.flags.Changed(v.flag) {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return usageError{fmt.Errorf("%s=%s: want a number", v.name, text)}
		}
		v.set(n)
	}
	if err := errors.Join(srv.resolveEndpoints(), srv.api.resolve(srv.flags, srv.getenv), srv.resolveStorage()); err != nil {
		return err
	}
	if err := srv.poolSettings.resolve(srv.flags, srv.getenv); err != nil {
		return err
	}
	if err := srv.duration(srv.flags, "grace", "DEEPFN_GRACE", &srv.grace); err != nil {
		return err
	}
	switch {
	case srv.warm < 0 || srv.grace < 0:
		return usageError{errors.New("--warm and --grace want 0 or more")}
	case srv.maxBody < 1 || srv.maxBody > maxMaxBody:
		return usageError{fmt.Errorf("--max-body %d: want 1 to %d bytes", srv.maxBody, int64(maxMaxBody))}
	}
	if srv.warm > srv.instances && (srv.flags.Changed("instances") || srv.getenv("DEEPFN_INSTANCES") != "") {
		return usageError{fmt.Errorf("--warm %d: there may be only --instances %d", srv.warm, srv.instances)}
	}
	srv.instances = max(srv.instances, srv.warm)
	return nil
}

// run serves until ctx ends, then drains.
func (srv *server) run(ctx context.Context) error {
	if err := srv.resolve(); err != nil {
		return err
	}
	h, err := srv.open()
	if err != nil {
		return err
	}
	defer h.close()
	h.maxPayload, h.fork = max(srv.maxBody+1<<20, defaultPayload), srv.instances > 1
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
	if r.listener, err = listen(ctx, srv.listen); err != nil {
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
	api       localAPI
	front     *proxy.Server
}

// build opens what stands behind the front, and the front.
func (srv *server) build(ctx context.Context, r *running) (err error) {
	r.pool, r.done = r.openPool(&srv.poolSettings, r.all, srv.functionInstances)
	r.all.changed = r.pool.Forget
	r.trainings = r.openJobs(r.models)
	if r.api, err = srv.openAPI(r); err != nil {
		return err
	}
	cfg, err := srv.config(r)
	if err != nil {
		return err
	}
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
	err := r.front.Serve(ctx, r.listener)
	began := time.Now()
	if ctx.Err() != nil {
		began = <-ended
	}
	closing, cancel := context.WithDeadline(context.WithoutCancel(ctx), began.Add(srv.grace))
	defer cancel()
	err = errors.Join(err, r.close(closing))
	wg.Wait()
	return err
}

// close ends what is under way, by the end of ctx at the latest: the trainings, and the
// activations before the pool that they run in.
func (r *running) close(ctx context.Context) error {
	var wg sync.WaitGroup
	var apiErr, poolErr, jobsErr error
	wg.Go(func() {
		apiErr = r.api.close(ctx)
		poolErr = r.pool.Close(ctx)
		r.done()
	})
	wg.Go(func() { jobsErr = closeJobs(ctx, r.trainings) })
	wg.Wait()
	return errors.Join(apiErr, poolErr, jobsErr)
}

// config says what the front serves.
func (srv *server) config(r *running) (proxy.Config, error) {
	entry, err := srv.entry(r.log)
	if err != nil {
		return proxy.Config{}, err
	}
	references, err := srv.storage.open(srv.maxBody, r.log)
	if err != nil {
		return proxy.Config{}, err
	}
	cfg := proxy.Config{
		Entry: entry, Storage: references,
		Invoker: r.pool, Devices: r.pool.DeviceStats, Catalog: withoutCode{r.models}, Actions: r.all, Model: srv.model, Ready: r.pool.Ready,
		Warm:    func(ctx context.Context, model string) error { return srv.initialize(ctx, r.pool, model) },
		MaxBody: srv.maxBody, MaxPayload: srv.api.payloadLimit, Grace: graceOf(srv.grace),
		Stdout: srv.stdout, Stderr: srv.errOut, Log: r.log, Version: release,
		BasePath: srv.basePath, NoPredict: !srv.predictOn, NoTrain: !srv.trainOn, NoDocs: !srv.docsOn, Debug: srv.debugOn,
	}
	if r.trainings != nil {
		cfg.Jobs = r.trainings
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

// graceOf says in the front's words how long requests in flight may take: there, zero
// means the default.
func graceOf(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
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

// listen opens the address, with an error that says what to do when it is taken.
func listen(ctx context.Context, address string) (net.Listener, error) {
	var cfg net.ListenConfig
	ln, err := cfg.Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		return ln, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &actions.Error{Code: actions.Unavailable, Err: err, Msg: fmt.Sprintf(
			"another program listens on %s already; stop it, or choose another address with --listen, such as --listen 127.0.0.1:9000", address)}
	case errors.Is(err, os.ErrPermission):
		return nil, &actions.Error{Code: actions.Unavailable, Err: err, Msg: fmt.Sprintf(
			"this user may not listen on %s; choose a port above 1023 with --listen", address)}
	default:
		return nil, usageError{fmt.Errorf("--listen %s: %w; write it as HOST:PORT, such as 127.0.0.1:9000", address, err)}
	}
}
