package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

func TestMaxActivations(t *testing.T) {
	s := open(t, store.Config{MaxActivations: 5})
	for n := range 20 {
		r := record(n)
		r.Start = start().Add(-time.Duration(n) * time.Hour) // a clock that goes back
		end(t, s, r)
	}
	got := ids(t, s, "guest", whisk.ActivationQuery{Name: "hello"})
	if want := []int{15, 16, 17, 18, 19}; !slices.Equal(got, want) {
		t.Errorf("got %v, want those that ended last", got)
	}
	if _, err := s.Record("guest", record(14).ID); err == nil {
		t.Error("the record of one that is not listed is there")
	}
}

func TestMaxBytes(t *testing.T) {
	s := open(t, store.Config{MaxBytes: 1 << 20})
	for n := range 20 {
		r := record(n)
		r.Logs = make([]byte, 100<<10)
		end(t, s, r)
	}
	if got, want := ids(t, s, "guest", whisk.ActivationQuery{}), []int{19, 18, 17, 16, 15, 14, 13, 12, 11, 10}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, store.Config{MaxAge: time.Hour})
		for n := range 3 {
			end(t, s, record(n))
			time.Sleep(25 * time.Minute)
		}
		check := func(want ...int) {
			t.Helper()
			if got := ids(t, s, "guest", whisk.ActivationQuery{}); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		check(2, 1)
		time.Sleep(30 * time.Minute) // and none comes
		check(2)
		time.Sleep(time.Hour)
		check()
		end(t, s, record(5))
		check(5)
	})
}

func TestForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, store.Config{MaxAge: -1})
		end(t, s, record(0))
		time.Sleep(30 * 24 * time.Hour)
		if got := ids(t, s, "guest", whisk.ActivationQuery{}); len(got) != 1 {
			t.Error("it is gone")
		}
	})
}

// TestFewerThanBefore opens a file with more activations than it may have. They go little by
// little while nothing else is written.
func TestFewerThanBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		s := open(t, store.Config{Path: path})
		const many = 1000
		for n := range many {
			go func() {
				if err := s.End(t.Context(), record(n)); err != nil {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, store.Config{Path: path, MaxActivations: 10})
		end(t, s, record(many))
		if n, err := s.CountActivations("guest", whisk.ActivationQuery{}); n < many/2 || err != nil {
			t.Errorf("%d are left at once, %v", n, err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n, err := s.CountActivations("guest", whisk.ActivationQuery{}); n != 10 || err != nil {
			t.Errorf("%d are left, %v", n, err)
		}
	})
}

// TestFileStaysBounded writes a hundred times what is kept: the pages of what went are used
// again.
func TestFileStaysBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	const kept = 200
	s := open(t, store.Config{Path: path, MaxActivations: kept})
	sizes := []int64{}
	for round := range 100 {
		done := make(chan error, kept)
		for n := range kept {
			go func() {
				r := record(round*kept + n)
				r.Doc = fmt.Appendf(nil, "%*d", 100*(1+n%20), n)
				done <- s.End(t.Context(), r)
			}()
		}
		for range kept {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, info.Size())
	}
	if after := sizes[9]; sizes[99] > 2*after {
		t.Errorf("%d bytes after 10 rounds, %d after 100", after, sizes[99])
	}
	if n, err := s.CountActivations("guest", whisk.ActivationQuery{}); n != kept || err != nil {
		t.Errorf("%d are kept, %v", n, err)
	}
}
