package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
)

// hostile is a relay that a test plays: what is welcome, and the bare connection.
func hostile(t *testing.T, path string) welcomed {
	t.Helper()
	w, err := meet(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.close()
	})
	return w
}

// bytesOf is a frame on the wire.
func bytesOf(f frame) []byte {
	var b [frameSize]byte
	f.put(&b)
	return b[:]
}

func TestRelayBreaksTheProtocol(t *testing.T) {
	began := make(chan struct{}, 10)
	pool := &fakePool{invoke: func(ctx context.Context, req actions.Request) (actions.Response, error) {
		if req.Model == "slow" {
			began <- struct{}{}
			<-ctx.Done()
		}
		return actions.Response{}, ctx.Err()
	}}
	s := serve(t, Config{Pool: pool, Lanes: 4, MaxPayload: 1 << 20})
	honest := s.relay(t)
	if _, err := honest.Invoke(t.Context(), actions.Request{Model: "m"}); err != nil {
		t.Fatal(err)
	}
	call := frame{typ: frameCall, id: 1, parts: 1, length: 40}
	with := func(change func(*frame)) []byte {
		f := call
		change(&f)
		return bytesOf(f)
	}
	slow := func(w welcomed) []byte {
		n, parts, err := worker.PutRequest(w.mem.Request(0), &actions.Request{Model: "slow"})
		if err != nil {
			t.Fatal(err)
		}
		return bytesOf(frame{typ: frameCall, id: 5, parts: uint32(parts), length: uint64(n)})
	}
	for name, write := range map[string]func(welcomed) []byte{
		"garbage":          func(welcomed) []byte { return []byte(strings.Repeat("garbage ", 8)) },
		"another version":  func(welcomed) []byte { b := bytesOf(call); b[4] = 9; return b },
		"a node's frame":   func(welcomed) []byte { return bytesOf(frame{typ: frameResult, id: 1}) },
		"a second hello":   func(welcomed) []byte { b := bytesOf(call); b[6] = byte(frameHello); return b },
		"no such lane":     func(welcomed) []byte { return with(func(f *frame) { f.lane = 4 }) },
		"a far lane":       func(welcomed) []byte { return with(func(f *frame) { f.lane = 1<<32 - 1 }) },
		"too long":         func(welcomed) []byte { return with(func(f *frame) { f.length = 1<<63 + 1 }) },
		"id 0":             func(welcomed) []byte { return with(func(f *frame) { f.id = 0 }) },
		"no parts":         func(welcomed) []byte { return with(func(f *frame) { f.parts = 0 }) },
		"many parts":       func(welcomed) []byte { return with(func(f *frame) { f.parts = 1 << 31 }) },
		"an empty payload": func(welcomed) []byte { return with(func(f *frame) { f.length = 0 }) },
		"a cancel of no lane": func(welcomed) []byte {
			return bytesOf(frame{typ: frameCancel, id: 1, lane: 77})
		},
		"an endless part": func(w welcomed) []byte {
			for i := range 64 {
				w.mem.Request(0)[i] = 0xff
			}
			return bytesOf(call)
		},
		"a lane that is taken": func(w welcomed) []byte {
			first := slow(w)
			return append(first, with(func(f *frame) { f.id = 6 })...)
		},
		"ids that go back": func(w welcomed) []byte {
			first := slow(w)
			return append(first, with(func(f *frame) { f.id, f.lane = 4, 1 })...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := hostile(t, s.path)
			if _, err := w.out.Write(write(w)); err != nil {
				t.Fatal(err)
			}
			_ = w.in.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, w.in); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the relay keeps its connection")
			}
			eventually(t, "the honest relay alone", func() bool { return s.Relays() == 1 })
			if _, err := honest.Invoke(t.Context(), actions.Request{Model: "m"}); err != nil {
				t.Errorf("another relay suffers: %v", err)
			}
		})
	}
}

// TestRelayThatDoesNotRead floods the node with beats, whose answers it does not read.
func TestRelayThatDoesNotRead(t *testing.T) {
	s := serve(t, Config{})
	w := hostile(t, s.path)
	_ = w.out.SetWriteDeadline(time.Now().Add(patience))
	beat := bytesOf(frame{typ: frameBeat})
	for {
		if _, err := w.out.Write(beat); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the node waits for the relay")
		} else if err != nil {
			break
		}
	}
	eventually(t, "no relay", func() bool { return s.Relays() == 0 })
}

