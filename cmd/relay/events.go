package relay

import (
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/proxy"
)

// Events is what a front is told of the events that it takes.
type Events struct {
	// Service is K_SERVICE, which the source of answers begins with.
	Service string
	// Results is the URL that answers to notifications of buckets are stored below.
	Results string
	// Record is how many events are recorded, and RecordAge for how long.
	Record    int
	RecordAge time.Duration
}

func (e *Events) addFlags(f *pflag.FlagSet) {
	f.StringVar(&e.Results, "event-results", "", "URL, with / at the end, below which answers to notifications of buckets are stored (DEEPFN_EVENT_RESULTS)")
	f.IntVar(&e.Record, "event-record", 10_000, "how many events are answered once when they come twice; -1: none (DEEPFN_EVENT_RECORD)")
	f.DurationVar(&e.RecordAge, "event-record-age", 10*time.Minute, "for how long that is (DEEPFN_EVENT_RECORD_AGE)")
}

// resolve fills in from the environment what no flag has set, and checks it.
func (e *Events) resolve(f *pflag.FlagSet, getenv func(string) string) error {
	e.Service = getenv("K_SERVICE")
	if !f.Changed("event-results") {
		e.Results = getenv("DEEPFN_EVENT_RESULTS")
	}
	if text := getenv("DEEPFN_EVENT_RECORD"); text != "" && !f.Changed("event-record") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return usagef("DEEPFN_EVENT_RECORD=%s: want a number of events", text)
		}
		e.Record = n
	}
	if err := duration(f, getenv, "event-record-age", "DEEPFN_EVENT_RECORD_AGE", &e.RecordAge); err != nil {
		return err
	}
	switch last := len(e.Results) - 1; {
	case last >= 0 && e.Results[last] != '/':
		return usagef("--event-results %s: want a URL with / at the end", e.Results)
	case e.RecordAge <= 0:
		return usagef("--event-record-age %v: want more than 0", e.RecordAge)
	}
	return nil
}

// Apply says to a front what it is told of events.
func (e *Events) Apply(cfg *proxy.Config) {
	cfg.Service, cfg.EventResults, cfg.EventRecord, cfg.EventRecordAge = e.Service, e.Results, e.Record, e.RecordAge
	if e.Record == 0 { // which is the default to a front
		cfg.EventRecord = -1
	}
}
