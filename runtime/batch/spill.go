package batch

import (
	"bufio"
	"cmp"
	"os"
	"syscall"

	"github.com/deepfn/deepfn/actions"
)

const (
	// spillFrom is how many bytes of answers of a chunk are in memory before they go to the disk.
	spillFrom = 64 << 20
	// firstRows is how many rows are predicted, for each call at the same time, before the size of
	// their answers is looked at; of calls that take a list it is one, which has firstListed rows
	// when nobody says.
	firstRows   = 64
	firstListed = 1000
)

// A spill moves answers of a chunk into files without names, which are mapped: a chunk is some megabytes
// of input, and its answers may be gigabytes. What was moved is good until close.
type spill struct {
	dir  string
	maps [][]byte
	from int // the first outcome that was not looked at
	held int64
	// largest is how many bytes the largest answer has.
	largest int64
}

// next is how many rows more may be predicted before keep is called again: so many that their
// answers are no more than spillFrom if those before tell how large they are.
func (s *spill) next(left int, t *task) int {
	largest := max(s.largest, 1)
	for _, value := range t.rec.Batch.Arguments { // which each row has a copy of
		largest += int64(len(value))
	}
	most := min(left, int(max(1, spillFrom/largest)))
	if s.from > 0 {
		return most
	}
	c := t.call()
	size := firstRows
	if c.Batching.Vectorised() {
		size = cmp.Or(c.Batching.Size, firstListed)
	}
	return min(most, size*c.Concurrency)
}

// keep takes the answers that are new, and moves them if they have become large. The error is
// Unavailable if the disk takes no more.
func (s *spill) keep(outcomes []outcome) error {
	var fresh int64
	for i := s.from; i < len(outcomes); i++ {
		n := int64(len(outcomes[i].response.Data))
		fresh += n
		s.largest = max(s.largest, n)
	}
	moved := outcomes[s.from:]
	s.from = len(outcomes)
	if s.held += fresh; s.held < spillFrom {
		return nil
	}
	s.held -= fresh
	if err := s.move(moved, fresh); err != nil {
		return full(s.dir, err)
	}
	return nil
}

// move moves answers, of so many bytes in all, to the disk.
func (s *spill) move(outcomes []outcome, size int64) error {
	if size == 0 {
		return nil
	}
	f, err := nameless(s.dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // which the map outlives
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range outcomes {
		_, _ = w.Write(outcomes[i].response.Data) // Flush has the error
	}
	if err := w.Flush(); err != nil {
		return err
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	s.maps = append(s.maps, m)
	for i := range outcomes {
		data := &outcomes[i].response.Data
		n := len(*data)
		*data, m = m[:n:n], m[n:]
	}
	return nil
}

func (s *spill) close() {
	for _, m := range s.maps {
		_ = syscall.Munmap(m) // it is one
	}
	s.maps = nil
}

// nameless makes a file that is gone when it is closed.
func nameless(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "deepfn-part-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close() // the error above says more
		return nil, err
	}
	return f, nil
}

// full is the error of answers that a folder does not take.
func full(dir string, err error) error {
	return &actions.Error{
		Code: actions.Unavailable, Err: err,
		Msg: "the answers of a chunk cannot be kept in " + dir + ": make room there, name another folder (TMPDIR), or take fewer rows for a chunk",
	}
}
