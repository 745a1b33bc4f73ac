package node

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	// firstPause is the time between two attempts to reach the node, which doubles up to
	// lastPause.
	firstPause = 5 * time.Millisecond
	lastPause  = 500 * time.Millisecond
	// askTime bounds a question that has no context.
	askTime = time.Second
)

// RelayConfig says which node a Relay calls. Path is required.
type RelayConfig struct {
	// Path is the path of the node's socket.
	Path string
	// Token returns what the node wants to know. It is called for each connection. Nil, and
	// an empty token, are none.
	Token func() ([]byte, error)
	// Patience is how long a request waits for a node that does not answer, if its own
	// time is not over before. The default is 5 s.
	Patience time.Duration
	// MaxWaiting is how many requests may wait for a free lane. The default is 1024.
	MaxWaiting int
	// Log takes a line when the node comes and goes. The default discards.
	Log *slog.Logger
}

// A Relay is the pool of a node, seen from another process. It connects by itself, and
// again when the node was away; what it wanted to be kept warm, and the code that it has
// imported, the next node hears of before the first request. Many may use it.
type Relay struct {
	cfg     RelayConfig
	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex // guards what follows
	link   *link      // nil while there is none
	closed bool
	// changed is closed, and made anew, when there is a link, or none any more.
	changed chan struct{}
	// why says why there is no link.
	why error
	// models and infos are what this link's node has said of models.
	models map[string]actions.Model
	infos  map[string]json.RawMessage
	// sources is the code that was imported, and warmed are the models to be kept warm.
	sources map[string]actions.Source
	warmed  map[string]int
	waiting int
}

// NewRelay returns a Relay, which starts to connect to its node. Close ends it.
func NewRelay(cfg RelayConfig) *Relay {
	if cfg.Patience <= 0 {
		cfg.Patience = 5 * time.Second
	}
	if cfg.MaxWaiting <= 0 {
		cfg.MaxWaiting = 1024
	}
	if cfg.Token == nil {
		cfg.Token = func() ([]byte, error) { return nil, nil }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &Relay{
		cfg: cfg, stop: stop, changed: make(chan struct{}), why: errors.New("it was not called yet"),
		sources: map[string]actions.Source{}, warmed: map[string]int{},
	}
	r.reset()
	r.running.Go(func() { r.connect(ctx) }) // ends with stop
	return r
}

// Close ends the connection. Requests under way are given up: who wants them to finish
// waits for them first.
func (r *Relay) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
	r.running.Wait()
	return nil
}

// reset forgets what the last node has said of models.
func (r *Relay) reset() {
	r.models, r.infos = map[string]actions.Model{}, map[string]json.RawMessage{}
}

// connect keeps a connection to the node until ctx ends.
func (r *Relay) connect(ctx context.Context) {
	for pause := firstPause; ctx.Err() == nil; {
		l, err := r.open(ctx)
		if err == nil {
			r.publish(ctx, l)
			pause = firstPause
			continue
		}
		r.missing(err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
	r.set(nil, errors.New("the relay is closed"))
}

// open makes a connection that can take requests.
func (r *Relay) open(ctx context.Context) (*link, error) {
	token, err := r.cfg.Token()
	if err != nil {
		return nil, err
	}
	w, err := meet(ctx, r.cfg.Path, token)
	if err != nil {
		return nil, err
	}
	l, err := newLink(w)
	if err != nil {
		return nil, err
	}
	r.running.Go(func() { l.run(ctx, r.cfg.Log) }) // ends with the connection, or with ctx
	if err := r.restore(ctx, l); err != nil {
		l.fail(err)
		return nil, err
	}
	return l, nil
}

// restore imports the code once more that the node may have forgotten.
func (r *Relay) restore(ctx context.Context, l *link) error {
	r.mu.Lock()
	sources := make([]actions.Source, 0, len(r.sources))
	for _, s := range r.sources {
		sources = append(sources, s)
	}
	r.mu.Unlock()
	for _, source := range sources {
		_, err := importOn(ctx, l, source)
		if errors.Is(err, errUnsent) || errors.Is(err, errLost) {
			return err
		}
		if err != nil { // requests for it are told so
			r.cfg.Log.Warn("the node does not take the code again", "error", err.Error())
		}
	}
	return nil
}

// publish lets requests use a connection until it has gone, or takes no more.
func (r *Relay) publish(ctx context.Context, l *link) {
	r.mu.Lock()
	r.reset()
	warmed := maps.Clone(r.warmed)
	r.mu.Unlock()
	r.set(l, nil)
	r.cfg.Log.Info("the node answers", "socket", r.cfg.Path)
	for model, n := range warmed {
		r.running.Go(func() { // ends when the model is warm, or with the connection
			if _, err := l.call(ctx, warmQuestion(model, n)); err != nil && ctx.Err() == nil {
				r.cfg.Log.Warn("the node does not warm the model", "model", model, "error", err.Error())
			}
		})
	}
	select {
	case <-l.gone:
	case <-l.retired:
	case <-ctx.Done():
		l.fail(net.ErrClosed)
	}
	r.set(nil, l.reason())
	if ctx.Err() == nil {
		r.cfg.Log.Warn("the node has gone", "socket", r.cfg.Path, "error", l.reason().Error())
	}
}

// set says which connection there is, or why there is none.
func (r *Relay) set(l *link, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.link, r.why = l, why
	close(r.changed)
	r.changed = make(chan struct{})
}

// missing notes why the node cannot be reached, and logs it when it is something new.
func (r *Relay) missing(err error) {
	r.mu.Lock()
	known := r.why != nil && r.why.Error() == err.Error()
	r.why = err
	r.mu.Unlock()
	if !known {
		r.cfg.Log.Warn("the node does not answer", "socket", r.cfg.Path, "error", err.Error())
	}
}

// current returns the connection, which the caller leaves after use; or nil, and what is
// closed when that has changed, and why.
func (r *Relay) current() (*link, <-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.link != nil && r.link.enter() {
		return r.link, nil, nil
	}
	if r.closed {
		return nil, nil, &actions.Error{Code: actions.Unavailable, Msg: "the relay is shutting down", RetryAfter: time.Second}
	}
	why := r.why
	if why == nil {
		why = r.link.reason()
	}
	return nil, r.changed, why
}

// attached waits for a connection, for Patience at most since the wait began.
func (r *Relay) attached(ctx context.Context, began time.Time) (*link, error) {
	var timer *time.Timer
	for {
		l, changed, why := r.current()
		if l != nil {
			return l, nil
		}
		if changed == nil {
			return nil, why
		}
		if timer == nil {
			timer = time.NewTimer(r.cfg.Patience - time.Since(began))
			defer timer.Stop()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, leftError(ctx)
		case <-timer.C:
			return nil, r.unavailable(r.whyNot())
		}
	}
}

// whyNot is why there is no connection.
func (r *Relay) whyNot() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why
}

func (r *Relay) unavailable(why error) *actions.Error { return unavailable(r.cfg.Path, why) }

// unavailable says that the node does not answer, and what to do where that is known.
func unavailable(path string, why error) *actions.Error {
	e := &actions.Error{Code: actions.Unavailable, RetryAfter: time.Second, Err: why}
	e.Msg = "the node runtime does not answer at " + path
	if said, ok := errors.AsType[*actions.Error](why); ok {
		e.Msg += ": " + said.Error()
	}
	return e
}
