package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/deepfn/deepfn/actions"
)

// A poolCollector makes metrics of the invoker's statistics when they are asked for.
type poolCollector struct {
	stats     func() []actions.PoolStats
	instances *prometheus.Desc
	reserved  *prometheus.Desc
	from      *prometheus.Desc
	evictions *prometheus.Desc
	suspended *prometheus.Desc
	values    []poolValue
}

// A poolValue is one number of actions.PoolStats.
type poolValue struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*actions.PoolStats) float64
}

func newPoolCollector(stats func() []actions.PoolStats) *poolCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"model"}, labels...), nil)
	}
	c := &poolCollector{
		stats:     stats,
		instances: desc("deepfn_instances", "Instances of the model by state.", "state"),
		reserved:  desc("deepfn_reserved_bytes", "Memory of the device that is reserved for the model's instances.", "device"),
		from:      desc("deepfn_requests_from_total", "Requests that an instance was found for, by where the model was.", "tier"),
		evictions: desc("deepfn_evictions_total", "Instances that were ended, by the reason.", "reason"),
		suspended: desc("deepfn_suspensions_total", "Instances that were suspended, by the reason.", "reason"),
	}
	for _, v := range poolGauges() {
		c.values = append(c.values, poolValue{desc(v.name, v.help), prometheus.GaugeValue, v.of})
	}
	for _, v := range poolCounters() {
		c.values = append(c.values, poolValue{desc(v.name, v.help), prometheus.CounterValue, v.of})
	}
	return c
}

// A poolNumber names one number of actions.PoolStats.
type poolNumber struct {
	name, help string
	of         func(*actions.PoolStats) float64
}

func poolGauges() []poolNumber {
	return []poolNumber{
		{
			"deepfn_instances_limit", "How many instances there may be.",
			func(s *actions.PoolStats) float64 { return float64(s.MaxInstances) },
		},
		{
			"deepfn_instances_kept", "How many instances are kept.",
			func(s *actions.PoolStats) float64 { return float64(s.MinInstances) },
		},
		{
			"deepfn_queue_length", "Requests that wait for an instance.",
			func(s *actions.PoolStats) float64 { return float64(s.Waiting) },
		},
		{
			"deepfn_queue_limit", "How many requests may wait.",
			func(s *actions.PoolStats) float64 { return float64(s.QueueDepth) },
		},
		{"deepfn_host_memory_bytes", "Memory of the host that suspended instances of the model take.", hostMemory},
	}
}

func poolCounters() []poolNumber {
	return []poolNumber{
		{
			"deepfn_instance_calls_total", "Requests that an instance was found for.",
			func(s *actions.PoolStats) float64 { return float64(s.Invocations) },
		},
		{
			"deepfn_queue_waits_total", "Requests that had to wait for an instance.",
			func(s *actions.PoolStats) float64 { return float64(s.WaitCount) },
		},
		{
			"deepfn_queue_wait_seconds_total", "How long they waited.",
			func(s *actions.PoolStats) float64 { return s.WaitDuration.Seconds() },
		},
		{
			"deepfn_queue_refused_total", "Requests that were refused because the queue was full.",
			func(s *actions.PoolStats) float64 { return float64(s.QueueFull) },
		},
		{
			"deepfn_cold_starts_total", "Started instances.",
			func(s *actions.PoolStats) float64 { return float64(s.ColdStarts) },
		},
		{
			"deepfn_start_seconds_total", "How long the starts took.",
			func(s *actions.PoolStats) float64 { return s.StartDuration.Seconds() },
		},
		{
			"deepfn_start_failures_total", "Starts of instances that did not succeed.",
			func(s *actions.PoolStats) float64 { return float64(s.StartFailures) },
		},
		{
			"deepfn_resumes_total", "Instances that came back from the host's memory.",
			func(s *actions.PoolStats) float64 { return float64(s.Resumes) },
		},
		{
			"deepfn_resume_seconds_total", "How long they took to come back.",
			func(s *actions.PoolStats) float64 { return s.ResumeDuration.Seconds() },
		},
		{
			"deepfn_device_seconds_total", "How long calls of the model held devices, summed over these.",
			func(s *actions.PoolStats) float64 { return s.DeviceTime.Seconds() },
		},
		{
			"deepfn_idle_stops_total", "Instances that were stopped because nobody used them.",
			func(s *actions.PoolStats) float64 { return float64(s.MaxIdleTimeClosed) },
		},
		{
			"deepfn_instance_deaths_total", "Instances that ended by themselves.",
			func(s *actions.PoolStats) float64 { return float64(s.Died) },
		},
	}
}

// hostMemory sums the memory of the suspended instances.
func hostMemory(s *actions.PoolStats) float64 {
	var sum int64
	for i := range s.Instances {
		sum += s.Instances[i].HostMemory
	}
	return float64(sum)
}

// Describe implements prometheus.Collector.
func (c *poolCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{c.instances, c.reserved, c.from, c.evictions, c.suspended} {
		ch <- desc
	}
	for i := range c.values {
		ch <- c.values[i].desc
	}
}

// Collect implements prometheus.Collector.
func (c *poolCollector) Collect(ch chan<- prometheus.Metric) {
	pools := c.stats()
	for i := range pools {
		c.collect(ch, &pools[i])
	}
}

// collect makes the metrics of one model. Counters of a known tier or reason are there from
// the start: a rate does not see a series whose first value is not zero.
func (c *poolCollector) collect(ch chan<- prometheus.Metric, st *actions.PoolStats) {
	add := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, kind, value, append([]string{st.Model}, labels...)...)
	}
	for _, state := range []struct {
		name  string
		count int
	}{
		{"starting", st.Starting},
		{"in_use", st.InUse},
		{"idle", st.Idle},
		{"suspended", st.Suspended},
		{"draining", st.Draining},
	} {
		add(c.instances, prometheus.GaugeValue, float64(state.count), state.name)
	}
	for _, v := range c.values {
		add(v.desc, v.kind, v.of(st))
	}
	reserved := map[string]int64{}
	for i := range st.Instances {
		for _, device := range st.Instances[i].Devices {
			reserved[device] += st.Instances[i].Memory
		}
	}
	for device, n := range reserved {
		add(c.reserved, prometheus.GaugeValue, float64(n), device)
	}
	for _, tier := range tiers() {
		add(c.from, prometheus.CounterValue, float64(st.From[tier]), string(tier))
	}
	for _, reason := range reasons() {
		add(c.evictions, prometheus.CounterValue, float64(st.Evictions[reason]), string(reason))
		add(c.suspended, prometheus.CounterValue, float64(st.Suspensions[reason]), string(reason))
	}
}
