package batch_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/batch"
)

// A broker gives each chunk to a replica, some of them twice, some late, and again as long as the
// answer is an error that may go away: at least once, as Knative's does.
type broker struct {
	t        *testing.T
	replicas []*batch.Engine
	lose     func(c actions.Chunk, try int) bool // the delivery is lost, with all its retries
	twice    func(c actions.Chunk) bool

	wg    sync.WaitGroup
	mu    sync.Mutex // guards tries
	tries map[int]int
}

func (b *broker) dispatch(ctx context.Context, through string, c actions.Chunk) error {
	if through != "https://broker.test/" {
		return actions.Errorf(actions.Invalid, "there is no broker %s", through)
	}
	b.mu.Lock()
	b.tries[c.Index]++
	try := b.tries[c.Index]
	b.mu.Unlock()
	if b.lose != nil && b.lose(c, try) {
		return nil
	}
	times := 1
	if b.twice != nil && b.twice(c) {
		times = 2
	}
	for range times {
		b.wg.Go(func() { b.deliver(context.WithoutCancel(ctx), c) })
	}
	return nil
}

func (b *broker) deliver(ctx context.Context, c actions.Chunk) {
	for range 8 {
		time.Sleep(rand.N(time.Second))
		err := b.replicas[rand.N(len(b.replicas))].Do(ctx, c)
		switch code := actions.CodeOf(err); code {
		case actions.Unavailable, actions.Busy, actions.Internal:
		default:
			return
		}
	}
}

func throughBatch() actions.Batch {
	b := someBatch()
	b.Through = "https://broker.test/"
	return b
}

// TestReplicas shows that chunks that are done by replicas, some twice, some lost, some by a
// replica that dies over it, give the same output as one process.
func TestReplicas(t *testing.T) {
	for _, format := range []string{actions.NDJSON, actions.CSV, actions.Parquet, actions.Tar, actions.Zip, actions.Objects} {
		t.Run(format, func(t *testing.T) {
			objects := map[string]string{input: numbers(204)}
			b := throughBatch()
			b.Output.Format = format
			want := undisturbed(t, objects, func() actions.Batch { c := b; c.Through = ""; return c }())
			synctest.Test(t, func(t *testing.T) {
				m, model := newMemory(objects), newModel()
				bus := &broker{
					t: t, tries: map[int]int{},
					lose:  func(c actions.Chunk, try int) bool { return c.Index%7 == 3 && try == 1 },
					twice: func(c actions.Chunk) bool { return c.Index%3 == 0 },
				}
				for i := range 3 {
					bus.replicas = append(bus.replicas, newEngine(t, &client{memory: m, fault: flaky(i)}, model))
				}
				coordinator := newEngine(t, &client{memory: m}, newModel(), func(cfg *batch.Config) { cfg.Dispatch = bus.dispatch })
				var last actions.Progress
				_, err := coordinator.Run(t.Context(), "job", b, batch.Watcher{Progress: func(p actions.Progress) { last = p }})
				bus.wg.Wait()
				if err != nil {
					t.Fatal(err)
				}
				got := m.below(output)
				for name := range got { // of late doubles
					if strings.HasPrefix(name, "_deepfn/") {
						delete(got, name)
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("output (-want +got):\n%s", diff)
				}
				if last.Rows != 204 || last.Chunks != 21 || last.Fraction != 1 {
					t.Errorf("got %+v", last)
				}
			})
		})
	}
}

// TestSynchronousBroker shows that chunks are done beside each other by a broker that accepts an
// event when it is done, as Knative's does with a channel in memory, and that the reason of a
// replica is told though this broker says nothing of it, and does not accept the event.
func TestSynchronousBroker(t *testing.T) {
	const chunkTime = 40 * time.Second
	for _, tt := range []struct {
		name    string
		version string // of the model of the replicas
		most    time.Duration
		fails   actions.Code
	}{
		{name: "at the same time", version: "1", most: 3 * chunkTime},
		{name: "refused", version: "2", most: chunkTime + 2*time.Second, fails: actions.Conflict},
	} {
		t.Run(tt.name, func(t *testing.T) {
			objects := map[string]string{input: numbers(204)}
			want := undisturbed(t, objects, someBatch())
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(objects)
				replica := newEngine(t, &client{memory: m}, newModel(), func(cfg *batch.Config) {
					cfg.Model = func(context.Context, string) (actions.Model, error) {
						return actions.Model{Name: "twice", Version: tt.version, Runtime: actions.Executable}, nil
					}
				})
				coordinator := newEngine(t, &client{memory: m}, newModel(), func(cfg *batch.Config) {
					cfg.Dispatch = func(ctx context.Context, _ string, c actions.Chunk) error {
						select {
						case <-time.After(chunkTime):
						case <-ctx.Done():
						}
						if replica.Do(ctx, c) != nil {
							return actions.Errorf(actions.Unavailable, "the broker answered 500")
						}
						return nil
					}
				})
				began := time.Now()
				_, err := coordinator.Run(t.Context(), "job", throughBatch(), batch.Watcher{})
				if took := time.Since(began); took > tt.most {
					t.Errorf("21 chunks took %s, want %s at most", took, tt.most)
				}
				if tt.fails != "" {
					wantError(t, err, tt.fails, `has version "2"`)
					return
				}
				if diff := cmp.Diff(want, m.below(output)); err != nil || diff != "" {
					t.Errorf("%v, output (-want +got):\n%s", err, diff)
				}
			})
		})
	}
}

