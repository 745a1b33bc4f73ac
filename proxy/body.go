package proxy

import (
	"bytes"
	"errors"
	"io"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// chunkedBody is the length that the HTTP library says of a body in chunks.
	chunkedBody = -1
	// A body has bodyTime to arrive, and each slowBytes of it slowTime.
	bodyTime  = 5 * time.Minute
	slowTime  = 30 * time.Second
	slowBytes = 32 << 10
	// A refused body is read and thrown away up to drainBytes or drainTime, so that a
	// client which writes all of it before it reads gets the answer.
	drainBytes = 4 << 30
	drainTime  = 10 * time.Second
	// inMemory is how long a body may be and still be in memory, not on disk: most files,
	// also in base64.
	inMemory = 8 << 20
	// payload is as long as a payload of OpenWhisk, 1 MiB, with what stands beside it. What
	// is decoded from one is not counted.
	payload = 1<<20 + 64<<10
	// keptBuffer is how large a buffer may be and still be kept for another request, and
	// how much may be given back before the system is asked to take it.
	keptBuffer = 4 << 20
	// Once bodies of freeBytes in all have been let go of, the memory is given back to
	// the system after freeDelay, so that many at once cost it once.
	freeBytes = 32 << 20
	freeDelay = 5 * time.Second
)

// Buffers are memory that one request after the other uses.
type buffers struct{ pool sync.Pool } // of *[]byte

func (b *buffers) take() *[]byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return buf
	}
	return new([]byte)
}

// keep takes a buffer back, which nobody may use any more.
func (b *buffers) keep(buf *[]byte) {
	if buf != nil && cap(*buf) <= keptBuffer {
		b.pool.Put(buf)
	}
}

// grow makes the next one who takes a buffer find room for n bytes in it.
func grow(buf *[]byte, n int) {
	if n > cap(*buf) && n <= keptBuffer {
		*buf = make([]byte, 0, min(n+n/4, keptBuffer))
	}
}

// readAll reads a body to its end: into buf, which it grows as bytes come, or onto the
// disk when it is long, or when there is no memory for it. A length that is not negative
// is the one that is expected.
func (s *Server) readAll(from io.Reader, length int64, buf []byte, r *request) ([]byte, *spool, error) {
	limit := s.bodies.inMemory()
	for length <= limit {
		if int64(len(buf)) == length {
			return buf, nil, nil
		}
		if len(buf) == cap(buf) {
			size := min(max(2*int64(cap(buf)), 512), limit)
			if length >= 0 {
				size = length
			}
			more := size - int64(cap(buf))
			if more == 0 || r.take(more) != nil {
				break
			}
			grown := make([]byte, len(buf), size)
			copy(grown, buf)
			buf = grown
		}
		n, err := from.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > s.cfg.MaxBody:
			return buf, nil, s.tooLargeError()
		case errors.Is(err, io.EOF):
			return buf, nil, nil
		case err != nil:
			return buf, nil, err
		}
	}
	sp, err := s.spool(from, buf)
	if err == nil { // the memory is for what is decoded from the body
		s.bodies.give(r.taken)
		buf, r.taken = nil, 0
	}
	return buf, sp, err
}

// spool puts a body onto the disk, of which the beginning has been read.
func (s *Server) spool(from io.Reader, begun []byte) (*spool, error) {
	sp, err := newSpool(s.cfg.TempDir)
	if err != nil {
		return nil, err
	}
	chunk, _ := s.chunks.Get().(*[]byte)
	if chunk == nil {
		chunk = new(make([]byte, spoolChunk))
	}
	defer s.chunks.Put(chunk)
	if err = sp.write(begun); err == nil {
		err = sp.fill(from, *chunk, s.cfg.MaxBody, s.tooLargeError())
	}
	if err == nil {
		err = sp.show()
	}
	if err != nil {
		sp.close()
		return nil, err
	}
	return sp, nil
}

// A steadyReader is a body that must not come too slowly.
type steadyReader struct {
	from  io.Reader
	limit func(time.Time) error // says until when to read at most
	end   time.Time             // of all
	left  int                   // until the limit is moved
}

func (r *steadyReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		r.left = slowBytes
		limit := time.Now().Add(slowTime)
		if limit.After(r.end) {
			limit = r.end
		}
		if err := r.limit(limit); err != nil {
			return 0, err
		}
	}
	n, err := r.from.Read(p)
	r.left -= n
	return n, err
}

// A budget bounds the memory for what all requests at one time have sent.
type budget struct {
	limit int64
	used  atomic.Int64

	freed      atomic.Int64 // of large bodies, since the last free
	waiting    atomic.Bool  // a free will come
	collecting atomic.Bool  // a free is in progress
	free       func()       // gives memory back to the system
}

func newBudget(limit int64) *budget { return &budget{limit: limit, free: debug.FreeOSMemory} }

// take takes n bytes, unless they are more than is left.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) <= b.limit {
		return true
	}
	b.used.Add(-n)
	return false
}

// inMemory is how long a body may be and still be in memory. What is decoded from it has
// to find room beside it, even if the limit is no more than one body may have.
func (b *budget) inMemory() int64 { return max(payload, min(inMemory, b.limit/4)) }

// take takes memory for a part of a request, or refuses the request as busy.
func (r *request) take(n int64) error {
	if r.bodies == nil {
		return nil
	}
	if !r.bodies.take(n) {
		return busyError()
	}
	r.taken += n
	return nil
}

// give gives back what a body took. After large ones the system gets its memory back,
// for which the collector would wait for another burst.
func (b *budget) give(n int64) {
	b.used.Add(-n)
	if n <= keptBuffer || b.freed.Add(n) < freeBytes || !b.waiting.CompareAndSwap(false, true) {
		return
	}
	time.AfterFunc(freeDelay, func() {
		b.freed.Store(0)
		b.waiting.Store(false)
		b.free()
	})
}

// collect gives memory back to the system now, because the next large answer would find
// the one before it still there. One at a time does it: it is a few milliseconds' work.
func (b *budget) collect() {
	if b.collecting.CompareAndSwap(false, true) {
		defer b.collecting.Store(false)
		b.free()
	}
}

// defaultBodies is the budget of bodies on a machine with that much memory, 0 for no limit.
func defaultBodies(memory int64) int64 {
	if memory <= 0 {
		return 1 << 30
	}
	return memory / 4
}

// hasHeader says whether a header, as it was sent, has a field of this name.
func hasHeader(raw []byte, name string) bool {
	for line := range bytes.Lines(raw) {
		if field, _, ok := bytes.Cut(line, []byte{':'}); ok && strings.EqualFold(string(field), name) {
			return true
		}
	}
	return false
}
