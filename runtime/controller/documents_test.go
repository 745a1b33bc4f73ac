package controller_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// documents returns the documents of a list.
func documents(t *testing.T, list whisk.Listing) []any {
	t.Helper()
	if list.Documents == nil {
		t.Fatal("the list has no documents")
	}
	all := []any{}
	for doc, err := range list.Documents {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, doc)
	}
	return all
}

// keep records an activation with its documents as they are.
func (w *world) keep(t *testing.T, n int, doc, logs string) string {
	t.Helper()
	id := fmt.Sprintf("%032x", n)
	err := w.store.End(t.Context(), store.Record{
		Namespace: whisk.Guest, ID: id, Name: "a", Path: "guest/a", Start: time.UnixMilli(int64(n)),
		Summary: []byte("{}"), Doc: []byte(doc), Logs: []byte(logs),
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestDocumentsMemory lists more than may be in memory.
func TestDocumentsMemory(t *testing.T) {
	const count, size, most = 24, 4 << 20, 40 << 20
	w := open(t)
	logs := `["` + strings.Repeat("x", size) + `"]`
	for n := range count {
		w.keep(t, n+1, fmt.Sprintf(`{"response":{"logs":[]},"logs":[],"publish":%d}`, n), logs)
	}
	list, err := w.Activations(t.Context(), whisk.Guest, whisk.ActivationQuery{Docs: true})
	if err != nil {
		t.Fatal(err)
	}
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, n := used(), count
	for doc, err := range list.Documents {
		n--
		if want := fmt.Sprintf(`{"response":{"logs":[]},"logs":%s,"publish":%d}`, logs, n); err != nil || string(doc) != want {
			t.Fatalf("document %d: got %d bytes, %v", n, len(doc), err)
		}
		if now := used(); now > before+most {
			t.Fatalf("document %d: %d MiB are in use", n, (now-before)>>20)
		}
	}
	if n != 0 {
		t.Errorf("%d documents were not listed", n)
	}
}

// TestDocumentsEnd lists what is broken, and less than there is.
func TestDocumentsEnd(t *testing.T) {
	for what, bad := range map[string][2]string{
		"no JSON": {`{"logs":[]`, ""}, "no object": {`[]`, ""}, "more behind it": {`{"logs":[]} {}`, ""},
		"no logs": {`{}`, `["a"]`}, "broken logs": {`{"logs":[]}`, `["a"`},
	} {
		w := open(t)
		w.keep(t, 1, `{"logs":[]}`, "")
		w.keep(t, 2, bad[0], bad[1])
		w.keep(t, 3, `{"logs" : [] }`, `["a"]`)
		list, err := w.Activations(t.Context(), whisk.Guest, whisk.ActivationQuery{Docs: true})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for doc, err := range list.Documents {
			got = append(got, string(doc)+string(actions.CodeOf(err)))
		}
		if want := `["{\"logs\" : [\"a\"] }","internal"]`; text(t, got) != want {
			t.Errorf("%s: got %s, want %s", what, text(t, got), want)
		}
		for doc := range list.Documents { // no more than was asked for
			if !json.Valid(doc) {
				t.Errorf("%s: got %s", what, doc)
			}
			break
		}
		if err := w.store.Close(); err != nil {
			t.Fatal(err)
		}
		for doc, err := range list.Documents {
			refused(t, what+" "+string(doc), err, actions.Unavailable, "closed")
		}
	}
}
