package batch_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/batch"
	"github.com/deepfn/deepfn/runtime/storage"
	"github.com/deepfn/deepfn/runtime/storage/s3test"
)

// A bucket is a real storage.
type bucket struct{ *storage.Storage }

const bucketURL = "s3://" + s3test.Bucket + "/"

// newBucket makes a storage for a server, with the rows of an input in it.
func newBucket(t *testing.T, srv *s3test.Server, rows int) bucket {
	t.Helper()
	srv.Environment(t)
	s, err := storage.New(storage.Config{Allow: []string{"s3://"}, Timeout: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	b := bucket{s}
	data := numbers(rows)
	if err := b.Put(t.Context(), bucketURL+"in/rows.ndjson", strings.NewReader(data), int64(len(data)), actions.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	return b
}

// content returns all objects below a prefix.
func (b bucket) content(t *testing.T, prefix string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for o, err := range b.List(t.Context(), bucketURL+prefix) {
		if err != nil {
			t.Fatal(err)
		}
		body, err := b.Open(t.Context(), o.URL, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		var data bytes.Buffer
		if _, err := data.ReadFrom(body); err != nil {
			t.Fatal(err)
		}
		_ = body.Close()
		all[strings.TrimPrefix(o.URL, bucketURL+prefix)] = data.String()
	}
	return all
}

// s3Batch is a batch of the bucket with its output below a prefix.
func s3Batch(prefix string) actions.Batch {
	b := someBatch()
	b.Input.URL, b.Output.URL, b.ChunkRows = bucketURL+"in/rows.ndjson", bucketURL+prefix, 20
	return b
}

// TestS3 runs a batch with a real server of S3 that is killed, slow, hangs, breaks off, is busy or
// full in the middle of it: the output is that of an undisturbed run, and nothing is predicted
// twice.
func TestS3(t *testing.T) {
	const rows = 200
	away := func(srv *s3test.Server, later *sync.WaitGroup) {
		srv.Kill()
		later.Go(func() {
			time.Sleep(4 * time.Second)
			srv.Restart()
		})
	}
	once := func(fault s3test.Fault) func(*s3test.Server, *sync.WaitGroup) {
		return func(srv *s3test.Server, _ *sync.WaitGroup) { srv.Fault(fault) }
	}
	puts := func(r *http.Request) bool { return r.Method == http.MethodPut }
	for name, disturb := range map[string]func(*s3test.Server, *sync.WaitGroup){
		"killed":     away,
		"slow":       once(s3test.Fault{Rate: 2000, Times: 12}),
		"hangs":      once(s3test.Fault{Match: puts, Hang: true, Times: 2}),
		"breaks off": once(s3test.Fault{Match: puts, Cut: 10, Times: 4}),
		"busy":       once(s3test.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown", Times: 5}),
		"fails":      once(s3test.Fault{Status: http.StatusInternalServerError, Code: "InternalError", Times: 5}),
	} {
		t.Run(name, func(t *testing.T) {
			srv := s3test.Start(t)
			store, model := newBucket(t, srv, rows), newModel()
			engine := newEngine(t, store, model)
			if _, err := engine.Run(t.Context(), "quiet", s3Batch("quiet/"), batch.Watcher{}); err != nil {
				t.Fatal(err)
			}
			var later sync.WaitGroup
			var at sync.Once
			model.during = func(args string) {
				if args == `{"n":110}` {
					at.Do(func() { disturb(srv, &later) })
				}
			}
			var lines []string
			_, err := engine.Run(t.Context(), "disturbed", s3Batch("disturbed/"), batch.Watcher{Line: func(text string) { lines = append(lines, text) }})
			later.Wait()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(store.content(t, "quiet/"), store.content(t, "disturbed/")); diff != "" {
				t.Errorf("the outputs differ (-quiet +disturbed):\n%s", diff)
			}
			if calls := model.calls(); calls != 2*rows {
				t.Errorf("got %d calls, want %d", calls, 2*rows)
			}
			t.Logf("%q", lines)
		})
	}
}

// TestS3Full fills a server in the middle of a batch, which waits until there is room, or gives up
// and goes on later.
func TestS3Full(t *testing.T) {
	const rows, size = 200, 8 << 20
	for name, patience := range map[string]time.Duration{"waits": time.Minute, "gives up": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			srv := s3test.StartSmall(t, size)
			store, model := newBucket(t, srv, rows), newModel()
			engine := newEngine(t, store, model, func(cfg *batch.Config) { cfg.Patience = patience })
			ballast := bucketURL + "ballast/"
			fill := func() (n int) {
				for piece := 4 << 20; piece >= 4<<10; {
					url := fmt.Sprintf("%s%d", ballast, n)
					if store.Put(t.Context(), url, bytes.NewReader(make([]byte, piece)), int64(piece), actions.PutOptions{}) != nil {
						piece /= 2
						continue
					}
					n++
				}
				return n
			}
			empty := func(n int) {
				for i := range n {
					if err := store.Remove(t.Context(), fmt.Sprintf("%s%d", ballast, i)); err != nil {
						t.Error(err)
					}
				}
			}
			var at sync.Once
			filled, told := 0, make(chan struct{})
			model.during = func(args string) {
				if args == `{"n":110}` {
					at.Do(func() { filled = fill() })
				}
			}
			var lines []string
			watch := batch.Watcher{Line: func(text string) {
				if lines = append(lines, text); len(lines) == 1 {
					close(told)
				}
			}}
			var later sync.WaitGroup
			if name == "waits" {
				later.Go(func() { <-told; empty(filled) })
			}
			_, err := engine.Run(t.Context(), "job", s3Batch("out/"), watch)
			if name == "gives up" {
				wantError(t, err, actions.Unavailable, "start the batch again to go on")
				empty(filled)
				_, err = engine.Run(t.Context(), "job", s3Batch("out/"), batch.Watcher{})
			}
			if err != nil {
				t.Fatal(err)
			}
			later.Wait()
			if filled == 0 {
				t.Fatal("the server was not full")
			}
			got := store.content(t, "out/")
			if len(got) != 11 { // ten parts, and the manifest
				t.Errorf("got %d objects", len(got))
			}
			var text strings.Builder
			for i := range 10 {
				text.WriteString(got[fmt.Sprintf("part-%06d.ndjson", i)])
			}
			if n := strings.Count(text.String(), "\n"); n != rows || !strings.HasSuffix(text.String(), fmt.Sprintf(`{"key":"r%d","prediction":{"twice":%d}}`+"\n", rows-1, 2*rows-2)) {
				t.Errorf("got %d answers, want %d, the last one that of the last row", n, rows)
			}
		})
	}
}
