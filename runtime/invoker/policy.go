package invoker

import (
	"math"
	"time"
)

// A Candidate is what a Policy knows of an instance that has just been used.
type Candidate struct {
	Model string
	// Memory is how many bytes it takes of its devices, summed over them.
	Memory int64
	// Uses is how often the model was used, where a use counts less the longer it was ago: half
	// after 17 hours.
	Uses float64
	// Reload is how long it would take to have it back: a resume where it can be
	// suspended, else a start, as they were measured.
	Reload time.Duration
	// LoadedAt is when it was ready, LastUse the end of its last call.
	LoadedAt, LastUse time.Time
	// KeepAlive is for how long it would be kept without a call if memory did not matter.
	KeepAlive time.Duration
}

// A Policy says which instance is given up for another. The pool calls it under its lock: it
// must not wait, and needs none of its own.
type Policy interface {
	// Value is called when the instance has been used, and when it is ready. Those with the
	// least value go first.
	Value(c Candidate) float64
	// Evicted tells the value of one that was given up.
	Evicted(value float64)
}

// GDSF is the policy Greedy-Dual-Size-Frequency, with which FaasCache (ASPLOS 2021,
// doi 10.1145/3445814.3446757) keeps functions: what an instance is worth is its frequency
// times the time of its reload per byte, on top of a clock that rises to the value of each
// that was evicted, so that what was worth much once and is not used any more goes at last.
type GDSF struct{ clock float64 }

// NewGDSF returns the policy with its clock at zero.
func NewGDSF() *GDSF { return &GDSF{} }

// Value implements Policy, in milliseconds per MiB.
func (g *GDSF) Value(c Candidate) float64 {
	mib := max(float64(c.Memory)/(1<<20), 1)
	return g.clock + max(c.Uses, 1)*float64(c.Reload.Milliseconds()+1)/mib
}

// Evicted implements Policy.
func (g *GDSF) Evicted(value float64) {
	if !math.IsInf(value, 0) {
		g.clock = max(g.clock, value)
	}
}

// LRU is the policy that gives up what has not been used for longest.
type LRU struct{}

// NewLRU returns the policy.
func NewLRU() LRU { return LRU{} }

// Value implements Policy, in seconds since 1970.
func (LRU) Value(c Candidate) float64 { return float64(c.LastUse.UnixNano()) / 1e9 }

// Evicted implements Policy.
func (LRU) Evicted(float64) {}

// A frequency is how often something was used, where what is long ago counts less: what was used
// much before it had to go is worth more when it is back, but not for ever.
type frequency struct {
	n    float64
	last time.Time
}

// forgetTime is the time in which the past comes to count 1/e.
const forgetTime = 24 * time.Hour

// add notes a use.
func (f *frequency) add(now time.Time) {
	f.n = 1 + f.n*math.Exp(-float64(max(now.Sub(f.last), 0))/float64(forgetTime))
	f.last = now
}
