package actions

import "time"

// PoolStats describes the instances of one model, in the words of database/sql's
// DBStats. Gauges first, then counters since the start.
type PoolStats struct {
	Model string

	// MaxInstances is how many instances there may be.
	MaxInstances int
	// Starting, InUse, Idle and Draining count the instances by state. A draining
	// instance takes no new request and ends.
	Starting, InUse, Idle, Draining int
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
	// QueueFull counts the requests that were refused with Busy.
	QueueFull int64
	// MaxIdleTimeClosed counts the instances stopped after IdleTime, Died those that
	// ended by themselves.
	MaxIdleTimeClosed int64
	Died              int64
}
