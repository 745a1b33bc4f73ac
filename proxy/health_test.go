package proxy

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

func TestHealth(t *testing.T) {
	var reason error
	s, _ := newServer(t, Config{Ready: func() error { return reason }, Version: "v1"})
	wantResponse(t, get(t, s, "/healthz"), 200, `{"status":"ok","version":"v1"}`+"\n")
	wantResponse(t, get(t, s, "/readyz"), 200, `{"ready":true}`+"\n")

	reason = errors.New("echo is being loaded")
	wantResponse(t, get(t, s, "/healthz"), 200, `{"status":"ok","version":"v1"}`+"\n")
	wantResponse(t, get(t, s, "/readyz"), 503, `{"ready":false,"reason":"echo is being loaded"}`+"\n")

	s, _ = newServer(t, Config{})
	wantResponse(t, get(t, s, "/readyz"), 200, `{"ready":true}`+"\n")
	s.draining.Store(true)
	wantResponse(t, get(t, s, "/healthz"), 200, `{"status":"ok"}`+"\n")
	wantResponse(t, get(t, s, "/readyz"), 503, `{"ready":false,"reason":"the server is shutting down, try another"}`+"\n")
	if got := get(t, s, "/metrics"); got.status != 200 {
		t.Errorf("got %d for /metrics while draining", got.status)
	}
}

func TestDraining(t *testing.T) {
	s, st := newServer(t, Config{Model: "echo"})
	s.draining.Store(true)
	for _, path := range []string{"/run", "/init", predictPath, "/v2/models/echo/train/"} {
		got := post(t, s, path, `{}`)
		wantResponse(t, got, 503, `{"error":"the server is shutting down, try another"…`)
		if got.retryAfter != 1 {
			t.Errorf("%s: got Retry-After %d, want 1", path, got.retryAfter)
		}
	}
	wantSentinels(t, st, 1)
	wantResponse(t, get(t, s, "/v2/models/"), 503, `{"error":"the server is shutting down, try another","code":"unavailable"}`+"\n")
}

