package proxy

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/deepfn/deepfn/actions"
)

// A deviceCollector makes metrics of the devices when they are asked for.
type deviceCollector struct {
	devices func() []actions.DeviceStats
	info    *prometheus.Desc
	health  *prometheus.Desc
	values  []deviceValue
}

// A deviceValue is one number of actions.DeviceStats; of says whether it is known.
type deviceValue struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*actions.DeviceStats) (value float64, known bool)
}

func newDeviceCollector(devices func() []actions.DeviceStats) *deviceCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"device"}, labels...), nil)
	}
	c := &deviceCollector{
		devices: devices,
		info: desc("deepfn_device_info", "Always 1. The label device of all metrics is the UUID.",
			"name", "parent", "driver", "cuda", "compute_capability"),
		health: desc("deepfn_device_health", "1 for the state that the device is in, 0 for the others.", "state"),
	}
	add := func(kind prometheus.ValueType, name, help string, of func(*actions.DeviceStats) (float64, bool)) {
		c.values = append(c.values, deviceValue{desc(name, help), kind, of})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add(gauge, "deepfn_device_memory_size_bytes", "Memory of the device.", bytesOf(func(d *actions.DeviceStats) int64 { return d.MemoryTotal }))
	add(gauge, "deepfn_device_memory_used_bytes", "What everybody uses of it.", bytesOf(func(d *actions.DeviceStats) int64 { return d.MemoryUsed }))
	add(gauge, "deepfn_device_memory_reserved_bytes", "What is reserved for instances of this server.", bytesOf(func(d *actions.DeviceStats) int64 { return d.Reserved }))
	add(gauge, "deepfn_device_memory_foreign_bytes", "What others use.", bytesOf(func(d *actions.DeviceStats) int64 { return d.Foreign }))
	add(gauge, "deepfn_device_memory_room_bytes", "What is left for another instance.", bytesOf(func(d *actions.DeviceStats) int64 { return d.Room }))
	add(gauge, "deepfn_device_utilization_ratio", "Share of the last sample in which the device computed.", known(func(d *actions.DeviceStats) *float64 { return d.Utilization }))
	add(gauge, "deepfn_device_temperature_celsius", "Temperature of the device.", known(func(d *actions.DeviceStats) *float64 { return d.Temperature }))
	add(gauge, "deepfn_device_power_watts", "Power that the device takes.", known(func(d *actions.DeviceStats) *float64 { return d.Power }))
	add(gauge, "deepfn_device_power_limit_watts", "Power that it may take.", known(func(d *actions.DeviceStats) *float64 { return d.PowerLimit }))
	add(gauge, "deepfn_device_clock_hertz", "Clock of the multiprocessors.", known(func(d *actions.DeviceStats) *float64 { return d.Clock }))
	add(counter, "deepfn_device_ecc_errors_total", "Uncorrected errors of memory since the driver was loaded.", eccErrors)
	add(gauge, "deepfn_device_instances", "Instances on the device.", func(d *actions.DeviceStats) (float64, bool) { return float64(d.Instances), true })
	add(gauge, "deepfn_device_calls", "Calls that hold the device.", func(d *actions.DeviceStats) (float64, bool) { return float64(d.Calls), true })
	add(counter, "deepfn_device_busy_seconds_total", "How long calls have held the device.", func(d *actions.DeviceStats) (float64, bool) { return d.Busy.Seconds(), true })
	return c
}

// bytesOf is a number that is always known.
func bytesOf(of func(*actions.DeviceStats) int64) func(*actions.DeviceStats) (float64, bool) {
	return func(d *actions.DeviceStats) (float64, bool) { return float64(of(d)), true }
}

// known is a number that is nil when the driver does not say it.
func known(of func(*actions.DeviceStats) *float64) func(*actions.DeviceStats) (float64, bool) {
	return func(d *actions.DeviceStats) (float64, bool) {
		if v := of(d); v != nil {
			return *v, true
		}
		return 0, false
	}
}

func eccErrors(d *actions.DeviceStats) (float64, bool) {
	if d.ECCErrors == nil {
		return 0, false
	}
	return float64(*d.ECCErrors), true
}

// Describe implements prometheus.Collector.
func (c *deviceCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.info
	ch <- c.health
	for i := range c.values {
		ch <- c.values[i].desc
	}
}

// Collect implements prometheus.Collector. Why a device is bad is no label: the texts are
// many, and /stats has them.
func (c *deviceCollector) Collect(ch chan<- prometheus.Metric) {
	devices := c.devices()
	for i := range devices {
		d := &devices[i]
		ch <- prometheus.MustNewConstMetric(c.info, prometheus.GaugeValue, 1,
			d.UUID, label(d.Name), d.Parent, label(d.Driver), label(d.CUDA), label(d.ComputeCapability))
		for _, state := range []actions.Health{actions.Healthy, actions.Unhealthy, actions.Lost} {
			is := 0.0
			if d.Health == state {
				is = 1
			}
			ch <- prometheus.MustNewConstMetric(c.health, prometheus.GaugeValue, is, d.UUID, string(state))
		}
		for _, v := range c.values {
			if value, known := v.of(d); known {
				ch <- prometheus.MustNewConstMetric(v.desc, v.kind, value, d.UUID)
			}
		}
	}
}

// label is a text of the driver as a label may have it.
func label(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
