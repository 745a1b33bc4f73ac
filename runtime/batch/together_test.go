package batch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/batch"
)

// telling is a model that says in each answer who answers.
func telling(who string) (m *model, invoke option) {
	m = newModel()
	return m, func(cfg *batch.Config) {
		cfg.Invoke = func(ctx context.Context, req actions.Request) (actions.Response, error) {
			resp, err := m.Invoke(ctx, req)
			if err == nil {
				resp.Data = fmt.Appendf(nil, `{"by":%q}`, who)
			}
			return resp, err
		}
	}
}

// TestCompletedByAnother has another process complete a batch while one is in the middle of a chunk, and
// shows that nothing is written over what is complete, also if the answers would be others, and that
// nothing is left of the work in vain.
func TestCompletedByAnother(t *testing.T) {
	m := newMemory(map[string]string{input: numbers(40)})
	first, firstInvoke := telling("first")
	_, secondInvoke := telling("other")
	var complete map[string]string
	var once sync.Once
	first.during = func(args string) {
		if args != `{"n":15}` {
			return
		}
		once.Do(func() {
			second := newEngine(t, &client{memory: m}, newModel(), secondInvoke)
			if _, err := second.Run(t.Context(), "second", someBatch(), batch.Watcher{}); err != nil {
				t.Error(err)
			}
			complete = m.below(output)
		})
	}
	var said strings.Builder
	told, err := newEngine(t, &client{memory: m}, newModel(), firstInvoke).Run(t.Context(), "first", someBatch(),
		batch.Watcher{Line: func(text string) { said.WriteString(text) }})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(complete, m.below(output)); diff != "" {
		t.Errorf("the complete output has changed (-before +after):\n%s", diff)
	}
	if !sameJSON(told, []byte(complete["manifest.json"])) {
		t.Errorf("got the manifest %s, want %s", told, complete["manifest.json"])
	}
	if n := first.calls(); n != 20 || !strings.Contains(said.String(), "another process") {
		t.Errorf("got %d calls and %q, want two chunks and a word about the other process", n, said.String())
	}
}

// TestReplicaLate has a batch completed while a replica is in the middle of a chunk of it that another
// has done.
func TestReplicaLate(t *testing.T) {
	m := newMemory(map[string]string{input: numbers(30)})
	model, lateInvoke := telling("late")
	late := newEngine(t, &client{memory: m}, newModel(), lateInvoke)
	other := newEngine(t, &client{memory: m}, newModel())
	begun, over := make(chan struct{}), make(chan struct{})
	model.during = func(args string) {
		if args == `{"n":15}` {
			close(begun)
			<-over
		}
	}
	done := make(chan error, 1)
	coordinator := newEngine(t, &client{memory: m}, newModel(), func(cfg *batch.Config) {
		cfg.Dispatch = func(ctx context.Context, _ string, c actions.Chunk) error {
			if c.Index == 1 {
				go func() { done <- late.Do(context.WithoutCancel(ctx), c) }() // ends with over
				<-begun
			}
			return other.Do(ctx, c)
		}
		cfg.Look = time.Millisecond
	})
	if _, err := coordinator.Run(t.Context(), "job", throughBatch(), batch.Watcher{}); err != nil {
		t.Fatal(err)
	}
	complete := m.below(output)
	close(over)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(complete, m.below(output)); diff != "" {
		t.Errorf("the complete output has changed (-before +after):\n%s", diff)
	}
}

// TestLargeAnswers shows that the answers of a chunk are not in memory all at once.
func TestLargeAnswers(t *testing.T) {
	const rows, size = 128, 1 << 20
	m := newMemory(map[string]string{input: numbers(rows)})
	answer := append(append([]byte{'"'}, bytes.Repeat([]byte("x"), size)...), '"')
	model, before, most := newModel(), heap(), uint64(0)
	model.during = func(args string) {
		if args == fmt.Sprintf(`{"n":%d}`, rows-1) {
			most = heap() - before
		}
	}
	engine := newEngine(t, &client{memory: m}, model, func(cfg *batch.Config) {
		cfg.Invoke = func(ctx context.Context, req actions.Request) (actions.Response, error) {
			resp, err := model.Invoke(ctx, req)
			resp.Data = bytes.Clone(answer)
			return resp, err
		}
	})
	b := someBatch()
	b.ChunkRows = rows
	if _, err := engine.Run(t.Context(), "job", b, batch.Watcher{}); err != nil {
		t.Fatal(err)
	}
	if most > 100*size {
		t.Errorf("%d MiB of answers were in memory, of %d", most>>20, rows*size>>20)
	}
	lines := strings.Split(strings.TrimSpace(m.below(output)["part-000000.ndjson"]), "\n")
	if len(lines) != rows {
		t.Fatalf("got %d answers, want %d", len(lines), rows)
	}
	for i, line := range lines {
		if want := fmt.Sprintf(`{"key":"r%d","prediction":%s}`, i, answer); line != want {
			t.Fatalf("answer %d: got %.80s, want %.80s", i, line, want)
		}
	}
}

// TestLargeArguments shows that an argument which all rows are given is not in memory once for each.
func TestLargeArguments(t *testing.T) {
	const rows, size = 160, 1 << 20
	m := newMemory(map[string]string{input: numbers(rows)})
	before, most := heap(), uint64(0)
	calls := 0
	engine := newEngine(t, &client{memory: m}, newModel(), func(cfg *batch.Config) {
		cfg.Invoke = func(context.Context, actions.Request) (actions.Response, error) {
			if calls++; calls%100 == 0 {
				most = max(most, heap()-before)
			}
			return actions.Response{Data: []byte("1"), ContentType: "application/json"}, nil
		}
	})
	b := someBatch()
	b.ChunkRows, b.Arguments = rows, map[string]json.RawMessage{"text": append(append([]byte{'"'}, bytes.Repeat([]byte("x"), size)...), '"')}
	if _, err := engine.Run(t.Context(), "job", b, batch.Watcher{}); err != nil {
		t.Fatal(err)
	}
	if most > 100*size {
		t.Errorf("%d MiB were in memory, of arguments of %d", most>>20, rows*size>>20)
	}
}

// heap is how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestBatchSizeAlone shows that a size alone changes nothing else of how a model takes rows.
func TestBatchSizeAlone(t *testing.T) {
	m := newMemory(map[string]string{input: numbers(10)})
	var sizes []int
	engine := newEngine(t, &client{memory: m}, newModel(), func(cfg *batch.Config) {
		cfg.Model = func(context.Context, string) (actions.Model, error) {
			return actions.Model{Name: "twice", Runtime: actions.Python, Batching: actions.Batching{Argument: "list", Size: 500}}, nil
		}
		cfg.Invoke = func(_ context.Context, req actions.Request) (actions.Response, error) {
			var args struct{ List []json.RawMessage }
			if err := json.Unmarshal(req.Args, &args); err != nil || args.List == nil {
				return actions.Response{}, actions.Errorf(actions.Invalid, "no list: %s", req.Args)
			}
			sizes = append(sizes, len(args.List))
			data, err := json.Marshal(args.List)
			return actions.Response{Data: data, ContentType: "application/json"}, err
		}
	})
	b := someBatch()
	b.Batching.Size = 4
	if _, err := engine.Run(t.Context(), "job", b, batch.Watcher{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{4, 4, 2}, sizes); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}
