package rows

import (
	"errors"
	"io"

	"github.com/deepfn/deepfn/actions"
)

const (
	// rangedBlock is how much is fetched at once, rangedBlocks how many of them are kept.
	rangedBlock  = 1 << 20
	rangedBlocks = 16
)

// A ranged reads an object at any place, a block in each request, and keeps the last ones: formats
// with a directory read ten bytes here and there.
type ranged struct {
	object object
	blocks map[int64][]byte
	used   []int64 // the numbers of the blocks, the last used last
	// err is the first error of the store, which says more than what a format makes of it.
	err error
}

func newRanged(o object) *ranged { return &ranged{object: o, blocks: map[int64][]byte{}} }

// ReadAt reads as io.ReaderAt does. It is for one goroutine.
func (r *ranged) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, r.object.damaged("it names a place before its beginning")
	}
	for n < len(p) {
		at := offset + int64(n)
		if at >= r.object.size {
			return n, io.EOF
		}
		block, err := r.block(at / rangedBlock)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], block[at%rangedBlock:])
	}
	return n, nil
}

// block returns a block of the object.
func (r *ranged) block(number int64) ([]byte, error) {
	if block, ok := r.blocks[number]; ok {
		r.touch(number)
		return block, nil
	}
	if r.err != nil {
		return nil, r.err
	}
	start := number * rangedBlock
	var block []byte
	if len(r.used) == rangedBlocks {
		block = r.blocks[r.used[0]]
		delete(r.blocks, r.used[0])
		r.used = r.used[:copy(r.used, r.used[1:])]
	}
	if cap(block) == 0 {
		block = make([]byte, min(rangedBlock, r.object.size))
	}
	block = block[:min(rangedBlock, r.object.size-start)]
	body, err := r.object.open(r.object.url, start, int64(len(block)))
	if err == nil {
		_, err = io.ReadFull(body, block)
		_ = body.Close() // it was only read
	}
	if err != nil {
		r.err = storeError(r.object.shown, err)
		return nil, r.err
	}
	r.blocks[number] = block
	r.used = append(r.used, number)
	return block, nil
}

// touch notes that a block was used.
func (r *ranged) touch(number int64) {
	last := len(r.used) - 1
	if r.used[last] == number {
		return
	}
	for i, n := range r.used {
		if n == number {
			copy(r.used[i:], r.used[i+1:])
			r.used[last] = number
			return
		}
	}
}

// fault tells the store's errors from damage.
func (r *ranged) fault(err error) error {
	if r.err != nil {
		return r.err
	}
	if _, ok := errors.AsType[*actions.Error](err); ok {
		return err
	}
	return r.object.damaged("it cannot be read: %w", err)
}
