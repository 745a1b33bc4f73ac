package rows

import (
	"compress/gzip"
	"errors"
	"io"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A stream is the content of an object from an offset on, decompressed.
type stream struct {
	object  object
	raw     *rawStream
	content io.Reader
	// at is the offset in the content of what is read next.
	at int64
}

// newStream opens an object. Of a compressed one everything before the offset is read.
func newStream(o object, offset int64) (*stream, error) {
	compressed := isGzip(o.name)
	start := offset
	if compressed {
		start = 0
	}
	if start > o.size {
		return nil, o.damaged("there is no offset %d in %d bytes", offset, o.size)
	}
	raw, err := newRawStream(o, start)
	if err != nil {
		return nil, err
	}
	s := &stream{object: o, raw: raw, content: raw, at: start}
	if compressed && o.size > 0 {
		z, err := gzip.NewReader(raw)
		if err != nil {
			_ = raw.Close() // the error above says more
			if raw.err == nil {
				return nil, o.damaged("it is not compressed by gzip, as its name says: %w", err)
			}
			return nil, raw.err
		}
		s.content = z
	}
	if err := s.skip(offset - s.at); err != nil {
		_ = raw.Close() // the error above says more
		return nil, err
	}
	return s, nil
}

// skip moves n bytes on.
func (s *stream) skip(n int64) error {
	if n <= 0 {
		return nil
	}
	_, err := io.CopyN(io.Discard, s, n)
	if errors.Is(err, io.EOF) {
		return s.object.damaged("the content ends at %d, before the position that was asked for", s.at)
	}
	return err
}

// Read reads content. Its errors, but for io.EOF, are *actions.Error.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.content.Read(p)
	s.at += int64(n)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = s.fault(err)
	}
	return n, err
}

// fault tells the store's errors from damage.
func (s *stream) fault(err error) error {
	if s.raw.err != nil {
		return s.raw.err
	}
	if _, ok := errors.AsType[*actions.Error](err); ok {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return s.object.damaged("it ends too early, in the middle of what it has: write it anew")
	}
	return s.object.damaged("it is damaged near byte %d: %w", s.raw.at, err)
}

// consumed is how many bytes of the object were read.
func (s *stream) consumed(offset int64) int64 {
	if isGzip(s.object.name) {
		return s.raw.at
	}
	return offset
}

func (s *stream) Close() error { return s.raw.Close() }

// A rawStream is an object as it is stored, from an offset to its end. It is as long as the
// store said, or an error.
type rawStream struct {
	object object
	body   io.ReadCloser
	at     int64
	err    error // that of the store
}

func newRawStream(o object, offset int64) (*rawStream, error) {
	r := &rawStream{object: o, at: offset}
	if offset == o.size {
		r.body = io.NopCloser(emptyReader{})
		return r, nil
	}
	body, err := o.open(o.url, offset, o.size-offset)
	if err != nil {
		return nil, storeError(o.shown, err)
	}
	r.body = body
	return r, nil
}

func (r *rawStream) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	left := r.object.size - r.at
	if left == 0 {
		return 0, io.EOF
	}
	n, err := r.body.Read(p[:min(int64(len(p)), left)])
	r.at += int64(n)
	switch {
	case err == nil || errors.Is(err, io.EOF) && r.at == r.object.size:
		return n, nil
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	r.err = storeError(r.object.shown, err)
	return n, r.err
}

func (r *rawStream) Close() error { return r.body.Close() }

// storeError is an error of the store. One that is no *actions.Error is a connection that broke.
func storeError(shown string, err error) error {
	if _, ok := errors.AsType[*actions.Error](err); ok {
		return err
	}
	e := actions.Errorf(actions.Unavailable, "reading %s: %w", shown, err)
	e.RetryAfter = time.Second // the same Read may do then
	return e
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, io.EOF }
