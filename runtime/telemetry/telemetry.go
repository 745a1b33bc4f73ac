// Package telemetry sends spans to an OpenTelemetry collector, as OTLP over HTTP in protobuf.
//
// The variables of OpenTelemetry configure it: OTEL_EXPORTER_OTLP_ENDPOINT, to which
// /v1/traces is added, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, as it is, turns it on.
// OTEL_SDK_DISABLED=true and OTEL_TRACES_EXPORTER=none turn it off. HEADERS, TIMEOUT,
// COMPRESSION, CERTIFICATE, CLIENT_CERTIFICATE and CLIENT_KEY of OTEL_EXPORTER_OTLP_ say how.
// OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and _ARG, and OTEL_BSP_*
// are the SDK's, which reads them from the environment of the process itself.
package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/deepfn/deepfn/actions"
)

const (
	// endpointName is that of the variable with the collector's URL.
	endpointName = "OTEL_EXPORTER_OTLP_ENDPOINT"
	// knownFlags are those of the second level of W3C's trace context: sampled, random.
	knownFlags = 0x03
	// flushTime is how long the last spans may take.
	flushTime = 2 * time.Second
	// quiet is how long after a complaint none is logged: a collector that is away would
	// otherwise fill the log.
	quiet = time.Minute
)

// Config says whose spans these are.
type Config struct {
	// Getenv reads the variables of where to send spans, and how. It is required.
	Getenv func(string) string
	// Version is the program's version.
	Version string
	// Log takes at Warn that spans could not be sent, once a minute at most. Nil discards.
	Log *slog.Logger
}

// A Tracer records spans and sends them from a goroutine of its own, many at a time. When
// they cannot be sent as fast as they end, spans are dropped. Many may use it at the same
// time. Make it with Open or Start.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// Open returns a Tracer, or nil when no endpoint is set. It connects to nothing yet. The
// error, an *actions.Error Invalid, says which variable is wrong.
func Open(ctx context.Context, cfg Config) (*Tracer, error) {
	to, on, err := readDestination(cfg.Getenv)
	if err != nil || !on {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	// The SDK's default writes to stderr, which is a function's log on OpenWhisk. There is one
	// handler in a process: the first Tracer's counts as well as the last one's.
	otel.SetErrorHandler(&complaints{log: cfg.Log})
	exporter, err := otlptrace.New(ctx, newUploader(to))
	if err != nil {
		return nil, fmt.Errorf("telemetry: exporter: %w", err)
	}
	from, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "deepfn"), attribute.String("service.version", cfg.Version),
	), resource.WithFromEnv())
	if err != nil {
		return nil, actions.Errorf(actions.Invalid, "OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(from))
	return &Tracer{provider, provider.Tracer("github.com/deepfn/deepfn")}, nil
}

// Begin begins a span below parent, which may be empty. entry says that the span is what
// this process does for a request from outside, else it is a step of that. It returns the
// context for what is below the span, and end, which is called once at most: failure is what
// went wrong, empty for nothing, and attributes are texts, ints and bools. Nothing is sent of
// a span that does not end, or that is not sampled.
func (t *Tracer) Begin(name string, entry bool, parent actions.Trace, start time.Time) (
	own actions.Trace, end func(at time.Time, failure string, attributes map[string]any),
) {
	ctx := trace.ContextWithSpanContext(context.Background(), spanContext(parent, entry))
	kind := trace.SpanKindServer
	if !entry {
		kind = trace.SpanKindInternal
	}
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(start), trace.WithSpanKind(kind)) //nolint:spancheck // the caller ends it
	sc := span.SpanContext()
	own = actions.Trace{
		Parent: "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + sc.TraceFlags().String(),
		State:  sc.TraceState().String(),
	}
	return own, func(at time.Time, failure string, attributes map[string]any) { //nolint:spancheck // as above
		if !span.IsRecording() {
			return
		}
		for name, value := range attributes {
			span.SetAttributes(keyValue(name, value))
		}
		if failure != "" {
			span.SetStatus(codes.Error, failure)
		}
		span.End(trace.WithTimestamp(at))
	}
}

// spanContext makes the SDK's context of ours. Its own propagation takes a traceparent with
// the flags 03, which the second level of the specification has, for none.
func spanContext(t actions.Trace, remote bool) trace.SpanContext {
	parts := strings.Split(t.Parent, "-")
	if len(parts) != 4 {
		return trace.SpanContext{}
	}
	id, err := trace.TraceIDFromHex(parts[1])
	if err != nil {
		return trace.SpanContext{}
	}
	span, err := trace.SpanIDFromHex(parts[2])
	if err != nil {
		return trace.SpanContext{}
	}
	flags, err := strconv.ParseUint(parts[3], 16, 8)
	if err != nil {
		return trace.SpanContext{}
	}
	state, _ := trace.ParseTraceState(t.State) // a bad one is none
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: id, SpanID: span, TraceFlags: trace.TraceFlags(flags) & knownFlags, TraceState: state, Remote: remote,
	})
}

func keyValue(name string, value any) attribute.KeyValue {
	switch v := value.(type) {
	case string:
		return attribute.String(name, v)
	case int:
		return attribute.Int(name, v)
	case bool:
		return attribute.Bool(name, v)
	}
	return attribute.String(name, fmt.Sprint(value))
}

// Start is Open for a server, whose requests are worth more than its spans: it logs what is
// wrong, and goes on without.
func Start(ctx context.Context, cfg Config) *Tracer {
	t, err := Open(ctx, cfg)
	if err != nil && cfg.Log != nil {
		cfg.Log.Warn("no traces", "error", err.Error())
	}
	return t
}

// Close sends what has ended, until ctx ends and for 2 s at most, and stops the sending. Nil
// is fine.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("telemetry: last spans: %w", err)
	}
	return nil
}

// complaints logs what the SDK complains of.
type complaints struct {
	log *slog.Logger

	mu   sync.Mutex // guards last
	last time.Time
}

// Handle implements otel.ErrorHandler.
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.last.IsZero() || now.Sub(c.last) >= quiet {
		c.last = now
		c.log.Warn("traces", "error", err.Error())
	}
}
