package store

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// BenchmarkEnd keeps activations as a server does, by 1 and by 16 callers, beside a
// control: each caller with a transaction, and an fsync, of its own.
func BenchmarkEnd(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("group/callers=%d", callers), func(b *testing.B) {
			benchmarkEnd(b, callers, func(s *Store, r Record) error { return s.End(b.Context(), r) })
		})
		b.Run(fmt.Sprintf("control/callers=%d", callers), func(b *testing.B) {
			benchmarkEnd(b, callers, func(s *Store, r Record) error {
				value := r.encode(time.Now())
				return s.db.Update(func(tx *bbolt.Tx) error { return add(tx, r, value) })
			})
		})
	}
}

func benchmarkEnd(b *testing.B, callers int, end func(*Store, Record) error) {
	b.Helper()
	s, err := Open(Config{Path: filepath.Join(b.TempDir(), "s"), MaxActivations: 10_000})
	if err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				r := Record{
					Namespace: "guest", ID: fmt.Sprintf("%032x", n*0x9e3779b97f4a7c1), Name: "hello", Path: "guest/hello",
					Start: time.Now(), Summary: make([]byte, 400), Doc: make([]byte, 600), Logs: make([]byte, 100),
				}
				if err := end(s, r); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "activations/s")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
