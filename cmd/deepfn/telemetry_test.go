package main

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/deepfn/deepfn/proxy"
)

// A collector keeps the spans that it gets.
type collector struct {
	*httptest.Server

	mu    sync.Mutex // guards spans
	spans []*otlp.Span
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var data otlp.TracesData
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, of := range data.GetResourceSpans() {
			for _, scope := range of.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// names are those of the spans of a trace, sorted.
func (c *collector) names(trace string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, span := range c.spans {
		if hex.EncodeToString(span.GetTraceId()) == trace {
			names = append(names, span.GetName())
		}
	}
	slices.Sort(names)
	return names
}

// What a cold call and a warm one cost is in the answers, in /stats, and in the spans, the
// last of which are sent when the server ends.
func TestServeSaysWhatACallCost(t *testing.T) {
	c := newCollector(t)
	p := &process{t: t, ended: make(chan struct{}), env: []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_BSP_SCHEDULE_DELAY=3600000", // but for the end, nothing is sent
	}}
	p.serve(&p.stdout, "ocr-line", "--warm", "0")
	body := string(runBody(linePNG(t, "Cold and warm")))
	const cold, warm = "4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000abc"
	for _, call := range []struct{ trace, start, timing string }{
		{cold, "^(cache|disk)$", `^(queue;dur=[0-9.]+, )?start;dur=[0-9.]+;desc="(cache|disk)", run;dur=[0-9.]+$`},
		{warm, "^warm$", `^(queue;dur=[0-9.]+, )?run;dur=[0-9.]+$`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+"/run", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Traceparent", "00-"+call.trace+"-00f067aa0ba902b7-01")
		r, err := do(req)
		if err != nil || textOf(t, r.body) != "Cold and warm" {
			t.Fatalf("got %d %s, %v", r.status, r.body, err)
		}
		for name, want := range map[string]string{"Deepfn-Start": call.start, "Server-Timing": call.timing} {
			if got := r.header.Get(name); !regexp.MustCompile(want).MatchString(got) {
				t.Errorf("got %s %q, want %s", name, got, want)
			}
		}
	}
	var stats proxy.Stats
	if r := p.mustGet("/stats"); json.Unmarshal([]byte(r.body), &stats) != nil || len(stats.Models) != 1 {
		t.Fatalf("/stats: got %d %s", r.status, r.body)
	}
	m := stats.Models[0]
	if m.Model != "ocr-line" || m.ColdStarts != 1 || m.From["warm"] != 1 || m.From["cache"]+m.From["disk"] != 1 || len(m.Instances) != 1 || m.Instances[0].PID == 0 {
		t.Errorf("got %+v, want one cold start, one warm call and one instance", m)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("got exit code %d: %s", code, p.stderr.String())
	}
	if got := strings.Join(slices.DeleteFunc(c.names(cold), isQueue), " "); got != "POST /run run start" {
		t.Errorf("the cold call: got spans %s", got)
	}
	if got := strings.Join(slices.DeleteFunc(c.names(warm), isQueue), " "); got != "POST /run run" {
		t.Errorf("the warm call: got spans %s", got)
	}
}

// isQueue says whether a span is that of a wait, which may be too short to be one.
func isQueue(name string) bool { return name == "queue" }
