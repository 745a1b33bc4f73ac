package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// TestMain is the server of TestUploadMemory when it says so.
func TestMain(m *testing.M) {
	if os.Getenv("DEEPFN_TEST_SERVER") != "" {
		serveUploads()
		return
	}
	os.Exit(m.Run())
}

// serveUploads serves the model mod, which answers how long its file is and how it ends,
// until the end of stdin.
func serveUploads() {
	ctx, stop := context.WithCancel(context.Background())
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	inv := &counting{}
	s := New(Config{Invoker: inv, Catalog: module(), MaxBody: 1 << 30, TempDir: os.Getenv("DEEPFN_TEST_SERVER")})
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	fmt.Fprintln(os.Stdout, ln.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	stop()
	<-done
}

// counting answers with the length and the end of the file that it was given.
type counting struct{ fakeInvoker }

func (*counting) Invoke(_ context.Context, req actions.Request) (actions.Response, error) {
	data := req.Files[0].Data
	return actions.Response{ContentType: jsonType, Data: fmt.Appendf(nil, "[%d,%q]", len(data), data[len(data)-3:])}, nil
}

// peak is the most memory that a process has had, in bytes.
func peak(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kb, err := strconv.ParseInt(strings.TrimSpace(after[:strings.Index(after, "kB")]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}

// An upload of 256 MiB takes a small part of that in memory, and no room afterwards.
func TestUploadMemory(t *testing.T) {
	const size = 256 << 20
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "DEEPFN_TEST_SERVER="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	upload := func(size int, chunked bool) {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimSpace(addr))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		sendUpload(t, c, size, chunked)
		resp, body := read(t, bufio.NewReader(c), "POST")
		if want := fmt.Sprintf(`{"status": "OK", "predictions": [%d,"end"]}`, size); resp.StatusCode != 200 || body != want {
			t.Errorf("got %s %s, want %s", resp.Status, body, want)
		}
	}
	upload(2<<20, false)
	before := peak(t, cmd.Process.Pid)
	upload(size, false)
	upload(size, true)
	limit := int64(48 << 20)
	if watchedIO { // the race detector keeps as much of its own
		limit *= 2
	}
	if got := peak(t, cmd.Process.Pid) - before; got > limit {
		t.Errorf("got %d MiB more at the peak for an upload of %d", got>>20, size>>20)
	}
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("got %v, %v in the folder of bodies", left, err)
	}
}

// sendUpload sends a form with a file of that size.
func sendUpload(t *testing.T, c net.Conn, size int, chunked bool) {
	t.Helper()
	head := "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n"
	const tail = "\r\n--b--\r\n"
	piece := bytes.Repeat([]byte("x"), 1<<20)
	w := bufio.NewWriterSize(c, 1<<20)
	send := func(p []byte) {
		if chunked {
			_, _ = fmt.Fprintf(w, "%x\r\n%s\r\n", len(p), p)
		} else if _, err := w.Write(p); err != nil {
			t.Error(err)
		}
	}
	length := "Content-Length: " + strconv.Itoa(len(head)+size+len(tail))
	if chunked {
		length = "Transfer-Encoding: chunked"
	}
	_, _ = fmt.Fprintf(w, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n%s\r\n\r\n", modPath, length)
	send([]byte(head))
	for left := size - 3; left > 0; left -= len(piece) {
		send(piece[:min(left, len(piece))])
	}
	send([]byte("end" + tail))
	if chunked {
		_, _ = io.WriteString(w, "0\r\n\r\n")
	}
	_ = w.Flush()
}

// A body in progress takes a nameless file, at most MaxBody of it, and lets go of it
// however the request ends.
func TestSpoolIsClosed(t *testing.T) {
	const size = 5 << 20
	dir := t.TempDir()
	r := start(t, Config{Model: "echo", MaxBody: 6 << 20, TempDir: dir})
	for name, tt := range map[string]struct {
		size, hold int
		chunked    bool
		status     int
	}{
		"whole":             {size, 0, false, 200},
		"whole, chunked":    {size, 0, true, 200},
		"cut off":           {size, 100, false, 400},
		"cut off, chunked":  {size, 100, true, 400},
		"too long":          {7 << 20, 0, false, 413},
		"too long, chunked": {7 << 20, 0, true, 413},
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial(t)
			sendBody(c, predictPath, paddedBody(tt.size), tt.chunked, tt.hold)
			_ = c.(*net.TCPConn).CloseWrite()
			if resp, body := read(t, bufio.NewReader(c), "POST"); resp.StatusCode != tt.status {
				t.Errorf("got %s %s, want %d", resp.Status, body, tt.status)
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) != 0 {
				t.Errorf("got %v, %v in the folder", left, err)
			}
			if got := openBodies(t, dir); got != 0 {
				t.Errorf("got %d files still open", got)
			}
		})
	}
}

