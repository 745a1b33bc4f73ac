package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := withGrace(8 * time.Second)
		defer cancel()
		time.Sleep(8*time.Second - time.Millisecond)
		if ctx.Err() != nil {
			t.Error("it has ended too early")
		}
		time.Sleep(2 * time.Millisecond)
		if ctx.Err() == nil {
			t.Error("it has not ended")
		}
	})
}

func TestGraceCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := withGrace(time.Second)
		cancel()
		cancel()
		if ctx.Err() == nil {
			t.Error("it has not ended")
		}
		time.Sleep(time.Minute) // and nothing fires
	})
}

// TestGraceCanceledAtALook cancels when a look has begun: it does not go on.
func TestGraceCanceledAtALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, end := context.WithCancel(t.Context())
		g := &grace{left: looksPerGrace, end: end, due: time.Now(), timer: time.AfterFunc(time.Hour, func() {})}
		g.cancel()
		g.look(time.Second)
		if g.timer.Stop() {
			t.Error("there is another look to come")
		}
	})
}

// TestGraceFrozen takes looks that come late from the clock: the process was frozen.
func TestGraceFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		defer end()
		g := &grace{left: looksPerGrace, end: end, timer: time.AfterFunc(time.Hour, func() {})}
		for range 3 {
			g.due = time.Now().Add(-15 * time.Second)
			g.look(time.Second)
		}
		for range looksPerGrace {
			if ctx.Err() != nil {
				t.Error("it has ended too early")
			}
			g.due = time.Now().Add(-10 * time.Millisecond)
			g.look(time.Second)
		}
		if ctx.Err() == nil {
			t.Error("it has not ended")
		}
	})
}
