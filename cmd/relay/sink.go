package relay

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/runtime/sink"
)

// tokenFile is where Knative puts the token for a sink that asks for one.
const tokenFile = "/oidc/token"

// A Sink is what a front is told of where events go that are no answer to a request.
type Sink struct {
	// URL and DeadLetter are empty where there is none.
	URL, DeadLetter string
	// Timeout is the most time of one try to send an event; zero is the default of package sink.
	Timeout time.Duration
	// overrides and certificates are what Knative's SinkBinding gives beside K_SINK.
	overrides, certificates string
}

func (s *Sink) addFlags(f *pflag.FlagSet) {
	f.StringVar(&s.URL, "sink", "", "URL that answers to events go to whose sender takes none, and events of batches (K_SINK, with K_CE_OVERRIDES\nand K_CA_CERTS)")
	f.StringVar(&s.DeadLetter, "dead-letter-sink", "", "URL that events go to which their sink does not take (DEEPFN_DEAD_LETTER_SINK)")
}

// resolve fills in from the environment what no flag has set, and checks it.
func (s *Sink) resolve(f *pflag.FlagSet, getenv func(string) string) error {
	if !f.Changed("sink") {
		s.URL = getenv("K_SINK")
	}
	if !f.Changed("dead-letter-sink") {
		s.DeadLetter = getenv("DEEPFN_DEAD_LETTER_SINK")
	}
	s.overrides, s.certificates = getenv("K_CE_OVERRIDES"), getenv("K_CA_CERTS")
	_, err := s.Open(nil, nil)
	return err
}

// Open makes the sink. named returns what sends to a URL that a caller has named, or why that
// may not be; nil means that none may. Nil for log discards. The error is a UsageError.
func (s *Sink) Open(named func(url string) (http.RoundTripper, error), log *slog.Logger) (*sink.Sink, error) {
	opened, err := sink.New(sink.Config{
		URL: s.URL, DeadLetter: s.DeadLetter, Overrides: s.overrides, CACerts: s.certificates, Token: tokenFile,
		Timeout: s.Timeout, Named: named, Log: log,
	})
	if err != nil {
		return nil, UsageError{err}
	}
	return opened, nil
}
