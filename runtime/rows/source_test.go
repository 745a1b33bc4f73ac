package rows_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

// storeWith is a store with objects of the names below s3://b/in/, each with its name in it.
func storeWith(names ...string) *memory {
	store := &memory{objects: map[string][]byte{}}
	for _, name := range names {
		store.objects["s3://b/in/"+name] = []byte(`{"name":"` + name + `"}`)
	}
	return store
}

func TestOpen(t *testing.T) {
	for name, test := range map[string]struct {
		names  []string
		in     actions.BatchInput // URL is below s3://b/in/
		format string
		want   string // the keys
		err    string
	}{
		"an object":              {names: []string{"a.jsonl", "b.jsonl"}, in: actions.BatchInput{URL: "a.jsonl"}, format: actions.NDJSON, want: "0"},
		"by format":              {names: []string{"a.txt"}, in: actions.BatchInput{URL: "a.txt", Format: actions.NDJSON}, format: actions.NDJSON, want: "0"},
		"a file":                 {names: []string{"d/a.png"}, in: actions.BatchInput{URL: "d/a.png", Format: actions.Objects}, format: actions.Objects, want: `"a.png"`},
		"a prefix of rows":       {names: []string{"a.ndjson", "d/b.jsonl", "_SUCCESS", ".a.crc", "d/"}, format: actions.NDJSON, want: "0 1"},
		"a prefix of files":      {names: []string{"b.png", "d/a.jpg", "_hidden", "d/"}, format: actions.Objects, want: `"b.png" "d/a.jpg"`},
		"hidden files, if asked": {names: []string{"b.png", "_a.jpg"}, in: actions.BatchInput{Format: actions.Objects}, format: actions.Objects, want: `"_a.jpg" "b.png"`},
		"rows as files":          {names: []string{"a.csv", "b.png"}, in: actions.BatchInput{Format: actions.Objects}, format: actions.Objects, want: `"a.csv" "b.png"`},
		"matching":               {names: []string{"a.csv", "d/b.png", "c.jpg"}, in: actions.BatchInput{Match: "*.png"}, format: actions.Objects, want: `"d/b.png"`},
		"matching a path":        {names: []string{"d/b.png", "e/b.png", "b.png"}, in: actions.BatchInput{Match: "[d]/*.png"}, format: actions.Objects, want: `"d/b.png"`},

		"nothing":           {names: []string{"d/"}, err: "not_found: there is no object below s3://b/in/"},
		"nothing matches":   {names: []string{"a.png"}, in: actions.BatchInput{Match: "*.jpg"}, err: `not_found: no object below s3://b/in/ matches "*.jpg"`},
		"no object":         {in: actions.BatchInput{URL: "a.csv"}, err: "not_found: there is no s3://b/in/a.csv"},
		"no format":         {names: []string{"a.txt"}, in: actions.BatchInput{URL: "a.txt"}, err: "invalid: input.format is missing: the name of s3://b/in/a.txt does not tell what it is; the formats are ndjson, csv, parquet, tar, zip and objects"},
		"two formats":       {names: []string{"a.csv", "b.png"}, err: "invalid: input.format is missing: below s3://b/in/ are both a.csv and b.png, which are not of one format; say format, or match"},
		"an unknown format": {in: actions.BatchInput{Format: "xml"}, err: `invalid: input.format is "xml", but the formats are ndjson, csv, parquet, tar, zip and objects`},
		"no pattern":        {in: actions.BatchInput{Match: "[a"}, err: `invalid: input.match is no pattern: "[a"; a pattern is as *.png, [ab]? or images/*.jpg`},
		"no delimiter":      {in: actions.BatchInput{Delimiter: "ab"}, err: `invalid: input.delimiter is "ab", but has to be one ASCII character, and no quote`},
	} {
		t.Run(name, func(t *testing.T) {
			test.in.URL = "s3://b/in/" + test.in.URL
			s, err := rows.Open(t.Context(), storeWith(test.names...), test.in)
			if test.err != "" {
				if got := fmt.Sprintf("%s: %v", actions.CodeOf(err), err); got != test.err {
					t.Errorf("got %s, want %s", got, test.err)
				}
				return
			}
			if err != nil || s.Format() != test.format {
				t.Fatalf("got %v, want the format %s", err, test.format)
			}
			all, _ := readAll(t, s, whole())
			var keys []string
			for _, r := range all {
				keys = append(keys, string(r.Key))
			}
			if diff := cmp.Diff(test.want, strings.Join(keys, " ")); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEscapes shows that URLs are escaped and names are not, however the prefix was written, and
// that nobody sees or signs a query.
func TestEscapes(t *testing.T) {
	store := &memory{objects: map[string][]byte{
		"file:///data/in%20put/a%20%C3%A4.txt": []byte("a"), "file:///data/in%20put/b.txt": []byte("b"),
	}}
	in := actions.BatchInput{URL: "file:///data/./in%20put//", Match: "a ä.*"}
	all, _ := readAll(t, open(t, unclean{store}, in), whole())
	if got, want := show(all), "0 \"a ä.txt\" a ä.txt text/plain \"a\"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var prints []string
	for _, query := range []string{"?sig=1", "?sig=2"} {
		in := actions.BatchInput{URL: "https://host/x.ndjson" + query}
		s := open(t, storeOf(in.URL, []byte("1\n")), in)
		readAll(t, s, whole())
		_, err := s.Read(t.Context(), []byte("[]"), 0, whole())
		if err == nil || strings.Contains(err.Error(), "sig") {
			t.Errorf("got %v, want an error without the query", err)
		}
		prints = append(prints, s.Fingerprint())
	}
	if prints[0] != prints[1] {
		t.Errorf("signed anew: got another fingerprint, want the same")
	}
}

// unclean is a store that cleans the paths of what it lists.
type unclean struct{ *memory }

func (u unclean) List(ctx context.Context, _ string) iter.Seq2[actions.Object, error] {
	return u.memory.List(ctx, "file:///data/in%20put/")
}

func TestFingerprint(t *testing.T) {
	print := func(store *memory, url string) string {
		return open(t, store, actions.BatchInput{URL: url}).Fingerprint()
	}
	first := print(storeWith("a.ndjson", "b.ndjson"), "s3://b/in/")
	if again := print(storeWith("a.ndjson", "b.ndjson"), "s3://b/in/"); again != first || len(first) != 64 {
		t.Errorf("got %s, want it as before, %s", again, first)
	}
	changed := storeWith("a.ndjson", "b.ndjson")
	changed.objects["s3://b/in/b.ndjson"] = []byte("1\n2\n")
	for name, got := range map[string]string{
		"one more":  print(storeWith("a.ndjson", "b.ndjson", "c.ndjson"), "s3://b/in/"),
		"another":   print(storeWith("a.ndjson", "c.ndjson"), "s3://b/in/"),
		"one alone": print(storeWith("a.ndjson", "b.ndjson"), "s3://b/in/a.ndjson"),
		"one anew":  print(changed, "s3://b/in/"),
	} {
		if got == first {
			t.Errorf("%s: got the same fingerprint, want another", name)
		}
	}
}

func TestPositions(t *testing.T) {
	for format, store := range map[string]*memory{
		actions.NDJSON:  storeWith("a.ndjson"),
		actions.Objects: storeWith("a.png"),
		actions.Tar:     {objects: map[string][]byte{"s3://b/in/a.tar": tarOf(t, []string{"x"}, [][]byte{[]byte("x")})}},
		actions.Zip:     {objects: map[string][]byte{"s3://b/in/a.zip": zipOf(t, []string{"x"}, [][]byte{[]byte("x")})}},
	} {
		for _, at := range []string{``, `{"object":1}`, `{"object":-1}`, `{"object":0,"offset":-1}`, `{"object":0,"offset":1000000}`, `[]`, `{"object":0,"offset":1e99}`, "{"} {
			s := open(t, store, actions.BatchInput{URL: "s3://b/in/"})
			if _, err := s.Read(t.Context(), []byte(at), 0, whole()); actions.CodeOf(err) != actions.Invalid {
				t.Errorf("%s at %s: got %v, want Invalid", format, at, err)
			}
		}
	}
}

// TestStoreErrors shows that what the store says goes through, in the middle of an object too, and
// that the same Read succeeds when the store is well again.
func TestStoreErrors(t *testing.T) {
	names, files := []string{"a", "b"}, [][]byte{make([]byte, 3000), []byte("x")}
	parquetData := []byte{}
	out := actions.BatchOutput{Format: actions.Parquet}
	written, _ := write(t, out, answers())
	parquetData = append(parquetData, written...)
	for name, data := range map[string][]byte{
		"x.ndjson":    []byte(strings.Repeat("{\"a\":1}\n", 1000)),
		"x.ndjson.gz": gzipOf(t, []byte(strings.Repeat("{\"a\":1}\n", 100_000))),
		"x.csv":       []byte("a,b\n" + strings.Repeat("1,\"x\"\n", 1000)),
		"x.tar":       tarOf(t, names, files),
		"x.zip":       zipOf(t, names, files),
		"x.parquet":   parquetData,
		"x.png":       make([]byte, 1000),
	} {
		in := actions.BatchInput{URL: "s3://b/" + name}
		if name == "x.png" {
			in.Format = actions.Objects
		}
		store := storeOf(in.URL, data)
		s := open(t, store, in)
		for knob, err := range map[string]struct {
			set  func()
			code actions.Code
		}{
			"busy":   {func() { store.fail = actions.Errorf(actions.Busy, "slow down") }, actions.Busy},
			"broken": {func() { store.breakAt = int64(len(data) / 2) }, actions.Unavailable},
			"cut":    {func() { store.cut = int64(len(data) / 2) }, actions.Unavailable},
		} {
			err.set()
			_, got := s.Read(t.Context(), nil, 0, whole())
			if actions.CodeOf(got) != err.code {
				t.Errorf("%s, %s: got %v, want %s", name, knob, got, err.code)
			}
			if knob == "broken" && !errors.Is(got, errBroken) {
				t.Errorf("%s, %s: got %v, want its cause %v", name, knob, got, errBroken)
			}
			store.fail, store.breakAt, store.cut = nil, 0, 0
			if part, err := s.Read(t.Context(), nil, 0, whole()); err != nil || part.Count == 0 {
				t.Errorf("%s, after %s: got %d rows, %v, want all", name, knob, part.Count, err)
			}
		}
	}
}

// TestContexts shows that a Read ends with its context, and that the next one goes on with its
// own, also when that of the first has ended since.
func TestContexts(t *testing.T) {
	data := []byte(strings.Repeat("{\"a\":1}\n", 200_000))
	s := open(t, storeOf("s3://b/x.ndjson", data), actions.BatchInput{URL: "s3://b/x.ndjson"})
	limit := rows.Limit{Rows: 50_000, Bytes: 1 << 40}
	first, cancel := context.WithCancel(t.Context())
	part, err := s.Read(first, nil, 0, limit)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	next, err := s.Read(t.Context(), part.Next, part.Count, limit)
	if err != nil || next.Count != 50_000 {
		t.Errorf("after the first's end: got %d rows, %v, want 50000", next.Count, err)
	}
	for want, ended := range map[actions.Code]context.Context{
		actions.Canceled: first,
		actions.Deadline: expired(t),
	} {
		if _, err := s.Read(ended, nil, 0, whole()); actions.CodeOf(err) != want {
			t.Errorf("a context that has ended: got %v, want %s", err, want)
		}
	}
}

func expired(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	t.Cleanup(cancel)
	return ctx
}

// TestGone shows that an object that has gone is an error of its row.
func TestGone(t *testing.T) {
	store := storeWith("a.png", "b.png")
	s := open(t, store, actions.BatchInput{URL: "s3://b/in/"})
	delete(store.objects, "s3://b/in/a.png")
	all, _ := readAll(t, s, whole())
	want := "0 \"a.png\" ! invalid: s3://b/in/a.png has gone since the batch began\n1 \"b.png\" b.png image/png \"{\\\"name\\\":\\\"b.png\\\"}\"\n"
	if diff := cmp.Diff(want, show(all)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestObjectChanged shows that an object which is longer or shorter than it was is an error of its row, and
// never half of it a file.
func TestObjectChanged(t *testing.T) {
	store := storeWith("a.png", "b.png", "c.png")
	s := open(t, store, actions.BatchInput{URL: "s3://b/in/"})
	store.objects["s3://b/in/a.png"] = append(store.objects["s3://b/in/a.png"], "more"...)
	store.objects["s3://b/in/b.png"] = store.objects["s3://b/in/b.png"][:3]
	all, _ := readAll(t, s, whole())
	for i, want := range []string{"s3://b/in/a.png has changed", "s3://b/in/b.png has changed", ""} {
		if got := all[i].Err; actions.CodeOf(got) != actions.Invalid && want != "" || got != nil && !strings.HasPrefix(got.Error(), want) {
			t.Errorf("row %d: got %v, want an error that says %q", i, got, want)
		}
	}
}

// TestNameRefused shows that an object whose name the store does not take is an error of its row, and
// keeps nobody from the others.
func TestNameRefused(t *testing.T) {
	store := storeWith("a.png", "l\xe9.png", "n.png")
	store.refuse = "s3://b/in/l%E9.png"
	s := open(t, store, actions.BatchInput{URL: "s3://b/in/"})
	all, _ := readAll(t, s, whole())
	if len(all) != 3 || all[0].Err != nil || actions.CodeOf(all[1].Err) != actions.Invalid || all[2].Err != nil {
		t.Errorf("got %s, want an error of the second row alone", show(all))
	}
}

// TestSkipFetchesNothing shows that files are passed over without a request.
func TestSkipFetchesNothing(t *testing.T) {
	store := storeWith("a.png", "b.png", "c.png")
	s := open(t, store, actions.BatchInput{URL: "s3://b/in/"})
	store.asked()
	part, err := s.Read(t.Context(), nil, 0, rows.Limit{Rows: 2, Bytes: 1 << 40, Skip: true})
	if err != nil || part.Count != 2 || len(part.Rows) != 0 || string(part.Next) != `{"object":2,"offset":0}` {
		t.Errorf("got %+v, %v, want two rows, none of them there", part, err)
	}
	if opens, _ := store.asked(); opens != 0 {
		t.Errorf("got %d requests, want none", opens)
	}
}

// crowd is a store with so many objects that their list has to be short.
type crowd struct {
	*memory
	n int
}

func (c crowd) List(context.Context, string) iter.Seq2[actions.Object, error] {
	return func(yield func(actions.Object, error) bool) {
		for i := range c.n {
			if !yield(actions.Object{URL: "s3://b/in/" + strconv.Itoa(1e7+i) + ".png", Size: 1, ETag: "x"}, nil) {
				return
			}
		}
	}
}

func TestManyObjects(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	s := open(t, crowd{n: 1_000_000}, actions.BatchInput{URL: "s3://b/in/"})
	if got := int64(heap()) - int64(before); got > 64<<20 {
		t.Errorf("a million objects take %d bytes, want at most 64 MiB", got)
	}
	if s.Total() != 1_000_000 || s.Size() != 1_000_000 {
		t.Errorf("got %d rows of %d bytes, want a million of each", s.Total(), s.Size())
	}
	_, err := rows.Open(t.Context(), crowd{n: 1_000_001}, actions.BatchInput{URL: "s3://b/in/"})
	if actions.CodeOf(err) != actions.TooLarge {
		t.Errorf("one more: got %v, want TooLarge", err)
	}
}
