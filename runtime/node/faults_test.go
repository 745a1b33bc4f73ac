package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
)

func token(text string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(text), nil }
}

func TestTokens(t *testing.T) {
	for _, test := range []struct {
		name, node, relay string
		texts             []string // of the error; none for no error
	}{
		{"the same", "a secret of the two", "a secret of the two", nil},
		{"none", "", "", nil},
		{"another", "a secret of the two", "something else, too", []string{"another token", "--token-file"}},
		{"a part of it", "a secret of the two", "a secret of the tw", []string{"another token"}},
		{"the relay has none", "a secret of the two", "", []string{"wants its token", "--token-file"}},
		{"the node has none", "", "a secret of the two", []string{"the node has none"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, Config{Token: token(test.node)})
			r := relayTo(t, RelayConfig{Path: s.path, Token: token(test.relay), Patience: 300 * time.Millisecond})
			_, err := r.Invoke(t.Context(), actions.Request{Model: "m"})
			if test.texts == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantCode(t, err, actions.Unavailable, test.texts...)
		})
	}
}

// TestNodeMustKnowTheToken has a node that does not know the token of its relay, and says
// that it does.
func TestNodeMustKnowTheToken(t *testing.T) {
	path := fakeNode(t, func(conn *net.UnixConn) {
		_ = send(conn, &greeting{typ: frameChallenge, flags: hasToken})
		_, _ = receive(conn, frameHello)
		mem, err := worker.NewMemory(2, 1<<20+extraRoom)
		if err != nil {
			t.Error(err)
			return
		}
		defer mem.Close()
		requests, responses := mem.Files()
		p, err := newPipes()
		if err != nil {
			t.Error(err)
			return
		}
		_ = send(conn, &greeting{typ: frameWelcome, lanes: 2, limit: 1 << 20, ttl: 1000}, requests, responses, p.theirIn, p.theirOut)
		p.closeTheirs()
		defer p.closeOurs()
		_, _ = p.in.Read(make([]byte, 1))
	})
	r := relayTo(t, RelayConfig{Path: path, Token: token("a secret of the two"), Patience: 200 * time.Millisecond})
	_, err := r.Invoke(t.Context(), actions.Request{Model: "m"})
	wantCode(t, err, actions.Unavailable, "does not know the token")
}

func TestUsers(t *testing.T) {
	for _, test := range []struct {
		name    string
		uid     uint32
		allowed bool
	}{
		{"itself", uint32(os.Geteuid()), true},
		{"root", 0, true},
		{"one that is allowed", 4711, true},
		{"another", 4712, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, Config{AllowUIDs: []int{4711}, peer: func(*net.UnixConn) (unix.Ucred, error) {
				return unix.Ucred{Uid: test.uid, Pid: 1}, nil
			}})
			r := relayTo(t, RelayConfig{Path: s.path, Patience: 300 * time.Millisecond})
			_, err := r.Invoke(t.Context(), actions.Request{Model: "m"})
			if test.allowed {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantCode(t, err, actions.Unavailable, "4712", "--allow-uid")
		})
	}
}

