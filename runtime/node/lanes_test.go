package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, never := newLanes(2), make(chan struct{})
		for want := range 2 {
			if n, err := l.take(t.Context(), never, never); err != nil || n != want {
				t.Errorf("got lane %d, %v; want %d", n, err, want)
			}
		}
		// Of two who wait, the first leaves: the lane goes to the second.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		left, got := make(chan error, 1), make(chan int, 1)
		go func() {
			_, err := l.take(ctx, never, never)
			left <- err
		}()
		synctest.Wait()
		go func() {
			n, err := l.take(t.Context(), never, never)
			if err != nil {
				t.Error(err)
			}
			got <- n
		}()
		wantCode(t, <-left, actions.Deadline)
		l.give(1)
		if n := <-got; n != 1 {
			t.Errorf("got lane %d, want 1", n)
		}
		// The lane that was used last comes first.
		l.give(0)
		l.give(1)
		if n, err := l.take(t.Context(), never, never); err != nil || n != 1 {
			t.Errorf("got lane %d, %v; want 1", n, err)
		}
		if l.full() {
			t.Error("all lanes are taken, want one free")
		}
	})
}

// TestLaneIsGivenToOneWhoLeaves gives a lane to somebody in the moment of leaving.
func TestLaneIsGivenToOneWhoLeaves(t *testing.T) {
	l := &lanes{}
	mine := make(chan int, 1)
	l.waiting = append(l.waiting, mine)
	l.give(7)
	l.leave(mine)
	if n, err := l.take(t.Context(), nil, nil); err != nil || n != 7 {
		t.Errorf("got lane %d, %v; want 7", n, err)
	}
}
