package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// Ways in which a client leaves, or does not.
var (
	stays     = func(*net.TCPConn) {}
	halfClose = func(c *net.TCPConn) { _ = c.CloseWrite() }
	closes    = func(c *net.TCPConn) { _ = c.Close() }
	resets    = func(c *net.TCPConn) { _, _ = c.SetLinger(0), c.Close() }
)

// A model does not go on working for a client that has left. One that has only said all
// it has to say gets its answer from /run.
func TestClientLeaves(t *testing.T) {
	for _, tt := range []struct {
		name, path string
		do         func(*net.TCPConn)
		left       bool
	}{
		{"run: waits", "/run", stays, false},
		{"run: half-closes", "/run", halfClose, false},
		{"run: resets", "/run", resets, true},
		{"predict: waits", predictPath, stays, false},
		{"predict: half-closes", predictPath, halfClose, true},
		{"predict below a base path: half-closes", "/a/b" + predictPath, halfClose, true},
		{"predict: closes", predictPath, closes, true},
		{"predict: resets", predictPath, resets, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			release, begun := make(chan struct{}), make(chan struct{})
			given := make(chan struct{})
			inv := &fakeInvoker{answer: func(ctx context.Context, _ actions.Request) (actions.Response, error) {
				close(begun)
				select {
				case <-ctx.Done():
					close(given)
					return actions.Response{}, ctx.Err()
				case <-release:
					return actions.Response{ContentType: jsonType, Data: []byte(`{"done":true}`)}, nil
				}
			}}
			r := start(t, Config{Model: "echo", Invoker: inv, BasePath: strings.TrimSuffix(strings.TrimSuffix(tt.path, predictPath), "/run")})
			c := r.dial(t)
			_, _ = io.WriteString(c, strings.Replace(runEmpty, "/run", tt.path, 1))
			<-begun
			tt.do(c.(*net.TCPConn))
			for tt.left {
				r.conns.look()
				select {
				case <-given:
					return
				default:
					runtime.Gosched()
				}
			}
			if tt.name != "run: waits" && tt.name != "predict: waits" {
				for r.ending(t) == open { // the FIN is on its way
					runtime.Gosched()
				}
			}
			r.conns.look()
			select {
			case <-given:
				t.Error("the request was given up")
			default:
			}
			close(release)
			if resp, body := read(t, bufio.NewReader(c), "POST"); resp.StatusCode != 200 || !strings.Contains(body, `{"done":true}`) {
				t.Errorf("got %s %s", resp.Status, body)
			}
		})
	}
}

// ending is what the client of the only request has done.
func (r *running) ending(tb testing.TB) ending {
	tb.Helper()
	r.conns.mu.Lock()
	defer r.conns.mu.Unlock()
	return closed(r.conns.rings[busy].next.Conn)
}
