package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// bounds are what a platform allows. A zero upper bound is not known, and bounds nothing.
type bounds struct {
	memory, timeout, logs, concurrency bound
}

// A bound is one of them. setting is what its operator would change.
type bound struct {
	least, most int
	setting     string
}

// bounds asks the platform what it allows: the document at its root, and what it says of
// the namespace. A platform that does not tell bounds nothing here, and refuses later.
func (c *Client) bounds(ctx context.Context) bounds {
	b := bounds{
		memory: bound{setting: "whisk.memory.max"}, timeout: bound{setting: "whisk.time-limit.max"},
		logs: bound{setting: "whisk.log-limit.max"}, concurrency: bound{setting: "whisk.concurrency-limit.max"},
	}
	if c == nil {
		return b
	}
	var root struct {
		Limits struct {
			MinDuration int   `json:"min_action_duration"` // milliseconds
			MaxDuration int   `json:"max_action_duration"`
			MinMemory   int64 `json:"min_action_memory"` // bytes
			MaxMemory   int64 `json:"max_action_memory"`
			MinLogs     int64 `json:"min_action_logs"`
			MaxLogs     int64 `json:"max_action_logs"`
		} `json:"limits"`
	}
	if c.info(ctx, &root) == nil {
		l := root.Limits
		b.timeout.set(l.MinDuration, l.MaxDuration, "")
		b.memory.set(int(l.MinMemory>>20), int(l.MaxMemory>>20), "")
		b.logs.set(int(l.MinLogs>>20), int(l.MaxLogs>>20), "")
	}
	var own struct { // numbers of ms and MB; older platforms have none of them
		MinMemory      json.Number `json:"minActionMemory"`
		MaxMemory      json.Number `json:"maxActionMemory"`
		MinTimeout     json.Number `json:"minActionTimeout"`
		MaxTimeout     json.Number `json:"maxActionTimeout"`
		MinLogs        json.Number `json:"minActionLogs"`
		MaxLogs        json.Number `json:"maxActionLogs"`
		MinConcurrency json.Number `json:"minActionConcurrency"`
		MaxConcurrency json.Number `json:"maxActionConcurrency"`
	}
	if c.call(ctx, request{what: "limits", path: "limits"}, &own) == nil {
		b.memory.set(number(own.MinMemory), number(own.MaxMemory), "maxActionMemory of the namespace's limits, and whisk.memory.max")
		b.timeout.set(number(own.MinTimeout), number(own.MaxTimeout), "maxActionTimeout of the namespace's limits, and whisk.time-limit.max")
		b.logs.set(number(own.MinLogs), number(own.MaxLogs), "maxActionLogs of the namespace's limits, and whisk.log-limit.max")
		b.concurrency.set(number(own.MinConcurrency), number(own.MaxConcurrency),
			"maxActionConcurrency of the namespace's limits, and whisk.concurrency-limit.max")
	}
	return b
}

func number(n json.Number) int {
	i, err := n.Int64()
	if err != nil {
		return 0
	}
	return int(i)
}

// set takes bounds that were told.
func (b *bound) set(least, most int, setting string) {
	if most <= 0 {
		return
	}
	b.least, b.most = least, most
	if setting != "" {
		b.setting = setting
	}
}

// cut brings a limit within its bound and says so if that is less than was wanted.
func (b bound) cut(value int, what, unit string) (cut int, warning string) {
	if b.most == 0 {
		return value, ""
	}
	cut = min(max(value, b.least), b.most)
	if cut < value {
		warning = fmt.Sprintf("%s: %d%s are wanted, the platform allows %d%s; its operator sets that with %s", what, value, unit, cut, unit, b.setting)
	}
	return cut, warning
}

// cutLimits brings limits within the bounds and says of what that was less.
func (b bounds) cutLimits(action string, l Limits) (cut Limits, warnings []string) {
	cut = l
	warn := func(text string) {
		if text != "" {
			warnings = append(warnings, action+": "+text)
		}
	}
	var text string
	if l.Memory > 0 {
		cut.Memory, text = b.memory.cut(l.Memory, "memory", " MiB")
		warn(text)
	}
	if l.Timeout > 0 {
		cut.Timeout, text = b.timeout.cut(l.Timeout, "timeout", " ms")
		warn(text)
	}
	if l.Logs != nil {
		var logs int
		logs, text = b.logs.cut(*l.Logs, "logs", " MiB")
		cut.Logs = &logs
		warn(text)
	}
	if l.Concurrency > 0 {
		cut.Concurrency, text = b.concurrency.cut(l.Concurrency, "concurrency", "")
		warn(strings.Replace(text, "are wanted", "is wanted", 1))
	}
	return cut, warnings
}
