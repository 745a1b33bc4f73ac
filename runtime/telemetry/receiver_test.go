package telemetry

import (
	"compress/gzip"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A receiver is a collector that keeps what it gets.
type receiver struct {
	*httptest.Server

	mu       sync.Mutex // guards what follows
	paths    []string
	headers  http.Header
	spans    []*otlp.Span
	resource map[string]string
}

// newReceiver starts a receiver, and points the variables at it.
func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{resource: map[string]string{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := r.take(req); err != nil {
			t.Error(err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(r.Close)
	t.Setenv(endpointName, r.URL)
	return r
}

func (r *receiver) take(req *http.Request) error {
	body := io.Reader(req.Body)
	if req.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(body); err != nil {
			return err
		}
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var export otlp.TracesData // an ExportTraceServiceRequest on the wire
	if err := proto.Unmarshal(data, &export); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paths, r.headers = append(r.paths, req.URL.Path), req.Header
	for _, of := range export.GetResourceSpans() {
		for _, attribute := range of.GetResource().GetAttributes() {
			r.resource[attribute.GetKey()] = attribute.GetValue().GetStringValue()
		}
		for _, scope := range of.GetScopeSpans() {
			r.spans = append(r.spans, scope.GetSpans()...)
		}
	}
	return nil
}

// got returns the span of that name, of which there is one.
func (r *receiver) got(t *testing.T, name string) *otlp.Span {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*otlp.Span
	for _, span := range r.spans {
		if span.GetName() == name {
			found = append(found, span)
		}
	}
	if len(found) != 1 {
		t.Fatalf("got %d spans %q of %d, want one", len(found), name, len(r.spans))
	}
	return found[0]
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.spans)
}

// open opens a Tracer as the environment says; flush closes it.
func open(t *testing.T, log *slog.Logger) (tracer *Tracer, flush func()) {
	t.Helper()
	tracer, err := Open(t.Context(), Config{Getenv: os.Getenv, Version: "v1", Log: log})
	if err != nil || tracer == nil {
		t.Fatalf("got %v, %v, want a tracer", tracer, err)
	}
	return tracer, func() {
		t.Helper()
		if err := tracer.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// attributesOf are the attributes of a span as texts.
func attributesOf(span *otlp.Span) map[string]string {
	attributes := map[string]string{}
	for _, a := range span.GetAttributes() {
		text := a.GetValue().String()
		_, attributes[a.GetKey()], _ = strings.Cut(text, ":")
	}
	return attributes
}
