package controller_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
	"github.com/deepfn/deepfn/runtime/store"
)

// BenchmarkInvoke is what an activation costs beside its run: the record is on disk.
func BenchmarkInvoke(b *testing.B) {
	for name, size := range map[string]int{"100B": 80, "100KiB": 100 << 10} {
		args := json.RawMessage(`{"token":"` + strings.Repeat("x", size) + `"}`)
		for callers, parallel := range map[string]int{"1 caller": 1, "16 callers": 16} {
			b.Run(name+"/"+callers, func(b *testing.B) {
				s, err := store.Open(store.Config{Path: filepath.Join(b.TempDir(), "whisk.db")})
				if err != nil {
					b.Fatal(err)
				}
				run := func(_ context.Context, in actions.Activation) (actions.Response, error) {
					return actions.Response{Data: in.Value}, nil
				}
				c, err := controller.New(controller.Config{Store: s, Catalog: newCatalog(), Run: run})
				if err != nil {
					b.Fatal(err)
				}
				n := whisk.Name{Namespace: whisk.System, Package: "models", Entity: "digits"}
				b.ReportAllocs()
				b.SetParallelism(parallel)
				invoke := func() {
					if out, err := c.Invoke(b.Context(), whisk.Guest, n, whisk.Invocation{Args: args, Blocking: true}); err != nil || !out.Done {
						b.Error(err)
					}
				}
				if parallel == 1 {
					for b.Loop() {
						invoke()
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							invoke()
						}
					})
				}
				b.StopTimer()
				if err := c.Close(context.Background()); err != nil {
					b.Error(err)
				}
				if err := s.Close(); err != nil {
					b.Error(err)
				}
			})
		}
	}
}
