package node

import (
	"net"
	"slices"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// maxGuests bounds how many connections there may be that have proven nothing yet. They
// take no place of a relay.
const maxGuests = 64

// crowdedError is for a guest who had to go.
func crowdedError() *actions.Error {
	return &actions.Error{
		Code: actions.Unavailable, RetryAfter: time.Second,
		Msg: "too many connections to the node did not end their handshake, and this was the oldest",
	}
}

// guests are the connections in the handshake that have proven nothing yet, in the order in
// which they came. When there are too many, the oldest has to go, and not the new one: who
// has the token needs no time for the proof, so those who wait cannot keep it away.
type guests struct {
	mu    sync.Mutex // guards conns
	conns []*net.UnixConn
}

// enter notes a guest, until leave, and when its handshake has to have ended. It is called
// in the order in which the connections come.
func (g *guests) enter(conn *net.UnixConn) {
	_ = conn.SetDeadline(time.Now().Add(greetTime)) // of a socket that is open
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.conns) >= maxGuests {
		_ = g.conns[0].SetDeadline(time.Unix(1, 0))
		g.conns = slices.Delete(g.conns, 0, 1)
	}
	g.conns = append(g.conns, conn)
}

// leave reports whether the guest was still one: it was not if it had to go.
func (g *guests) leave(conn *net.UnixConn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.conns, conn)
	if i < 0 {
		return false
	}
	g.conns = slices.Delete(g.conns, i, i+1)
	return true
}
