package node

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
)

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