func TestSilentRelays(t *testing.T) {
	s := serve(t, Config{TTL: 100 * time.Millisecond, MaxRelays: 1})
	hostile(t, s.path)
	// Meanwhile there is no place for a second.
	_, err := meet(t.Context(), s.path, nil)
	wantCode(t, err, actions.Unavailable, "--max-relays")
	eventually(t, "no relay", func() bool { return s.Relays() == 0 })
	eventually(t, "a place", func() bool {
		w, err := meet(t.Context(), s.path, nil)
		if err == nil {
			w.close()
		}
		return err == nil
	})
}

// TestHalfHandshakes has many stop within the handshake: they take no place of a relay, and
// keep neither relays nor probes away.
func TestHalfHandshakes(t *testing.T) {
	s := serve(t, Config{MaxRelays: 1})
	conns := make([]net.Conn, 3*maxGuests)
	for i := range conns {
		c, err := new(net.Dialer).DialContext(t.Context(), "unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		conns[i] = c
	}
	if err := Probe(t.Context(), s.path, nil); err != nil {
		t.Errorf("a probe: %v", err)
	}
	hostile(t, s.path)
	s.guests.mu.Lock()
	waiting := len(s.guests.conns)
	s.guests.mu.Unlock()
	if waiting > maxGuests {
		t.Errorf("%d connections wait for their proof, want %d at most", waiting, maxGuests)
	}
	conn, ok := conns[0].(*net.UnixConn)
	if !ok {
		t.Fatalf("got a %T", conns[0])
	}
	_, err := receive(conn, frameChallenge)
	if err == nil { // else it had to go before that
		_, _, err = receiveFiles(conn)
	}
	wantCode(t, err, actions.Unavailable, "the oldest")
}

func TestProbe(t *testing.T) {
	token := func() ([]byte, error) { return []byte("a token of the node"), nil }
	s := serve(t, Config{MaxRelays: 1, Token: token})
	w, err := meet(t.Context(), s.path, []byte("a token of the node"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for range 3 {
		if err := Probe(t.Context(), s.path, token); err != nil {
			t.Errorf("a full node: %v", err)
		}
	}
	err = Probe(t.Context(), s.path, nil)
	wantCode(t, err, actions.Unavailable, "wants its token")
	s.mu.Lock()
	if s.taken != 1 {
		t.Errorf("%d places are taken, want 1: a probe takes none", s.taken)
	}
	s.draining = true
	s.mu.Unlock()
	err = Probe(t.Context(), s.path, token)
	wantCode(t, err, actions.Unavailable, "shutting down")
	err = Probe(t.Context(), s.path+"2", token)
	wantCode(t, err, actions.Unavailable, "does not answer")
}

// TestProbeOfAnOldNode has the node welcome the probe as a relay.
func TestProbeOfAnOldNode(t *testing.T) {
	path := fakeNode(t, func(conn *net.UnixConn) {
		p, ok := play(t, conn, aDirect)
		if !ok {
			return
		}
		defer p.close()
		if _, ok := p.way.next(t); ok {
			t.Error("a probe sends a frame")
		}
	})
	if err := Probe(t.Context(), path, nil); err != nil {
		t.Error(err)
	}
}

// TestNodeBreaksTheProtocol has nodes that answer what is no answer.
func TestNodeBreaksTheProtocol(t *testing.T) {
	for name, answer := range map[string]func(id uint64, responses []byte) []byte{
		"garbage":         func(uint64, []byte) []byte { return []byte(strings.Repeat("garbage ", 8)) },
		"a relay's frame": func(id uint64, _ []byte) []byte { return bytesOf(frame{typ: frameCall, id: id}) },
		"another call":    func(id uint64, _ []byte) []byte { return bytesOf(frame{typ: frameResult, id: id + 1, parts: 1}) },
		"no such lane":    func(id uint64, _ []byte) []byte { return bytesOf(frame{typ: frameResult, id: id, lane: 9}) },
		"too long": func(id uint64, _ []byte) []byte {
			return bytesOf(frame{typ: frameResult, id: id, parts: 1, length: 1 << 60})
		},
		"no parts": func(id uint64, _ []byte) []byte { return bytesOf(frame{typ: frameResult, id: id, length: 100}) },
		"an error that is none": func(id uint64, _ []byte) []byte {
			return bytesOf(frame{typ: frameError, id: id, parts: 1, length: 100})
		},
		"half a frame": func(uint64, []byte) []byte { return []byte("DFNN") },
		"an endless part": func(id uint64, responses []byte) []byte {
			for i := range 64 {
				responses[i] = 0xff
			}
			return bytesOf(frame{typ: frameResult, id: id, parts: 1, length: 100})
		},
	} {
		for way, direct := range map[string]int{"": noDirect, ", directly": aDirect} {
			t.Run(name+way, func(t *testing.T) {
				path := fakeNode(t, func(conn *net.UnixConn) { welcomeAnd(t, conn, direct, answer) })
				r := relayTo(t, RelayConfig{Path: path, Patience: 200 * time.Millisecond})
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				_, err := r.Invoke(ctx, actions.Request{Model: "m"})
				wantCode(t, err, actions.Unavailable)
			})
		}
	}
}

// A played is a node that a test plays, and what it has sent with the welcome.
type played struct {
	mem         *worker.Memory
	way, direct pipes
}

// The direct ways of a node that is played.
const (
	noDirect = iota
	aDirect
	aDeadDirect // whose other end is closed
)

// play welcomes a relay, with one of the direct ways.
func play(t *testing.T, conn *net.UnixConn, direct int) (p played, ok bool) {
	t.Helper()
	var err error
	if p.mem, err = worker.NewMemory(2, 1<<20+extraRoom); err == nil {
		if p.way, err = newPipes(); err == nil {
			p.direct, err = newPipes()
		}
	}
	if err != nil {
		t.Error(err)
		return p, false
	}
	_ = send(conn, &greeting{typ: frameChallenge})
	_, _ = receive(conn, frameHello)
	requests, responses := p.mem.Files()
	files := []*os.File{requests, responses, p.way.theirIn, p.way.theirOut}
	if direct == aDeadDirect {
		p.direct.closeOurs()
	}
	if direct != noDirect {
		files = append(files, p.direct.theirIn, p.direct.theirOut)
	}
	_ = send(conn, &greeting{typ: frameWelcome, lanes: 2, limit: 1 << 20, ttl: 10_000}, files...)
	p.way.closeTheirs()
	p.direct.closeTheirs()
	return p, true
}

func (p played) close() {
	p.way.closeOurs()
	p.direct.closeOurs()
	p.mem.Close()
}

// next reads a frame of the relay; not ok is the end.
func (p pipes) next(t *testing.T) (f frame, ok bool) {
	t.Helper()
	var b [frameSize]byte
	if _, err := io.ReadFull(p.in, b[:]); err != nil {
		return f, false
	}
	f, err := parseFrame(&b)
	if err != nil {
		t.Error(err)
	}
	return f, err == nil
}

// welcomeAnd is a node that welcomes a relay, answers its first call, and closes.
func welcomeAnd(t *testing.T, conn *net.UnixConn, direct int, answer func(id uint64, responses []byte) []byte) {
	t.Helper()
	p, ok := play(t, conn, direct)
	if !ok {
		return
	}
	defer p.close()
	way := p.way
	if direct == aDirect {
		way = p.direct
	}
	if f, ok := way.next(t); ok { // else the relay came once more
		_, _ = way.out.Write(answer(f.id, p.mem.Response(0)))
	}
}

// TestNothingLeaks connects and ends many relays in the middle of calls.
func TestNothingLeaks(t *testing.T) {
	pool := &fakePool{invoke: func(ctx context.Context, _ actions.Request) (actions.Response, error) {
		<-ctx.Done()
		return actions.Response{}, ctx.Err()
	}}
	s := serve(t, Config{Pool: pool, KeepCode: time.Hour})
	files, maps, routines := openFiles(t), mappings(t), runtime.NumGoroutine()
	for i := range 200 {
		w, err := meet(t.Context(), s.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		n, parts, err := worker.PutRequest(w.mem.Request(0), &actions.Request{Model: fmt.Sprint("m", i%3), Args: make([]byte, 1<<20)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.out.Write(bytesOf(frame{typ: frameCall, id: 1, parts: uint32(parts), length: uint64(n)})); err != nil {
			t.Fatal(err)
		}
		w.close()
	}
	eventually(t, "no lease", func() bool { return s.Relays() == 0 })
	eventually(t, "what there was before", func() bool {
		return openFiles(t) <= files && mappings(t) <= maps && runtime.NumGoroutine() <= routines
	})
}
