package launcher

import (
	"testing"
	"time"
)

// A fork server does not expire because this process was frozen, but it does later.
func TestExpireAfterFreeze(t *testing.T) {
	l := &Launcher{cfg: Config{IdleTime: time.Hour}}
	n := &nest{idleEnd: time.Now().Add(-15 * time.Second)}
	l.expire(&server{nest: n}, n)
	if n.retired || n.idle == nil || time.Until(n.idleEnd) < 59*time.Minute {
		t.Errorf("after a freeze: %+v", n)
	}
	n.idle.Stop()
	l.closed = true // and nothing is to be ended
	n.idleEnd = time.Now().Add(-10 * time.Millisecond)
	s := &server{nest: n}
	l.expire(s, n)
	if !n.retired || s.nest != nil {
		t.Errorf("in time: %+v", n)
	}
}
