package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
)

// putCall writes a request for a model into a lane, and returns the frame of its call.
func putCall(t *testing.T, w welcomed, id uint64, lane int, model string) []byte {
	t.Helper()
	n, parts, err := worker.PutRequest(w.mem.Request(lane), &actions.Request{Model: model})
	if err != nil {
		t.Fatal(err)
	}
	return bytesOf(frame{typ: frameCall, id: id, lane: uint32(lane), parts: uint32(parts), length: uint64(n)})
}

func TestRelayBreaksTheDirectWay(t *testing.T) {
	began := make(chan struct{}, 1)
	pool := &fakePool{invoke: func(ctx context.Context, req actions.Request) (actions.Response, error) {
		if req.Model == "slow" {
			began <- struct{}{}
			<-ctx.Done()
		}
		return actions.Response{}, ctx.Err()
	}}
	s := serve(t, Config{Pool: pool, Lanes: 4, MaxPayload: 1 << 20})
	of := func(f frame) func(*testing.T, welcomed) {
		return func(_ *testing.T, w welcomed) { _, _ = w.directOut.Write(bytesOf(f)) }
	}
	for name, breaks := range map[string]func(*testing.T, welcomed){
		"garbage":      func(_ *testing.T, w welcomed) { _, _ = w.directOut.WriteString(strings.Repeat("garbage ", 8)) },
		"a question":   of(frame{typ: frameAsk, what: uint8(askReady), id: 1, parts: 1, length: 40}),
		"a beat":       of(frame{typ: frameBeat}),
		"a cancel":     of(frame{typ: frameCancel, id: 1}),
		"no such lane": of(frame{typ: frameCall, id: 1, lane: 4, parts: 1, length: 40}),
		"id 0":         of(frame{typ: frameCall, parts: 1, length: 40}),
		"no parts":     of(frame{typ: frameCall, id: 1, length: 40}),
		"ids that go back": func(t *testing.T, w welcomed) {
			t.Helper()
			_, _ = w.directOut.Write(append(putCall(t, w, 5, 0, "m"), putCall(t, w, 4, 1, "m")...))
		},
		"a lane that is taken": func(t *testing.T, w welcomed) {
			t.Helper()
			_, _ = w.out.Write(putCall(t, w, 5, 0, "slow"))
			<-began
			_, _ = w.directOut.Write(putCall(t, w, 6, 0, "m"))
		},
		"its end": func(_ *testing.T, w welcomed) { _ = w.directOut.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			w := hostile(t, s.path)
			breaks(t, w)
			_ = w.in.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, w.in); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the relay keeps its connection")
			}
			eventually(t, "no relay", func() bool { return s.Relays() == 0 })
		})
	}
}

// TestCancelOvertakesItsCall has the cancel read before the call, which is on another pipe.
func TestCancelOvertakesItsCall(t *testing.T) {
	pool := &fakePool{invoke: func(ctx context.Context, _ actions.Request) (actions.Response, error) {
		<-ctx.Done()
		return actions.Response{}, ctx.Err()
	}}
	w := hostile(t, serve(t, Config{Pool: pool, Lanes: 4, MaxPayload: 1 << 20}).path)
	read := func(f *os.File) frame {
		t.Helper()
		var b [frameSize]byte
		_ = f.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(f, b[:]); err != nil {
			t.Fatal(err)
		}
		got, err := parseFrame(&b)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	_, _ = w.out.Write(append(bytesOf(frame{typ: frameCancel, id: 7, lane: 1}), bytesOf(frame{typ: frameBeat})...))
	read(w.in) // the beat: the cancel was read
	_, _ = w.directOut.Write(putCall(t, w, 7, 1, "m"))
	if got := read(w.directIn); got.typ != frameError || got.id != 7 {
		t.Errorf("got %+v, want the error of call 7", got)
	}
}

// TestDirectCallIsAbandoned leaves a call on the direct way, which others do without until its
// answer has come.
func TestDirectCallIsAbandoned(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	pool := &fakePool{}
	pool.invoke = func(_ context.Context, req actions.Request) (actions.Response, error) {
		if req.Model == "stubborn" {
			close(began)
			<-release
		}
		return pool.echo(req)
	}
	r := serve(t, Config{Pool: pool, Lanes: 4}).relay(t)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := r.Invoke(ctx, actions.Request{Model: "stubborn"})
		result <- err
	}()
	<-began
	cancel()
	wantCode(t, <-result, actions.Canceled)
	invoke := func(text string) {
		t.Helper()
		resp, err := r.Invoke(t.Context(), actions.Request{Model: "m", Args: []byte(text)})
		if err != nil || string(resp.Data) != text {
			t.Errorf("got %q, %v; want %q", resp.Data, err, text)
		}
	}
	r.mu.Lock()
	l := r.link
	r.mu.Unlock()
	invoke("1")
	if !l.taken.Load() {
		t.Error("the direct way is free before the answer has come")
	}
	close(release)
	eventually(t, "a free way and all lanes", func() bool {
		l.free.mu.Lock()
		defer l.free.mu.Unlock()
		return !l.taken.Load() && len(l.free.idle) == 3
	})
	invoke("2")
}

