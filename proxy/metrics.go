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

func newMetrics(stats func() []actions.PoolStats, version string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		invocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deepfn_invocations_total",
			Help: "Invocations by the code of their error, ok without one.",
		}, []string{"model", "protocol", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "deepfn_invocation_seconds",
			Help:    "Where the time of invocations went: queue, start (cold ones only), run, and total.",
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
		newPoolCollector(stats))
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
	if t.Cold {
		m.seconds.WithLabelValues(model, "start").Observe(t.Start.Seconds())
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

// A poolCollector makes metrics of the invoker's statistics when they are asked for.
type poolCollector struct {
	stats     func() []actions.PoolStats
	instances *prometheus.Desc
	values    []poolValue
}

// A poolValue is one number of actions.PoolStats.
type poolValue struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*actions.PoolStats) float64
}

func newPoolCollector(stats func() []actions.PoolStats) *poolCollector {
	c := &poolCollector{
		stats: stats,
		instances: prometheus.NewDesc("deepfn_instances", "Instances of the model by state.",
			[]string{"model", "state"}, nil),
	}
	add := func(kind prometheus.ValueType, name, help string, of func(*actions.PoolStats) float64) {
		c.values = append(c.values, poolValue{prometheus.NewDesc(name, help, []string{"model"}, nil), kind, of})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add(gauge, "deepfn_instances_limit", "How many instances there may be.",
		func(s *actions.PoolStats) float64 { return float64(s.MaxInstances) })
	add(gauge, "deepfn_queue_length", "Requests that wait for an instance.",
		func(s *actions.PoolStats) float64 { return float64(s.Waiting) })
	add(gauge, "deepfn_queue_limit", "How many requests may wait.",
		func(s *actions.PoolStats) float64 { return float64(s.QueueDepth) })
	add(counter, "deepfn_instance_calls_total", "Requests that an instance was found for.",
		func(s *actions.PoolStats) float64 { return float64(s.Invocations) })
	add(counter, "deepfn_queue_waits_total", "Requests that had to wait for an instance.",
		func(s *actions.PoolStats) float64 { return float64(s.WaitCount) })
	add(counter, "deepfn_queue_wait_seconds_total", "How long they waited.",
		func(s *actions.PoolStats) float64 { return s.WaitDuration.Seconds() })
	add(counter, "deepfn_queue_refused_total", "Requests that were refused because the queue was full.",
		func(s *actions.PoolStats) float64 { return float64(s.QueueFull) })
	add(counter, "deepfn_cold_starts_total", "Started instances.",
		func(s *actions.PoolStats) float64 { return float64(s.ColdStarts) })
	add(counter, "deepfn_start_seconds_total", "How long the starts took.",
		func(s *actions.PoolStats) float64 { return s.StartDuration.Seconds() })
	add(counter, "deepfn_start_failures_total", "Starts of instances that did not succeed.",
		func(s *actions.PoolStats) float64 { return float64(s.StartFailures) })
	add(counter, "deepfn_idle_stops_total", "Instances that were stopped because nobody used them.",
		func(s *actions.PoolStats) float64 { return float64(s.MaxIdleTimeClosed) })
	add(counter, "deepfn_instance_deaths_total", "Instances that ended by themselves.",
		func(s *actions.PoolStats) float64 { return float64(s.Died) })
	return c
}

// Describe implements prometheus.Collector.
func (c *poolCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.instances
	for i := range c.values {
		ch <- c.values[i].desc
	}
}

// Collect implements prometheus.Collector.
func (c *poolCollector) Collect(ch chan<- prometheus.Metric) {
	for _, st := range c.stats() {
		for _, state := range []struct {
			name  string
			count int
		}{{"starting", st.Starting}, {"in_use", st.InUse}, {"idle", st.Idle}, {"draining", st.Draining}} {
			ch <- prometheus.MustNewConstMetric(c.instances, prometheus.GaugeValue, float64(state.count), st.Model, state.name)
		}
		for _, v := range c.values {
			ch <- prometheus.MustNewConstMetric(v.desc, v.kind, v.of(&st), st.Model)
		}
	}
}
