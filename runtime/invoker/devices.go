package invoker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	// readTimeout bounds one reading of the devices.
	readTimeout = 10 * time.Second
	// refreshTime is how old a reading may be while instances are on devices.
	refreshTime = 5 * time.Second
	// While somebody waits for memory, readings follow one another after firstPoll, and
	// then after longer and longer times, up to lastPoll.
	firstPoll = 20 * time.Millisecond
	lastPoll  = 100 * time.Millisecond
)

// Devices are the GPUs of this machine; *gpu.Monitor is one.
type Devices interface {
	// Read reads them now. It returns when ctx ends at the latest.
	Read(ctx context.Context) ([]actions.Device, error)
	// Changed has a value when the health of a device has changed.
	Changed() <-chan struct{}
}

// Peaks are measurements of models that outlive this process; *gpu.Peaks is one. Its methods
// do not wait.
type Peaks interface {
	// Peak returns the most memory, in bytes, that an instance of the model took of one
	// device of that name, if it was ever measured.
	Peak(model, device string) (int64, bool)
	// Record notes a measurement.
	Record(model, device string, bytes int64)
}

// watchHealth looks at the devices when their health has changed. It ends with ctx.
func (o *owner) watchHealth(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.cfg.Devices.Changed():
		}
		o.mu.Lock()
		o.readUntilAdmittedLocked()
		o.mu.Unlock()
	}
}

// readUntilAdmittedLocked has the devices read at least once, and as long as somebody waits
// for memory.
func (o *owner) readUntilAdmittedLocked() {
	o.again = true
	if o.reading || o.ended || o.cfg.Devices == nil {
		return
	}
	o.reading = true
	o.wg.Go(o.readUntilAdmitted)
}

