package invoker

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// stats describes the pool.
func (p *pool) stats() actions.PoolStats {
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	st := p.counts
	st.Evictions, st.Suspensions = maps.Clone(st.Evictions), maps.Clone(st.Suspensions)
	st.From = map[actions.Tier]int64{actions.TierWarm: p.warmed}
	maps.Copy(st.From, p.from)
	st.Model = p.model.Name
	st.MinInstances, st.MaxInstances, st.QueueDepth = p.minimum, p.cfg.MaxInstances, p.cfg.QueueDepth
	st.Pinned, st.Waiting = p.pinned(), len(p.waiters)
	now := time.Now()
	for _, s := range p.oldestFirst() {
		switch s.state {
		case wanted, starting:
			st.Starting++
		case idle:
			st.Idle++
		case busy:
			st.InUse++
		case suspending, suspended, resuming:
			st.Suspended++
		case draining:
			st.Draining++
		case gone:
		}
		st.Instances = append(st.Instances, s.stats(now))
	}
	return st
}

// stats describes an instance.
func (s *slot) stats(now time.Time) actions.InstanceStats {
	st := actions.InstanceStats{
		ID: s.id, State: s.state.String(), Devices: s.uuids(), Memory: s.memory,
		HostMemory: s.host, Calls: s.calls, DeviceTime: s.deviceTime,
	}
	if s.inst != nil {
		st.PID = s.pid()
	}
	if s.calls == 0 && !s.idleSince.IsZero() {
		st.Idle = now.Sub(s.idleSince)
	}
	if !s.heldSince.IsZero() {
		st.DeviceTime += now.Sub(s.heldSince) * time.Duration(len(s.devices))
	}
	return st
}

func (p *pool) lastInfo() json.RawMessage {
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	return p.info
}

// DeviceStats describes the devices, in the order of the driver, as they were when they were
// read last; none before that.
func (v *Invoker) DeviceStats() []actions.DeviceStats {
	o := v.owner
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ledger.read.IsZero() || time.Since(o.ledger.read) > refreshTime {
		o.readUntilAdmittedLocked() // for the next who asks
	}
	stats := make([]actions.DeviceStats, len(o.ledger.devices))
	for i, d := range o.ledger.devices {
		stats[i] = actions.DeviceStats{
			Device: d.Device, Reserved: d.reserved, Foreign: d.foreign, Room: d.room(),
			Instances: len(d.slots), Calls: d.held, Busy: d.busy,
		}
		stats[i].Processes = slices.Clone(d.Processes)
		for s := range d.slots {
			if !s.heldSince.IsZero() {
				stats[i].Busy += time.Since(s.heldSince)
			}
		}
	}
	return stats
}
