package batch

import (
	"context"
	"sync"
)

// publishers is how many parts get their names at the same time.
const publishers = 2

// A shelf gives committed parts their names while the next chunk is done. What it does not
// manage is done at the end.
type shelf struct {
	work   chan *commit
	end    func() // closes work, once
	wg     sync.WaitGroup
	cancel context.CancelFunc
}

func newShelf(t *task) *shelf {
	ctx, cancel := context.WithCancel(context.Background())
	work := make(chan *commit, 2*publishers)
	s := &shelf{work: work, end: sync.OnceFunc(func() { close(work) }), cancel: cancel}
	for range publishers {
		s.wg.Go(func() { // ends with the work
			for c := range work {
				_ = t.publish(ctx, c, nil)
			}
		})
	}
	return s
}

// add has a commit published, unless there are enough.
func (s *shelf) add(c *commit) {
	select {
	case s.work <- c:
	default:
	}
}

// wait returns when all is published that was added. Nothing is added after it.
func (s *shelf) wait() {
	s.end()
	s.wg.Wait()
}

func (s *shelf) close() {
	s.cancel()
	s.wait()
}

// publish gives the pieces of a commit their names in the output, but those that there has
// already. It may be done any number of times.
func (t *task) publish(ctx context.Context, c *commit, there map[string]int64) error {
	for _, p := range c.pieces() {
		if size, found := there[p.Name]; found && size == p.Size {
			continue
		}
		from := t.folder.url + staged + p.Staged
		if err := t.folder.store.Copy(ctx, from, t.folder.url+p.Name); err != nil {
			return err
		}
		if err := t.folder.store.Remove(ctx, from); err != nil {
			return err
		}
	}
	return nil
}
