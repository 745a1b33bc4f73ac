package store_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// sample is a file with some activations and entities.
func sample(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	s := open(t, store.Config{Path: path})
	for n := range 300 {
		r := record(n)
		r.Doc = bytes.Repeat([]byte("d"), 500)
		end(t, s, r)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDamaged(t *testing.T) {
	whole := sample(t)
	tests := map[string]func([]byte) []byte{
		"text":           func([]byte) []byte { return bytes.Repeat([]byte("not a database\n"), 5000) },
		"short":          func([]byte) []byte { return []byte("short") },
		"one page":       func(d []byte) []byte { return d[:4096] },
		"beginning only": func(d []byte) []byte { return d[:5*4096] },
		"no beginning":   func(d []byte) []byte { clear(d[:8192]); return d },
		"only zeroes":    func(d []byte) []byte { clear(d); return d },
		"no pages":       func(d []byte) []byte { clear(d[8192:]); return d },
		"random pages": func(d []byte) []byte {
			for i := 8192; i < len(d); i++ {
				d[i] = byte(rand.Uint32())
			}
			return d
		},
	}
	for name, spoil := range tests {
		path := filepath.Join(t.TempDir(), "s")
		data := spoil(bytes.Clone(whole))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the first has not kept the lock
			_, err := store.Open(store.Config{Path: path})
			if actions.CodeOf(err) != actions.Internal || !strings.Contains(err.Error(), "is damaged") || !strings.Contains(err.Error(), "move it away") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: the file was changed, %v", name, err)
		}
	}
}

// TestDamagedWithin spoils a page at a time of a file: every call ends, with what is right
// or with an error.
func TestDamagedWithin(t *testing.T) {
	whole := sample(t)
	found := 0
	for page := 2; page < 120 && (page+1)*4096 < len(whole); page++ {
		data := bytes.Clone(whole)
		for i := page * 4096; i < (page+1)*4096; i += 1 + rand.IntN(100) {
			data[i] ^= byte(1 + rand.IntN(255))
		}
		path := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(store.Config{Path: path, MaxActivations: 100})
		if err == nil {
			_, err1 := s.Pending()
			err2 := s.Activations("guest", whisk.ActivationQuery{Docs: true}, func(store.Record) bool { return true })
			err3 := s.End(t.Context(), record(1000))
			err4 := s.Update(func(tx *store.Tx) error { return tx.PutEntity(store.Key{Name: "n"}, nil) })
			err = errors.Join(err1, err2, err3, err4)
			_ = s.Close()
		}
		if err != nil {
			found++
		}
	}
	if found == 0 {
		t.Error("nothing was noticed")
	}
	t.Logf("%d noticed", found)
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(file, "s"), "/proc/none/s"} {
		_, err := store.Open(store.Config{Path: path})
		if actions.CodeOf(err) != actions.Unavailable || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
