package invoker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// BenchmarkCrowd is a call of a model on one of 16 devices that 96 models have full, while some
// others wait for memory that nobody gives up: what the pool does under its one lock.
func BenchmarkCrowd(b *testing.B) {
	for _, keep := range []KeepAlive{Fixed, Histogram} {
		for _, waiting := range []int{0, 10, 100} {
			b.Run(fmt.Sprintf("%s/waiting=%d", keep, waiting), func(b *testing.B) {
				v := newCrowd(b, keep)
				ctx, cancel := context.WithCancel(b.Context())
				var wg sync.WaitGroup
				for i := range waiting {
					wg.Go(func() { _, _ = v.Invoke(ctx, actions.Request{Model: fmt.Sprintf("w%d", i)}) })
				}
				for n := 0; n < waiting; {
					v.owner.mu.Lock()
					n = len(v.owner.line)
					v.owner.mu.Unlock()
				}
				i := 0
				for b.Loop() {
					i++
					if _, err := v.Invoke(ctx, actions.Request{Model: fmt.Sprintf("m%d", i%96)}); err != nil {
						b.Fatal(err)
					}
				}
				cancel()
				wg.Wait()
				if err := v.Close(context.Background()); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// newCrowd makes an invoker with the models m0 to m95, whose instances have the devices full,
// and w0 to w99, for which there is no room.
func newCrowd(b *testing.B, keep KeepAlive) *Invoker {
	b.Helper()
	models := map[string]int64{}
	for i := range 100 {
		models[fmt.Sprintf("m%d", i)], models[fmt.Sprintf("w%d", i)] = 12, 70
	}
	cfg := Config{KeepAlive: keep, Residency: time.Hour, MemoryWait: time.Hour, DrainAfter: time.Hour, IdleTime: time.Hour}
	v, f := newGPUFleet(cfg, models, slices.Repeat([]int64{80}, 16)...)
	f.startTime = time.Millisecond
	for i := range 96 {
		if err := v.Await(b.Context(), fmt.Sprintf("m%d", i)); err != nil {
			b.Fatal(err)
		}
	}
	v.owner.mu.Lock()
	defer v.owner.mu.Unlock()
	for p := range v.owner.pools {
		for range 100 {
			p.history.add(3 * time.Minute)
		}
	}
	return v
}
