package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

func open(tb testing.TB, cfg store.Config) *store.Store {
	tb.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(tb.TempDir(), "new", "store.db")
	}
	s, err := store.Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// start is when the tests' activations begin.
func start() time.Time { return time.UnixMilli(1_700_000_000_000) }

// record is the activation n, which began n seconds after start.
func record(n int) store.Record {
	return store.Record{
		Namespace: "guest", ID: fmt.Sprintf("%032x", n), Name: "hello", Path: "guest/hello",
		Start:   start().Add(time.Duration(n) * time.Second),
		Summary: fmt.Appendf(nil, "summary %d", n), Doc: fmt.Appendf(nil, "doc %d", n), Logs: fmt.Appendf(nil, "logs %d", n),
	}
}

func end(tb testing.TB, s *store.Store, records ...store.Record) {
	tb.Helper()
	for _, r := range records {
		if err := s.End(tb.Context(), r); err != nil {
			tb.Fatal(err)
		}
	}
}

// ids are what a query finds, as the numbers of records.
func ids(t *testing.T, s *store.Store, namespace string, q whisk.ActivationQuery) []int {
	t.Helper()
	found := []int{}
	err := s.Activations(namespace, q, func(r store.Record) bool {
		var n int
		if _, err := fmt.Sscanf(r.ID, "%x", &n); err != nil {
			t.Error(err)
		}
		found = append(found, n)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestEntities(t *testing.T) {
	s := open(t, store.Config{})
	key := func(c whisk.Collection, ns, pkg, name string) store.Key { return store.Key{c, ns, pkg, name} }
	keys := []store.Key{
		key(whisk.Actions, "guest", "", "a"),
		key(whisk.Actions, "guest", "", "b\x00c"),
		key(whisk.Actions, "guest", "", "ü"),
		key(whisk.Actions, "guest", "p", "a"),
		key(whisk.Actions, "guest", "p2", "z"),
		key(whisk.Actions, "guest2", "", "a"),
		key(whisk.Packages, "guest", "", "p"),
	}
	err := s.Update(func(tx *store.Tx) error {
		for _, k := range slices.Backward(keys) {
			doc := []byte(k.Name)
			if err := tx.PutEntity(k, doc); err != nil {
				return err
			}
			doc[0] = '!' // the caller's again
			if got := tx.Entity(k); string(got) != k.Name {
				t.Errorf("%v: got %q within the change", k, got)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	lists := map[string]struct {
		list func(*store.Tx, func(store.Key, []byte) bool) error
		want []store.Key
	}{
		"no package": {func(tx *store.Tx, each func(store.Key, []byte) bool) error {
			return tx.Entities(whisk.Actions, "guest", "", each)
		}, keys[:3]},
		"a package": {func(tx *store.Tx, each func(store.Key, []byte) bool) error {
			return tx.Entities(whisk.Actions, "guest", "p", each)
		}, keys[3:4]},
		"all": {func(tx *store.Tx, each func(store.Key, []byte) bool) error {
			return tx.AllEntities(whisk.Actions, "guest", each)
		}, keys[:5]},
		"another namespace": {func(tx *store.Tx, each func(store.Key, []byte) bool) error {
			return tx.AllEntities(whisk.Actions, "guest2", each)
		}, keys[5:6]},
		"none": {func(tx *store.Tx, each func(store.Key, []byte) bool) error {
			return tx.AllEntities(whisk.Rules, "guest", each)
		}, nil},
		"the first": {func(tx *store.Tx, each func(store.Key, []byte) bool) error {
			return tx.AllEntities(whisk.Actions, "guest", func(k store.Key, doc []byte) bool { return each(k, doc) && false })
		}, keys[:1]},
	}
	for name, test := range lists {
		var got []store.Key
		err := s.View(func(tx *store.Tx) error {
			return test.list(tx, func(k store.Key, doc []byte) bool {
				if string(doc) != k.Name {
					t.Errorf("%s: %v has %q", name, k, doc)
				}
				clear(doc) // the caller's
				got = append(got, k)
				return true
			})
		})
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

func TestUpdateOrNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := open(t, store.Config{Path: path})
	a, b := store.Key{whisk.Rules, "guest", "", "a"}, store.Key{whisk.Rules, "guest", "", "b"}
	put := func(k store.Key, doc string) error {
		return s.Update(func(tx *store.Tx) error { return tx.PutEntity(k, []byte(doc)) })
	}
	if err := put(a, ""); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	err := s.Update(func(tx *store.Tx) error {
		if err := errors.Join(tx.PutEntity(b, []byte("2")), tx.DeleteEntity(a), tx.DeleteEntity(store.Key{})); err != nil {
			t.Error(err)
		}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() {
			if recover() != "mine" {
				t.Error("the panic of a function is lost")
			}
		}()
		_ = s.Update(func(tx *store.Tx) error {
			_ = tx.PutEntity(b, nil)
			panic("mine")
		})
	}()
	err = s.Update(func(tx *store.Tx) error {
		return tx.PutEntity(store.Key{Name: strings.Repeat("x", 40_000)}, nil)
	})
	if actions.CodeOf(err) != actions.TooLarge {
		t.Errorf("a long name: %v", err)
	}
	err = s.View(func(tx *store.Tx) error { return tx.PutEntity(b, nil) })
	if err == nil {
		t.Error("View changes entities")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_ = open(t, store.Config{Path: path}).View(func(tx *store.Tx) error {
		if got := tx.Entity(a); got == nil || len(got) != 0 {
			t.Errorf("a: got %q, want an empty document", got)
		}
		if got := tx.Entity(b); got != nil {
			t.Errorf("b: got %q, want none", got)
		}
		return nil
	})
}

func TestCallers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := open(t, store.Config{Path: path})
	const callers, each = 16, 100
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				r := record(c*each + i)
				p := store.Pending{Namespace: r.Namespace, ID: r.ID, Start: r.Start}
				if err := errors.Join(s.Begin(t.Context(), p), s.End(t.Context(), r)); err != nil {
					t.Error(err)
				}
				clear(r.Doc) // the caller's again
				if got, err := s.Activation("guest", r.ID); string(got) != fmt.Sprint("doc ", c*each+i) || err != nil {
					t.Errorf("got %q, %v", got, err)
				}
				if i%20 == 0 {
					err := s.Update(func(tx *store.Tx) error {
						return tx.PutEntity(store.Key{whisk.Actions, "guest", "", r.ID}, r.Summary)
					})
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if n, err := s.CountActivations("guest", whisk.ActivationQuery{}); n != callers*each || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if left, err := s.Pending(); len(left) != 0 || err != nil {
		t.Errorf("%d left, %v", len(left), err)
	}
}

func TestCallerLeaves(t *testing.T) {
	s := open(t, store.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	for ctx, want := range map[context.Context]actions.Code{ctx: actions.Canceled, late: actions.Deadline} {
		for range 100 { // whether it was taken is decided by chance
			if err := s.End(ctx, record(1)); err != nil && actions.CodeOf(err) != want {
				t.Fatalf("got %v, want %s", err, want)
			}
		}
	}
	end(t, s, record(2))
}

func TestClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := open(t, store.Config{Path: path})
	var wg sync.WaitGroup
	var mu sync.Mutex // guards kept
	var kept []int
	begun := make(chan struct{}, 64)
	for n := range 64 {
		wg.Go(func() {
			begun <- struct{}{}
			switch err := s.End(t.Context(), record(n)); actions.CodeOf(err) {
			case "":
				mu.Lock()
				kept = append(kept, n)
				mu.Unlock()
			case actions.Unavailable:
			default:
				t.Error(err)
			}
		})
	}
	for range 32 {
		<-begun
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	calls := map[string]error{
		"Begin":  s.Begin(t.Context(), store.Pending{Namespace: "guest", ID: "1"}),
		"End":    s.End(t.Context(), record(1)),
		"View":   s.View(func(*store.Tx) error { return nil }),
		"Update": s.Update(func(*store.Tx) error { return nil }),
	}
	_, calls["Pending"] = s.Pending()
	_, calls["Logs"] = s.Logs("guest", "1")
	for name, err := range calls {
		if actions.CodeOf(err) != actions.Unavailable || !strings.Contains(fmt.Sprint(err), "it is closed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s = open(t, store.Config{Path: path})
	got := ids(t, s, "guest", whisk.ActivationQuery{})
	slices.Sort(kept)
	slices.Sort(got)
	if !slices.Equal(kept, got) {
		t.Errorf("kept %v, found %v", kept, got)
	}
}

func TestFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "store.db")
	_ = open(t, store.Config{Path: path})
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}