// TestNodeSaysWhatItHasRead has nodes that end with a call, and say whether they have read it.
func TestNodeSaysWhatItHasRead(t *testing.T) {
	for _, test := range []struct {
		name   string
		direct int
		read   bool
	}{
		{"a call that was read", noDirect, true},
		{"a call that was not", noDirect, false},
		{"a direct call that was read", aDirect, true},
		{"a direct call that was not", aDirect, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var tries atomic.Int64
			path := fakeNode(t, func(conn *net.UnixConn) {
				p, ok := play(t, conn, test.direct)
				if !ok {
					return
				}
				defer p.close()
				way := p.way
				if test.direct == aDirect {
					way = p.direct
				}
				f, ok := way.next(t)
				if !ok {
					return
				}
				if tries.Add(1) > 1 {
					answerCall(t, p, way, &f)
					_, _ = way.next(t) // until the relay has ended
					return
				}
				bye := frame{typ: frameBye}
				if test.read && test.direct == aDirect {
					bye.length = f.id
				} else if test.read {
					bye.id = f.id
				}
				_, _ = p.way.out.Write(bytesOf(bye))
			})
			_, err := relayTo(t, RelayConfig{Path: path}).Invoke(t.Context(), actions.Request{Model: "m"})
			if test.read {
				wantCode(t, err, actions.Unavailable, "not sent again")
			} else if err != nil {
				t.Errorf("got %v, want the answer of the next node", err)
			}
		})
	}
}

// answerCall answers a call with nothing.
func answerCall(t *testing.T, p played, way pipes, f *frame) {
	t.Helper()
	n, err := worker.PutResponse(p.mem.Response(int(f.lane)), &actions.Response{})
	if err != nil {
		t.Error(err)
	}
	_, _ = way.out.Write(bytesOf(frame{typ: frameResult, id: f.id, lane: f.lane, parts: 1, length: uint64(n)}))
}

// TestPipesThatWait has a node that sends pipes which would hold up the relay.
func TestPipesThatWait(t *testing.T) {
	path := fakeNode(t, func(conn *net.UnixConn) {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			t.Error(err)
			return
		}
		in, out := os.NewFile(uintptr(fds[0]), "in"), os.NewFile(uintptr(fds[1]), "out")
		defer func() { _, _ = in.Close(), out.Close() }()
		mem, err := worker.NewMemory(2, 1<<20+extraRoom)
		if err != nil {
			t.Error(err)
			return
		}
		defer mem.Close()
		_ = send(conn, &greeting{typ: frameChallenge})
		_, _ = receive(conn, frameHello)
		requests, responses := mem.Files()
		_ = send(conn, &greeting{typ: frameWelcome, lanes: 2, limit: 1 << 20, ttl: 10_000}, requests, responses, in, out)
		_, _ = conn.Read(make([]byte, 1))
	})
	before := openFiles(t)
	r := relayTo(t, RelayConfig{Path: path, Patience: 100 * time.Millisecond})
	_, err := r.Invoke(t.Context(), actions.Request{Model: "m"})
	wantCode(t, err, actions.Unavailable, "does not answer")
	_ = r.Close()
	eventually(t, "no file more than before", func() bool { return openFiles(t) <= before })
}

// TestCloseIsNoFault of the node's.
func TestCloseIsNoFault(t *testing.T) {
	var log bytes.Buffer
	s := serve(t, Config{})
	r := NewRelay(RelayConfig{Path: s.path, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if _, err := r.Invoke(t.Context(), actions.Request{Model: "m"}); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	if strings.Contains(log.String(), "protocol") {
		t.Errorf("got %s", log.String())
	}
}

// TestNodeEndsTheDirectWay alone: before a call, which goes the other way, and with one.
func TestNodeEndsTheDirectWay(t *testing.T) {
	for name, direct := range map[string]int{"before a call": aDeadDirect, "in a call": aDirect} {
		t.Run(name, func(t *testing.T) {
			path := fakeNode(t, func(conn *net.UnixConn) {
				p, ok := play(t, conn, direct)
				if !ok {
					return
				}
				defer p.close()
				if direct == aDirect {
					_, _ = p.direct.next(t)
					p.direct.closeOurs()
				}
				for {
					f, ok := p.way.next(t)
					if !ok {
						return
					}
					if f.typ == frameCall {
						answerCall(t, p, p.way, &f)
					}
				}
			})
			r := relayTo(t, RelayConfig{Path: path})
			_, err := r.Invoke(t.Context(), actions.Request{Model: "m"})
			if direct == aDeadDirect {
				if err != nil {
					t.Errorf("got %v, want an answer", err)
				}
				return
			}
			wantCode(t, err, actions.Unavailable, "not sent again")
		})
	}
}
