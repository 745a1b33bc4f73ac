package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/proxy"
)

const gib = 1 << 30

// topStats are what a server with two GPUs says: calls of ocr-line, 10 for each step.
func topStats(step int64) proxy.Stats {
	utilization, temperature := 0.83, 61.0
	return proxy.Stats{
		Devices: []proxy.DeviceStats{
			{
				Device: actions.Device{
					UUID: "GPU-a", Name: "NVIDIA H100 80GB HBM3", MemoryTotal: 80 * gib, MemoryUsed: 41*gib + gib/5,
					Utilization: &utilization, Temperature: &temperature, Health: actions.Healthy,
				},
				Reserved: 30 * gib, Foreign: 10 * gib, Room: 40 * gib, Instances: 2, Calls: 1, BusySeconds: float64(step),
			},
			{
				Device: actions.Device{
					UUID: "MIG-b", Parent: "GPU-b", Index: 1, Name: "MIG 1g.10gb", MemoryTotal: 10 * gib, MemoryUsed: 512 << 20,
					Health: actions.Unhealthy, Reason: "Xid 79: GPU has fallen off the bus",
				},
			},
		},
		Models: []proxy.ModelStats{
			{
				Model: "digits", QueueDepth: 256, Pinned: true, DeviceSeconds: 5 + 0.25*float64(step),
				States: proxy.InstanceStates{Idle: 1},
				Instances: []proxy.InstanceStats{
					{ID: 3, PID: 4713, State: "idle", Devices: []string{"GPU-a", "GPU-c"}, Memory: 10 * gib, IdleSeconds: 75.4, DeviceSeconds: 3700},
				},
			},
			{
				Model: "ocr-line", QueueDepth: 256, Waiting: 3, Invocations: 90 + 10*step, DeviceSeconds: 0.75 * float64(step),
				States: proxy.InstanceStates{Starting: 1, InUse: 1, Suspended: 1},
				Instances: []proxy.InstanceStats{
					{ID: 1, PID: 4711, State: "busy", Devices: []string{"GPU-a"}, Memory: 10 * gib, Calls: 1, DeviceSeconds: 12.3},
					{ID: 2, PID: 4712, State: "suspended", HostMemory: 8 * gib, IdleSeconds: 40},
					{ID: 4, State: "wanted"},
				},
				From:        map[actions.Tier]int64{actions.TierWarm: 94, actions.TierHost: 3, actions.TierCache: 1, actions.TierDisk: 2},
				Evictions:   map[actions.EvictReason]int64{actions.EvictIdle: 1, actions.EvictMemory: 12, actions.EvictHealth: 0},
				Suspensions: map[actions.EvictReason]int64{actions.EvictPause: 2},
			},
		},
	}
}

// samples are the same server at two moments, two seconds from each other.
func samples() (before, now *sample) {
	at := time.Date(2026, 7, 1, 12, 30, 0, 0, time.UTC)
	return &sample{at, topStats(0)}, &sample{at.Add(2 * time.Second), topStats(1)}
}

