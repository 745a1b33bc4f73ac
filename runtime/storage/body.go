package storage

import "io"

// A body is an object that is read. Each Read has the time of its watch; what its reader
// does in between does not count.
type body struct {
	l    location
	from io.ReadCloser
	w    *watch
}

func (b *body) Read(p []byte) (int, error) {
	b.w.resume()
	n, err := b.from.Read(p)
	b.w.pause()
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, b.w.ended(brokenOff(b.l, err))
}

func (b *body) Close() error {
	b.w.end()
	return b.from.Close()
}

// A source is what is put. It has the length that its caller has said, or reading it fails,
// so that no store takes a part for the whole.
type source struct {
	from io.Reader
	left int64
	read func() // called when something is read
	err  error  // of from
}

// errLength is that what is put is not as long as was said.
const errLength = refusal("it has another length than was said")

func (s *source) Read(p []byte) (int, error) {
	s.read()
	n, err := s.from.Read(p)
	s.left -= int64(n)
	switch {
	case s.left < 0, err == io.EOF && s.left > 0:
		err = errLength
	}
	if err != nil && err != io.EOF {
		s.err = err
		return 0, err
	}
	return n, err
}
