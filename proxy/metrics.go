package proxy

import (
	"bytes"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/deepfn/deepfn/actions"
)

// metrics are the metrics of one server, in a registry of their own.
type metrics struct {
	registry    *prometheus.Registry
	invocations *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	inFlight    prometheus.Gauge
	refusals    *prometheus.CounterVec
	panics      prometheus.Counter
	logFailures *prometheus.CounterVec
}

func newMetrics(stats func() []actions.PoolStats, devices func() []actions.DeviceStats, version string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		invocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deepfn_invocations_total",
			Help: "Invocations by the code of their error, ok without one.",
		}, []string{"model", "protocol", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "deepfn_invocation_seconds",
			Help:    "Where the time of invocations went: queue, start (if there was one, or a resume), run, and total.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18), // to 65 s
		}, []string{"model", "phase"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "deepfn_requests_in_flight",
			Help: "HTTP requests that are being answered.",
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deepfn_requests_refused_total",
			Help: "HTTP requests that were refused unread: draining, too_large, busy, malformed, connections.",
		}, []string{"reason"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "deepfn_panics_total",
			Help: "Panics of HTTP handlers.",
		}),
		logFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deepfn_activation_log_failures_total",
			Help: "Logs of activations that were not written: late (after the answer), dropped, broken (the stream).",
		}, []string{"reason"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "deepfn_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.invocations, m.seconds, m.inFlight, m.refusals, m.panics, m.logFailures, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newPoolCollector(stats), newDeviceCollector(devices))
	return m
}

// invocation counts one call. A model that the catalog does not have gets no series of
// its own, because callers can make up any number of names.
func (m *metrics) invocation(c *call, code string, total time.Duration) {
	model := c.request.Model
	if !c.known {
		model = ""
	}
	m.invocations.WithLabelValues(model, c.protocol, code).Inc()
	m.seconds.WithLabelValues(model, "total").Observe(total.Seconds())
	if code != "ok" {
		return
	}
	t := &c.response.Timing
	m.seconds.WithLabelValues(model, "queue").Observe(t.Queue.Seconds())
	m.seconds.WithLabelValues(model, "run").Observe(t.Run.Seconds())
	if t.Cold || t.Start > 0 {
		m.seconds.WithLabelValues(model, "start").Observe(t.Start.Seconds())
	}
}

// events counts events of a batch that were answered together.
func (m *metrics) events(model, code string, n int) {
	if n > 0 {
		m.invocations.WithLabelValues(model, cloudevents, code).Add(float64(n))
	}
}

func (m *metrics) refused(reason string) { m.refusals.WithLabelValues(reason).Inc() }

func (m *metrics) logFailed(reason string) { m.logFailures.WithLabelValues(reason).Inc() }

// page is all metrics in the text format.
func (m *metrics) page() (contentType string, page []byte, err error) {
	families, err := m.registry.Gather()
	if err != nil {
		return "", nil, err
	}
	var b bytes.Buffer
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	enc := expfmt.NewEncoder(&b, format)
	for _, family := range families {
		if err := enc.Encode(family); err != nil {
			return "", nil, err
		}
	}
	return string(format), b.Bytes(), nil
}