func TestTopFrame(t *testing.T) {
	before, now := samples()
	other := topStats(0)
	other.Models[1].Invocations = 1000
	empty := &sample{now.at, proxy.Stats{}}
	for _, tt := range []struct {
		name      string
		view      view
		width     int
		instances bool
		want      string
	}{
		{"at first", view{now: now}, 150, false, `
deepfn top  http://server  2 devices, 2 models

DEVICE                           HEALTH     MEMORY: # ours, x others    USED               UTIL  TEMP  INST CALLS  BUSY
0 NVIDIA H100 80GB HBM3          healthy    [#########xxx            ]  41.2 of 80 GiB      83%  61 C     2     1     -
  1 MIG 1g.10gb                  unhealthy  [                        ]  512 MiB of 10 GiB     -     -     0     0     -
  Xid 79: GPU has fallen off the bus

MODEL                            START  RUN IDLE SUSP DRAIN     MEMORY   REQ/S   QUEUE  WARM  HOST  COLD  SHARE  EVICTED
digits (pinned)                      0    0    1    0     0     20 GiB       -   0/256     -     -     -    88%
ocr-line                             1    1    0    1     0     10 GiB       -   3/256   94%    3%    3%    12%  memory 12, idle 1, suspended pause 2
`},
		{"later", view{before: before, now: now}, 150, true, `
deepfn top  http://server  2 devices, 2 models, 5.0 requests/s

DEVICE                           HEALTH     MEMORY: # ours, x others    USED               UTIL  TEMP  INST CALLS  BUSY
0 NVIDIA H100 80GB HBM3          healthy    [#########xxx            ]  41.2 of 80 GiB      83%  61 C     2     1   50%
  1 MIG 1g.10gb                  unhealthy  [                        ]  512 MiB of 10 GiB     -     -     0     0    0%
  Xid 79: GPU has fallen off the bus

MODEL                            START  RUN IDLE SUSP DRAIN     MEMORY   REQ/S   QUEUE  WARM  HOST  COLD  SHARE  EVICTED
digits (pinned)                      0    0    1    0     0     20 GiB     0.0   0/256     -     -     -    25%
  #3    pid 4713     idle       idle 1m15s   device time 1h2m     GPU-a,GPU-c 10 GiB
ocr-line                             1    1    0    1     0     10 GiB     5.0   3/256   94%    3%    3%    75%  memory 12, idle 1, suspended pause 2
  #1    pid 4711     busy       1 call       device time 12.3s    GPU-a 10 GiB
  #2    pid 4712     suspended  idle 40s     device time 0s       host 8 GiB
  #4    pid -        wanted     idle 0s      device time 0s       no device
`},
		{"narrow", view{before: before, now: now}, 80, false, `
deepfn top  http://server  2 devices, 2 models, 5.0 requests/s

DEVICE       HEALTH     MEMORY      USED               UTIL  TEMP  INST CALLS  B
0 NVIDIA H10 healthy    [###x    ]  41.2 of 80 GiB      83%  61 C     2     1
  1 MIG 1g.1 unhealthy  [        ]  512 MiB of 10 GiB     -     -     0     0
  Xid 79: GPU has fallen off the bus

MODEL        START  RUN IDLE SUSP DRAIN     MEMORY   REQ/S   QUEUE  WARM  HOST
digits (pinn     0    0    1    0     0     20 GiB     0.0   0/256     -     -
ocr-line         1    1    0    1     0     10 GiB     5.0   3/256   94%    3%
`},
		{"another process", view{before: &sample{before.at, other}, now: now}, 150, false, `
deepfn top  http://server  2 devices, 2 models, 50.0 requests/s

DEVICE                           HEALTH     MEMORY: # ours, x others    USED               UTIL  TEMP  INST CALLS  BUSY
0 NVIDIA H100 80GB HBM3          healthy    [#########xxx            ]  41.2 of 80 GiB      83%  61 C     2     1   50%
  1 MIG 1g.10gb                  unhealthy  [                        ]  512 MiB of 10 GiB     -     -     0     0    0%
  Xid 79: GPU has fallen off the bus

MODEL                            START  RUN IDLE SUSP DRAIN     MEMORY   REQ/S   QUEUE  WARM  HOST  COLD  SHARE  EVICTED
digits (pinned)                      0    0    1    0     0     20 GiB     0.0   0/256     -     -     -    25%
ocr-line                             1    1    0    1     0     10 GiB    50.0   3/256   94%    3%    3%    75%  memory 12, idle 1, suspended pause 2
`},
		{"no answer", view{before: before, now: now, failed: now.at, err: errors.New("connection refused\n\x1b[2J")}, 150, false, `
deepfn top  http://server  2 devices, 2 models, 5.0 requests/s
no answer since 12:30:02, trying again: connection refused??[2J

DEVICE                           HEALTH     MEMORY: # ours, x others    USED               UTIL  TEMP  INST CALLS  BUSY
0 NVIDIA H100 80GB HBM3          healthy    [#########xxx            ]  41.2 of 80 GiB      83%  61 C     2     1   50%
  1 MIG 1g.10gb                  unhealthy  [                        ]  512 MiB of 10 GiB     -     -     0     0    0%
  Xid 79: GPU has fallen off the bus

MODEL                            START  RUN IDLE SUSP DRAIN     MEMORY   REQ/S   QUEUE  WARM  HOST  COLD  SHARE  EVICTED
digits (pinned)                      0    0    1    0     0     20 GiB     0.0   0/256     -     -     -    25%
ocr-line                             1    1    0    1     0     10 GiB     5.0   3/256   94%    3%    3%    75%  memory 12, idle 1, suspended pause 2
`},
		{"nothing there", view{now: empty}, 150, false, `
deepfn top  http://server  0 devices, 0 models

MODEL                            START  RUN IDLE SUSP DRAIN     MEMORY   REQ/S   QUEUE  WARM  HOST  COLD  SHARE  EVICTED
no model has been asked for yet
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			top := &topView{server: "http://server", instances: tt.instances}
			lines := top.frame(tt.view, tt.width)
			for _, line := range lines {
				if len(line) > tt.width {
					t.Errorf("a line of %d characters, want %d at most: %s", len(line), tt.width, line)
				}
			}
			if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), strings.Join(lines, "\n")+"\n"); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A server's words reach the terminal as letters.
func TestTopHostile(t *testing.T) {
	stats := topStats(0)
	stats.Devices[0].Name, stats.Devices[0].Health, stats.Devices[0].Reason = "\x1b[2J", "\r", "\u202e\x00"
	stats.Devices[0].MemoryUsed, stats.Devices[0].Reserved, stats.Devices[0].Foreign = -1, 1<<62, -1<<62
	stats.Models[0].Model, stats.Models[0].Instances[0].State = "a\nb", "\x9b"
	stats.Models[0].Instances[0].Devices = []string{"\x1b"}
	stats.Models[1].Evictions = map[actions.EvictReason]int64{"\x07": 1}
	for _, width := range []int{0, 1, 40, 1000} {
		top := &topView{server: "http://\x1b", instances: true}
		for _, line := range top.frame(view{now: &sample{stats: stats}}, width) {
			if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) || len(line) > width {
				t.Errorf("width %d: got the line %q", width, line)
			}
		}
	}
}

// topServer answers /stats with what it is told.
func topServer(t *testing.T, answer func(w http.ResponseWriter)) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stats" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		answer(w)
	}))
	t.Cleanup(server.Close)
	return server
}

func sayStats(t *testing.T, w http.ResponseWriter, stats proxy.Stats) {
	t.Helper()
	if err := json.NewEncoder(w).Encode(stats); err != nil {
		t.Error(err)
	}
}

// runTop runs the command with an output that is no terminal.
func runTop(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, log bytes.Buffer
	code = run(t.Context(), program{args: append([]string{"top"}, args...), stdout: &out, stderr: &log, getenv: func(string) string { return "" }})
	return code, out.String(), log.String()
}

func TestTopOnce(t *testing.T) {
	server := topServer(t, func(w http.ResponseWriter) { sayStats(t, w, topStats(0)) })
	for _, args := range [][]string{{"--once"}, {}} {
		code, stdout, stderr := runTop(t, append(args, "--server", server.URL+"/")...)
		if code != exitOK || stderr != "" || strings.Contains(stdout, "\x1b") || !strings.Contains(stdout, "ocr-line ") || strings.Contains(stdout, "#1 ") {
			t.Errorf("%q: got %d %s %s", args, code, stdout, stderr)
		}
	}
	if _, stdout, _ := runTop(t, "--instances", "--server", server.URL); !strings.Contains(stdout, "#1    pid 4711     busy") {
		t.Errorf("got no instances: %s", stdout)
	}
}

func TestTopErrors(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	missing := topServer(t, func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) })
	other := topServer(t, func(w http.ResponseWriter) { _, _ = fmt.Fprint(w, "<html>") })
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--server", gone.URL}, exitUnavailable, "no statistics from " + gone.URL},
		{[]string{"--server", gone.URL}, exitUnavailable, "connection refused; --server names another server"},
		{[]string{"--server", missing.URL}, exitUnavailable, "it answers 404 Not Found"},
		{[]string{"--server", other.URL}, exitUnavailable, "its answer is no statistics"},
		{[]string{"--server", "127.0.0.1:8080"}, exitUsage, "want a URL such as http://127.0.0.1:8080"},
		{[]string{"--server", "unix:///run/x"}, exitUsage, "want a URL such as http://127.0.0.1:8080"},
		{[]string{"--interval", "1ms"}, exitUsage, "--interval 1ms: want 100ms or more"},
		{[]string{"x"}, exitUsage, "deepfn top"},
	} {
		if code, stdout, stderr := runTop(t, tt.args...); code != tt.code || !strings.Contains(stderr, tt.want) || stdout != "" {
			t.Errorf("%q: got %d %s%s, want %d and %q", tt.args, code, stdout, stderr, tt.code, tt.want)
		}
	}
}

// A server that was there is asked again when it does not answer.
func TestTopAsksAgain(t *testing.T) {
	var broken atomic.Bool
	server := topServer(t, func(w http.ResponseWriter) {
		if broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		sayStats(t, w, topStats(0))
	})
	clock := time.Date(2026, 7, 1, 12, 30, 0, 0, time.UTC)
	top := &topView{server: server.URL, now: func() time.Time { clock = clock.Add(time.Second); return clock }}
	first, err := top.poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := top.next(t.Context(), view{now: first})
	if second.before != first || second.now == first || second.err != nil {
		t.Fatalf("got %+v, want the next moment", second)
	}
	broken.Store(true)
	third := top.next(t.Context(), second)
	fourth := top.next(t.Context(), third)
	if fourth.now != second.now || fourth.err == nil || fourth.failed != third.failed {
		t.Fatalf("got %+v, want the last moment and since when there was none", fourth)
	}
	broken.Store(false)
	if fifth := top.next(t.Context(), fourth); fifth.err != nil || !fifth.failed.IsZero() || fifth.before != nil || fifth.now == second.now {
		t.Errorf("got %+v, want a new beginning", fifth)
	}
}
