package invoker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// ghostTime is how long memory of an instance that has gone may still show as used before it
// counts as somebody else's.
const ghostTime = 5 * time.Second

// A ledger is what the pool knows of the devices' memory: what it has reserved itself, what
// others use, and what is left. All numbers are signed, so that what was taken twice shows as
// a debt and not as endless memory. The owner's lock guards it.
type ledger struct {
	headroom func(total int64) int64
	devices  []*device // in the order of the driver
	read     time.Time // when the devices were read last; zero for never
}

// A device is a device in the ledger.
type device struct {
	actions.Device
	headroom int64
	slots    map[*slot]struct{} // those with memory reserved here
	reserved int64              // bytes, the sum over slots
	foreign  int64              // bytes that others use
	// ghost is how many bytes of instances that have gone the driver shows still, until
	// ghostEnd at the latest.
	ghost    int64
	ghostEnd time.Time
	// motion counts the changes by which what is used may differ from one reading to the next.
	motion int64

	clock time.Duration           // virtual time, of fair sharing
	tags  map[*pool]time.Duration // when each model's last call ended in virtual time
	begun map[*slot]time.Duration // when those that hold the device took it, in virtual time
	held  int                     // instances whose calls hold the device
	busy  time.Duration           // how long they did
}

// A baseline is a reading of the one device of an instance before it was started, by which it
// can be measured if nothing else moves meanwhile.
type baseline struct {
	device *device
	used   int64
	motion int64
}

// room is what a new instance may reserve now, in bytes.
func (d *device) room() int64 {
	return d.MemoryTotal - d.headroom - d.reserved - d.foreign - d.ghost
}

// soon is what room will be when those that are leaving have left.
func (d *device) soon() int64 {
	left := d.room() + d.ghost
	for s := range d.slots {
		if s.leaving() {
			left += s.memory
		}
	}
	return left
}

// most is what room would be at best, without everything that may be evicted at some time.
func (d *device) most(p *pool) int64 {
	most := d.MemoryTotal - d.headroom
	for s := range d.slots {
		if s.pool.pinned() && s.pool != p && !s.leaving() {
			most -= s.memory
		}
	}
	return most
}

// moving is how many reserved bytes may be used or not at this moment.
func (d *device) moving() int64 {
	var n int64
	for s := range d.slots {
		if s.moving() {
			n += s.memory
		}
	}
	return n
}

// reserve takes memory for the instance.
func (l *ledger) reserve(s *slot, devices []*device, memory int64) {
	s.devices, s.memory = devices, memory
	for _, d := range devices {
		d.slots[s] = struct{}{}
		d.reserved += memory
		d.motion++
	}
}

// resize changes what is reserved for the instance. What it gives back may show as used for
// a while, if it has just freed it.
func (l *ledger) resize(s *slot, memory int64, freed bool, now time.Time) {
	for _, d := range s.devices {
		d.reserved += memory - s.memory
		d.motion++
		if freed && memory < s.memory {
			d.ghost += s.memory - memory
			d.ghostEnd = now.Add(ghostTime)
		}
	}
	s.memory = memory
}

// release gives the memory of an instance that has gone back, with its devices.
func (l *ledger) release(s *slot, now time.Time) {
	l.resize(s, 0, s.inst != nil, now)
	for _, d := range s.devices {
		delete(d.slots, s)
	}
	s.devices = nil
	s.host = 0
}

// update takes a reading. Devices that it lacks stay as they were, because instances may be
// on them; the driver's side tells of those that are lost.
func (l *ledger) update(found []actions.Device, now time.Time) {
	l.read = now
	for _, f := range found {
		d := l.device(f.UUID)
		if d == nil {
			d = &device{slots: map[*slot]struct{}{}, tags: map[*pool]time.Duration{}, begun: map[*slot]time.Duration{}}
			l.devices = append(l.devices, d)
		}
		d.Device = f
		d.headroom = l.headroom(f.MemoryTotal)
		d.weigh(now)
	}
}

// device returns the device of that UUID, nil for none.
func (l *ledger) device(uuid string) *device {
	for _, d := range l.devices {
		if d.UUID == uuid {
			return d
		}
	}
	return nil
}

// weigh divides what is used on a device into what its instances use and what others do.
// While instances load or leave, the latter lies between two bounds and is taken to have
// changed as little as possible. What is too much just after an instance has gone is its
// ghost, for some seconds; what shows of it then is somebody else's as soon as nothing moves.
func (d *device) weigh(now time.Time) {
	if d.ghost > 0 && now.After(d.ghostEnd) {
		d.ghost = 0
	}
	least := max(0, d.MemoryUsed-d.reserved)
	most := max(0, d.MemoryUsed-(d.reserved-d.moving()))
	others := min(max(d.foreign+d.ghost, least), most)
	d.ghost = min(max(others-d.foreign, 0), d.ghost)
	d.foreign = others - d.ghost
}

// has says whether an instance of the model has memory of the device.
func (d *device) has(p *pool) bool {
	for s := range d.slots {
		if s.pool == p {
			return true
		}
	}
	return false
}

// fits says whether an instance of the demand may be on the device at all.
func (d *device) fits(need Demand) bool {
	return d.Usable() && atLeast(d.ComputeCapability, need.ComputeCapability)
}

// atLeast compares versions of the form "8.0". Every version is at least an empty one.
func atLeast(have, want string) bool {
	if want == "" {
		return true
	}
	major, minor := version(have)
	wantMajor, wantMinor := version(want)
	return major > wantMajor || major == wantMajor && minor >= wantMinor
}

func version(v string) (major, minor int) {
	first, second, _ := strings.Cut(v, ".")
	major, _ = strconv.Atoi(first) // what is no number is 0, which nothing asks for
	minor, _ = strconv.Atoi(second)
	return major, minor
}

// sums says where the memory of the device is, for people.
func (d *device) sums() string {
	b := func(n int64) string { return actions.Bytes(n).String() }
	name := d.Name
	if d.ComputeCapability != "" {
		name += ", compute capability " + d.ComputeCapability
	}
	text := fmt.Sprintf("%s (%s) has %s, of which %s are kept free, %s are the models' and %s somebody else's",
		d.UUID, name, b(d.MemoryTotal), b(d.headroom), b(d.reserved), b(d.foreign+d.ghost))
	if d.Health != actions.Healthy {
		text += "; it is " + string(d.Health) + ": " + d.Reason
	}
	return text
}
