package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A lockedBuffer is a log that a test reads while it is written.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestRefusalsAreLoggedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r refusals
		var lines []int
		for range 30 { // 3 s
			if left, ok := r.admit(); ok {
				lines = append(lines, left)
			}
			time.Sleep(refusalPause / 10)
		}
		if !slices.Equal(lines, []int{0, 9, 9}) || r.rest() != 9 {
			t.Errorf("got lines with %v left out and then %d, want [0 9 9] and 9", lines, r.rest())
		}
	})
}

// TestManyAreRefused has a full node refuse many: its log does not grow with them.
func TestManyAreRefused(t *testing.T) {
	var log lockedBuffer
	s := serve(t, Config{MaxRelays: 1, Log: slog.New(slog.NewTextHandler(&log, nil))})
	hostile(t, s.path)
	began := time.Now()
	const many = 200
	for range many {
		_, err := meet(t.Context(), s.path, nil)
		wantCode(t, err, actions.Unavailable, "--max-relays")
	}
	most := 1 + int(time.Since(began)/refusalPause)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	lines := strings.Count(log.String(), "relay refused")
	if lines < 1 || lines > most || !strings.Contains(log.String(), "left_out=") {
		t.Errorf("%d were refused in %d lines, want 1 to %d with a count:\n%s", many, lines, most, log.String())
	}
}

// TestNodeWithoutItsToken has a node that cannot read its token: its log says why, the relay
// does not hear where the token is.
func TestNodeWithoutItsToken(t *testing.T) {
	var log lockedBuffer
	s := serve(t, Config{
		Log: slog.New(slog.NewTextHandler(&log, nil)),
		Token: func() ([]byte, error) {
			return nil, &os.PathError{Op: "open", Path: "/secret/place", Err: errors.New("too many")}
		},
	})
	_, err := meet(t.Context(), s.path, nil)
	if e := wantCode(t, err, actions.Unavailable, "cannot read its token"); strings.Contains(e.Msg, "/secret") || e.RetryAfter == 0 {
		t.Errorf("got %q, retry after %v", e.Msg, e.RetryAfter)
	}
	eventually(t, "the cause in the log", func() bool { return strings.Contains(log.String(), "open /secret/place: too many") })
}

// TestNoNode says what to do when there is no socket.
func TestNoNode(t *testing.T) {
	path := t.TempDir() + "/n"
	wantCode(t, Probe(t.Context(), path, nil), actions.Unavailable, path, "no such file", "start 'deepfn node'", "--node")
	stale, err := Listen(t.Context(), path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, Probe(t.Context(), path, nil), actions.Unavailable, path, "nobody listens", "start 'deepfn node'")
}

// TestWhyRelaysGo has a relay that was gone when the node answered it, as when the node was
// stopped meanwhile: it broke nothing.
func TestWhyRelaysGo(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{io.EOF, "it has ended"},
		{errUnsent, "it has ended"},
		{fmt.Errorf("a beat: %w", errUnsent), "it has ended"},
		{os.ErrClosed, "the connection has ended"},
		{errors.New("a frame of type 99"), "it broke the protocol: a frame of type 99"},
	} {
		p, err := newPipes()
		if err != nil {
			t.Fatal(err)
		}
		direct, err := newPipes()
		if err != nil {
			t.Fatal(err)
		}
		l, err := newLease(New(Config{Pool: &fakePool{}, Catalog: fakeCatalog{}}), p, direct)
		if err != nil {
			t.Fatal(err)
		}
		l.over(test.err)
		if l.reason != test.want {
			t.Errorf("%v: got %q, want %q", test.err, l.reason, test.want)
		}
		l.mem.Close()
		p.closeTheirs()
		direct.closeTheirs()
	}
}
