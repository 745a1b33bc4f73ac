package telemetry

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	traceID  = "4bf92f3577b34da6a3ce929d0e0e4736"
	parentID = "00f067aa0ba902b7"
	sampled  = "00-" + traceID + "-" + parentID + "-01"
)

func TestBegin(t *testing.T) {
	r := newReceiver(t)
	t.Setenv("OTEL_SERVICE_NAME", "cats")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	tracer, flush := open(t, nil)
	start := time.Unix(1_700_000_000, 5)
	own, end := tracer.Begin("outer", true, actions.Trace{Parent: sampled, State: "congo=t61,rojo=00f"}, start)
	_, endInner := tracer.Begin("inner", false, own, start.Add(time.Second))
	endInner(start.Add(2*time.Second), "", map[string]any{"from": "disk", "cold": true})
	end(start.Add(3*time.Second), "failed", map[string]any{"status": 200, "odd": 1.5})
	flush()

	outer, inner := r.got(t, "outer"), r.got(t, "inner")
	for _, c := range []struct{ name, got, want string }{
		{"trace of outer", hex.EncodeToString(outer.GetTraceId()), traceID},
		{"trace of inner", hex.EncodeToString(inner.GetTraceId()), traceID},
		{"parent of outer", hex.EncodeToString(outer.GetParentSpanId()), parentID},
		{"parent of inner", string(inner.GetParentSpanId()), string(outer.GetSpanId())},
		{"context", own.Parent, "00-" + traceID + "-" + hex.EncodeToString(outer.GetSpanId()) + "-01"},
		{"state", own.State, "congo=t61,rojo=00f"},
		{"state of outer", outer.GetTraceState(), "congo=t61,rojo=00f"},
		{"state of inner", inner.GetTraceState(), "congo=t61,rojo=00f"},
		{"kind of outer", outer.GetKind().String(), "SPAN_KIND_SERVER"},
		{"kind of inner", inner.GetKind().String(), "SPAN_KIND_INTERNAL"},
		{"status of outer", outer.GetStatus().GetCode().String() + " " + outer.GetStatus().GetMessage(), "STATUS_CODE_ERROR failed"},
		{"status of inner", inner.GetStatus().GetCode().String(), "STATUS_CODE_UNSET"},
		{"attributes of outer", fmt.Sprint(attributesOf(outer)), `map[odd:"1.5" status:200]`},
		{"attributes of inner", fmt.Sprint(attributesOf(inner)), `map[cold:true from:"disk"]`},
		{"times", fmt.Sprint(outer.GetStartTimeUnixNano(), inner.GetStartTimeUnixNano(), inner.GetEndTimeUnixNano(), outer.GetEndTimeUnixNano()), fmt.Sprint(
			start.UnixNano(), start.UnixNano()+1e9, start.UnixNano()+2e9, start.UnixNano()+3e9)},
		{"outer's parent is elsewhere", fmt.Sprint(outer.GetFlags() & 0x300), "768"}, // of trace.proto: known, and remote
		{"inner's is not", fmt.Sprint(inner.GetFlags() & 0x300), "256"},
		{"path", strings.Join(r.paths, " "), "/v1/traces"},
		{"header", r.headers.Get("X-Key"), "secret"},
		{"compression", r.headers.Get("Content-Encoding"), "gzip"},
		{"service", r.resource["service.name"] + " " + r.resource["service.version"] + " " + r.resource["deployment.environment"], "cats v1 test"},
		{"language", r.resource["telemetry.sdk.language"], "go"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
		}
	}
}

// A span of its own trace, below what cannot be a parent, and below the flags of the
// specification's second level.
func TestParents(t *testing.T) {
	newReceiver(t)
	tracer, flush := open(t, nil)
	defer flush()
	for _, tt := range []struct {
		parent string
		keeps  bool
		flags  string
	}{
		{"", false, "-01"},
		{"nonsense", false, "-01"},
		{"00-x-y-z", false, "-01"},
		{"00-" + traceID + "-y-z", false, "-01"},
		{"00-" + traceID + "-" + parentID + "-z", false, "-01"},
		{sampled, true, "-01"},
		{sampled[:53] + "03", true, "-03"},
		{sampled[:53] + "02", true, "-02"},
		{sampled[:53] + "00", true, "-00"},
	} {
		own, _ := tracer.Begin("x", true, actions.Trace{Parent: tt.parent}, time.Now())
		if strings.Contains(own.Parent, traceID) != tt.keeps || !strings.HasSuffix(own.Parent, tt.flags) || len(own.Parent) != len(sampled) {
			t.Errorf("below %q: got %s, want the same trace %v, flags %s", tt.parent, own.Parent, tt.keeps, tt.flags)
		}
	}
}

