package node

import (
	"context"
	"sync"
)

// wants are the models that leases want to be kept warm, and how many instances of each.
type wants struct {
	pool Pool

	mu sync.Mutex // guards by, and that the pool is told in the same order
	by map[string]map[*lease]int
}

func newWants(pool Pool) *wants { return &wants{pool: pool, by: map[string]map[*lease]int{}} }

// warm keeps n instances of the model warm for a lease, and returns when the first can
// answer.
func (w *wants) warm(ctx context.Context, l *lease, model string, n int) error {
	most, err := w.add(ctx, l, model, n)
	if err != nil {
		return err
	}
	return w.pool.Warm(ctx, model, most)
}

// add notes what a lease wants, and returns the most that any does.
func (w *wants) add(ctx context.Context, l *lease, model string, n int) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by[model] == nil {
		w.by[model] = map[*lease]int{}
	}
	w.by[model][l] = n
	most := w.mostLocked(model)
	err := w.pool.Keep(ctx, model, most)
	if err != nil {
		w.removeLocked(l, model)
	}
	return most, err
}

// mostLocked is how many instances of the model some lease wants.
func (w *wants) mostLocked(model string) int {
	most := 0
	for _, n := range w.by[model] {
		most = max(most, n)
	}
	return most
}

// cool takes back what a lease wanted of a model. The pool hears of it when nobody else
// wants as much.
func (w *wants) cool(ctx context.Context, l *lease, model string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.by[model][l]; !ok {
		return
	}
	before := w.mostLocked(model)
	w.removeLocked(l, model)
	switch now := w.mostLocked(model); {
	case now == 0:
		w.pool.Cool(model)
	case now < before:
		_ = w.pool.Keep(ctx, model, now) // of a model that the pool has
	}
}

func (w *wants) removeLocked(l *lease, model string) {
	delete(w.by[model], l)
	if len(w.by[model]) == 0 {
		delete(w.by, model)
	}
}

// end takes back all that a lease wanted.
func (w *wants) end(ctx context.Context, l *lease) {
	w.mu.Lock()
	var models []string
	for model, leases := range w.by {
		if _, ok := leases[l]; ok {
			models = append(models, model)
		}
	}
	w.mu.Unlock()
	for _, model := range models {
		w.cool(ctx, l, model)
	}
}