// TestPeer asks the system who is there, which is this process.
func TestPeer(t *testing.T) {
	ln, err := Listen(t.Context(), filepath.Join(t.TempDir(), "n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	c, err := new(net.Dialer).DialContext(t.Context(), "unix", ln.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	conn, err := ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	cred, err := peerOf(conn)
	if err != nil || int(cred.Pid) != os.Getpid() || int(cred.Uid) != os.Geteuid() {
		t.Errorf("got %+v, %v; want process %d of user %d", cred, err, os.Getpid(), os.Geteuid())
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	free := filepath.Join(dir, "new", "n")
	ln, err := Listen(t.Context(), free, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(free); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got the mode %v, %v; want 0600", info.Mode(), err)
	}
	_, err = Listen(t.Context(), free, 0o600)
	wantCode(t, err, actions.Unavailable, "another node serves", free)
	if _, err := net.Dial("unix", free); err != nil { //nolint:noctx // of the test itself
		t.Errorf("the first node has lost its socket: %v", err)
	}
	_ = ln.Close()
	_ = ln.Close()

	stale := filepath.Join(dir, "stale")
	leaveSocket(t, stale)
	ln, err = Listen(t.Context(), stale, 0o600)
	if err != nil {
		t.Errorf("the socket of a node that has died: %v", err)
	} else {
		_ = ln.Close()
	}

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Listen(t.Context(), file, 0o600)
	wantCode(t, err, actions.Conflict, "no socket")
	if text, _ := os.ReadFile(file); string(text) != "mine" {
		t.Error("the file is not what it was")
	}

	_, err = Listen(t.Context(), filepath.Join(dir, strings.Repeat("x", 108)), 0o600)
	wantCode(t, err, actions.Invalid, "107")
	r := relayTo(t, RelayConfig{Path: filepath.Join(dir, strings.Repeat("x", 108)), Patience: 50 * time.Millisecond})
	_, err = r.Invoke(t.Context(), actions.Request{Model: "m"})
	wantCode(t, err, actions.Unavailable, "107")
}

// TestListenBesideAnother has a living socket of a program that is no node.
func TestListenBesideAnother(t *testing.T) {
	path := fakeNode(t, func(*net.UnixConn) {})
	_, err := Listen(t.Context(), path, 0o600)
	wantCode(t, err, actions.Unavailable, "another program")
}

// leaveSocket leaves the file of a socket that nobody listens on.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
}

// fakeNode listens and lets the test be the node, for each connection.
func fakeNode(t *testing.T, serve func(*net.UnixConn)) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fake")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with the listener
		defer close(done)
		for {
			conn, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			}()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return path
}

// memfile makes a memory file of a size, with seals or without.
func memfile(t *testing.T, size int64, seals int) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err == nil {
		err = unix.Ftruncate(fd, size)
	}
	if err == nil && seals != 0 {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "test")
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// TestMemoryOfTheNode has nodes that send memory which a relay must not map.
func TestMemoryOfTheNode(t *testing.T) {
	const limit, area = 1 << 20, 64 << 10
	const lane = limit + extraRoom
	const all = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	p, err := newPipes()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.closeOurs()
		p.closeTheirs()
	})
	for _, test := range []struct {
		name    string
		files   func() []*os.File
		welcome greeting
	}{
		{"unsealed requests", func() []*os.File { return []*os.File{memfile(t, area+2*lane, 0), memfile(t, 2*lane, all)} }, greeting{lanes: 2, limit: limit, ttl: 1000}},
		{"unsealed responses", func() []*os.File { return []*os.File{memfile(t, area+2*lane, all), memfile(t, 2*lane, 0)} }, greeting{lanes: 2, limit: limit, ttl: 1000}},
		{"seals that can be taken back", func() []*os.File {
			return []*os.File{memfile(t, area+2*lane, all), memfile(t, 2*lane, unix.F_SEAL_GROW|unix.F_SEAL_SEAL)}
		}, greeting{lanes: 2, limit: limit, ttl: 1000}},
		{"too short", func() []*os.File { return []*os.File{memfile(t, area+lane, all), memfile(t, 2*lane, all)} }, greeting{lanes: 2, limit: limit, ttl: 1000}},
		{"no memory", func() []*os.File { return []*os.File{p.in, p.out} }, greeting{lanes: 2, limit: limit, ttl: 1000}},
		{"one file", func() []*os.File { return []*os.File{memfile(t, area+2*lane, all)} }, greeting{lanes: 2, limit: limit, ttl: 1000}},
		{"no file", func() []*os.File { return nil }, greeting{lanes: 2, limit: limit, ttl: 1000}},
		{"many lanes", func() []*os.File { return []*os.File{memfile(t, area+2*lane, all), memfile(t, 2*lane, all)} }, greeting{lanes: 1 << 30, limit: limit, ttl: 1000}},
		{"no lanes", func() []*os.File { return []*os.File{memfile(t, area, all), memfile(t, 0, all)} }, greeting{lanes: 0, limit: limit, ttl: 1000}},
		{"endless lanes", func() []*os.File { return []*os.File{memfile(t, area, all), memfile(t, 0, all)} }, greeting{lanes: 64, limit: 1 << 63, ttl: 1000}},
		{"no time", func() []*os.File { return []*os.File{memfile(t, area+2*lane, all), memfile(t, 2*lane, all)} }, greeting{lanes: 2, limit: limit}},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := test.files()
			var tries atomic.Int64
			path := fakeNode(t, func(conn *net.UnixConn) {
				tries.Add(1)
				_ = send(conn, &greeting{typ: frameChallenge})
				_, _ = receive(conn, frameHello)
				welcome := test.welcome
				welcome.typ = frameWelcome
				_ = send(conn, &welcome, append(files, p.theirIn, p.theirOut)...)
				_, _ = conn.Read(make([]byte, 1))
			})
			before := openFiles(t)
			r := relayTo(t, RelayConfig{Path: path, Patience: 100 * time.Millisecond})
			_, err := r.Invoke(t.Context(), actions.Request{Model: "m"})
			wantCode(t, err, actions.Unavailable)
			_ = r.Close()
			if tries.Load() == 0 {
				t.Error("the relay was not there")
			}
			eventually(t, "no file more than before", func() bool { return openFiles(t) <= before })
		})
	}
}

