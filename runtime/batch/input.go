package batch

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

const (
	// idleTime is how long an open input is good for the next chunk of it: that much later
	// something else may be there.
	idleTime = time.Minute
	// maxIdle is how many inputs are kept open.
	maxIdle = 8
)

// An idleRead is an input that was opened for a chunk. One chunk at a time has it.
type idleRead struct {
	source *rows.Source
	opened time.Time
}

// input opens the input of a batch, or takes one that a chunk before has opened.
func (e *Engine) input(ctx context.Context, b *actions.Batch, texts map[string]bool) (*idleRead, error) {
	key := inputKey(b, texts)
	e.mu.Lock()
	list := e.idle[key]
	var found *idleRead
	if len(list) > 0 {
		found, e.idle[key] = list[len(list)-1], list[:len(list)-1]
	}
	e.mu.Unlock()
	if found != nil && time.Since(found.opened) < idleTime {
		return found, nil
	}
	if found != nil {
		_ = found.source.Close()
	}
	source, err := rows.Open(ctx, e.cfg.Store, b.Input)
	if err != nil {
		return nil, err
	}
	if err := source.Expect(b, texts); err != nil {
		return nil, errors.Join(err, source.Close())
	}
	return &idleRead{source, time.Now()}, nil
}

// putBack keeps an input open for the next chunk.
func (e *Engine) putBack(b *actions.Batch, texts map[string]bool, r *idleRead) {
	e.mu.Lock()
	defer e.mu.Unlock()
	kept := 0
	for key, list := range e.idle {
		for len(list) > 0 && time.Since(list[0].opened) >= idleTime {
			_ = list[0].source.Close()
			list = list[1:]
		}
		kept += len(list)
		if e.idle[key] = list; len(list) == 0 {
			delete(e.idle, key)
		}
	}
	if kept >= maxIdle {
		_ = r.source.Close()
		return
	}
	key := inputKey(b, texts)
	e.idle[key] = append(e.idle[key], r)
}

// inputKey tells inputs apart by what is read and how.
func inputKey(b *actions.Batch, texts map[string]bool) string {
	data, _ := json.Marshal([]any{b.Input, b.Map, b.Output.Join, texts}) // of texts alone
	return string(data)
}
