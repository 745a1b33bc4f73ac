package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/node"
	"github.com/deepfn/deepfn/runtime/sink"
	"github.com/deepfn/deepfn/runtime/telemetry"
)

// elsewhere says where there is what a relay has not.
const elsewhere = "this server is a relay, which has no models of its own: 'deepfn node --listen ADDRESS' or a 'deepfn serve' without --node has it"

// Config says what a relay serves. Node.URL is required.
type Config struct {
	Front Front
	Node  Node
	// Model is the model that this function is; empty leaves it to /init.
	Model string
	// Warm is how many instances of the model the node keeps while the relay is there.
	Warm int
	// Entry is the single entrypoint at /.
	Entry proxy.Entry
	// Storage has arguments and results by reference. Nil takes none.
	Storage proxy.Storage
	// Named returns what sends events to a URL that a caller has named, or why that may not be.
	// Nil means that none may.
	Named func(url string) (http.RoundTripper, error)
	// Getenv reads the variables of OpenTelemetry, which may name a collector of traces. Nil
	// means that there is none.
	Getenv func(string) string
	// Stdout and Stderr take what models print.
	Stdout, Stderr io.Writer
	Log            *slog.Logger
	Version        string
}

// A server is one run of a relay.
type server struct {
	cfg   Config
	relay *node.Relay
	sink  *sink.Sink
	// warmed says that the model was warm once: from then on it is the node's affair.
	warmed atomic.Bool
}

// Run serves until ctx ends, then drains.
func Run(ctx context.Context, cfg Config) error {
	connection, err := cfg.Node.connection()
	if err != nil {
		return err
	}
	connection.Log = cfg.Log
	events, err := cfg.Front.Sink.Open(cfg.Named, cfg.Log)
	if err != nil {
		return err
	}
	ln, err := Listen(ctx, cfg.Front.Listen)
	if err != nil {
		return err
	}
	s := &server{cfg: cfg, relay: node.NewRelay(connection), sink: events}
	cfg.Log.Info("listening", "address", ln.Addr().String(), "model", cfg.Model, "node", cfg.Node.URL)
	// A log collector that goes away is no reason to end.
	signal.Ignore(syscall.SIGPIPE)
	return errors.Join(s.serve(ctx, ln), s.relay.Close())
}

// serve serves until ctx ends, or the node says that it has no such model, then drains.
func (s *server) serve(ctx context.Context, ln net.Listener) error {
	serving, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	var noModel error
	if s.cfg.Model != "" && s.cfg.Warm > 0 {
		wg.Go(func() { // ends with the front
			if noModel = s.prepare(serving); noModel != nil {
				stop()
			}
		})
	}
	front := s.front()
	tracer := s.trace(ctx, &front)
	err := proxy.New(front).Serve(serving, ln)
	stop()
	wg.Wait()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // the front has waited for events
	defer cancel()
	if err := s.sink.Close(closing); err != nil {
		s.cfg.Log.Warn("events are lost", "error", err.Error())
	}
	if err := tracer.Close(context.WithoutCancel(ctx)); err != nil {
		s.cfg.Log.Warn("spans are lost", "error", err.Error())
	}
	return errors.Join(err, noModel)
}

// trace has the front record spans, if there is a collector for them; else the tracer is nil.
func (s *server) trace(ctx context.Context, front *proxy.Config) *telemetry.Tracer {
	if s.cfg.Getenv == nil {
		return nil
	}
	tracer := telemetry.Start(ctx, telemetry.Config{Getenv: s.cfg.Getenv, Version: s.cfg.Version, Log: s.cfg.Log})
	if tracer != nil {
		front.Tracer = tracer
	}
	return tracer
}

// front says what the front serves.
func (s *server) front() proxy.Config {
	cfg, f := s.cfg, s.cfg.Front
	catalog := proxy.Catalog(s.relay)
	if cfg.Model != "" {
		catalog = only{s.relay, cfg.Model}
	}
	front := proxy.Config{
		Invoker: s.relay, Catalog: catalog, Model: cfg.Model, Ready: s.ready, Warm: s.warm,
		Entry: cfg.Entry, Storage: cfg.Storage, Sink: s.sink, Elsewhere: elsewhere,
		MaxBody: f.MaxBody, MaxPayload: f.PayloadLimit, Grace: GraceOf(f.Grace),
		BasePath: f.BasePath, NoPredict: !f.Predict, NoTrain: !f.Train, NoDocs: !f.Docs, Debug: f.Debug,
		Stdout: cfg.Stdout, Stderr: cfg.Stderr, Log: cfg.Log, Version: cfg.Version,
	}
	f.Events.Apply(&front)
	return front
}

// ready returns nil if the node answers, and the model of the command line was warm.
func (s *server) ready() error {
	if err := s.relay.Ready(); err != nil {
		return err
	}
	if s.cfg.Model != "" && s.cfg.Warm > 0 && !s.warmed.Load() {
		return actions.Errorf(actions.Unavailable, "the model %s is being loaded by the node runtime", s.cfg.Model)
	}
	return nil
}

// warm has the node keep a model warm. One that /init has chosen and that cannot be warmed
// is given up, because the next /init may choose another.
func (s *server) warm(ctx context.Context, model string) error {
	if s.cfg.Warm == 0 {
		return nil
	}
	err := s.relay.Warm(ctx, model, s.cfg.Warm)
	if err != nil && model != s.cfg.Model {
		s.relay.Cool(model)
	}
	return err
}

// prepare warms the model of the command line, until that has succeeded. It returns an error
// when the node has no such model: then there is nothing to wait for.
func (s *server) prepare(ctx context.Context) error {
	const firstPause, lastPause = 100 * time.Millisecond, 5 * time.Second
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := s.warm(ctx, s.cfg.Model)
		if err == nil {
			s.warmed.Store(true)
			return nil
		}
		if ctx.Err() == nil {
			if actions.CodeOf(err) == actions.NotFound {
				return fmt.Errorf("node at %s: %w", s.cfg.Node.URL, err)
			}
			s.cfg.Log.Warn("not ready yet; it is tried again", "model", s.cfg.Model, "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// only is the catalog of a function: of the node's models, the one of the command line.
type only struct {
	relay *node.Relay
	model string
}

func (c only) Models(ctx context.Context) ([]actions.Model, error) {
	m, err := c.relay.Model(ctx, c.model)
	if err != nil {
		return nil, err
	}
	return []actions.Model{m}, nil
}

func (c only) Model(ctx context.Context, name string) (actions.Model, error) {
	if name != c.model {
		return actions.Model{}, actions.Errorf(actions.NotFound, "there is no model %q here; this function is %s", name, c.model)
	}
	return c.relay.Model(ctx, name)
}

// Import is not called for the function of the command line.
func (c only) Import(context.Context, actions.Source) (actions.Model, error) {
	return actions.Model{}, actions.Errorf(actions.Conflict, "this function is %s and takes no code", c.model)
}
