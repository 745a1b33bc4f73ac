package controller

import (
	"context"
	"math"
	"strconv"
)

// A runtimeInfo is a kind as GET / shows it.
type runtimeInfo struct {
	Kind        string `json:"kind"`
	Image       string `json:"image"`
	Deprecated  bool   `json:"deprecated"`
	Default     bool   `json:"default"`
	Attached    bool   `json:"attached"`
	RequireMain bool   `json:"requireMain"`
}

// image is what the kinds are said to run in.
const image = "deepfn"

// noThrottle stands for no limit of invocations, where the API has a number.
const noThrottle = math.MaxInt32

// Info is the document of GET / (Controller.scala): what the server is, its limits in bytes
// and milliseconds, and the kinds of actions that it runs.
func (c *Controller) Info() any {
	kinds := []runtimeInfo{{Kind: modelDefault, Image: image}}
	models, err := c.models(context.Background())
	if err != nil {
		c.log.Error("models are not listed", "error", err.Error())
	}
	for _, m := range models {
		kinds = append(kinds, runtimeInfo{Kind: modelFamily + m.Name, Image: image})
	}
	kinds[0].Default = true
	const mega = 1 << 20
	limits := map[string]any{
		"actions_per_minute": noThrottle, "triggers_per_minute": noThrottle,
		"concurrent_actions": c.cfg.MaxBackground, "sequence_length": maxSequence,
	}
	for _, prefix := range []string{"", "default_"} {
		limits[prefix+"min_action_duration"], limits[prefix+"max_action_duration"] = c.cfg.Timeout.Min, c.cfg.Timeout.Max
		limits[prefix+"min_action_memory"], limits[prefix+"max_action_memory"] = int64(c.cfg.Memory.Min)*mega, int64(c.cfg.Memory.Max)*mega
		limits[prefix+"min_action_logs"], limits[prefix+"max_action_logs"] = int64(c.cfg.Logs.Min)*mega, int64(c.cfg.Logs.Max)*mega
	}
	return map[string]any{
		"description": "OpenWhisk",
		"support":     map[string]string{"github": "https://github.com/deepfn/deepfn/issues"},
		"api_paths":   []string{"/api/v1"},
		"limits":      limits,
		"runtimes": map[string][]runtimeInfo{
			"python": {{Kind: pythonKind, Image: image, Default: true, Attached: true}},
			"deepfn": kinds,
		},
	}
}

// Limits is the document of the limits of a namespace (Limits.scala, Identity.scala).
func (c *Controller) Limits() any {
	limits := map[string]any{
		"invocationsPerMinute": noThrottle, "firesPerMinute": noThrottle,
		"concurrentInvocations": c.cfg.MaxBackground, "maxActionInstances": c.cfg.MaxBackground,
		"minActionMemory": c.cfg.Memory.Min, "maxActionMemory": c.cfg.Memory.Max,
		"minActionLogs": c.cfg.Logs.Min, "maxActionLogs": c.cfg.Logs.Max,
		"minActionTimeout": c.cfg.Timeout.Min, "maxActionTimeout": c.cfg.Timeout.Max,
		"minActionConcurrency": c.cfg.Concurrency.Min, "maxActionConcurrency": c.cfg.Concurrency.Max,
	}
	if c.cfg.MaxPayload > 0 {
		bytes := strconv.FormatInt(c.cfg.MaxPayload, 10) + " B"
		limits["maxParameterSize"], limits["maxPayloadSize"] = bytes, bytes
	}
	return limits
}
