package controller

import (
	"time"

	"github.com/deepfn/deepfn/actions/whisk"
)

// An importing is code that is, or becomes, a model of the catalog in this process.
type importing struct {
	turn chan struct{} // holds one: who imports
	done bool          // its owner's

	// What follows is guarded by Controller.codeMu.
	flights int                     // the activations that use it, or will
	owners  map[whisk.Name]struct{} // the actions that have run it, and have it still
	used    time.Time               // when flights was 0 last
}

// hold says that an activation uses the model of that name.
func (c *Controller) hold(f *flight, name string) *importing {
	c.codeMu.Lock()
	defer c.codeMu.Unlock()
	in := c.imported[name]
	if in == nil {
		in = &importing{turn: make(chan struct{}, 1), owners: make(map[whisk.Name]struct{})}
		c.imported[name] = in
	}
	if f.holds == nil {
		f.holds = in
		in.flights++
		in.owners[f.found.name] = struct{}{}
	}
	return in
}

// letGo is the end of hold.
func (c *Controller) letGo(f *flight) {
	c.codeMu.Lock()
	defer c.codeMu.Unlock()
	if f.holds == nil {
		return
	}
	f.holds.flights--
	f.holds.used = time.Now()
	f.holds = nil
	c.unloadLocked()
}

// abandon says that an action has not the code any more that it had.
func (c *Controller) abandon(n whisk.Name) {
	c.codeMu.Lock()
	defer c.codeMu.Unlock()
	for _, in := range c.imported {
		delete(in.owners, n)
	}
	c.unloadLocked()
}

// unloadLocked forgets the code that nothing uses now and no action has, and what has not
// been used for longest while there is too much.
func (c *Controller) unloadLocked() {
	for name, in := range c.imported {
		if in.flights == 0 && len(in.owners) == 0 {
			c.forgetLocked(name)
		}
	}
	for len(c.imported) > c.cfg.MaxLoaded {
		oldest := ""
		for name, in := range c.imported {
			if in.flights == 0 && (oldest == "" || in.used.Before(c.imported[oldest].used)) {
				oldest = name
			}
		}
		if oldest == "" {
			return
		}
		c.forgetLocked(oldest)
	}
}

func (c *Controller) forgetLocked(name string) {
	delete(c.imported, name)
	if c.cfg.Forget != nil {
		c.cfg.Forget(name)
	}
}
