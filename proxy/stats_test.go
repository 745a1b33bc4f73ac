package proxy

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// twoDevices are one of which everything is known, and one of which next to nothing is.
func twoDevices() []actions.DeviceStats {
	utilization, temperature, power, limit, clock, ecc := 0.25, 61.0, 150.5, 400.0, 1.41e9, int64(3)
	return []actions.DeviceStats{
		{
			Device: actions.Device{
				UUID: "GPU-a", Name: "NVIDIA \"X\"\xff", Driver: "570.1", CUDA: "12.8", ComputeCapability: "9.0",
				MemoryTotal: 1000, MemoryUsed: 700, Utilization: &utilization, Temperature: &temperature,
				Power: &power, PowerLimit: &limit, Clock: &clock, ECCErrors: &ecc, Health: actions.Healthy,
			},
			Reserved: 500, Foreign: 200, Room: 300, Instances: 2, Calls: 1, Busy: 2500 * time.Millisecond,
		},
		{
			Device: actions.Device{
				UUID: "MIG-b", Parent: "GPU-b", Index: 1, MemoryTotal: 10,
				Health: actions.Unhealthy, Reason: "Xid 79: it has fallen off the bus",
			},
			Room: -5,
		},
	}
}

func TestDeviceMetrics(t *testing.T) {
	s, _ := newServer(t, Config{Devices: twoDevices})
	page := string(get(t, s, "/metrics").body)
	for _, line := range []string{
		`deepfn_device_info{compute_capability="9.0",cuda="12.8",device="GPU-a",driver="570.1",name="NVIDIA \"X\"` + "\uFFFD" + `",parent=""} 1`,
		`deepfn_device_info{compute_capability="",cuda="",device="MIG-b",driver="",name="",parent="GPU-b"} 1`,
		`deepfn_device_memory_size_bytes{device="GPU-a"} 1000`,
		`deepfn_device_memory_used_bytes{device="GPU-a"} 700`,
		`deepfn_device_memory_reserved_bytes{device="GPU-a"} 500`,
		`deepfn_device_memory_foreign_bytes{device="GPU-a"} 200`,
		`deepfn_device_memory_room_bytes{device="GPU-a"} 300`,
		`deepfn_device_memory_room_bytes{device="MIG-b"} -5`,
		`deepfn_device_utilization_ratio{device="GPU-a"} 0.25`,
		`deepfn_device_temperature_celsius{device="GPU-a"} 61`,
		`deepfn_device_power_watts{device="GPU-a"} 150.5`,
		`deepfn_device_power_limit_watts{device="GPU-a"} 400`,
		`deepfn_device_clock_hertz{device="GPU-a"} 1.41e+09`,
		`deepfn_device_ecc_errors_total{device="GPU-a"} 3`,
		`deepfn_device_health{device="GPU-a",state="healthy"} 1`,
		`deepfn_device_health{device="GPU-a",state="unhealthy"} 0`,
		`deepfn_device_health{device="MIG-b",state="unhealthy"} 1`,
		`deepfn_device_health{device="MIG-b",state="healthy"} 0`,
		`deepfn_device_health{device="MIG-b",state="lost"} 0`,
		`deepfn_device_instances{device="GPU-a"} 2`,
		`deepfn_device_calls{device="GPU-a"} 1`,
		`deepfn_device_busy_seconds_total{device="GPU-a"} 2.5`,
	} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("there is no line %s", line)
		}
	}
	for _, unknown := range []string{"utilization_ratio", "temperature_celsius", "power_watts", "power_limit_watts", "clock_hertz", "ecc_errors_total"} {
		if strings.Contains(page, "deepfn_device_"+unknown+`{device="MIG-b"}`) {
			t.Errorf("there is a series %s of a device that does not say it", unknown)
		}
	}
	if strings.Contains(page, "Xid") {
		t.Error("the reason is in a label")
	}
	s, _ = newServer(t, Config{})
	if page := string(get(t, s, "/metrics").body); strings.Contains(page, "deepfn_device_health") {
		t.Error("there are series of devices where there are none")
	}
}

