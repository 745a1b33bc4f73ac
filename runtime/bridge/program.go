package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/command"
)

const (
	// restartTime bounds a start that no request waits for.
	restartTime = 10 * time.Minute
	// skew is how long before its deadline a request that was cancelled counts as expired.
	skew = 50 * time.Millisecond
)

// errWatchdog is the cause of the end of a request that the watchdog ended.
var errWatchdog = errors.New("the watchdog's time is over")

// A Program serves one model of one server. Start comes first and once; then many may
// call Call at a time. It has to lead its process group, as the child of a worker does, to
// end what a server leaves behind.
type Program struct {
	setup    command.Setup
	spec     Spec
	watchdog time.Duration // 0 for none
	limit    int
	routes   *routes // what the server said of its arguments when it was first started

	turn   chan struct{} // holds a token while somebody uses server
	server *server       // nil when there is none
}

// New returns a Program that has not been started.
func New() *Program { return &Program{turn: make(chan struct{}, 1)} }

// Start starts the server that setup, a command.Setup in JSON, describes, and waits until it is
// ready. What it returns is an actions.Description. The error is an *actions.Error:
// Invalid and NotFound for what the action says, Conflict when the port is taken, Failed
// when the server ends, Deadline and Canceled when ctx ends.
func (p *Program) Start(ctx context.Context, setup json.RawMessage) (any, error) {
	if err := p.configure(setup); err != nil {
		return nil, err
	}
	s, err := p.current(ctx)
	if err != nil {
		return nil, err
	}
	return p.describe(ctx, s), nil
}

// configure reads the setup.
func (p *Program) configure(setup json.RawMessage) error {
	var err error
	if p.setup, err = command.ParseSetup(setup); err != nil {
		return actions.Errorf(actions.Invalid, "http: %w", err)
	}
	if p.spec, err = ParseSpec(p.setup.Spec); err != nil {
		return err
	}
	if p.watchdog, err = duration("watchdog", p.spec.Watchdog); err != nil {
		return actions.Errorf(actions.Invalid, "http: %w", err)
	}
	p.limit = int(p.setup.MaxPayload)
	return nil
}

// current returns the server, which it starts if there is none.
func (p *Program) current(ctx context.Context) (*server, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		if expired(ctx) {
			return nil, actions.Errorf(actions.Deadline, "http: the start of the server takes longer than the request may: %w", ctx.Err())
		}
		return nil, actions.Errorf(actions.Canceled, "http: the request was canceled while the server started: %w", ctx.Err())
	}
	if p.server != nil && !p.server.ended() {
		return p.server, nil
	}
	if p.setup.Spec == nil {
		return nil, actions.Errorf(actions.Internal, "the server has not been started")
	}
	p.server = nil
	s, err := p.startServer(ctx)
	if err != nil {
		return nil, err
	}
	p.server = s
	return s, nil
}

// discard ends a server, and starts it again while nobody waits for it.
func (p *Program) discard(s *server, why error) {
	if s.cmd == nil {
		return // it is not ours
	}
	s.end()
	// Ends with the start of the server, or with the process.
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), restartTime)
		defer cancel()
		_, _ = fmt.Fprintf(os.Stderr, "deepfn: the server is started again: %v\n", why)
		if _, err := p.current(ctx); err != nil {
			_, _ = fmt.Fprintf(os.Stderr, "deepfn: the server did not start again: %v\n", err)
		}
	}()
}

// Close lets the server end. A process that ends need not call it, but gives the server
// time to put things in order if it does.
func (p *Program) Close() {
	select {
	case p.turn <- struct{}{}:
		if p.server != nil {
			p.server.stop()
			p.server = nil
		}
		<-p.turn
	default: // the end of this process ends it
	}
}

// Call gives one request to the server. Its errors are *actions.Error: what the server
// said with its status, TooLarge for an answer over the limit, Unavailable when the server
// ends or does not start, Deadline when the watchdog or ctx ended the request, Canceled
// when the caller has left, Failed for an answer that is none.
func (p *Program) Call(ctx context.Context, req actions.Request) (actions.Response, error) {
	switch req.Verb {
	case "", actions.Predict, actions.Train, actions.Metadata:
	case actions.ParseTrain:
		return parseTrain(&req)
	default:
		return actions.Response{}, actions.Errorf(actions.Unsupported, "a server cannot %s", req.Verb)
	}
	s, err := p.current(ctx)
	if err != nil {
		return actions.Response{}, restartError(err)
	}
	switch req.Verb {
	case actions.Train:
		return p.train(ctx, s, &req)
	case actions.Metadata:
		return p.metadata(ctx, s)
	default:
		return p.predict(ctx, s, &req)
	}
}

// restartError is the error of a request for which the server had to be started.
func restartError(err error) error {
	code := actions.CodeOf(err)
	if code != actions.Deadline && code != actions.Canceled {
		code = actions.Unavailable
	}
	return actions.Errorf(code, "the server had ended and cannot be started again: %w", err)
}

// predict asks the server for a prediction.
func (p *Program) predict(ctx context.Context, s *server, req *actions.Request) (actions.Response, error) {
	out, err := p.newRequest(req, p.routes.predict)
	if err != nil {
		return actions.Response{}, err
	}
	r, err := p.send(ctx, s, http.MethodPost, s.route("predict/"), out)
	if err != nil {
		return actions.Response{}, err
	}
	return r.response()
}

// metadata asks the server what it says of the model now.
func (p *Program) metadata(ctx context.Context, s *server) (actions.Response, error) {
	r, err := p.send(ctx, s, http.MethodGet, s.route(""), &outgoing{})
	if err != nil {
		return actions.Response{}, err
	}
	if err := r.failure(); err != nil {
		return actions.Response{}, err
	}
	b := withoutLinks(r.body)
	if b == nil {
		return actions.Response{}, actions.Errorf(actions.Failed, "the server's metadata are not a JSON object: %s", excerpt(r.body))
	}
	return actions.Response{ContentType: jsonType, Data: b}, nil
}

// send sends a request and reads its answer, within the time that it may take.
func (p *Program) send(ctx context.Context, s *server, method, address string, out *outgoing) (*reply, error) {
	if p.watchdog > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, p.watchdog, errWatchdog)
		defer cancel()
	}
	r, err := s.do(ctx, method, address, out, p.limit)
	if err == nil {
		return r, nil
	}
	if e, ok := errors.AsType[*actions.Error](err); ok {
		return nil, e
	}
	switch {
	case errors.Is(context.Cause(ctx), errWatchdog):
		err = actions.Errorf(actions.Deadline, "the server did not answer within the watchdog's %v; it is started again", p.watchdog)
		p.discard(s, err)
		return nil, err
	case expired(ctx):
		err = actions.Errorf(actions.Deadline, "the server did not answer in the time of the request, which is its watchdog; it is started again")
		p.discard(s, err)
		return nil, err
	case ctx.Err() != nil:
		return nil, actions.Errorf(actions.Canceled, "the request was canceled: %w", ctx.Err())
	}
	return nil, s.lost(err)
}

// expired reports whether the time of a request is over. The parent, whose clock it is too,
// cancels the request in the same moment, and may be first.
func expired(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() != nil && ok && time.Until(end) < skew
}

// lost is the error of a request whose connection broke.
func (s *server) lost(err error) error {
	if s.cmd != nil {
		select {
		case <-s.cmd.Done():
			return actions.Errorf(actions.Unavailable, "the server ended: %s", s.cmd.State())
		case <-time.After(endGrace):
		}
	}
	return &actions.Error{Code: actions.Unavailable, Msg: "the server hung up without an answer", Err: err}
}
