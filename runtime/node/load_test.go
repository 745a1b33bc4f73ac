package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// TestManyCodes has one relay import more than a lease may hold.
func TestManyCodes(t *testing.T) {
	s := serve(t, Config{})
	r := s.relay(t)
	code := func(i int) actions.Source { return actions.Source{Data: fmt.Append(nil, "code ", i)} }
	for i := range maxCodes {
		if _, err := r.Import(t.Context(), actions.Source{}); actions.CodeOf(err) != actions.Invalid {
			t.Fatalf("what is no code: got %v", err) // and takes no room
		}
		if _, err := r.Import(t.Context(), code(i)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := r.Import(t.Context(), code(maxCodes))
	wantCode(t, err, actions.Busy, "64 different codes")
	if _, err := r.Import(t.Context(), code(0)); err != nil {
		t.Errorf("code that the relay holds: %v", err)
	}
	if _, err := s.relay(t).Import(t.Context(), code(maxCodes)); err != nil {
		t.Errorf("code of another relay: %v", err)
	}
}

func TestMuchCode(t *testing.T) {
	r := serve(t, Config{MaxPayload: 80 << 20}).relay(t)
	code := func(first string, size int) actions.Source {
		return actions.Source{Data: []byte(first + strings.Repeat("x", size))}
	}
	_, err := r.Import(t.Context(), code("a", maxCodeBytes))
	wantCode(t, err, actions.TooLarge, "a node takes 67108864")
	if _, err := r.Import(t.Context(), code("a", maxCodeBytes/2)); err != nil {
		t.Fatal(err)
	}
	_, err = r.Import(t.Context(), code("b", maxCodeBytes/2))
	wantCode(t, err, actions.TooLarge, "imported already", "another relay")
	if _, err := r.Import(t.Context(), code("c", maxCodeBytes/4)); err != nil {
		t.Errorf("there is room for it: %v", err)
	}
}

// TestWaiterLeavesAfterTheEntry has a load fail that a second lease waits for, which leaves
// only when a third has a new entry of the name.
func TestWaiterLeavesAfterTheEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var forgotten []string
		c := newCodes(func(_ context.Context, s actions.Source) (actions.Model, error) {
			return actions.Model{Name: s.Name}, nil
		}, func(name string) { forgotten = append(forgotten, name) }, 0)
		source := actions.Source{Data: []byte("code")}
		source.Name = codeName(source)
		name := source.Name
		old, first := c.enter(name)
		if waits, second := c.enter(name); waits != old || second || !first {
			t.Fatal("the second has an entry of its own")
		}
		old.err = errors.New("it does not load")
		close(old.ready)
		c.drop(name, old)
		_, entry, err := c.hold(t.Context(), source)
		if err != nil || entry == old {
			t.Fatalf("got %v, want an entry anew", err)
		}
		c.release(name, old)
		c.release(name, old)
		time.Sleep(time.Second)
		synctest.Wait()
		if !c.made(name) || entry.holders != 1 || len(forgotten) > 0 {
			t.Errorf("the code of the third was released: %d holders, forgotten %q", entry.holders, forgotten)
		}
		c.release(name, entry)
		time.Sleep(time.Second)
		synctest.Wait()
		if c.made(name) || len(forgotten) != 1 {
			t.Errorf("got %q, want the code forgotten once", forgotten)
		}
	})
}
