package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// codes are the models that relays have made of code. Each is one model however many
// relays have sent the code, and is forgotten some time after the last of them has gone.
type codes struct {
	load   func(context.Context, actions.Source) (actions.Model, error)
	forget func(model string)
	keep   time.Duration

	mu     sync.Mutex // guards what follows
	byName map[string]*code
}

// A code is a model that was made of code. codes.mu guards it, but not what is behind
// ready.
type code struct {
	holders int
	timer   *time.Timer // that forgets it; nil while somebody holds it
	// ready is closed when there is a model or an error.
	ready chan struct{}
	model actions.Model
	err   error
}

func newCodes(load func(context.Context, actions.Source) (actions.Model, error), forget func(string), keep time.Duration) *codes {
	return &codes{load: load, forget: forget, keep: max(keep, 0), byName: map[string]*code{}}
}

// codeName names the model of code by what it is, in the form that the names of the code of
// actions have elsewhere. Other code, or another environment, has another name.
func codeName(s actions.Source) string {
	sum := sha256.New()
	data := sha256.Sum256(s.Data)
	// Maps are written in the order of their keys.
	_ = json.NewEncoder(sum).Encode([]any{hex.EncodeToString(data[:]), s.Main, s.Env}) // a hash takes all
	return "fn-" + hex.EncodeToString(sum.Sum(nil))[:16]
}

// hold makes a model of code, whose name codeName has made, or returns the one that there
// is, and holds it until release of the code that it returns.
func (c *codes) hold(ctx context.Context, s actions.Source) (actions.Model, *code, error) {
	for {
		entry, first := c.enter(s.Name)
		if first {
			entry.model, entry.err = c.load(ctx, s)
			close(entry.ready)
		}
		select {
		case <-entry.ready:
		case <-ctx.Done():
			c.release(s.Name, entry)
			return actions.Model{}, nil, ctx.Err()
		}
		if entry.err == nil {
			return entry.model, entry, nil
		}
		c.drop(s.Name, entry)
		if first || ctx.Err() != nil {
			return actions.Model{}, nil, entry.err
		}
		// It was the error of another one's call, which may have been canceled.
	}
}

// enter returns the entry of a name with one holder more, and whether it is new.
func (c *codes) enter(name string) (entry *code, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if entry = c.byName[name]; entry == nil {
		entry, first = &code{ready: make(chan struct{})}, true
		c.byName[name] = entry
	}
	if entry.timer != nil {
		entry.timer.Stop()
		entry.timer = nil
	}
	entry.holders++
	return entry, first
}

// drop takes an entry out of which no model has become.
func (c *codes) drop(name string, entry *code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byName[name] == entry {
		delete(c.byName, name)
	}
}

// release takes back a hold of an entry. Another entry may have its name by now, when no
// model has become of this one.
func (c *codes) release(name string, entry *code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if entry.holders--; entry.holders == 0 && c.byName[name] == entry {
		entry.timer = time.AfterFunc(c.keep, func() { c.expire(name, entry) })
	}
}

// expire forgets code that nobody has held for a while.
func (c *codes) expire(name string, entry *code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byName[name] != entry || entry.timer == nil || entry.holders > 0 {
		return // somebody was faster
	}
	delete(c.byName, name)
	c.forget(name)
}

// close stops what would forget code later: all ends.
func (c *codes) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, entry := range c.byName {
		if entry.timer != nil {
			entry.timer.Stop()
		}
	}
	clear(c.byName)
}

// made says whether a model of that name was made of code.
func (c *codes) made(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byName[name] != nil
}
