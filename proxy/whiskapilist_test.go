package proxy

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

const docsPath = own + "/activations?docs=true&limit=0"

// docsOf gives n documents of a size, then perhaps an error, and closes ended at its end.
func docsOf(n, size int, err error, ended chan<- struct{}) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		defer close(ended)
		for i := range n {
			if !yield(json.RawMessage(fmt.Sprintf(`{"n":%d,"logs":[%q]}`, i, strings.Repeat("x", size))), nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

func TestAPIDocumentList(t *testing.T) {
	gone := actions.Errorf(actions.Unavailable, "the disk is gone")
	for what, tt := range map[string]struct {
		n, status int
		err       error
		want      string
	}{
		"none": {0, 200, nil, "[]\n"},
		"one":  {1, 200, nil, `[{"n":0,"logs":["x"]}]` + "\n"},
		"two":  {2, 200, nil, `[{"n":0,"logs":["x"]},{"n":1,"logs":["x"]}]` + "\n"},
		"bad":  {1, 503, gone, `{"error":"the disk is gone","code":"id-1"}` + "\n"},
	} {
		ended := make(chan struct{})
		s, _ := newServer(t, Config{Controller: &fakeController{list: whisk.Listing{Documents: docsOf(tt.n, 1, tt.err, ended)}}})
		got := ask(t, s, "GET", docsPath, "")
		if got.status != tt.status || string(got.body) != tt.want || got.stream != nil {
			t.Errorf("%s: got %d %s, want %d %s", what, got.status, got.body, tt.status, tt.want)
		}
		<-ended
	}
}

// docsRequest asks a running server for a list of documents, which its caller reads.
func docsRequest(t *testing.T, r *running, method string) (*http.Response, net.Conn) {
	t.Helper()
	c := r.dial(t)
	_, _ = fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic %s\r\n\r\n",
		method, docsPath, base64.StdEncoding.EncodeToString([]byte("u:p:p")))
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	return resp, c
}

// A long list is whole, and never in memory as a whole.
func TestAPILongList(t *testing.T) {
	const count, size, most = 48, 1 << 20, 16 << 20
	ended, peak := make(chan struct{}), uint64(0)
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before := m.HeapAlloc
	docs := docsOf(count, size, nil, ended)
	r := start(t, Config{Controller: &fakeController{list: whisk.Listing{Documents: func(yield func(json.RawMessage, error) bool) {
		docs(func(doc json.RawMessage, err error) bool {
			runtime.GC()
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
			return yield(doc, err)
		})
	}}}})
	resp, _ := docsRequest(t, r, "GET")
	defer func() { _ = resp.Body.Close() }()
	d := json.NewDecoder(resp.Body)
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; d.More(); n++ {
		var doc struct {
			N    int
			Logs []string
		}
		if err := d.Decode(&doc); err != nil || doc.N != n || len(doc.Logs) != 1 || len(doc.Logs[0]) != size {
			t.Fatalf("document %d: got number %d, %v", n, doc.N, err)
		}
	}
	rest, err := io.ReadAll(io.MultiReader(d.Buffered(), resp.Body))
	if n != count || err != nil || string(rest) != "]\n" {
		t.Errorf("got %d documents, then %q, %v", n, rest, err)
	}
	<-ended
	if peak > before+most {
		t.Errorf("%d MiB were in use", (peak-before)>>20)
	}
}

// What goes wrong behind the beginning of a list is seen by who reads it, and what nobody
// reads ends.
func TestAPIListBreaksOff(t *testing.T) {
	for what, count := range map[string]int{"error": 3, "panic": 3, "left": 1 << 20, "head": 1 << 20} {
		ended := make(chan struct{})
		docs := docsOf(count, 1<<20, actions.Errorf(actions.Unavailable, "the disk is gone"), ended)
		if what == "panic" {
			docs = func(yield func(json.RawMessage, error) bool) {
				docsOf(count, 1<<20, nil, ended)(yield)
				panic("a bug")
			}
		}
		method := http.MethodGet
		if what == "head" {
			method = http.MethodHead
		}
		r := start(t, Config{Controller: &fakeController{list: whisk.Listing{Documents: docs}}})
		resp, c := docsRequest(t, r, method)
		t.Cleanup(func() { _ = resp.Body.Close() })
		if resp.StatusCode != 200 {
			t.Errorf("%s: got %s", what, resp.Status)
		}
		switch what {
		case "left":
			if _, err := io.CopyN(io.Discard, resp.Body, 3<<20); err != nil {
				t.Error(err)
			}
			_ = c.Close()
		case "error", "panic":
			if _, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: got %v, want that the answer breaks off", what, err)
			}
		}
		<-ended
		if resp, body := r.do(t, "GET", "/healthz", ""); resp.StatusCode != 200 {
			t.Errorf("%s: then got %s %s", what, resp.Status, body)
		}
	}
}
