package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// socketPair is both ends of a connection, ours with its direct.
func socketPair(t *testing.T, network, address string) (ours net.Conn, d *direct, peer net.Conn) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	peer, err = new(net.Dialer).DialContext(t.Context(), network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if ours, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ours.Close()
		_ = peer.Close()
	})
	if d = directOf(ours); d == nil {
		t.Fatalf("got nothing for a %T", ours)
	}
	return ours, d, peer
}

func TestDirect(t *testing.T) {
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		t.Run(network, func(t *testing.T) {
			_, d, peer := socketPair(t, network, address)
			go func() { // ends with the connection
				_, _ = io.Copy(peer, peer)
			}()
			for _, size := range []int{1, 1000, directSize} {
				sent := bytes.Repeat([]byte{byte(size), 7}, size)[:size]
				if n, err := d.write(sent); n != size || err != nil {
					t.Fatalf("write: got %d, %v, want %d", n, err, size)
				}
				got := make([]byte, size)
				if _, err := io.ReadFull(readerFunc(d.read), got); err != nil || !bytes.Equal(got, sent) {
					t.Fatalf("%d bytes came back as others: %v", size, err)
				}
			}
		})
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A client that reads nothing takes what the buffers take; the deadline ends the rest.
func TestDirectFull(t *testing.T) {
	ours, d, _ := socketPair(t, "tcp", "127.0.0.1:0")
	if err := ours.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var n int
	var err error
	for total := 0; err == nil && total < 1<<30; total += n {
		n, err = d.write(make([]byte, directSize))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || n >= directSize {
		t.Errorf("got %d of %d bytes, %v, want a part of them and the deadline", n, directSize, err)
	}
}

func TestDirectEnds(t *testing.T) {
	for _, test := range []struct {
		name  string
		begin func(t *testing.T, ours net.Conn, peer net.Conn)
		want  error
	}{
		{"deadline", func(t *testing.T, ours, _ net.Conn) {
			t.Helper()
			if err := ours.SetReadDeadline(time.Now()); err != nil {
				t.Fatal(err)
			}
		}, os.ErrDeadlineExceeded},
		{"end", func(_ *testing.T, _, peer net.Conn) { _ = peer.Close() }, io.EOF},
		{"closed here", func(_ *testing.T, ours, _ net.Conn) { go func() { _ = ours.Close() }() }, net.ErrClosed},
		{"reset", func(t *testing.T, _, peer net.Conn) {
			t.Helper()
			tcp, ok := peer.(*net.TCPConn)
			if !ok || tcp.SetLinger(0) != nil {
				t.Fatalf("a %T cannot be reset", peer)
			}
			_ = peer.Close()
		}, syscall.ECONNRESET},
	} {
		t.Run(test.name, func(t *testing.T) {
			ours, d, peer := socketPair(t, "tcp", "127.0.0.1:0")
			test.begin(t, ours, peer)
			if n, err := d.read(make([]byte, 10)); n != 0 || !errors.Is(err, test.want) {
				t.Errorf("got %d, %v, want %v", n, err, test.want)
			}
		})
	}
}

// Who has left gets no signal out of the next write, which would end the process.
func TestDirectBroken(t *testing.T) {
	_, d, peer := socketPair(t, "tcp", "127.0.0.1:0")
	if tcp, ok := peer.(*net.TCPConn); !ok || tcp.SetLinger(0) != nil {
		t.Fatalf("a %T cannot be reset", peer)
	}
	_ = peer.Close()
	var err error
	for range 2 {
		_, err = d.write([]byte("x"))
	}
	if !errors.Is(err, syscall.EPIPE) {
		t.Errorf("got %v, want %v", err, syscall.EPIPE)
	}
}
