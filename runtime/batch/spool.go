package batch

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"os"
)

// spoolMemory is how much of a part is kept in memory before it goes to the disk.
const spoolMemory = 8 << 20

// A spool takes the bytes of a part before they are stored.
type spool struct {
	dir    string
	buffer bytes.Buffer // while there is no file
	file   *os.File
	size   int64
	sum    hash.Hash
}

func newSpool(dir string) *spool { return &spool{dir: dir, sum: sha256.New()} }

// Write keeps p. The error is Unavailable if the disk takes no more.
func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil && s.buffer.Len()+len(p) > spoolMemory {
		if err := s.toDisk(); err != nil {
			return 0, full(s.dir, err)
		}
	}
	s.size += int64(len(p))
	_, _ = s.sum.Write(p) // never fails
	if s.file == nil {
		return s.buffer.Write(p)
	}
	n, err := s.file.Write(p)
	if err != nil {
		return n, full(s.dir, err)
	}
	return n, nil
}

// toDisk moves what is in memory into a file without a name.
func (s *spool) toDisk() error {
	f, err := nameless(s.dir)
	if err != nil {
		return err
	}
	s.file = f
	_, err = s.buffer.WriteTo(f)
	s.buffer = bytes.Buffer{}
	return err
}

// body returns all of it, from the beginning.
func (s *spool) body() (io.ReadSeeker, error) {
	if s.file == nil {
		return bytes.NewReader(s.buffer.Bytes()), nil
	}
	_, err := s.file.Seek(0, io.SeekStart)
	return s.file, err
}

func (s *spool) hash() string { return hex.EncodeToString(s.sum.Sum(nil)) }

func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}