func (o *owner) readUntilAdmitted() {
	for delay := firstPoll; ; delay = min(delay*3/2, lastPoll) {
		ctx, cancel := o.life(readTimeout)
		o.mu.Lock()
		o.again = false
		o.mu.Unlock()
		found, err := o.cfg.Devices.Read(ctx)
		cancel()
		o.mu.Lock()
		o.readLocked(found, err)
		if o.ended || len(o.line) == 0 && !o.again {
			o.reading = false
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		ctx, cancel = o.life(delay)
		<-ctx.Done()
		cancel()
	}
}

// readLocked takes a reading, or the reason why there is none.
func (o *owner) readLocked(found []actions.Device, err error) {
	now := time.Now()
	if err != nil && !o.ended {
		if text := err.Error(); text != o.unread { // it is tried often while somebody waits
			o.unread = text
			o.cfg.Log.Warn("the devices could not be read", "error", err)
		}
		o.refuseLineLocked(now, err)
		return
	}
	o.unread = ""
	o.ledger.update(found, now)
	for _, d := range o.ledger.devices {
		o.measureLocked(d)
		if d.Usable() {
			continue
		}
		for s := range d.slots {
			s.drainLocked(actions.EvictHealth)
		}
	}
	o.admitLocked()
	for p := range o.pools {
		if p.missingLocked() {
			p.startWantedLocked()
		}
	}
	o.setClockLocked()
}

// refuseLineLocked gives up those who wait for memory when the devices cannot be read: at once if
// they never could be. Who was only guessed to need one may run on the processor.
func (o *owner) refuseLineLocked(now time.Time, err error) {
	never := o.ledger.read.IsZero()
	for _, s := range slices.Clone(o.line) {
		switch {
		case !slices.Contains(o.line, s): // what was done for another has moved it
		case never && s.state == wanted && s.pool.demand.Guess:
			o.enterLocked(s)
		case s.state == suspended && now.Sub(s.since) > o.cfg.MemoryWait:
			s.drainLocked(actions.EvictFailed) // it has a process, which has to end
		case s.state == suspended:
		case never || now.Sub(s.since) > o.cfg.MemoryWait:
			s.pool.refusedLocked(s, fmt.Errorf("the devices cannot be read: %w", err))
		}
	}
}

// measureFrom notes what is used of the device of an instance that is about to start, unless
// others are in the middle of taking memory there or of giving it back.
func (s *slot) measureFrom() {
	if d := s.devices[0]; len(s.devices) == 1 && d.moving() == 0 && d.ghost == 0 {
		s.baseline = baseline{d, d.MemoryUsed, d.motion}
	}
}

// measureLocked notes how much the instances on a device take: as the driver says of their
// processes; or where it does not know them, as in a container, by the difference that a start
// has made, if nothing else has moved meanwhile.
func (o *owner) measureLocked(d *device) {
	processes := make(map[int]int64, len(d.Processes))
	for _, p := range d.Processes {
		processes[p.PID] += p.Memory
	}
	for s := range d.slots {
		if s.state != idle && s.state != busy {
			continue
		}
		used, ok := processes[s.pid()]
		if !ok && s.baseline.device == d {
			used = d.MemoryUsed - s.baseline.used
			// Somebody else may have come meanwhile: nobody must be refused for that for ever.
			ok = s.baseline.motion == d.motion && used <= 4*max(s.pool.demand.Memory, 1<<30)
		}
		if s.answered || !ok {
			s.baseline = baseline{}
		}
		if ok && used > 0 {
			o.measuredLocked(s, d, used)
		}
	}
}

// measuredLocked takes the measurement of an instance. What was reserved for it grows at
// once, and shrinks when it has answered a request.
func (o *owner) measuredLocked(s *slot, d *device, used int64) {
	if used > s.peak {
		s.peak = used
		s.pool.recordLocked(d, used)
	}
	need := s.pool.needOn(d)
	if need > s.memory || need < s.memory && s.answered && len(s.devices) == 1 {
		motion := d.motion
		o.ledger.resize(s, need, false, time.Now())
		d.motion = motion // the same bytes are used as before
	}
}

// recordLocked notes how much an instance took of a device.
func (p *pool) recordLocked(d *device, used int64) {
	if used <= p.peaks[d.Name] {
		return
	}
	p.peaks[d.Name] = used
	if p.cfg.Peaks != nil {
		p.cfg.Peaks.Record(p.key(), d.Name, used)
	}
}

// key is the model in Peaks: another version may need another amount.
func (p *pool) key() string {
	if p.model.Version == "" {
		return p.model.Name
	}
	return p.model.Name + "@" + p.model.Version
}

// needOn is how many bytes an instance needs on the device: what was measured, else what is
// said or guessed, and never less than what is said.
func (p *pool) needOn(d *device) int64 {
	peak, asked := p.peaks[d.Name]
	if !asked && p.cfg.Peaks != nil { // which has a lock of its own: it is asked once
		peak, _ = p.cfg.Peaks.Peak(p.key(), d.Name)
		p.peaks[d.Name] = peak
	}
	switch {
	case peak <= 0:
		return p.demand.Memory
	case p.demand.Guess:
		return peak
	}
	return max(peak, p.demand.Memory)
}

// needs is how many bytes an instance needs on each of the devices.
func (p *pool) needs(devices []*device) int64 {
	var need int64
	for _, d := range devices {
		need = max(need, p.needOn(d))
	}
	return need
}

// neverFitsLocked is the error of a model for which there are not enough devices that could
// ever take it.
func (o *owner) neverFitsLocked(p *pool) error {
	return fmt.Errorf("%s can never be loaded here: it needs %s; %s; another device is needed, a healthy one, or fewer pinned models", p.model.Name, p.wish(), o.sumsLocked())
}

// noRoomLocked is the error of a model that has waited long enough.
func (o *owner) noRoomLocked(p *pool) error {
	return &actions.Error{
		Code: actions.Unavailable, RetryAfter: p.estimateLocked(),
		Msg: fmt.Sprintf("%s found no memory within %s: it needs %s; %s", p.model.Name, o.cfg.MemoryWait, p.wish(), o.sumsLocked()),
	}
}

// wish says what an instance needs, for people.
func (p *pool) wish() string {
	need := p.demand.Memory
	for _, peak := range p.peaks {
		need = max(need, peak)
	}
	text := actions.Bytes(need).String() + " of a device's memory"
	if n := p.demand.Devices; n > 1 {
		text = fmt.Sprintf("%d devices with %s of memory each", n, actions.Bytes(need))
	}
	if cc := p.demand.ComputeCapability; cc != "" {
		text += " and compute capability " + cc
	}
	return text
}

func (o *owner) sumsLocked() string {
	if len(o.ledger.devices) == 0 {
		return "there is no device"
	}
	sums := make([]string, len(o.ledger.devices))
	for i, d := range o.ledger.devices {
		sums[i] = d.sums()
	}
	return strings.Join(sums, "; ")
}
