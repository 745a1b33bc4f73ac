package proxy

import (
	"context"
	"net/http"

	"github.com/deepfn/deepfn/actions"
)

// Stats is the document of GET /stats: what the pool and the devices do now, and what they
// have done since the start. Its JSON is part of the server's interface, which
// docs/observability.md describes; durations are seconds, memory is in bytes.
type Stats struct {
	Models  []ModelStats  `json:"models"`
	Devices []DeviceStats `json:"devices"`
}

// ModelStats are actions.PoolStats in the words of /stats.
type ModelStats struct {
	Model        string `json:"model"`
	MaxInstances int    `json:"max_instances"`
	MinInstances int    `json:"min_instances"`
	Pinned       bool   `json:"pinned"`
	// States counts the instances by state; Instances are the instances themselves.
	States    InstanceStates  `json:"states"`
	Instances []InstanceStats `json:"instances"`

	Waiting    int `json:"waiting"`
	QueueDepth int `json:"queue_depth"`

	Invocations   int64   `json:"invocations"`
	WaitCount     int64   `json:"wait_count"`
	WaitSeconds   float64 `json:"wait_seconds"`
	QueueFull     int64   `json:"queue_full"`
	ColdStarts    int64   `json:"cold_starts"`
	StartSeconds  float64 `json:"start_seconds"`
	StartFailures int64   `json:"start_failures"`
	Resumes       int64   `json:"resumes"`
	ResumeSeconds float64 `json:"resume_seconds"`
	DeviceSeconds float64 `json:"device_seconds"`
	IdleStops     int64   `json:"idle_stops"`
	Died          int64   `json:"died"`
	// From counts the requests by where the model was, with every tier.
	From map[actions.Tier]int64 `json:"from"`
	// Evictions and Suspensions count by reason, those reasons that there were.
	Evictions   map[actions.EvictReason]int64 `json:"evictions"`
	Suspensions map[actions.EvictReason]int64 `json:"suspensions"`
}

// InstanceStates counts instances by state.
type InstanceStates struct {
	Starting  int `json:"starting"`
	InUse     int `json:"in_use"`
	Idle      int `json:"idle"`
	Suspended int `json:"suspended"`
	Draining  int `json:"draining"`
}

// InstanceStats are actions.InstanceStats in the words of /stats.
type InstanceStats struct {
	ID            int64    `json:"id"`
	PID           int      `json:"pid,omitempty"`
	State         string   `json:"state"`
	Devices       []string `json:"devices"`
	Memory        int64    `json:"memory_bytes"`
	HostMemory    int64    `json:"host_memory_bytes"`
	Calls         int      `json:"calls"`
	IdleSeconds   float64  `json:"idle_seconds"`
	DeviceSeconds float64  `json:"device_seconds"`
}

// DeviceStats are actions.DeviceStats in the words of /stats: what `deepfn devices --json`
// says of the device, and what the pool does with it.
type DeviceStats struct {
	actions.Device
	Reserved    int64   `json:"reserved_bytes"`
	Foreign     int64   `json:"foreign_bytes"`
	Room        int64   `json:"room_bytes"`
	Instances   int     `json:"instances"`
	Calls       int     `json:"calls"`
	BusySeconds float64 `json:"busy_seconds"`
}

// statsPage answers GET /stats.
func (s *Server) statsPage(context.Context, *request) response {
	pools, devices := s.cfg.Invoker.Stats(), s.cfg.Devices()
	doc := Stats{Models: make([]ModelStats, len(pools)), Devices: make([]DeviceStats, len(devices))}
	for i := range pools {
		doc.Models[i] = modelStats(&pools[i])
	}
	for i := range devices {
		doc.Devices[i] = deviceStats(&devices[i])
	}
	return jsonResponse(http.StatusOK, doc)
}

func modelStats(p *actions.PoolStats) ModelStats {
	m := ModelStats{
		Model: p.Model, MaxInstances: p.MaxInstances, MinInstances: p.MinInstances, Pinned: p.Pinned,
		States: InstanceStates{
			Starting: p.Starting, InUse: p.InUse, Idle: p.Idle, Suspended: p.Suspended, Draining: p.Draining,
		},
		Instances: make([]InstanceStats, len(p.Instances)),
		Waiting:   p.Waiting, QueueDepth: p.QueueDepth,
		Invocations: p.Invocations, WaitCount: p.WaitCount, WaitSeconds: p.WaitDuration.Seconds(), QueueFull: p.QueueFull,
		ColdStarts: p.ColdStarts, StartSeconds: p.StartDuration.Seconds(), StartFailures: p.StartFailures,
		Resumes: p.Resumes, ResumeSeconds: p.ResumeDuration.Seconds(), DeviceSeconds: p.DeviceTime.Seconds(),
		IdleStops: p.MaxIdleTimeClosed, Died: p.Died,
		From: map[actions.Tier]int64{}, Evictions: byReason(p.Evictions), Suspensions: byReason(p.Suspensions),
	}
	for _, tier := range tiers() {
		m.From[tier] = p.From[tier]
	}
	for i := range p.Instances {
		in := &p.Instances[i]
		m.Instances[i] = InstanceStats{
			ID: in.ID, PID: in.PID, State: in.State, Devices: append([]string{}, in.Devices...),
			Memory: in.Memory, HostMemory: in.HostMemory, Calls: in.Calls,
			IdleSeconds: in.Idle.Seconds(), DeviceSeconds: in.DeviceTime.Seconds(),
		}
	}
	return m
}

func deviceStats(d *actions.DeviceStats) DeviceStats {
	return DeviceStats{
		Device: d.Device, Reserved: d.Reserved, Foreign: d.Foreign, Room: d.Room,
		Instances: d.Instances, Calls: d.Calls, BusySeconds: d.Busy.Seconds(),
	}
}

// byReason is counts, {} when there are none.
func byReason(counts map[actions.EvictReason]int64) map[actions.EvictReason]int64 {
	if counts == nil {
		return map[actions.EvictReason]int64{}
	}
	return counts
}

// tiers are all tiers, from the warmest to the coldest.
func tiers() []actions.Tier {
	return []actions.Tier{actions.TierWarm, actions.TierHost, actions.TierCache, actions.TierDisk}
}

// reasons are all reasons of an eviction or a suspension.
func reasons() []actions.EvictReason {
	return []actions.EvictReason{
		actions.EvictMemory, actions.EvictIdle, actions.EvictPause, actions.EvictHealth, actions.EvictHost, actions.EvictFailed,
	}
}
