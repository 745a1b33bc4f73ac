package store

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/deepfn/deepfn/actions"
)

func opened(t *testing.T) *Store {
	t.Helper()
	s, err := Open(Config{Path: filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestOneOfManyFails sees that those are written which were in a transaction with one that
// cannot be.
func TestOneOfManyFails(t *testing.T) {
	s := opened(t)
	wrong := errors.New("wrong")
	waiting := &sync.WaitGroup{}
	hold := make(chan struct{})
	holds := &write{apply: func(*bbolt.Tx) error { <-hold; return nil }}
	waiting.Go(func() { _ = s.put(t.Context(), holds) })
	transactions := map[int]int{} // of each that is written, how often it was tried
	var mu sync.Mutex             // guards transactions
	for n := range 10 {
		waiting.Go(func() {
			err := s.put(t.Context(), &write{apply: func(tx *bbolt.Tx) error {
				mu.Lock()
				transactions[n]++
				mu.Unlock()
				switch n {
				case 5:
					_ = tx.DeleteBucket([]byte(pendingBucket)) // does not last
					return wrong
				case 6:
					panic("a page")
				}
				return tx.Bucket([]byte(pendingBucket)).Put([]byte{byte('0' + n)}, nil)
			}})
			code := map[int]actions.Code{5: actions.Internal, 6: actions.Internal}[n]
			if actions.CodeOf(err) != code || n == 5 && !errors.Is(err, wrong) {
				t.Errorf("%d: %v", n, err)
			}
		})
	}
	close(hold)
	waiting.Wait()
	var got strings.Builder
	_ = s.read(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(pendingBucket)).ForEach(func(k, _ []byte) error {
			got.Write(k)
			return nil
		})
	})
	if got.String() != "01234789" {
		t.Errorf("got %s", &got)
	}
}

// TestBroken sees that nothing is written after a failure that leaves unknown what the disk
// has.
func TestBroken(t *testing.T) {
	s := opened(t)
	err := s.commit(func(tx *bbolt.Tx) error {
		if err := tx.Bucket([]byte(pendingBucket)).Put([]byte("k"), Record{}.encode(time.Time{})); err != nil {
			return err
		}
		tx.OnCommit(func() { panic("the disk") })
		return nil
	})
	if err == nil {
		t.Fatal("a commit that panics has no error")
	}
	r := Record{Namespace: "guest", ID: "1"}
	for range 2 {
		if err := s.End(t.Context(), r); actions.CodeOf(err) != actions.Unavailable || !strings.Contains(err.Error(), "until the server is started again") {
			t.Errorf("got %v", err)
		}
	}
	if got, err := s.Pending(); len(got) != 1 || err != nil {
		t.Errorf("it cannot be read either: %v, %v", got, err)
	}
}
