// Package sink sends events over HTTP, each until its place has taken it: to the sink of a
// server, which Knative's SinkBinding names, or to where a caller wants an answer. What is not
// taken is sent to a dead-letter sink, as Knative's brokers do with theirs.
package sink

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// Config says where events go. Its zero value has no sink.
type Config struct {
	// URL is where events go that name no place, K_SINK. Empty is none.
	URL string
	// Overrides are extensions that every event to URL gets: {"extensions": {"name": "value"}},
	// the text of K_CE_OVERRIDES. Empty is none.
	Overrides string
	// DeadLetter is the URL that events go to which their place has not taken. Empty is none.
	DeadLetter string
	// CACerts are certificates in PEM that are trusted beside the system's, K_CA_CERTS.
	CACerts string
	// Token is the path of a file with a token for URL, which is sent to nobody else. It is read
	// for each try, because it is renewed. That there is no such file is no error.
	Token string
	// Transport sends to URL and DeadLetter. Nil makes one that trusts CACerts.
	Transport http.RoundTripper
	// Named returns what sends to a URL that a caller has named, or why that may not be, an
	// *actions.Error Invalid or Forbidden. Nil means that none may.
	Named func(url string) (http.RoundTripper, error)

	// Retries is how often an event is sent again. The default is 5; a negative number means
	// never.
	Retries int
	// Backoff is the time before the first of these, which doubles with each. A random part
	// of up to a half of it is left out. The default is 200 ms.
	Backoff time.Duration
	// MaxBackoff is the most of that time, also when the answer asks for more in Retry-After.
	// The default is 30 s.
	MaxBackoff time.Duration
	// Timeout is the most time of one try. The default is 30 s.
	Timeout time.Duration
	// MaxInFlight is how many tries may be under way at the same time, to URL, to DeadLetter,
	// and to all places together that callers name, each; others wait. So none that hangs
	// takes the time of the others. The default is 64.
	MaxInFlight int
	// Log takes a line for each event that its place has not taken. Nil discards.
	Log *slog.Logger
}

// A Sink sends events. Make it with New. Many may use it at the same time.
type Sink struct {
	cfg             Config
	own, deadLetter destination
	overrides       []cloudevent.Attribute
	named           chan struct{} // the slots of all places that callers name

	mu     sync.Mutex // guards what follows
	closed bool
	sends  map[*send]bool
	empty  chan struct{} // is closed when there are no sends after Close
}

// A send is a call of Send that is under way.
type send struct{ cancel context.CancelCauseFunc }

// errClosing is why Close gives a send up.
const errClosing = closing("sink: closed")

type closing string

func (c closing) Error() string { return string(c) }

// New makes a Sink. The error says which entry of the configuration cannot be.
func New(cfg Config) (*Sink, error) {
	if cfg.Retries == 0 {
		cfg.Retries = 5
	}
	if cfg.Backoff <= 0 {
		cfg.Backoff = 200 * time.Millisecond
	}
	if cfg.MaxBackoff <= 0 {
		cfg.MaxBackoff = 30 * time.Second
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.MaxInFlight <= 0 {
		cfg.MaxInFlight = 64
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Transport == nil {
		transport, err := newTransport(cfg.CACerts, cfg.MaxInFlight)
		if err != nil {
			return nil, err
		}
		cfg.Transport = transport
	}
	s := &Sink{cfg: cfg, named: make(chan struct{}, cfg.MaxInFlight), sends: map[*send]bool{}, empty: make(chan struct{})}
	var errs [3]error
	s.own, errs[0] = operators(cfg.URL, "the sink", cfg)
	s.own.token = cfg.Token
	s.deadLetter, errs[1] = operators(cfg.DeadLetter, "the dead-letter sink", cfg)
	s.overrides, errs[2] = parseOverrides(cfg.Overrides)
	return s, errors.Join(errs[:]...)
}

// Configured says whether there is a sink for events that name no place.
func (s *Sink) Configured() bool { return s.cfg.URL != "" }

// MaySend says whether an event may be sent to a URL, as far as that is known without asking
// anybody: nil, Invalid or Forbidden. Empty is the sink of the configuration.
func (s *Sink) MaySend(to string) error {
	_, err := s.destination(to)
	return err
}

// Send delivers an event to a URL, or to the sink of the configuration when to is empty, and
// tries again as long as that may help; then it goes to the dead-letter sink. With an error
// nobody has said that they have it: Invalid when the place refuses it or its URL is none,
// Forbidden when nobody may send there, Unavailable when it did not take it in all tries or
// the Sink is closed, Deadline and Canceled when ctx has ended before. Half of the time of ctx
// is for the dead-letter sink. The event's bytes are
// the caller's again when it returns.
func (s *Sink) Send(ctx context.Context, to string, e *cloudevent.Event) error {
	d, err := s.destination(to)
	if err != nil {
		return err
	}
	event := *e
	if d.url == s.own.url {
		event.Extensions = withOverrides(e.Extensions, s.overrides)
	}
	if err := event.Validate(); err != nil {
		return err
	}
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	first, done := s.forSink(ctx)
	f := s.deliver(first, d, &event)
	done()
	if f == nil {
		return nil
	}
	log := s.cfg.Log.With("event_id", cut(event.ID), "event_type", cut(event.Type), "sink", d.shown(), "tries", f.tries, "error", f.err)
	if f.err.Err != nil {
		log = log.With("cause", f.err.Err)
	}
	if s.deadLetter.url == "" || ctx.Err() != nil {
		log.WarnContext(ctx, "event not delivered")
		return f.err
	}
	letter := deadLetter(&event, d, f)
	if second := s.deliver(ctx, s.deadLetter, &letter); second != nil {
		log.WarnContext(ctx, "event not delivered", "dead_letter_sink", s.deadLetter.shown(), "dead_letter_error", second.err)
		return f.err
	}
	log.WarnContext(ctx, "event sent to the dead-letter sink", "dead_letter_sink", s.deadLetter.shown())
	return nil
}

// forSink is the time that the place of an event has of a call's: half of it, if the rest is for
// a dead-letter sink, which else would get nothing after a place that does not answer.
func (s *Sink) forSink(ctx context.Context) (context.Context, context.CancelFunc) {
	at, ok := ctx.Deadline()
	if !ok || s.deadLetter.url == "" {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, at.Add(-time.Until(at)/2))
}

// cut bounds what the log has of an event.
func cut(text string) string {
	const most = 128
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}

// begin notes that a send is under way, which Close may give up.
func (s *Sink) begin(ctx context.Context) (_ context.Context, end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, &actions.Error{Code: actions.Unavailable, Msg: "the server is shutting down", Err: errClosing}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	c := &send{cancel: cancel}
	s.sends[c] = true
	return ctx, func() {
		cancel(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.sends, c)
		if s.closed && len(s.sends) == 0 {
			close(s.empty)
		}
	}, nil
}

// Close waits for what is being sent, and takes nothing more. When ctx ends, it gives up the
// rest, whose calls then return an error. It may be called once.
func (s *Sink) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	if len(s.sends) == 0 {
		close(s.empty)
	}
	s.mu.Unlock()
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	given := len(s.sends)
	for c := range s.sends {
		c.cancel(errClosing)
	}
	s.mu.Unlock()
	<-s.empty
	if given == 0 {
		return nil
	}
	return actions.Errorf(actions.Unavailable, "sink: %d events were given up", given)
}
