package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/cmd/relay"
)

// token returns what reads the token, which it makes if nobody has said where there is one.
func (n *nodeServer) token() (func() ([]byte, error), error) {
	if n.noToken {
		return nil, nil
	}
	file := n.tokenFile
	read := func() ([]byte, error) { return relay.ReadToken(file) }
	if file == "" {
		file = relay.DefaultTokenFile(n.socket)
		if err := makeToken(file, writeToken); err != nil {
			return nil, err
		}
		read = func() ([]byte, error) { return relay.ReadOwnToken(file, n.allow) }
	}
	_, err := read()
	return read, err
}

// tokenBytes is how many random bytes a token has that is made here.
const tokenBytes = 32

func writeToken(w io.Writer) error {
	secret := make([]byte, tokenBytes)
	_, _ = rand.Read(secret) // never fails
	_, err := io.WriteString(w, hex.EncodeToString(secret)+"\n")
	return err
}

// makeToken has write write a new token, unless the file is there: it is there as a whole or
// not at all, because a node does not start with half a token, and does not replace one.
func makeToken(file string, write func(io.Writer) error) error {
	if _, err := os.Lstat(file); err == nil {
		return nil
	}
	err := publishToken(file, write)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return actions.Errorf(actions.Unavailable, "the token of the node: %w; name a file with --token-file", err)
	}
	return nil
}

// publishToken gives the file its name when all is in it. It is for this user alone.
func publishToken(file string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".token.*.part") // with the mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // the file has two names when all went well
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), file) // a rename would replace one that came meanwhile
}
