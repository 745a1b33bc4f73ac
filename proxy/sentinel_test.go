package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// endings answers as the argument do says, with a line on each stream.
func endings(ctx context.Context, req actions.Request) (actions.Response, error) {
	var args struct{ Do string }
	_ = json.Unmarshal(req.Args, &args)
	logs := []actions.LogLine{{Stream: actions.Stdout, Text: "line of " + req.ID}, {Stream: actions.Stderr, Text: "line of " + req.ID}}
	switch args.Do {
	case "panic":
		panic("at the disco")
	case "fail":
		return actions.Response{}, &actions.Error{Code: actions.Failed, Msg: "ValueError", Logs: logs}
	case "exit":
		return actions.Response{}, &actions.Error{Code: actions.Exited, Msg: "exit status 1", Logs: logs}
	case "wait":
		<-ctx.Done()
		return actions.Response{}, &actions.Error{Code: actions.Canceled, Msg: "given up", Logs: logs, Err: ctx.Err()}
	case "large":
		return actions.Response{ContentType: jsonType, Data: make([]byte, 2<<20), Logs: logs}, nil
	}
	return actions.Response{ContentType: jsonType, Data: []byte(`{}`), Logs: logs}, nil
}

// Each activation ends each stream once, behind its own lines, whatever becomes of it and
// of those that run at the same time.
func TestSentinelsWhateverHappens(t *testing.T) {
	r := start(t, Config{Model: "mod", Catalog: module(), Invoker: &fakeInvoker{answer: endings}, MaxBody: 64 << 10, MaxPayload: 1 << 20, Grace: time.Minute})
	statuses := map[string]int{"ok": 200, "panic": 500, "fail": 200, "exit": 400, "large": 200, "not JSON": 200, "no arguments": 404, "long": 200, "past": 200, "leaves": 0}
	const each = 20
	var all sync.WaitGroup
	for what, status := range statuses {
		for i := range each {
			body := fmt.Sprintf(`{"activation_id":%q,"value":{"do":%q}}`, fmt.Sprintf("%s-%d", what, i), what)
			switch what {
			case "not JSON":
				body = "XXX"
			case "no arguments":
				body = `{"value":5}`
			case "long":
				body = strings.Repeat(" ", 65<<10)
			case "past":
				body = fmt.Sprintf(`{"deadline":"%d"}`, time.Now().UnixMilli())
			case "leaves":
				body = strings.Replace(body, `"do":"leaves"`, `"do":"wait"`, 1)
			}
			all.Go(func() {
				c := r.dial(t)
				_, _ = fmt.Fprintf(c, "POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
				if status == 0 {
					if tcp, ok := c.(*net.TCPConn); ok {
						resets(tcp)
					}
					return
				}
				if got, text := read(t, bufio.NewReader(c), "POST"); got.StatusCode != status {
					t.Errorf("%s: got %s %s, want %d", what, got.Status, text, status)
				}
			})
		}
	}
	all.Wait()
	n := each * len(statuses)
	for strings.Count(r.out.String(), sentinel) < n-each || r.conns.count(busy) > 0 { // some had left before they were read
		r.conns.look()
		runtime.Gosched()
	}
	r.stop()
	<-r.done
	outs, errs := blocksOf(t, r.out.String()), blocksOf(t, r.err.String())
	if outs != errs || outs < n-each || outs > n {
		t.Errorf("got %d and %d sentinels, want the same, of %d activations", outs, errs, n)
	}
}

// blocksOf counts the sentinels, before each of which there is at most one line.
func blocksOf(t *testing.T, text string) (n int) {
	t.Helper()
	lines := 0
	for line := range strings.Lines(text) {
		switch {
		case line == sentinel+"\n":
			n++
			lines = 0
		case strings.HasPrefix(line, "line of "):
			if lines++; lines > 1 {
				t.Errorf("got %q among the lines of another activation", line)
			}
		case line != "deepfn: exit status 1\n":
			t.Errorf("got a line of nobody: %q", line)
		}
	}
	return n
}

// Activations that are refused while the server shuts down end the streams too.
func TestSentinelsOfTheDrain(t *testing.T) {
	release := make(chan struct{})
	begun, answer := blocking(release)
	r := start(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: answer}, Grace: time.Minute})
	working := r.dial(t)
	_, _ = io.WriteString(working, runEmpty)
	<-begun
	r.stop()
	for !r.draining.Load() {
		runtime.Gosched()
	}
	for range 3 {
		if got, _ := r.do(t, "POST", "/run", "{}"); got.StatusCode != 503 {
			t.Errorf("got %s, want 503", got.Status)
		}
	}
	wantSentinels(t, r.streams, 3)
	close(release)
	if got, _ := read(t, bufio.NewReader(working), "POST"); got.StatusCode != 200 {
		t.Errorf("got %s, want 200", got.Status)
	}
	wantSentinels(t, r.streams, 4)
}