func TestMetrics(t *testing.T) {
	inv := &fakeInvoker{
		stats: []actions.PoolStats{{
			Model: "echo", MaxInstances: 4, Starting: 1, InUse: 2, Idle: 3, Draining: 4, Suspended: 20, MinInstances: 21, Waiting: 5, QueueDepth: 6,
			Invocations: 7, WaitCount: 8, WaitDuration: 9 * time.Second, ColdStarts: 10, StartDuration: 11 * time.Second,
			StartFailures: 12, QueueFull: 13, MaxIdleTimeClosed: 14, Died: 15,
			Resumes: 16, ResumeDuration: 17 * time.Second, DeviceTime: 1500 * time.Millisecond,
			From:        map[actions.Tier]int64{actions.TierWarm: 5, actions.TierDisk: 2},
			Evictions:   map[actions.EvictReason]int64{actions.EvictMemory: 3},
			Suspensions: map[actions.EvictReason]int64{actions.EvictPause: 4},
			Instances: []actions.InstanceStats{
				{ID: 1, State: "idle", Devices: []string{"GPU-a"}, Memory: 100},
				{ID: 2, State: "busy", Devices: []string{"GPU-a", "GPU-b"}, Memory: 11},
				{ID: 3, State: "suspended", HostMemory: 7},
				{ID: 4, State: "suspended", HostMemory: 8},
			},
		}},
		answer: func(context.Context, actions.Request) (actions.Response, error) {
			return actions.Response{ContentType: jsonType, Timing: actions.Timing{
				Queue: time.Second, Start: 2 * time.Second, Cold: true, Run: 3 * time.Second,
			}}, nil
		},
	}
	s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Version: "v1"})
	post(t, s, "/run", `{}`)
	post(t, s, predictPath, `{}`)
	post(t, s, predictPath, `[`)
	post(t, s, "/v2/models/made-up/predict/", `{}`)
	s.handle(t.Context(), &request{method: http.MethodPost, path: predictPath, refused: s.tooLargeError()})
	got := get(t, s, "/metrics")
	if !strings.HasPrefix(got.contentType, "text/plain; version=0.0.4") {
		t.Errorf("got content type %q", got.contentType)
	}
	for _, line := range []string{
		`deepfn_invocations_total{code="ok",model="echo",protocol="openwhisk"} 1`,
		`deepfn_invocations_total{code="ok",model="echo",protocol="deepaas"} 1`,
		`deepfn_invocations_total{code="invalid",model="echo",protocol="deepaas"} 1`,
		`deepfn_invocations_total{code="not_found",model="",protocol="deepaas"} 1`,
		`deepfn_invocation_seconds_sum{model="echo",phase="queue"} 2`,
		`deepfn_invocation_seconds_sum{model="echo",phase="start"} 4`,
		`deepfn_invocation_seconds_sum{model="echo",phase="run"} 6`,
		`deepfn_invocation_seconds_count{model="echo",phase="total"} 3`,
		`deepfn_requests_refused_total{reason="too_large"} 1`,
		`deepfn_requests_in_flight 0`,
		`deepfn_panics_total 0`,
		`deepfn_build_info{version="v1"} 1`,
		`deepfn_instances{model="echo",state="starting"} 1`,
		`deepfn_instances{model="echo",state="in_use"} 2`,
		`deepfn_instances{model="echo",state="idle"} 3`,
		`deepfn_instances{model="echo",state="draining"} 4`,
		`deepfn_instances_limit{model="echo"} 4`,
		`deepfn_queue_length{model="echo"} 5`,
		`deepfn_queue_limit{model="echo"} 6`,
		`deepfn_instance_calls_total{model="echo"} 7`,
		`deepfn_queue_waits_total{model="echo"} 8`,
		`deepfn_queue_wait_seconds_total{model="echo"} 9`,
		`deepfn_cold_starts_total{model="echo"} 10`,
		`deepfn_start_seconds_total{model="echo"} 11`,
		`deepfn_start_failures_total{model="echo"} 12`,
		`deepfn_queue_refused_total{model="echo"} 13`,
		`deepfn_idle_stops_total{model="echo"} 14`,
		`deepfn_instance_deaths_total{model="echo"} 15`,
		`deepfn_instances{model="echo",state="suspended"} 20`,
		`deepfn_instances_kept{model="echo"} 21`,
		`deepfn_resumes_total{model="echo"} 16`,
		`deepfn_resume_seconds_total{model="echo"} 17`,
		`deepfn_device_seconds_total{model="echo"} 1.5`,
		`deepfn_requests_from_total{model="echo",tier="warm"} 5`,
		`deepfn_requests_from_total{model="echo",tier="host"} 0`,
		`deepfn_requests_from_total{model="echo",tier="cache"} 0`,
		`deepfn_requests_from_total{model="echo",tier="disk"} 2`,
		`deepfn_evictions_total{model="echo",reason="memory"} 3`,
		`deepfn_evictions_total{model="echo",reason="idle"} 0`,
		`deepfn_suspensions_total{model="echo",reason="pause"} 4`,
		`deepfn_suspensions_total{model="echo",reason="host_memory"} 0`,
		`deepfn_reserved_bytes{device="GPU-a",model="echo"} 111`,
		`deepfn_reserved_bytes{device="GPU-b",model="echo"} 11`,
		`deepfn_host_memory_bytes{model="echo"} 15`,
	} {
		if !strings.Contains(string(got.body), line+"\n") {
			t.Errorf("there is no line %s", line)
		}
	}
	for _, name := range []string{"go_goroutines ", "process_resident_memory_bytes "} {
		if !strings.Contains(string(got.body), "\n"+name) {
			t.Errorf("there is no metric %s", name)
		}
	}
	if strings.Contains(string(got.body), "made-up") {
		t.Error("a caller can make a series of a model that is not there")
	}
	inv.stats = append(inv.stats, inv.stats[0]) // the same model twice is not a metric
	wantResponse(t, get(t, s, "/metrics"), 500, `{"error":"internal error…`)
}
