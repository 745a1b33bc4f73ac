package relay

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/proxy"
)

func TestEvents(t *testing.T) {
	const name = "deepfn"
	for _, tt := range []struct {
		name  string
		args  []string
		env   map[string]string
		want  Events
		wrong bool
	}{
		{name: "nothing", want: Events{Record: 10_000, RecordAge: 10 * time.Minute}},
		{name: "environment", env: map[string]string{
			"K_SERVICE": "cats", "DEEPFN_EVENT_RESULTS": "s3://out/", "DEEPFN_EVENT_RECORD": "5", "DEEPFN_EVENT_RECORD_AGE": "1h",
		}, want: Events{Service: "cats", Results: "s3://out/", Record: 5, RecordAge: time.Hour}},
		{
			name: "flags win", args: []string{"--event-results", "s3://in/", "--event-record", "-1", "--event-record-age", "1s"},
			env:  map[string]string{"DEEPFN_EVENT_RESULTS": "s3://out/", "DEEPFN_EVENT_RECORD": "x", "DEEPFN_EVENT_RECORD_AGE": "1h"},
			want: Events{Results: "s3://in/", Record: -1, RecordAge: time.Second},
		},
		{name: "no number", env: map[string]string{"DEEPFN_EVENT_RECORD": "x"}, wrong: true},
		{name: "no time", env: map[string]string{"DEEPFN_EVENT_RECORD_AGE": "x"}, wrong: true},
		{name: "no age", args: []string{"--event-record-age", "0s"}, wrong: true},
		{name: "an object", args: []string{"--event-results", "s3://out/x"}, wrong: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got Events
			f := pflag.NewFlagSet(name, pflag.ContinueOnError)
			got.addFlags(f)
			if err := f.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			err := got.resolve(f, func(key string) string { return tt.env[key] })
			if tt.wrong != (err != nil) {
				t.Errorf("got %v, want an error: %v", err, tt.wrong)
			}
			if diff := cmp.Diff(tt.want, got); !tt.wrong && diff != "" {
				t.Error(diff)
			}
			var cfg proxy.Config
			got.Apply(&cfg)
			if cfg.Service != got.Service || cfg.EventResults != got.Results || cfg.EventRecordAge != got.RecordAge || cfg.EventRecord != got.Record {
				t.Errorf("got %+v of %+v", cfg, got)
			}
		})
	}
	var cfg proxy.Config
	(&Events{}).Apply(&cfg)
	if cfg.EventRecord >= 0 {
		t.Errorf("a record of none: got %d", cfg.EventRecord)
	}
}
