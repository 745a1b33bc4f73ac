package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/proxy"
)

// A view is what a frame shows: the server now and, for rates, a moment ago.
type view struct {
	before *sample // nil when there is none
	now    *sample
	failed time.Time // when the server began not to answer; zero while it does
	err    error
}

const (
	// barWidth is how wide the bar of a device's memory is, and leastBar where it is narrow.
	barWidth, leastBar = 24, 8
	// nameWidth is how much of a name is shown, and leastName where it is narrow.
	nameWidth, leastName = 32, 12
	// modelColumns and deviceColumns are as wide as a row without its name, and without its
	// last column or its bar. What is less wanted stands to the right, where it may be cut.
	modelColumns, deviceColumns = 84, 63
)

// frame is the text of a view in lines, none of them wider than width.
func (t *topView) frame(v view, width int) []string {
	lines := []string{t.headline(v)}
	if v.err != nil {
		lines = append(lines, fmt.Sprintf("no answer since %s, trying again: %s", v.failed.Format(time.TimeOnly), oneLine(v.err.Error())))
	}
	if devices := v.now.stats.Devices; len(devices) > 0 {
		lines = append(lines, "", deviceHead(width))
		for i := range devices {
			lines = append(lines, v.deviceRow(&devices[i], width)...)
		}
	}
	lines = append(lines, "", modelHead(width))
	for i := range v.now.stats.Models {
		lines = append(lines, v.modelRow(&v.now.stats.Models[i], width))
		if t.instances {
			lines = append(lines, instanceRows(v.now.stats.Models[i].Instances)...)
		}
	}
	if len(v.now.stats.Models) == 0 {
		lines = append(lines, "no model has been asked for yet")
	}
	for i, line := range lines {
		lines[i] = strings.TrimRight(cutText(line, width), " ")
	}
	return lines
}

func (t *topView) headline(v view) string {
	text := fmt.Sprintf("deepfn top  %s  %s, %s", oneLine(t.server), count(len(v.now.stats.Devices), "device"), count(len(v.now.stats.Models), "model"))
	if span := v.span(); span > 0 {
		var calls int64
		for i := range v.now.stats.Models {
			m := &v.now.stats.Models[i]
			calls += m.Invocations - v.earlier(m).Invocations
		}
		text += fmt.Sprintf(", %s requests/s", perSecond(float64(calls)/span))
	}
	return text
}

// span is the time between the two moments in seconds, 0 without an earlier one.
func (v *view) span() float64 {
	if v.before == nil {
		return 0
	}
	return v.now.at.Sub(v.before.at).Seconds()
}

// earlier is what a model had done a moment ago: nothing if it was not there, or if the
// server was another process.
func (v *view) earlier(m *proxy.ModelStats) *proxy.ModelStats {
	if v.before != nil {
		for i := range v.before.stats.Models {
			if e := &v.before.stats.Models[i]; e.Model == m.Model && e.Invocations <= m.Invocations && e.DeviceSeconds <= m.DeviceSeconds {
				return e
			}
		}
	}
	return &proxy.ModelStats{}
}

func deviceHead(width int) string {
	bar := barRoom(width)
	what := "MEMORY: # ours, x others"
	if bar+2 < len(what) {
		what = "MEMORY"
	}
	return fmt.Sprintf("%-*s %-9s  %-*s  %-17s %5s %5s %5s %5s %5s", nameRoom(width, deviceColumns+bar), "DEVICE", "HEALTH",
		bar+2, what, "USED", "UTIL", "TEMP", "INST", "CALLS", "BUSY")
}

// deviceRow is the line of a device, and another one if there is something wrong with it.
func (v *view) deviceRow(d *proxy.DeviceStats, width int) []string {
	name := fmt.Sprintf("%d %s", d.Index, d.Name)
	if d.Parent != "" {
		name = "  " + name
	}
	busy := "-"
	if v.before != nil {
		for i := range v.before.stats.Devices {
			if e := &v.before.stats.Devices[i]; e.UUID == d.UUID && e.BusySeconds <= d.BusySeconds {
				busy = share(d.BusySeconds-e.BusySeconds, v.span())
			}
		}
	}
	bar := barRoom(width)
	room := nameRoom(width, deviceColumns+bar)
	lines := []string{fmt.Sprintf("%-*s %-9s  [%s]  %-17s %5s %5s %5d %5d %5s", room, cutText(oneLine(name), room), oneLine(string(d.Health)),
		memoryBar(d, bar), used(d), percent(d.Utilization), degrees(d.Temperature), d.Instances, d.Calls, busy)}
	if d.Reason != "" {
		lines = append(lines, "  "+oneLine(d.Reason))
	}
	return lines
}

// memoryBar draws whose the memory of a device is. What anybody has is seen.
func memoryBar(d *proxy.DeviceStats, width int) string {
	if d.MemoryTotal <= 0 {
		return strings.Repeat(" ", width)
	}
	cells := func(n int64) int {
		return int(math.Ceil(min(float64(max(n, 0))/float64(d.MemoryTotal), 1) * float64(width)))
	}
	ours := cells(d.Reserved)
	others := min(cells(d.Foreign), width-ours)
	return strings.Repeat("#", ours) + strings.Repeat("x", others) + strings.Repeat(" ", width-ours-others)
}

