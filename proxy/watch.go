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

// watch gives up the requests whose clients have closed the connection, so that no
// instance works for nobody. It returns when ctx ends. One goroutine looks after all
// connections, because a timer for each request costs more than the request.
func (cs *connections) watch(ctx context.Context) {
	ticker := time.NewTicker(clientCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for c, giveUp := range cs.requests() {
			if closed(c) {
				giveUp()
			}
		}
	}
}

// closed says whether the other side has closed a connection. It does not take what may
// have come.
func closed(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	var n int
	var one [1]byte
	if raw.Control(func(fd uintptr) {
		n, _, err = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	}) != nil {
		return false // this side has closed it; the request has been answered
	}
	return err == nil && n == 0 || errors.Is(err, syscall.ECONNRESET)
}
