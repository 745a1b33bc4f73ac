package store_test

import (
	"math"
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

func TestActivations(t *testing.T) {
	s := open(t, store.Config{})
	var want []int
	for n := range 10 {
		r := record(n)
		switch {
		case n == 3:
			r.Path = "whisk.system/models/hello"
		case n == 4:
			r.Path, r.Name = "", "fired"
		case n == 5:
			r.Namespace = "other"
		case n >= 8:
			r.Start = start().Add(8 * time.Second) // both
		}
		end(t, s, r)
		if n != 5 {
			want = append([]int{n}, want...)
		}
	}
	ms := func(n int) int64 { return start().Add(time.Duration(n) * time.Second).UnixMilli() }
	page := func(skip, limit int) whisk.Page { return whisk.Page{Skip: skip, Limit: limit} }
	tests := map[string]struct {
		q    whisk.ActivationQuery
		want []int
	}{
		"all":              {whisk.ActivationQuery{}, want},
		"limit":            {whisk.ActivationQuery{Page: page(0, 2)}, want[:2]},
		"skip":             {whisk.ActivationQuery{Page: page(2, 3)}, want[2:5]},
		"skip all":         {whisk.ActivationQuery{Page: page(math.MaxInt, 3)}, []int{}},
		"skip none":        {whisk.ActivationQuery{Page: page(-5, 1)}, want[:1]},
		"name":             {whisk.ActivationQuery{Name: "hello"}, []int{9, 8, 7, 6, 2, 1, 0}},
		"name in package":  {whisk.ActivationQuery{Name: "models/hello"}, []int{3}},
		"name of trigger":  {whisk.ActivationQuery{Name: "fired"}, []int{4}},
		"beginning":        {whisk.ActivationQuery{Name: "hell"}, []int{}},
		"since":            {whisk.ActivationQuery{Since: ms(7)}, []int{9, 8, 7}},
		"since later":      {whisk.ActivationQuery{Since: ms(7) + 1}, []int{9, 8}},
		"upto":             {whisk.ActivationQuery{Upto: ms(1)}, []int{1, 0}},
		"upto before":      {whisk.ActivationQuery{Upto: ms(1) - 1}, []int{0}},
		"both":             {whisk.ActivationQuery{Since: ms(2), Upto: ms(4)}, []int{4, 3, 2}},
		"one moment":       {whisk.ActivationQuery{Since: ms(8), Upto: ms(8)}, []int{9, 8}},
		"the wrong way":    {whisk.ActivationQuery{Since: ms(4), Upto: ms(2)}, []int{}},
		"ends of time":     {whisk.ActivationQuery{Since: math.MinInt64, Upto: math.MaxInt64}, want},
		"all but the time": {whisk.ActivationQuery{Name: "hello", Since: ms(2), Upto: ms(7), Page: page(1, 1)}, []int{6}},
	}
	for name, test := range tests {
		if diff := cmp.Diff(test.want, ids(t, s, "guest", test.q)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		n, err := s.CountActivations("guest", test.q)
		all := test.q
		all.Limit = 0
		if want := len(ids(t, s, "guest", all)); n != want || err != nil {
			t.Errorf("%s: counted %d, %v, want %d", name, n, err, want)
		}
	}
	if got := ids(t, s, "other", whisk.ActivationQuery{}); !slices.Equal(got, []int{5}) {
		t.Errorf("another namespace: %v", got)
	}
	if got := ids(t, s, "oth", whisk.ActivationQuery{}); len(got) != 0 {
		t.Errorf("no namespace: %v", got)
	}
}

func TestRecord(t *testing.T) {
	s := open(t, store.Config{})
	r, empty := record(1), store.Record{Namespace: "guest", ID: "e", Start: start()}
	r.Doc = []byte(strings.Repeat("d", 3<<20))
	end(t, s, r, empty)
	got, err := s.Record("guest", r.ID)
	if string(got.Doc) != string(r.Doc) {
		t.Errorf("got a document of %d bytes", len(got.Doc))
	}
	got.Start = got.Start.UTC()
	want := r
	want.Start = r.Start.UTC()
	want.Doc, got.Doc = nil, nil
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	doc, err := s.Activation("guest", r.ID)
	if string(doc) != string(r.Doc) || err != nil {
		t.Errorf("got %d bytes, %v", len(doc), err)
	}
	if logs, err := s.Logs("guest", r.ID); string(logs) != "logs 1" || err != nil {
		t.Errorf("got %q, %v", logs, err)
	}
	if doc, err := s.Activation("guest", "e"); len(doc) != 0 || err != nil {
		t.Errorf("an empty one: %q, %v", doc, err)
	}
	for _, id := range []string{"", "1", r.ID + "0", "e\x00"} {
		if _, err := s.Logs("guest", id); actions.CodeOf(err) != actions.NotFound {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := s.Logs("other", r.ID); actions.CodeOf(err) != actions.NotFound {
		t.Errorf("of another namespace: %v", err)
	}
	for _, docs := range []bool{false, true} {
		_ = s.Activations("guest", whisk.ActivationQuery{Docs: docs}, func(r store.Record) bool {
			if string(r.Summary) != "summary 1" || docs != (len(r.Doc) == 3<<20) || docs != (string(r.Logs) == "logs 1") {
				t.Errorf("docs %t: %q, %d bytes, %q", docs, r.Summary, len(r.Doc), r.Logs)
			}
			return false
		})
	}
	wrong := map[actions.Code]store.Record{
		actions.Invalid:  {ID: "1"},
		actions.TooLarge: {ID: strings.Repeat("1", 10_000), Namespace: "guest"},
	}
	for code, r := range wrong {
		if err := s.End(t.Context(), r); actions.CodeOf(err) != code {
			t.Errorf("got %v, want %s", err, code)
		}
		if err := s.Begin(t.Context(), store.Pending{ID: r.ID, Namespace: r.Namespace}); actions.CodeOf(err) != code {
			t.Errorf("got %v, want %s", err, code)
		}
	}
}

// TestLongLists crosses the steps that a list is read in, with a store that changes.
func TestLongLists(t *testing.T) {
	s := open(t, store.Config{})
	var wg sync.WaitGroup
	for n := range 700 {
		wg.Go(func() {
			r := record(n)
			if n%100 == 0 {
				r.Doc = make([]byte, 5<<20)
			}
			end(t, s, r)
		})
	}
	wg.Wait()
	var got []string
	err := s.Activations("guest", whisk.ActivationQuery{Docs: true, Page: whisk.Page{Skip: 1, Limit: 690}}, func(r store.Record) bool {
		got = append(got, r.ID)
		if len(got)%50 == 0 {
			end(t, s, record(10_000+len(got))) // each may call the store
		}
		return true
	})
	if err != nil || len(got) != 690 {
		t.Fatalf("%d, %v", len(got), err)
	}
	for i, id := range got {
		if want := record(698 - i).ID; id != want {
			t.Fatalf("at %d: got %s, want %s", i, id, want)
		}
	}
}

func TestPending(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := open(t, store.Config{Path: path})
	pending := func(n int) store.Pending {
		r := record(n)
		return store.Pending{Namespace: r.Namespace, ID: r.ID, Name: r.Name, Path: r.Path, Start: r.Start, Doc: r.Doc}
	}
	for _, n := range []int{3, 1, 2} {
		p := pending(n)
		p.Again = []byte{'{', byte(n), '}'}
		if err := s.Begin(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Begin(t.Context(), pending(1)); err != nil { // its run begins
		t.Fatal(err)
	}
	for n, want := range map[int]string{1: "", 3: "{\x03}"} {
		if again, err := s.Again("guest", record(n).ID); err != nil || string(again) != want {
			t.Errorf("%d: got %q, %v", n, again, err)
		}
	}
	if _, err := s.Again("guest", "x"); actions.CodeOf(err) != actions.NotFound {
		t.Errorf("none: got %v", err)
	}
	if got := ids(t, s, "guest", whisk.ActivationQuery{}); len(got) != 0 {
		t.Errorf("pending ones are listed: %v", got)
	}
	end(t, s, record(2))
	changed := record(2)
	changed.Start, changed.Doc, changed.Path = start(), []byte("again"), "guest/p/hello"
	end(t, s, changed)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, store.Config{Path: path})
	got, err := s.Pending()
	for i := range got {
		got[i].Start = got[i].Start.UTC()
	}
	want := []store.Pending{pending(1), pending(3)}
	want[1].Waits = true
	for i := range want {
		want[i].Start = want[i].Start.UTC()
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if doc, err := s.Activation("guest", changed.ID); string(doc) != "again" || err != nil {
		t.Errorf("got %q, %v", doc, err)
	}
	for name, want := range map[string]int{"": 1, "p/hello": 1, "hello": 0} {
		if n, err := s.CountActivations("guest", whisk.ActivationQuery{Name: name}); n != want || err != nil {
			t.Errorf("%q: got %d, %v, want %d", name, n, err, want)
		}
	}
}