// openBodies counts the files of a folder that this process has open or mapped.
func openBodies(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, dir) {
			n++
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return n + strings.Count(string(maps), dir)
}

// panicOnce is a log that panics at the first line of a handler's panic.
type panicOnce struct {
	slog.Handler
	done *atomic.Bool
}

func (p panicOnce) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "handler panicked" && p.done.CompareAndSwap(false, true) {
		panic("of the log")
	}
	return p.Handler.Handle(ctx, r)
}

// A panic keeps no file and no mapping, wherever it was: of the handler, or of what
// answers instead of it.
func TestSpoolAfterPanic(t *testing.T) {
	dir := t.TempDir()
	read := 0
	inv := &fakeInvoker{answer: func(_ context.Context, req actions.Request) (actions.Response, error) {
		read += len(req.Args)
		panic("at the disco")
	}}
	log := slog.New(panicOnce{slog.DiscardHandler, new(atomic.Bool)})
	r := start(t, Config{Invoker: inv, Catalog: module(), TempDir: dir, Log: log})
	body := paddedBody(inMemory + 1)
	const n = 3
	for range n {
		resp, answer := r.do(t, "POST", modPath, body, "Content-Type: application/json")
		if resp.StatusCode != 500 || !strings.Contains(answer, "internal error") {
			t.Errorf("got %s %s", resp.Status, answer)
		}
		if got := openBodies(t, dir); got != 0 {
			t.Errorf("got %d files still open or mapped", got)
		}
	}
	if read != n*len(body) {
		t.Errorf("got %d bytes before the panics, want %d", read, n*len(body))
	}
	inv.answer = nil
	if resp, _ := r.do(t, "POST", modPath, body, "Content-Type: application/json"); resp.StatusCode != 200 {
		t.Errorf("got %s after the panics", resp.Status)
	}
}

// Without a disk for bodies, small ones are still answered, and large ones are refused
// in words that name no folder.
func TestSpoolFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nope")
	r := start(t, Config{Model: "echo", TempDir: dir})
	resp, body := r.do(t, "POST", predictPath, paddedBody(inMemory+1))
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || strings.Contains(body, "nope") || !strings.Contains(body, "cannot keep") {
		t.Errorf("got %s %s", resp.Status, body)
	}
	if resp, body := r.do(t, "POST", "/run", paddedBody(inMemory+1)); resp.StatusCode != 200 || !strings.HasPrefix(body, `{"error":"the server cannot keep`) {
		t.Errorf("got %s %s", resp.Status, body)
	}
	wantSentinels(t, r.streams, 1)
	if resp, body := r.do(t, "POST", "/run", `{"value":{"n":1}}`); resp.StatusCode != 200 || body != `{"n":1}` {
		t.Errorf("got %s %s", resp.Status, body)
	}
	if log := r.streams.log.String(); strings.Count(log, "request body refused") != 2 || !strings.Contains(log, dir) {
		t.Errorf("the log does not say why: %s", log)
	}
}

// A full disk is 507. /dev/full is one.
func TestSpoolFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	sp := &spool{file: full}
	defer sp.close()
	err = sp.fill(strings.NewReader("hello"), make([]byte, 10), 100, nil)
	e, ok := errors.AsType[*actions.Error](err)
	if !ok || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	resp := failure(e)
	wantResponse(t, resp, 507, `{"error":"the server has no space left on its disk for the request body; try again later, or send less","code":"unavailable"}`+"\n")
}

// A boundary is found wherever windows meet.
func TestIndexInWindows(t *testing.T) {
	sp, err := newSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer sp.close()
	line := []byte("\r\n--boundary")
	at := []int{0, window - len(line), window - 5, window - 1, window, 2*window + 7, 3*window - len(line)/2}
	data := bytes.Repeat([]byte("\r\n--bound"), 4*window/9)
	for _, i := range at {
		copy(data[i:], line)
	}
	if err := sp.write(data); err != nil {
		t.Fatal(err)
	}
	if err := sp.show(); err != nil {
		t.Fatal(err)
	}
	for from := 0; ; {
		got, want := index(sp.data[from:], line, sp.forget), bytes.Index(data[from:], line)
		if got != want {
			t.Fatalf("got %d from %d, want %d", got, from, want)
		}
		if got < 0 {
			break
		}
		from += got + 1
	}
	if !bytes.Equal(sp.data, data) {
		t.Error("what was forgotten is not the same any more")
	}
}
