package gpu

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/deepfn/deepfn/actions"
)

const (
	// maxGPUs and maxInstances bound what a broken driver can make of a count.
	maxGPUs      = 256
	maxInstances = 64
	// maxKnown bounds the devices that are remembered, those that are gone included.
	maxKnown = 1024
)

// A unit is a device, and what events call it.
type unit struct {
	actions.Device
	// gi and ci are the ids of a MIG instance's GPU instance and compute instance.
	gi, ci uint32
}

// read looks at all devices, with the memory of those that it has seen before.
func (m *Monitor) read() ([]actions.Device, error) {
	if m.driver == nil && time.Since(m.openedAt) >= m.cfg.RetryAfter {
		m.reopen()
	}
	if m.driver == nil {
		if len(m.known) == 0 {
			_, err := m.State()
			return nil, err
		}
		return m.merge(nil, "the driver is gone"), nil
	}
	units, faults, err := m.driver.units()
	if err != nil {
		return m.unread(err)
	}
	if len(units) == 0 && len(faults) == 0 && len(m.known) == 0 {
		m.setState(NoDevices, NoDevices.err(nil))
		return nil, nil
	}
	m.setState(Ready, errOf(faults))
	m.watchEvents(units)
	return m.merge(units, "the driver does not list it any more"), nil
}

// unread is the answer when the driver could not be asked for its devices. A driver that is gone
// takes the devices with it; another error says nothing of them.
func (m *Monitor) unread(err error) ([]actions.Device, error) {
	state := Failing
	if e, ok := errors.AsType[*callError](err); ok {
		state = stateOf(e.code)
	}
	m.setState(state, state.err(err))
	if !gone(err) {
		return nil, state.err(err)
	}
	m.cfg.Log.Warn("the driver is gone", "error", err)
	m.shut()
	if len(m.known) == 0 {
		return nil, state.err(err)
	}
	return m.merge(nil, "the driver is gone: "+err.Error()), nil
}

func errOf(faults []error) error {
	if len(faults) == 0 {
		return nil
	}
	return &actions.Error{
		Code: actions.Unavailable, Err: errors.Join(faults...),
		Msg: fmt.Sprintf("%d of the GPUs cannot be read: %v", len(faults), faults[0]),
	}
}

// merge makes the units of a reading what is known, with those that were known before and are
// not among them, and applies what events have said. It returns the devices.
func (m *Monitor) merge(units []unit, missing string) []actions.Device {
	before := m.known
	for i := range units {
		m.keepFacts(&units[i], before)
	}
	for _, old := range before {
		if find(units, old.UUID) == nil {
			old.Reason = cmp.Or(lostReason(old), missing)
			old.Health, old.Processes = actions.Lost, nil
			units = append(units, old)
		}
	}
	slices.SortStableFunc(units, func(a, b unit) int { return cmp.Compare(a.Index, b.Index) })
	m.known = slices.Clip(units[:min(len(units), maxKnown)])
	m.settle(m.known)
	if healths(before) != healths(m.known) {
		m.logChanges(before)
		if len(before) > 0 {
			m.tell()
		}
	}
	devices := make([]actions.Device, len(m.known))
	for i, u := range m.known {
		devices[i] = u.Device
	}
	return devices
}

// lostReason is why a unit was lost already.
func lostReason(u unit) string {
	if u.Health == actions.Lost {
		return u.Reason
	}
	return ""
}

// keepFacts gives a unit that was lost while it was read what was known of it.
func (m *Monitor) keepFacts(u *unit, before []unit) {
	old := find(before, u.UUID)
	if u.Health != actions.Lost || old == nil {
		return
	}
	reason := u.Reason
	*u = *old
	u.Health, u.Reason, u.Processes = actions.Lost, reason, nil
}

func find(units []unit, uuid string) *unit {
	for i := range units {
		if units[i].UUID == uuid {
			return &units[i]
		}
	}
	return nil
}

// healths are the healths of units, to be compared.
func healths(units []unit) string {
	var b strings.Builder
	for _, u := range units {
		b.WriteString(u.UUID + " " + string(u.Health) + "\n")
	}
	return b.String()
}

func (m *Monitor) logChanges(before []unit) {
	for _, u := range m.known {
		old := find(before, u.UUID)
		switch {
		case old == nil:
			m.cfg.Log.Info("device found", "device", u.UUID, "name", u.Name, "memory_bytes", u.MemoryTotal)
		case old.Health != u.Health:
			m.cfg.Log.Warn("device health", "device", u.UUID, "health", string(u.Health), "reason", u.Reason)
		}
	}
}

// units asks the driver for all devices. The faults are of GPUs that could not even be named.
func (d *driver) units() (units []unit, faults []error, err error) {
	count, ret := d.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil, nil, &callError{callCount, ret}
	}
	for i := range min(count, maxGPUs) {
		handle, ret := d.lib.DeviceGetHandleByIndex(i)
		switch {
		case ret == nvml.ERROR_NO_PERMISSION: // somebody else's: a container is shown the number of all
			continue
		case ret != nvml.SUCCESS:
			faults = append(faults, fmt.Errorf("GPU %d: %w", i, &callError{callHandle, ret}))
			continue
		}
		found, err := d.gpu(i, handle)
		if err != nil {
			faults = append(faults, fmt.Errorf("GPU %d: %w", i, err))
			continue
		}
		for _, u := range found {
			if find(units, u.UUID) == nil { // a UUID is a name that all others rely on
				units = append(units, u)
			}
		}
	}
	return units, faults, nil
}