// used says how much of a device's memory is used: "41.2 of 80 GiB".
func used(d *proxy.DeviceStats) string {
	a, b := actions.Bytes(d.MemoryUsed).String(), actions.Bytes(d.MemoryTotal).String()
	number, unit, _ := strings.Cut(a, " ")
	if strings.HasSuffix(b, " "+unit) {
		a = number
	}
	return a + " of " + b
}

func modelHead(width int) string {
	return fmt.Sprintf("%-*s %5s %4s %4s %4s %5s %10s %7s %7s %5s %5s %5s %6s  %s", nameRoom(width, modelColumns), "MODEL",
		"START", "RUN", "IDLE", "SUSP", "DRAIN", "MEMORY", "REQ/S", "QUEUE", "WARM", "HOST", "COLD", "SHARE", "EVICTED")
}

// modelRow is the line of a model. Where its requests found it counts from the server's
// start, its share of the devices' time from the moment before.
func (v *view) modelRow(m *proxy.ModelStats, width int) string {
	var memory int64
	for i := range m.Instances {
		memory += m.Instances[i].Memory * int64(len(m.Instances[i].Devices))
	}
	requests, earlier := "-", v.earlier(m)
	if span := v.span(); span > 0 {
		requests = perSecond(float64(m.Invocations-earlier.Invocations) / span)
	}
	var all, calls float64
	for i := range v.now.stats.Models {
		other := &v.now.stats.Models[i]
		all += other.DeviceSeconds - v.earlier(other).DeviceSeconds
	}
	for _, n := range m.From {
		calls += float64(n)
	}
	from := func(tiers ...actions.Tier) string {
		var n int64
		for _, tier := range tiers {
			n += m.From[tier]
		}
		return share(float64(n), calls)
	}
	name := m.Model
	if m.Pinned {
		name += " (pinned)"
	}
	room := nameRoom(width, modelColumns)
	return fmt.Sprintf("%-*s %5d %4d %4d %4d %5d %10s %7s %7s %5s %5s %5s %6s  %s", room, cutText(oneLine(name), room),
		m.States.Starting, m.States.InUse, m.States.Idle, m.States.Suspended, m.States.Draining,
		actions.Bytes(memory), requests, fmt.Sprintf("%d/%d", m.Waiting, m.QueueDepth),
		from(actions.TierWarm), from(actions.TierHost), from(actions.TierCache, actions.TierDisk),
		share(m.DeviceSeconds-earlier.DeviceSeconds, all), evicted(m))
}

// evicted says how many instances were ended, and suspended, and why: the most first.
func evicted(m *proxy.ModelStats) string {
	words := slices.Concat(byCount(m.Evictions, ""), byCount(m.Suspensions, "suspended "))
	return strings.Join(words, ", ")
}

func byCount(counts map[actions.EvictReason]int64, prefix string) []string {
	reasons := slices.SortedFunc(maps.Keys(counts), func(a, b actions.EvictReason) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	var words []string
	for _, reason := range reasons {
		if n := counts[reason]; n > 0 {
			words = append(words, oneLine(fmt.Sprintf("%s%s %d", prefix, reason, n)))
		}
	}
	return words
}

// instanceRows are the lines of instances, below their model's.
func instanceRows(instances []proxy.InstanceStats) []string {
	lines := make([]string, len(instances))
	for i := range instances {
		in := &instances[i]
		where := strings.Join(in.Devices, ",")
		switch {
		case in.HostMemory > 0:
			where = "host " + actions.Bytes(in.HostMemory).String()
		case where == "":
			where = "no device"
		case in.Memory > 0:
			where += " " + actions.Bytes(in.Memory).String()
		}
		does := count(in.Calls, "call")
		if in.Calls == 0 {
			does = "idle " + seconds(in.IdleSeconds)
		}
		lines[i] = oneLine(fmt.Sprintf("  #%-4d pid %-8s %-10s %-12s device time %-8s %s", in.ID, pid(in.PID), in.State, does, seconds(in.DeviceSeconds), where))
	}
	return lines
}

func pid(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

// barRoom is how wide the bar of a device's memory may be.
func barRoom(width int) int { return min(max(width-deviceColumns-leastName, leastBar), barWidth) }

// nameRoom is how wide a name may be beside the other columns.
func nameRoom(width, columns int) int { return min(max(width-columns, leastName), nameWidth) }

// perSecond writes a number per second.
func perSecond(r float64) string {
	if r >= 100 {
		return fmt.Sprintf("%.0f", r)
	}
	return fmt.Sprintf("%.1f", r)
}

// share writes a part of a whole, "-" of nothing.
func share(part, whole float64) string {
	if whole <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*part/whole)
}

func percent(ratio *float64) string {
	if ratio == nil {
		return "-"
	}
	return share(*ratio, 1)
}

func degrees(celsius *float64) string {
	if celsius == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f C", *celsius)
}

// seconds writes a duration for people: "1.5s", "2m10s", "3h0m".
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// oneLine makes a text of a server safe for a terminal, and each of its characters as wide as
// a column.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

// cutText cuts a text of oneLine to a width.
func cutText(text string, width int) string { return text[:min(len(text), max(width, 0))] }
