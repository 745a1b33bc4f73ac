package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/cmd/relay"
)

// TestMakeToken has the disk be full at first.
func TestMakeToken(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "n.token")
	files := func() (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	err := makeToken(file, func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return errors.Join(err, syscall.ENOSPC)
	})
	if !errors.Is(err, syscall.ENOSPC) || actions.CodeOf(err) != actions.Unavailable || len(files()) != 0 {
		t.Errorf("on a full disk: got %v, and the files %q; want the error and no file", err, files())
	}
	if err := makeToken(file, writeToken); err != nil {
		t.Fatal(err)
	}
	token, err := relay.ReadOwnToken(file, nil)
	if err != nil || len(token) != 2*tokenBytes {
		t.Errorf("got a token of %d bytes, %v; want %d", len(token), err, 2*tokenBytes)
	}
	for _, call := range []func(string, func(io.Writer) error) error{makeToken, publishToken} {
		err := call(file, func(w io.Writer) error {
			_, err := io.WriteString(w, strings.Repeat("x", 64))
			return err
		})
		if err != nil && !errors.Is(err, os.ErrExist) {
			t.Error(err)
		}
	}
	if again, err := relay.ReadOwnToken(file, nil); err != nil || string(again) != string(token) {
		t.Errorf("the token that was there was replaced: %v", err)
	}
	if got := files(); len(got) != 1 {
		t.Errorf("got the files %q, want the token alone", got)
	}
}
