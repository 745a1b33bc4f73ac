package actions

import "time"

// PoolStats describes the instances of one model, in the words of database/sql's
// DBStats. Gauges first, then counters since the start.
type PoolStats struct {
	Model string

	// MaxInstances is how many instances there may be.
	MaxInstances int
	// MinInstances is how many are kept; Pinned says that they are never given up for the
	// sake of other models.
	MinInstances int
	Pinned       bool
	// Starting, InUse, Idle and Draining count the instances by state. A draining
	// instance takes no new request and ends. Suspended ones are in the host's memory, or on
	// the way there or back.
	Starting, InUse, Idle, Draining, Suspended int
	// Instances are the instances themselves, the oldest first.
	Instances []InstanceStats
	// Waiting is the number of requests in the queue, QueueDepth the most it takes.
	Waiting, QueueDepth int

	// Invocations counts the requests that an instance was found for.
	Invocations int64
	// WaitCount and WaitDuration count the requests that had to wait for an instance
	// and for how long altogether.
	WaitCount    int64
	WaitDuration time.Duration
	// ColdStarts counts started instances, StartDuration how long they took
	// altogether, StartFailures the starts that did not succeed.
	ColdStarts    int64
	StartDuration time.Duration
	StartFailures int64
	// Resumes counts the instances that came back from the host's memory, ResumeDuration how
	// long that took altogether.
	Resumes        int64
	ResumeDuration time.Duration
	// From counts the requests that an instance was found for by where the model was.
	From map[Tier]int64
	// Evictions counts the instances that were ended, and Suspensions those that were
	// suspended, by the reason.
	Evictions   map[EvictReason]int64
	Suspensions map[EvictReason]int64
	// DeviceTime is how long its calls have held devices, summed over the devices.
	DeviceTime time.Duration
	// QueueFull counts the requests that were refused with Busy.
	QueueFull int64
	// MaxIdleTimeClosed counts the instances stopped after IdleTime, Died those that
	// ended by themselves.
	MaxIdleTimeClosed int64
	Died              int64
}

// InstanceStats describes one instance.
type InstanceStats struct {
	// ID tells the instances of a server apart, also those that have ended. PID is the
	// process, zero until there is one.
	ID  int64
	PID int
	// State is its state in the words of the pool: "wanted" (waits for memory), "starting",
	// "idle", "busy", "suspending", "suspended", "resuming", "draining".
	State string
	// Devices are the UUIDs of the devices that it is on, and Memory is how many bytes are
	// reserved for it on each of them; zero while it is suspended.
	Devices []string
	Memory  int64
	// HostMemory is how many bytes of the host's memory its suspended weights take.
	HostMemory int64
	// Calls are in progress.
	Calls int
	// Idle is how long it has been without a call, zero with one.
	Idle time.Duration
	// DeviceTime is how long its calls have held its devices, summed over them.
	DeviceTime time.Duration
}

// An EvictReason is why an instance was ended, or suspended, before its time.
type EvictReason string

// The reasons of an eviction.
const (
	// EvictMemory: another model needed the device's memory.
	EvictMemory EvictReason = "memory"
	// EvictIdle: nobody has used it for the idle time.
	EvictIdle EvictReason = "idle"
	// EvictPause: the platform is about to freeze the process.
	EvictPause EvictReason = "pause"
	// EvictHealth: its device is bad.
	EvictHealth EvictReason = "health"
	// EvictHost: the host's memory for suspended instances was needed.
	EvictHost EvictReason = "host_memory"
	// EvictFailed: it could not be suspended or resumed.
	EvictFailed EvictReason = "failed"
)

// DeviceStats says what the pool does with one device. Gauges first, then counters.
type DeviceStats struct {
	Device
	// Reserved is how many bytes the pool's instances have of it, and Foreign how many
	// somebody else uses; Room is what is left for another instance, in bytes, which may be
	// negative. What instances that have gone leave behind for some seconds is none of these.
	Reserved, Foreign, Room int64
	// Instances is how many instances are on the device, Calls how many calls hold it.
	Instances, Calls int
	// Busy is how long calls have held the device.
	Busy time.Duration
}
