package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

const (
	// spoolChunk is how many bytes at a time a body goes to the disk.
	spoolChunk = 256 << 10
	// window is how many bytes of a body on disk are looked at before the memory that
	// shows them is given back.
	window = 4 << 20
)

// A spool is a body on disk, in a file without a name, and in memory only as far as
// somebody reads it.
type spool struct {
	file *os.File // closed after show
	size int64
	data []byte // the file, read-only; nil before show
}

// newSpool makes an empty file in a folder.
func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "deepfn-body-")
	if err != nil {
		return nil, diskError(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, diskError(err)
	}
	return &spool{file: f}, nil
}

// fill writes what comes from a reader, through chunk, until its end or an error, and
// until there are more bytes than limit, which is an error too.
func (sp *spool) fill(from io.Reader, chunk []byte, limit int64, tooLarge error) error {
	for {
		n, err := from.Read(chunk)
		if sp.size+int64(n) > limit {
			return tooLarge
		}
		if werr := sp.write(chunk[:n]); werr != nil {
			return werr
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (sp *spool) write(p []byte) error {
	n, err := sp.file.Write(p)
	sp.size += int64(n)
	if err != nil {
		return diskError(err)
	}
	return nil
}

// show maps the file into memory, which is what keeps it from then on. It does not change
// any more.
func (sp *spool) show() error {
	defer func() { _ = sp.file.Close() }()
	if sp.size == 0 {
		sp.data = []byte{}
		return nil
	}
	data, err := unix.Mmap(int(sp.file.Fd()), 0, int(sp.size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return diskError(err)
	}
	sp.data = data
	return nil
}

// forget gives back the memory that shows a part of the body; the disk still has it. The
// part must end where the body does, or have been cut without a limit of its capacity.
func (sp *spool) forget(part []byte) {
	page := os.Getpagesize()
	from := cap(sp.data) - cap(part)
	to := (from + len(part)) / page * page
	from = (from + page - 1) / page * page
	if from < to && to <= len(sp.data) {
		_ = unix.Madvise(sp.data[from:to], unix.MADV_DONTNEED)
	}
}

// close gives everything back. Nobody may use the data any more.
func (sp *spool) close() {
	if len(sp.data) > 0 {
		_ = unix.Munmap(sp.data)
	}
	sp.data = nil
	_ = sp.file.Close() // unless show has
}

// diskError says that a body cannot be kept. The cause is for the log: it names a folder.
func diskError(err error) *actions.Error {
	e := &actions.Error{
		Code: actions.Unavailable, Err: fmt.Errorf("body on disk: %w", err),
		Msg: "the server cannot keep a request body of that size at the moment; try again later, or send less",
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		e.Status = http.StatusInsufficientStorage
		e.Msg = "the server has no space left on its disk for the request body; try again later, or send less"
	}
	return e
}
