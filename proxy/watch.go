package proxy

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// clientCheck is how often it is looked whether the clients of requests are still there.
const clientCheck = 500 * time.Millisecond

// watch gives up the requests whose clients have left, so that no instance works for
// nobody. It returns when ctx ends. One goroutine looks after all connections, because
// a timer for each request costs more than the request.
func (cs *connections) watch(ctx context.Context) {
	ticker := time.NewTicker(clientCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			cs.look()
		}
	}
}

// look gives up the requests whose clients have left by now.
func (cs *connections) look() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	root := &cs.rings[busy]
	for c := root.next; c != root; c = c.next {
		if c.giveUp == nil {
			continue
		}
		if end := closed(c.Conn); end == reset || end == finished && c.finEnds {
			c.giveUp()
		}
	}
}

// An ending says what the other side of a connection has done to it.
type ending uint8

const (
	open     ending = iota
	finished        // it has shut down its writing side, and may still read
	reset
)

// closed says whether the other side has ended a connection. It does not take what may
// have come. Of close and of a shutdown of the writing side this side sees the same, a
// FIN, until it writes.
func closed(c net.Conn) ending {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return open
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return open
	}
	var n int
	var one [1]byte
	if raw.Control(func(fd uintptr) {
		n, _, err = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	}) != nil {
		return open // this side has closed it; the request has been answered
	}
	switch {
	case err == nil && n == 0:
		return finished
	case errors.Is(err, syscall.ECONNRESET):
		return reset
	}
	return open
}
