package invoker

import (
	"math"
	"time"
)

// A history is how long it was from one request of a model to the next, as a histogram by which
// 'Serverless in the Wild' (Shahrad et al., USENIX ATC 2020, section 4.2) decides when to have
// it in memory: bins of a minute up to four hours, their 5th and 99th percentile with a margin
// of a tenth, and nothing as long as it says nothing: with few idle times, with many beyond
// its end, or when they are spread evenly.
type history struct {
	last  time.Time // when the last request came; zero for none
	bins  [240]uint32
	count int  // idle times, with those beyond the end
	over  int  // those beyond the end
	ahead bool // an instance was started ahead of the next request
}

const (
	binTime = time.Minute
	// minIdleTimes is how many idle times are enough to know something.
	minIdleTimes = 20
	// minVariation is the least coefficient of variation of the bins' counts; with less the
	// idle times are spread too evenly.
	minVariation = 2
	maxOver      = 0.5 // the most of the idle times that may lie beyond the end
	firstPart    = 0.05
	lastPart     = 0.99
	margin       = 0.1
)

// add notes an idle time.
func (h *history) add(idle time.Duration) {
	h.count++
	if bin := int(idle / binTime); bin < len(h.bins) {
		h.bins[bin]++
		return
	}
	h.over++
}

// window returns between which idle times the next request is to be expected, and whether
// enough is known to say so.
func (h *history) window() (from, to time.Duration, known bool) {
	within := h.count - h.over
	if within < minIdleTimes || float64(h.over) > maxOver*float64(h.count) || h.variation() < minVariation {
		return 0, 0, false
	}
	// The head is rounded down to its bin's beginning, the tail up to its bin's end.
	head := time.Duration(h.percentile(firstPart, within)) * binTime
	tail := time.Duration(h.percentile(lastPart, within)+1) * binTime
	return time.Duration(float64(head) * (1 - margin)), time.Duration(float64(tail) * (1 + margin)), true
}

// percentile returns the bin in which the part of the idle times ends.
func (h *history) percentile(part float64, within int) int {
	rest := int(math.Ceil(part * float64(within)))
	for i, n := range h.bins {
		if rest -= int(n); rest <= 0 {
			return i
		}
	}
	return len(h.bins) - 1
}

// variation is the coefficient of variation of the bins' counts.
func (h *history) variation() float64 {
	n := float64(len(h.bins))
	var sum, squares float64
	for _, c := range h.bins {
		sum += float64(c)
		squares += float64(c) * float64(c)
	}
	mean := sum / n
	if mean == 0 {
		return 0
	}
	return math.Sqrt(max(squares/n-mean*mean, 0)) / mean
}

// comesLocked notes that a request has come.
func (p *pool) comesLocked(now time.Time) {
	if p.cfg.KeepAlive != Histogram {
		return
	}
	if !p.history.last.IsZero() && len(p.waiters) == 0 && !p.busyLocked() {
		p.history.add(now.Sub(p.history.last))
	}
	p.history.last, p.history.ahead = now, false
}

func (p *pool) busyLocked() bool {
	for s := range p.slots {
		if s.calls > 0 {
			return true
		}
	}
	return false
}

// keepAliveLocked is for how long an instance is kept without a call; negative for ever.
// With a history it is until the next request is not to be expected any more, but only for a
// minute if the request is not to be expected for longer than IdleTime: then an instance is
// started ahead of it.
func (p *pool) keepAliveLocked() time.Duration {
	if p.cfg.KeepAlive != Histogram || p.cfg.IdleTime < 0 {
		return p.cfg.IdleTime
	}
	from, to, known := p.history.window()
	switch {
	case !known:
		return p.cfg.IdleTime
	case from <= p.cfg.IdleTime:
		return to
	}
	return min(binTime, p.cfg.IdleTime)
}

// expiryLocked returns when an idle instance has been idle for too long, if ever. One that was
// started ahead of a request is kept until that is not to be expected any more.
func (s *slot) expiryLocked() (time.Time, bool) {
	p := s.pool
	if _, to, known := p.history.window(); s.ahead && known {
		return p.history.last.Add(to), true
	}
	keep := p.keepAliveLocked()
	return s.idleSince.Add(keep), keep >= 0
}

// aheadLocked returns when an instance is to be started ahead of the next request, if it is.
func (p *pool) aheadLocked() (time.Time, bool) {
	if p.cfg.KeepAlive != Histogram || p.closed || p.cfg.IdleTime < 0 || len(p.slots) > 0 || p.history.last.IsZero() ||
		p.o.released { // it would be released at once
		return time.Time{}, false
	}
	from, _, known := p.history.window()
	if !known || from <= p.cfg.IdleTime || p.history.ahead {
		return time.Time{}, false
	}
	return p.history.last.Add(from - p.starts.value), true
}

// startAheadLocked starts an instance ahead of the next request when it is time.
func (p *pool) startAheadLocked(now time.Time) {
	at, ok := p.aheadLocked()
	if !ok || now.Before(at) || time.Now().Before(p.retryAt) {
		return
	}
	p.history.ahead = true // once for each request
	s := p.o.newSlotLocked(p)
	s.ahead = true
	p.o.lineLocked(s)
}

// An average is a duration that follows what is measured.
type average struct{ value time.Duration }

// add takes a measurement: the first as it is, each other by a quarter.
func (a *average) add(d time.Duration) {
	if a.value == 0 {
		a.value = d
		return
	}
	a.value += (d - a.value) / 4
}

// estimateLocked is when it is worth to try again: when an instance will be there, or the
// queue will be shorter. It is never less than a second.
func (p *pool) estimateLocked() time.Duration {
	var ready, warm time.Duration
	n := 0
	for s := range p.slots {
		if s.state == idle || s.state == busy {
			n++
		}
	}
	switch {
	case n > 0:
		warm = p.runs.value * time.Duration(len(p.waiters)) / time.Duration(2*n*p.capacity) // half of the queue
	case p.starts.value > 0:
		ready = p.starts.value
	default:
		ready = time.Second + time.Duration(float64(p.demand.Memory)/loadRate*float64(time.Second))
	}
	return max(ready+warm, time.Second)
}

// loadRate is how many bytes a second are read of a model that was never started here: about
// what one NVMe disk gives.
const loadRate = 2e9