// openFiles counts the descriptors of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// mappings counts the mappings of memory files in this process.
func mappings(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "/memfd:deepfn-")
}

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
	s := serve(t, Config{TTL: 100 * time.Millisecond, MaxRelays: 2})
	// One stops within the handshake, one after it.
	c, err := new(net.Dialer).DialContext(t.Context(), "unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	hostile(t, s.path)
	// Meanwhile there is no place for a third.
	_, err = meet(t.Context(), s.path, nil)
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
		t.Run(name, func(t *testing.T) {
			path := fakeNode(t, func(conn *net.UnixConn) { welcomeAnd(t, conn, answer) })
			r := relayTo(t, RelayConfig{Path: path, Patience: 200 * time.Millisecond})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := r.Invoke(ctx, actions.Request{Model: "m"})
			wantCode(t, err, actions.Unavailable)
		})
	}
}

// welcomeAnd is a node that welcomes a relay, answers its first call, and closes.
func welcomeAnd(t *testing.T, conn *net.UnixConn, answer func(id uint64, responses []byte) []byte) {
	t.Helper()
	mem, err := worker.NewMemory(2, 1<<20+extraRoom)
	if err != nil {
		t.Error(err)
		return
	}
	defer mem.Close()
	_ = send(conn, &greeting{typ: frameChallenge})
	_, _ = receive(conn, frameHello)
	requests, responses := mem.Files()
	p, err := newPipes()
	if err != nil {
		t.Error(err)
		return
	}
	_ = send(conn, &greeting{typ: frameWelcome, lanes: 2, limit: 1 << 20, ttl: 10_000}, requests, responses, p.theirIn, p.theirOut)
	p.closeTheirs()
	defer p.closeOurs()
	var b [frameSize]byte
	if _, err := io.ReadFull(p.in, b[:]); err != nil {
		return // the relay came once more
	}
	f, err := parseFrame(&b)
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = p.out.Write(answer(f.id, mem.Response(0)))
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

func FuzzFrame(f *testing.F) {
	f.Add(bytesOf(frame{typ: frameCall, id: 1 << 60, lane: 3, parts: 2, length: 77, times: [3]int64{-1, 2, 3}, what: 4, flags: 5}))
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in, out [frameSize]byte
		copy(in[:], b)
		for _, want := range []frameType{frameChallenge, frameHello, frameWelcome} {
			if g, err := parseGreeting(&in, want); err == nil {
				g.put(&out)
				again, err := parseGreeting(&out, want)
				if err != nil || again != g {
					t.Errorf("got %+v, %v; want %+v", again, err, g)
				}
			}
		}
		fr, err := parseFrame(&in)
		if err != nil {
			return
		}
		fr.put(&out)
		if again, err := parseFrame(&out); err != nil || again != fr {
			t.Errorf("got %+v, %v; want %+v", again, err, fr)
		}
	})
}

// FuzzExtras reads what a node may put behind an answer.
func FuzzExtras(f *testing.F) {
	f.Add(uint32(kindLogs), putLogs([]actions.LogLine{{Stream: actions.Stdout, Text: "a line"}, {Stream: actions.Stderr}}, 1000))
	f.Add(uint32(kindInfo), []byte(`{"a":1}`))
	f.Fuzz(func(t *testing.T, kind uint32, data []byte) {
		logs, _, err := parseExtras([]worker.Part{{Kind: kind, Data: data}})
		if err != nil || kind != kindLogs {
			return
		}
		if again := putLogs(logs, maxLogs+100); string(again) != string(data) {
			t.Errorf("got %x, want %x", again, data)
		}
	})
}

// FuzzRelay sends a node what a relay may send, in frames and not, with any payload.
func FuzzRelay(f *testing.F) {
	f.Add(bytesOf(frame{typ: frameCall, id: 1, parts: 1, length: 64}), make([]byte, 64))
	f.Add(bytesOf(frame{typ: frameAsk, what: uint8(askImport), id: 1, parts: 2, length: 200}), []byte("code"))
	dir, err := os.MkdirTemp("", "deepfn") // the name of the target would make the path too long
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "n")
	ln, err := Listen(f.Context(), path, 0o600)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	n := New(Config{Pool: &fakePool{}, Catalog: fakeCatalog{}, Forget: func(string) {}, Lanes: 4, MaxPayload: 1 << 20})
	go func() { done <- n.Serve(ctx, ln) }() // ends with cancel
	f.Cleanup(func() {
		cancel()
		<-done
	})
	f.Fuzz(func(t *testing.T, sent, payload []byte) {
		w, err := meet(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		copy(w.mem.Request(0), payload)
		_, _ = w.out.Write(sent)
		_ = w.out.Close()
		_ = w.in.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, w.in); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the node keeps a relay that has ended")
		}
	})
}
