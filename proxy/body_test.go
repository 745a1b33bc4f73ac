package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deepfn/deepfn/actions"
)

// paddedBody is a body of n bytes.
func paddedBody(n int) string { return "{}" + strings.Repeat(" ", n-2) }

// sendBody sends a request with a body, of which the last hold bytes are held back.
func sendBody(w io.Writer, path, body string, chunked bool, hold int) {
	if chunked {
		_, _ = fmt.Fprintf(w, "POST %s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", path, len(body))
		body += "\r\n0\r\n\r\n"
	} else {
		_, _ = fmt.Fprintf(w, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", path, len(body))
	}
	_, _ = io.WriteString(w, body[:len(body)-hold])
}

// What has to be decoded is refused while the memory is needed by another request, and
// is taken when that is done.
func TestBodiesTogether(t *testing.T) {
	const size = 3 << 20
	for _, chunked := range []bool{false, true} {
		begun, release := make(chan struct{}), make(chan struct{})
		inv := &fakeInvoker{answer: func(_ context.Context, req actions.Request) (actions.Response, error) {
			if req.ID == "first" {
				close(begun)
				<-release
			}
			return actions.Response{ContentType: jsonType, Data: []byte("{}")}, nil
		}}
		r := start(t, Config{Model: "echo", Invoker: inv, MaxBody: 4 << 20, MaxBodies: 4 << 20})
		first := r.dial(t)
		body := `{"activation_id":"first","value":{}}` + strings.Repeat(" ", size)
		sendBody(first, "/run", body, chunked, 0)
		<-begun
		for _, tt := range []struct {
			path   string
			status int
			retry  string
			want   string
		}{
			{"/run", 200, "", `{"error":"the requests in progress are larger together than the server takes; try again later"}` + "\n"},
			{predictPath, 429, "1", `{"error":"the requests in progress are larger together than the server takes; try again later","code":"busy"}` + "\n"},
			{"/init", 429, "1", `{"error":"the requests in progress are larger together than the server takes; try again later","code":"busy"}` + "\n"},
		} {
			c := r.dial(t)
			sendBody(c, tt.path, paddedBody(size), chunked, 0)
			resp, got := read(t, bufio.NewReader(c), "POST")
			if resp.StatusCode != tt.status || resp.Header.Get("Retry-After") != tt.retry || got != tt.want || resp.Close {
				t.Errorf("%s chunked %v: got %s %v %s", tt.path, chunked, resp.Status, resp.Header, got)
			}
		}
		close(release)
		if resp, got := read(t, bufio.NewReader(first), "POST"); resp.StatusCode != 200 || got != "{}" {
			t.Errorf("got %s %s for the first body", resp.Status, got)
		}
		for r.bodies.used.Load() != 0 {
			runtime.Gosched()
		}
		if resp, got := r.do(t, "POST", "/run", paddedBody(size)); resp.StatusCode != 200 || got != "{}" {
			t.Errorf("got %s %s afterwards", resp.Status, got)
		}
	}
}

// However long a body is, and however little memory there may be: alone it is taken, with
// what is decoded from it.
func TestBodyAlone(t *testing.T) {
	for _, limit := range []int{payload, 2 << 20, 4 << 20, 3 * inMemory / 2} {
		r := start(t, Config{Model: "echo", Invoker: &fakeInvoker{}, MaxBody: int64(limit), MaxBodies: int64(limit)})
		for _, size := range []int{payload, payload + 1, limit / 4, limit/4 + 1, limit / 2, inMemory, inMemory + 1, limit} {
			if size > limit {
				continue
			}
			if resp, got := r.do(t, "POST", "/run", paddedBody(size)); resp.StatusCode != 200 || got != "{}" {
				t.Errorf("limit %d, size %d: got %s %.100s", limit, size, resp.Status, got)
			}
		}
	}
}

// A body in memory takes no more than its length; a long one, and one for which there is
// no memory, takes none.
func TestReadAll(t *testing.T) {
	for _, tt := range []struct {
		name   string
		size   int
		known  bool
		limit  int64 // of the budget
		onDisk bool
	}{
		{"nothing", 0, true, 1 << 30, false},
		{"nothing, chunked", 0, false, 1 << 30, false},
		{"short", 1000, true, 1 << 30, false},
		{"short, chunked", 1000, false, 1 << 30, false},
		{"as long as may be", inMemory, true, 1 << 30, false},
		{"longer", inMemory + 1, true, 1 << 30, true},
		{"longer, chunked", inMemory + 1, false, 1 << 30, true},
		{"no memory", 1000, true, 10, true},
		{"no memory, chunked", 1000, false, 600, true},
		{"large", 33 << 20, true, 1 << 30, true},
		{"large, chunked", 33 << 20, false, 1 << 30, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := newServer(t, Config{MaxBody: 40 << 20})
			r := &request{bodies: newBudget(tt.limit)}
			sent := bytes.Repeat([]byte("0123456789abcdef!"), tt.size/17+1)[:tt.size]
			length := int64(-1)
			if tt.known {
				length = int64(len(sent))
			}
			got, sp, err := s.readAll(bytes.NewReader(sent), length, nil, r)
			if err != nil || (sp != nil) != tt.onDisk || r.taken > inMemory || tt.known && r.taken > length {
				t.Fatalf("got on disk %v, %d taken, error %v", sp != nil, r.taken, err)
			}
			if sp != nil {
				got = sp.data
				defer sp.close()
			}
			if !bytes.Equal(got, sent) {
				t.Errorf("got %d bytes, want %d", len(got), len(sent))
			}
		})
	}
}

