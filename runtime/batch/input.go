package batch

import (
	"context"
	"encoding/json"
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

// input opens an input, or takes one that a chunk before has opened.
func (e *Engine) input(ctx context.Context, in actions.BatchInput) (*idleRead, error) {
	key := inputKey(in)
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
	source, err := rows.Open(ctx, e.cfg.Store, in)
	if err != nil {
		return nil, err
	}
	return &idleRead{source, time.Now()}, nil
}

// putBack keeps an input open for the next chunk.
func (e *Engine) putBack(in actions.BatchInput, r *idleRead) {
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
	key := inputKey(in)
	e.idle[key] = append(e.idle[key], r)
}

func inputKey(in actions.BatchInput) string {
	data, _ := json.Marshal(in) // of texts alone
	return string(data)
}
