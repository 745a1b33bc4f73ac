package node

import (
	"net"
	"os"
	"path/filepath"
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