// After a burst of large bodies the system gets its memory back, once.
func TestMemoryIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1 << 30)
		var freed atomic.Int32
		b.free = func() { freed.Add(1) }
		for range 1000 {
			b.give(keptBuffer)
		}
		time.Sleep(time.Minute)
		if got := freed.Load(); got != 0 {
			t.Errorf("got %d, want 0 after small bodies", got)
		}
		for range 10 {
			b.give(freeBytes / 2)
		}
		if got := freed.Load(); got != 0 {
			t.Errorf("got %d in the burst, want 0", got)
		}
		time.Sleep(time.Minute)
		if got := freed.Load(); got != 1 {
			t.Errorf("got %d after the burst, want 1", got)
		}
	})
}

// A body that trickles is not waited for, one that is slow is.
func TestSlowBody(t *testing.T) {
	const size = 400 << 10
	for _, tt := range []struct {
		name   string
		piece  int // bytes per second
		status int
		after  time.Duration
	}{
		{"stops", 0, 408, slowTime},
		{"trickles", 1000, 408, slowTime},
		{"slow", 2 << 10, 200, 200 * time.Second},
		{"too slow for all", 1200, 408, bodyTime},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := newServer(t, Config{Model: "echo"})
				ours, theirs := net.Pipe()
				go func() {
					for range (size + max(tt.piece, 1) - 1) / max(tt.piece, 1) {
						time.Sleep(time.Second)
						if _, err := theirs.Write(bytes.Repeat([]byte(" "), tt.piece)); err != nil || tt.piece == 0 {
							return
						}
					}
				}()
				var fc fasthttp.RequestCtx
				fc.Init2(ours, nil, false)
				fc.Request.Header.SetMethod("POST")
				fc.Request.SetRequestURI("/run")
				fc.Request.SetBodyStream(ours, size)
				start := time.Now()
				s.serve(t.Context(), &fc)
				if got := fc.Response.StatusCode(); got != tt.status || time.Since(start) != tt.after {
					t.Errorf("got %d after %v, want %d after %v", got, time.Since(start), tt.status, tt.after)
				}
				_, _ = ours.Close(), theirs.Close()
				time.Sleep(time.Minute) // for the sender
			})
		})
	}
}

type panickingReader struct{}

func (panickingReader) Read([]byte) (int, error) { panic("at the stream") }

// A panic outside of a handler costs its connection only.
func TestServePanic(t *testing.T) {
	s, st := newServer(t, Config{Model: "echo"})
	ours, _ := net.Pipe()
	var fc fasthttp.RequestCtx
	fc.Init2(ours, nil, false)
	fc.Request.Header.SetMethod("POST")
	fc.Request.SetRequestURI("/run")
	fc.Request.SetBodyStream(panickingReader{}, 10)
	s.serve(t.Context(), &fc)
	if got := fc.Response.StatusCode(); got != 500 || !fc.Response.ConnectionClose() || !strings.Contains(string(fc.Response.Body()), "internal error") {
		t.Errorf("got %d %s", got, fc.Response.Body())
	}
	if got := s.bodies.used.Load(); got != 0 {
		t.Errorf("got %d bytes of the budget in use", got)
	}
	if got := st.log.String(); !strings.Contains(got, "at the stream") || !strings.Contains(got, "body_test.go") {
		t.Errorf("the log has no panic with a stack: %s", got)
	}
}

func TestMemoryLimit(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for name, tt := range map[string]struct {
		files fstest.MapFS
		want  int64
	}{
		"no groups":         {fstest.MapFS{}, 0},
		"no limit":          {fstest.MapFS{"sys/fs/cgroup/memory.max": file("max\n")}, 0},
		"container":         {fstest.MapFS{"sys/fs/cgroup/memory.max": file("268435456\n")}, 256 << 20},
		"container, old":    {fstest.MapFS{"sys/fs/cgroup/memory/memory.limit_in_bytes": file("268435456\n")}, 256 << 20},
		"no limit, old":     {fstest.MapFS{"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n")}, 0},
		"group":             {fstest.MapFS{"proc/self/cgroup": file("0::/a/b\n"), "sys/fs/cgroup/a/b/memory.max": file("4096\n"), "sys/fs/cgroup/a/memory.max": file("1024\n")}, 1024},
		"group, old":        {fstest.MapFS{"proc/self/cgroup": file("3:cpu:/x\n4:memory:/a\n"), "sys/fs/cgroup/memory/a/memory.limit_in_bytes": file("4096\n")}, 4096},
		"foreign namespace": {fstest.MapFS{"proc/self/cgroup": file("0::/../../a\n")}, 0},
	} {
		if got := MemoryLimit(tt.files); got != tt.want {
			t.Errorf("%s: got %d, want %d", name, got, tt.want)
		}
	}
	if got := defaultBodies(512 << 20); got != 128<<20 {
		t.Errorf("got %d of 512 MiB", got)
	}
	if got := defaultBodies(0); got != 1<<30 {
		t.Errorf("got %d without a limit", got)
	}
	if got := (Config{MaxBody: 8 << 30}).withDefaults(); got.MaxBodies < got.MaxBody {
		t.Errorf("got a budget of %d for a body of %d", got.MaxBodies, got.MaxBody)
	}
}
