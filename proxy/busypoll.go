package proxy

import (
	"runtime"
	"time"
)

const (
	// pollTime is how long at most a connection polls for a request.
	pollTime = 50 * time.Microsecond
	// soon is how long a client may take for its next request, from our answer on and with the
	// time that waking up takes, to be one worth polling for.
	soon = 2 * pollTime
	// afterLate is how many requests in turn have to come soon after one that did not.
	afterLate = 16
)

// A busyPoll says whether a connection polls for its client's next request before it sleeps.
//
// A client on the same machine that sends one request after the other has its next one ready
// before a processor that went to sleep after our answer is awake again, on a virtual machine
// above all. Polling spares that time. It is worth its own only where the last request came
// soon: a client that takes its time costs one poll, and then none.
//
// Only the goroutine that reads the connection uses it.
type busyPoll struct {
	missing int // how many requests have to come soon before the next poll
}

// limit is how long to poll; busy says that the server has other requests.
func (b *busyPoll) limit(busy bool) time.Duration {
	if busy || b.missing > 0 || runtime.GOMAXPROCS(0) == 1 {
		return 0 // another needs the processor, the client as well if there is one only
	}
	return pollTime
}

// came notes how long a request took to come, and how long was polled for it at most.
func (b *busyPoll) came(after, polled time.Duration) {
	switch {
	case after <= soon:
		b.missing = max(b.missing-1, 0)
	case polled > 0:
		b.missing = afterLate
	}
}
