package rows

import (
	"bytes"
	"errors"
	"io"
)

// readSize is how much is read at once.
const readSize = 256 << 10

// A buffer is a window over a stream, in which a row lies whole.
type buffer struct {
	stream *stream
	data   []byte // what was read and not taken
	room   []byte // the memory of data, from its beginning
	// at is the offset of data in the content.
	at int64
	// end says that there is no more than data.
	end bool
}

func newBuffer(s *stream) *buffer {
	return &buffer{stream: s, room: make([]byte, readSize), at: s.at}
}

// take moves past n bytes.
func (b *buffer) take(n int) {
	b.data = b.data[n:]
	b.at += int64(n)
}

// fill reads until there are n bytes in data, or the content ends.
func (b *buffer) fill(n int) error {
	if len(b.data) >= n || b.end {
		return nil
	}
	if n > len(b.room) {
		room := make([]byte, max(n, 2*len(b.room)))
		b.data = room[:copy(room, b.data)]
		b.room = room
	} else {
		b.data = b.room[:copy(b.room, b.data)]
	}
	for len(b.data) < n {
		k, err := b.stream.Read(b.room[len(b.data):])
		b.data = b.room[:len(b.data)+k]
		if errors.Is(err, io.EOF) {
			b.end = true
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// moreOf reads as much again as there is, so that who looks at all of it each time does so a few
// times only.
func (b *buffer) moreOf() error { return b.fill(2*len(b.data) + 1) }

// skipSpace moves past white space, or past empty lines only, and says whether anything is left.
func (b *buffer) skipSpace(cutset string) (bool, error) {
	for {
		i := 0
		for i < len(b.data) && bytes.IndexByte([]byte(cutset), b.data[i]) >= 0 {
			i++
		}
		b.take(i)
		if len(b.data) > 0 {
			return true, nil
		}
		if b.end {
			return false, nil
		}
		if err := b.fill(1); err != nil {
			return false, err
		}
	}
}

// skipMark moves past a byte order mark at the beginning of the content. It refuses content whose
// beginning says that it is no text in UTF-8, in which each row would be wrong.
func (b *buffer) skipMark() error {
	if b.at != 0 {
		return nil
	}
	if err := b.fill(3); err != nil {
		return err
	}
	begins := func(with string) bool { return bytes.HasPrefix(b.data, []byte(with)) }
	switch {
	case begins("\xef\xbb\xbf"):
		b.take(3)
	case begins("\xff\xfe"), begins("\xfe\xff"):
		return b.stream.object.damaged("it is UTF-16: write it as UTF-8")
	case begins("\x1f\x8b"):
		return b.stream.object.damaged("it is compressed by gzip: give it a name that ends in .gz")
	}
	return nil
}

// line returns the line that data begins with, without its newline, and how long it is with
// it; nil for one over the limit. The line is data's.
func (b *buffer) line(limit int) (line []byte, n int, err error) {
	seen := 0
	for {
		if i := bytes.IndexByte(b.data[seen:], '\n'); i >= 0 {
			n = seen + i
			if n > limit {
				return nil, n + 1, nil
			}
			return b.data[:n], n + 1, nil
		}
		seen = len(b.data)
		if b.end {
			if seen > limit {
				return nil, seen, nil
			}
			return b.data[:seen], seen, nil
		}
		if seen > limit {
			return nil, 0, nil
		}
		if err := b.moreOf(); err != nil {
			return nil, 0, err
		}
	}
}

// skipLine moves past the rest of a line, in flat memory, and returns how long it was.
func (b *buffer) skipLine() (n int64, err error) {
	start := b.at
	for {
		if i := bytes.IndexByte(b.data, '\n'); i >= 0 {
			b.take(i + 1)
			return b.at - start, nil
		}
		b.take(len(b.data))
		if b.end {
			return b.at - start, nil
		}
		if err := b.fill(1); err != nil {
			return 0, err
		}
	}
}
