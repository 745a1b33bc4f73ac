package gpu

import (
	"slices"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

const (
	// waitFor is how many milliseconds one wait for an event takes, and so how long the end
	// of a watch may take.
	waitFor = 250
	// waitAfter is the pause when the wait has failed: errors come at once, and come again.
	waitAfter = 5 * time.Second
	// watched are the events that are asked for, of those that a GPU supports.
	watched = nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError
)

// A watch is a goroutine that waits for events of some GPUs.
type watch struct {
	gpus string // their UUIDs
	stop chan struct{}
}

// watchEvents waits for the events of the GPUs among the units from now on: a GPU that has come
// back has to be registered again.
func (m *Monitor) watchEvents(units []unit) {
	var uuids []string
	for _, u := range units {
		if u.Parent == "" {
			uuids = append(uuids, u.UUID)
		}
	}
	slices.Sort(uuids)
	if len(uuids) == 0 {
		return
	}
	gpus := strings.Join(uuids, " ")
	for _, name := range []string{callEventSet, callEventTypes, callEventRegister, callEventWait, callEventFree} {
		if !m.driver.has[name] {
			return // a library without events
		}
	}
	if m.watch != nil && m.watch.gpus == gpus {
		return
	}
	m.endWatch()
	m.watch = &watch{gpus: gpus, stop: make(chan struct{})}
	w, d := m.watch, m.driver
	m.watches.Go(func() { m.watchUntil(w, d) })
}

// endWatch has the watch end, and does not wait for that.
func (m *Monitor) endWatch() {
	if m.watch != nil {
		close(m.watch.stop)
		m.watch = nil
	}
}

// watchUntil is the goroutine of a watch. It ends within waitFor of the end of the watch, if the
// driver keeps to that.
func (m *Monitor) watchUntil(w *watch, d *driver) {
	set, ret := d.lib.EventSetCreate()
	if ret != nvml.SUCCESS {
		m.cfg.Log.Warn("no events of devices", "error", &callError{callEventSet, ret})
		return
	}
	defer func() { _ = set.Free() }()
	if d.register(set) == 0 {
		m.cfg.Log.Info("no device has events")
		return
	}
	for {
		event, ret := set.Wait(waitFor)
		pause := time.Duration(0)
		switch ret {
		case nvml.SUCCESS:
			m.handle(d, event)
		case nvml.ERROR_TIMEOUT:
		default:
			m.cfg.Log.Warn("wait for events of devices", "error", &callError{callEventWait, ret})
			m.tell() // the next reading finds out which device it is
			pause = waitAfter
		}
		select {
		case <-w.stop:
			return
		case <-time.After(pause):
		}
	}
}

// register asks for the events of all GPUs and returns of how many there will be any.
func (d *driver) register(set nvml.EventSet) (registered int) {
	count, ret := d.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return 0
	}
	for i := range min(count, maxGPUs) {
		handle, ret := d.lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue
		}
		types, ret := handle.GetSupportedEventTypes()
		if ret == nvml.SUCCESS && types&watched != 0 && handle.RegisterEvents(types&watched, set) == nvml.SUCCESS {
			registered++
		}
	}
	return registered
}

// handle marks what an event says is bad.
func (m *Monitor) handle(d *driver, event nvml.EventData) {
	uuid, ret := event.Device.GetUUID()
	if ret != nvml.SUCCESS {
		m.cfg.Log.Warn("event of a device that has no name", "event", event.EventType, "error", &callError{callUUID, ret})
		m.tell()
		return
	}
	k := mark{uuid, event.GpuInstanceId, event.ComputeInstanceId}
	if !d.has[callEventWait2] { // the first version does not say which instance
		k.gi, k.ci = whole, whole
	}
	switch {
	case event.EventType == nvml.EventTypeDoubleBitEccError:
		m.bad(k, "uncorrectable memory error (double-bit ECC)")
	case event.EventType != nvml.EventTypeXidCriticalError:
		m.cfg.Log.Debug("event of a device", "device", uuid, "event", event.EventType)
	case causedByApplication(event.EventData):
		m.cfg.Log.Info("a program's error on a device", "device", uuid, "xid", event.EventData)
	default:
		m.bad(k, xidText(event.EventData))
	}
}