// What the caller does not sample is not sent, and neither is what the sampler leaves out,
// but the trace goes on.
func TestSampling(t *testing.T) {
	for _, tt := range []struct {
		name, sampler, ratio string
		parent               string
		flags                string
		sent                 int
	}{
		{"the default", "", "", "", "-01", 1},
		{"a caller who samples", "", "", sampled, "-01", 1},
		{"a caller who does not", "", "", sampled[:53] + "00", "-00", 0},
		{"never", "always_off", "", sampled, "-00", 0},
		{"a ratio", "traceidratio", "0", "", "-00", 0},
		{"a ratio, with a parent", "parentbased_traceidratio", "0", sampled, "-01", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newReceiver(t)
			t.Setenv("OTEL_TRACES_SAMPLER", tt.sampler)
			t.Setenv("OTEL_TRACES_SAMPLER_ARG", tt.ratio)
			tracer, flush := open(t, nil)
			own, end := tracer.Begin("x", true, actions.Trace{Parent: tt.parent, State: "a=1"}, time.Now())
			end(time.Now(), "", nil)
			flush()
			if !strings.HasSuffix(own.Parent, tt.flags) || r.count() != tt.sent {
				t.Errorf("got %s and %d sent, want flags %s and %d", own.Parent, r.count(), tt.flags, tt.sent)
			}
			if tt.parent != "" && own.State != "a=1" {
				t.Errorf("got state %q, want a=1", own.State)
			}
		})
	}
}

func TestOff(t *testing.T) {
	tracer, err := Open(t.Context(), Config{Getenv: func(string) string { return "" }})
	if tracer != nil || err != nil || tracer.Close(t.Context()) != nil {
		t.Errorf("got %v, %v, want none, which can be closed", tracer, err)
	}
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "x")
	_, err = Open(t.Context(), Config{Getenv: environment(endpointName, "http://x")})
	if actions.CodeOf(err) != actions.Invalid {
		t.Errorf("bad attributes: got %v, want invalid", err)
	}
}

// A bad variable costs the spans alone.
func TestStart(t *testing.T) {
	var log bytes.Buffer
	cfg := Config{Log: slog.New(slog.NewTextHandler(&log, nil)), Getenv: environment(endpointName, "nowhere")}
	if got := Start(t.Context(), cfg); got != nil || !strings.Contains(log.String(), endpointName+"=nowhere: want a URL") {
		t.Errorf("got %v and the log %s, want no tracer, and why", got, &log)
	}
}

func TestTracesEndpoint(t *testing.T) {
	r := newReceiver(t)
	t.Setenv(endpointName, "")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", r.URL+"/some/where")
	tracer, flush := open(t, nil)
	_, end := tracer.Begin("x", true, actions.Trace{}, time.Now())
	end(time.Now(), "", nil)
	flush()
	if want := []string{"/some/where"}; !slices.Equal(r.paths, want) {
		t.Errorf("got %q, want %q", r.paths, want)
	}
}

// A collector that takes requests and never answers holds up neither the spans, of which
// those that there is no room for are dropped, nor the end for longer than its context.
func TestHangingCollector(t *testing.T) {
	asked, release := make(chan struct{}, 100), make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	defer hanging.Close()
	defer close(release)
	t.Setenv(endpointName, hanging.URL)
	tracer, _ := open(t, nil)
	for range 3 * 2048 { // three times the SDK's queue
		_, end := tracer.Begin("x", true, actions.Trace{}, time.Now())
		end(time.Now(), "", nil)
	}
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	closed := make(chan error, 1)
	go func() { closed <- tracer.Close(ctx) }()
	cancel()
	if err := <-closed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was canceled", err)
	}
}

func TestComplaints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := &complaints{log: slog.New(slog.NewTextHandler(&log, nil))}
		for i := range 121 { // two minutes and a second
			c.Handle(fmt.Errorf("no collector %d", i))
			time.Sleep(time.Second)
		}
		if n := strings.Count(log.String(), "no collector"); n != 3 {
			t.Errorf("got %d lines, want one a minute, 3", n)
		}
	})
}
