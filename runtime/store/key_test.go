package store

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

func FuzzTexts(f *testing.F) {
	f.Add("", "", "a", "b")
	f.Add("guest", "a\x00", "guest", "a")
	f.Add("\x00", "\x00\x01", "\x00\xff", "\xff")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		one, two := texts(a, b), texts(c, d)
		for key, want := range map[string][]string{string(one): {a, b}, string(two): {c, d}} {
			got, ok := cutTexts([]byte(key), 2)
			if !ok || !slices.Equal(got, want) {
				t.Errorf("%q: got %q, %t, want %q", key, got, ok, want)
			}
		}
		want := cmp.Or(strings.Compare(a, c), strings.Compare(b, d))
		if got := bytes.Compare(one, two); got != want {
			t.Errorf("%q %q and %q %q: got order %d, want %d", a, b, c, d, got, want)
		}
		if a != c && (bytes.HasPrefix(two, texts(a)) || bytes.HasPrefix(one, texts(c))) {
			t.Errorf("%q is taken for %q", a, c)
		}
	})
}

func FuzzCutTexts(f *testing.F) {
	f.Add([]byte("a\x00\x01b\x00\x01"))
	f.Add([]byte("a\x00\x02"))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, key []byte) {
		if got, ok := cutTexts(key, 2); ok && !bytes.Equal(texts(got...), key) {
			t.Errorf("%q became %q", key, got)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(Record{Namespace: "n", ID: "i", Summary: []byte("{}")}.encode(time.UnixMicro(5)))
	f.Add([]byte("short"))
	f.Add(bytes.Repeat([]byte{0xff}, 50))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, kept, err := decode(value)
		if err == nil && !bytes.Equal(r.encode(kept), value) {
			t.Errorf("%q became %+v", value, r)
		}
	})
}

func TestEncode(t *testing.T) {
	r := Record{
		Namespace: "guest", ID: "0123", Name: "n", Path: "guest/p/n", Start: time.UnixMicro(-1),
		Summary: []byte("s"), Doc: []byte{}, Logs: []byte("l\x00"),
	}
	got, kept, err := decode(r.encode(time.UnixMicro(7)))
	if diff := gocmp.Diff(r, got); diff != "" || err != nil || !kept.Equal(time.UnixMicro(7)) {
		t.Errorf("%v, %v, %s", kept, err, diff)
	}
}

func TestTimesSort(t *testing.T) {
	times := []int64{math.MinInt64, -1, 0, 1, 1 << 40, math.MaxInt64}
	keys := make([][]byte, len(times))
	for i, at := range times {
		keys[i] = appendTime(nil, at)
	}
	if !slices.IsSortedFunc(keys, bytes.Compare) {
		t.Errorf("%x", keys)
	}
}

func TestBetween(t *testing.T) {
	tests := map[string]struct{ since, upto, first, last int64 }{
		"no bound":        {0, 0, math.MinInt64, math.MaxInt64},
		"both":            {5, 7, 5000, 7999},
		"before 1970":     {-2, -1, -2000, -1},
		"the latest time": {math.MaxInt64, math.MaxInt64, math.MaxInt64 / 1000 * 1000, math.MaxInt64},
		"the first time":  {math.MinInt64, math.MinInt64, math.MinInt64 / 1000 * 1000, math.MinInt64/1000*1000 + 999},
	}
	for name, test := range tests {
		if first, last := between(test.since, test.upto); first != test.first || last != test.last {
			t.Errorf("%s: got %d %d, want %d %d", name, first, last, test.first, test.last)
		}
	}
}
