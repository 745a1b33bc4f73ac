package batch

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"os"

	"github.com/deepfn/deepfn/actions"
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
			return 0, s.full(err)
		}
	}
	s.size += int64(len(p))
	_, _ = s.sum.Write(p) // never fails
	if s.file == nil {
		return s.buffer.Write(p)
	}
	n, err := s.file.Write(p)
	if err != nil {
		return n, s.full(err)
	}
	return n, nil
}

// toDisk moves what is in memory into a file without a name.
func (s *spool) toDisk() error {
	f, err := os.CreateTemp(s.dir, "deepfn-part-*")
	if err != nil {
		return err
	}
	s.file = f
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	_, err = s.buffer.WriteTo(f)
	s.buffer = bytes.Buffer{}
	return err
}

func (s *spool) full(err error) error {
	return &actions.Error{
		Code: actions.Unavailable, Err: err,
		Msg: "the answers of a chunk cannot be kept in " + s.dir + ": make room there, name another folder (TMPDIR), or take fewer rows for a chunk",
	}
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