func TestStats(t *testing.T) {
	pool := actions.PoolStats{
		Model: "echo", MaxInstances: 4, MinInstances: 1, Pinned: true,
		Starting: 1, InUse: 2, Idle: 3, Suspended: 4, Draining: 5, Waiting: 6, QueueDepth: 7,
		Invocations: 8, WaitCount: 9, WaitDuration: 1500 * time.Millisecond, QueueFull: 10,
		ColdStarts: 11, StartDuration: 12 * time.Second, StartFailures: 13, Resumes: 14, ResumeDuration: 15 * time.Second,
		DeviceTime: 16 * time.Second, MaxIdleTimeClosed: 17, Died: 18,
		From:        map[actions.Tier]int64{actions.TierHost: 19},
		Evictions:   map[actions.EvictReason]int64{actions.EvictMemory: 20},
		Suspensions: map[actions.EvictReason]int64{actions.EvictPause: 21},
		Instances: []actions.InstanceStats{
			{
				ID: 1, PID: 2, State: "busy", Devices: []string{"GPU-a"}, Memory: 100, HostMemory: 3, Calls: 4,
				Idle: 500 * time.Millisecond, DeviceTime: 5 * time.Second,
			},
			{ID: 2, State: "wanted"},
		},
	}
	s, _ := newServer(t, Config{
		Invoker: &fakeInvoker{stats: []actions.PoolStats{pool, {Model: "none"}}},
		Devices: func() []actions.DeviceStats { return twoDevices()[1:] },
	})
	want := `{"models":[{"model":"echo","max_instances":4,"min_instances":1,"pinned":true,` +
		`"states":{"starting":1,"in_use":2,"idle":3,"suspended":4,"draining":5},` +
		`"instances":[{"id":1,"pid":2,"state":"busy","devices":["GPU-a"],"memory_bytes":100,"host_memory_bytes":3,"calls":4,"idle_seconds":0.5,"device_seconds":5},` +
		`{"id":2,"state":"wanted","devices":[],"memory_bytes":0,"host_memory_bytes":0,"calls":0,"idle_seconds":0,"device_seconds":0}],` +
		`"waiting":6,"queue_depth":7,"invocations":8,"wait_count":9,"wait_seconds":1.5,"queue_full":10,` +
		`"cold_starts":11,"start_seconds":12,"start_failures":13,"resumes":14,"resume_seconds":15,"device_seconds":16,"idle_stops":17,"died":18,` +
		`"from":{"cache":0,"disk":0,"host":19,"warm":0},"evictions":{"memory":20},"suspensions":{"pause":21}},` +
		`{"model":"none","max_instances":0,"min_instances":0,"pinned":false,` +
		`"states":{"starting":0,"in_use":0,"idle":0,"suspended":0,"draining":0},"instances":[],` +
		`"waiting":0,"queue_depth":0,"invocations":0,"wait_count":0,"wait_seconds":0,"queue_full":0,` +
		`"cold_starts":0,"start_seconds":0,"start_failures":0,"resumes":0,"resume_seconds":0,"device_seconds":0,"idle_stops":0,"died":0,` +
		`"from":{"cache":0,"disk":0,"host":0,"warm":0},"evictions":{},"suspensions":{}}],` +
		`"devices":[{"uuid":"MIG-b","parent":"GPU-b","index":1,"name":"","memory_total_bytes":10,"memory_used_bytes":0,` +
		`"health":"unhealthy","reason":"Xid 79: it has fallen off the bus","reserved_bytes":0,"foreign_bytes":0,"room_bytes":-5,` +
		`"instances":0,"calls":0,"busy_seconds":0}]}` + "\n"
	got := get(t, s, "/stats")
	wantResponse(t, got, http.StatusOK, want)
	var read, again Stats
	if err := json.Unmarshal(got.body, &read); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(read)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(read, again); diff != "" {
		t.Error(diff)
	}

	s, _ = newServer(t, Config{})
	s.draining.Store(true) // which operators want to see
	wantResponse(t, get(t, s, "/stats"), http.StatusOK, `{"models":[],"devices":[]}`+"\n")
}

// Every metric of ours stands in docs/observability.md, and every one there is a metric.
func TestMetricsAreDocumented(t *testing.T) {
	inv := &fakeInvoker{stats: []actions.PoolStats{{Model: "echo", Instances: []actions.InstanceStats{{Devices: []string{"GPU-a"}, Memory: 1}}}}}
	s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Devices: twoDevices})
	post(t, s, "/run", `{}`)
	s.metrics.refused("busy")
	s.metrics.logFailed("late")
	there := map[string]bool{}
	for line := range strings.SplitSeq(string(get(t, s, "/metrics").body), "\n") {
		if fields := strings.Fields(line); len(fields) > 2 && fields[1] == "TYPE" && strings.HasPrefix(fields[2], "deepfn_") {
			there[fields[2]] = true
		}
	}
	if len(there) < 40 {
		t.Fatalf("got %d metrics; the check would be empty", len(there))
	}
	text, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, name := range regexp.MustCompile("`(deepfn_[a-z_]+)`").FindAllStringSubmatch(string(text), -1) {
		documented[name[1]] = true
	}
	if diff := cmp.Diff(there, documented); diff != "" {
		t.Error(diff)
	}
}