// flaky is a store that is away now and then.
func flaky(seed int) func(op, url string) error {
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	var mu sync.Mutex
	return func(op, url string) error {
		mu.Lock()
		defer mu.Unlock()
		if r.IntN(20) == 0 {
			return away("%s %s: away", op, url)
		}
		return nil
	}
}

// TestCoordinatorKilled shows that a coordinator that goes on knows what replicas did
// meanwhile.
func TestCoordinatorKilled(t *testing.T) {
	objects := map[string]string{input: numbers(95)}
	synctest.Test(t, func(t *testing.T) {
		m, model := newMemory(objects), newModel()
		bus := &broker{t: t, tries: map[int]int{}}
		bus.replicas = append(bus.replicas, newEngine(t, &client{memory: m}, model))
		options := func(cfg *batch.Config) { cfg.Dispatch = bus.dispatch }
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
			_, err := newEngine(t, &client{memory: m}, newModel(), options).Run(ctx, "job", throughBatch(), batch.Watcher{})
			wantError(t, err, actions.Deadline, "stopped")
			cancel()
		}
		bus.wg.Wait()
		before := model.calls()
		if _, err := newEngine(t, &client{memory: m}, newModel(), options).Run(t.Context(), "job", throughBatch(), batch.Watcher{}); err != nil {
			t.Fatal(err)
		}
		bus.wg.Wait()
		b := someBatch()
		if diff := cmp.Diff(undisturbed(t, objects, b), m.below(output)); diff != "" {
			t.Errorf("output (-want +got):\n%s", diff)
		}
		if before == 0 || model.calls() > 2*95 {
			t.Errorf("got %d calls, %d of them while there was no coordinator", model.calls(), before)
		}
	})
}

// TestChunkRefused shows what a replica says of a chunk that is none, or that nobody wants.
func TestChunkRefused(t *testing.T) {
	m, model := newMemory(map[string]string{input: numbers(30)}), newModel()
	var mu sync.Mutex // guards chunks
	chunks := map[int]actions.Chunk{}
	coordinator := newEngine(t, &client{memory: m}, model, func(cfg *batch.Config) {
		cfg.Dispatch = func(_ context.Context, _ string, c actions.Chunk) error {
			mu.Lock()
			defer mu.Unlock()
			chunks[c.Index] = c
			return nil
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	b := throughBatch()
	_, err := coordinator.Run(ctx, "job", b, batch.Watcher{})
	wantError(t, err, actions.Deadline, "stopped")
	if len(chunks) != 3 {
		t.Fatalf("got %d chunks, want 3", len(chunks))
	}
	replica := newEngine(t, &client{memory: m}, model)
	for name, test := range map[string]struct {
		change func(*actions.Chunk)
		code   actions.Code
		says   string
	}{
		"another input":    {func(c *actions.Chunk) { c.Input = "0" }, actions.Invalid, "another batch"},
		"another output":   {func(c *actions.Chunk) { c.Batch.Output.URL = "mem://elsewhere/" }, actions.Invalid, "has no batch"},
		"another settings": {func(c *actions.Chunk) { c.Batch.ChunkRows = 5 }, actions.Invalid, "another batch"},
		"a wrong position": {func(c *actions.Chunk) { c.At = []byte(`"x"`) }, actions.Invalid, "no position"},
	} {
		t.Run(name, func(t *testing.T) {
			c := chunks[1]
			test.change(&c)
			wantError(t, replica.Do(t.Context(), c), test.code, test.says)
		})
	}
	if _, wrong := m.below(output)["_deepfn/failed/000001.json"]; !wrong {
		t.Error("nobody is told of the chunk that cannot be done")
	}
	if err := replica.Do(t.Context(), chunks[0]); err != nil {
		t.Error(err)
	}
	calls := model.calls()
	if err := replica.Do(t.Context(), chunks[0]); err != nil || model.calls() != calls {
		t.Errorf("a chunk that is done: %v, %d calls", err, model.calls()-calls)
	}
	if err := coordinator.Abandon(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := replica.Do(t.Context(), chunks[2]); err != nil || model.calls() != calls {
		t.Errorf("a chunk of a batch that was cancelled: %v, %d calls", err, model.calls()-calls)
	}
}

// TestReplicaFails shows that a batch ends with the error of a replica that will not go away, and
// goes on after it.
func TestReplicaFails(t *testing.T) {
	objects := map[string]string{input: numbers(40)}
	synctest.Test(t, func(t *testing.T) {
		m, model := newMemory(objects), newModel()
		version := "2"
		replica := newEngine(t, &client{memory: m}, model, func(cfg *batch.Config) {
			cfg.Model = func(context.Context, string) (actions.Model, error) {
				return actions.Model{Name: "twice", Version: version, Runtime: actions.Executable}, nil
			}
		})
		bus := &broker{t: t, tries: map[int]int{}, replicas: []*batch.Engine{replica}}
		coordinator := newEngine(t, &client{memory: m}, model, func(cfg *batch.Config) { cfg.Dispatch = bus.dispatch })
		_, err := coordinator.Run(t.Context(), "job", throughBatch(), batch.Watcher{})
		wantError(t, err, actions.Conflict, `has version "2"`)
		bus.wg.Wait()
		version = "1"
		if _, err = coordinator.Run(t.Context(), "job", throughBatch(), batch.Watcher{}); err != nil {
			t.Fatal(err)
		}
		bus.wg.Wait()
		if got := m.below(output + "part"); len(got) != 4 {
			t.Errorf("got %d parts: %v", len(got), fmt.Sprint(got))
		}
	})
}
