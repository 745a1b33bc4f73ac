package rows

import (
	"archive/tar"
	"errors"
	"io"
	"strings"
)

// tarBlock is what everything in a tar is a multiple of.
const tarBlock = 512

// A tarball reads the files of a tar, one after the other. An offset is where the headers of an
// entry begin.
type tarball struct {
	object object
	stream *stream
	reader *tar.Reader
	start  int64
	entry  *tar.Header // the file that more has found
}

func newTar(o object, offset int64) (reader, error) {
	if offset%tarBlock != 0 {
		return nil, o.damaged("no entry begins at %d", offset)
	}
	s, err := newStream(o, offset)
	if err != nil {
		return nil, err
	}
	return &tarball{object: o, stream: s, reader: tar.NewReader(s)}, nil
}

func (t *tarball) more() (bool, error) {
	for t.entry == nil {
		if _, err := io.Copy(io.Discard, t.reader); err != nil {
			return false, t.stream.fault(err)
		}
		t.start = (t.stream.at + tarBlock - 1) / tarBlock * tarBlock
		h, err := t.reader.Next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // names are looked at where files are written
			return false, t.stream.fault(err)
		}
		if isSparse(h) {
			return false, t.object.damaged("%.100q has holes, which a few bytes may say are endless: pack it without --sparse", h.Name)
		}
		isFile := h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeCont
		if isFile && !strings.HasSuffix(h.Name, "/") && matches(t.object.match, h.Name) {
			t.entry = h
		}
	}
	return true, nil
}

func (t *tarball) offset() int64   { return t.start }
func (t *tarball) consumed() int64 { return t.stream.consumed(t.start) }
func (t *tarball) Close() error    { return t.stream.Close() }

func (t *tarball) next(_ *arena, r *Row) (int64, error) {
	h := t.entry
	t.entry = nil
	if r == nil {
		return h.Size, nil
	}
	name := entryName(h.Name)
	r.Key = quote(t.object.fileKey(name))
	if h.Size > maxFile {
		r.Err = tooLarge(h.Size)
		return h.Size, nil
	}
	data, err := readSized(t.reader, h.Size)
	if err != nil {
		return 0, t.stream.fault(err)
	}
	r.File = newFile(name, data)
	return h.Size, nil
}

// isSparse says whether an entry is longer than what the archive has of it.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// entryName is the name of an entry of an archive as people say it.
func entryName(name string) string { return strings.TrimPrefix(name, "./") }

// readSized reads what says that it has size bytes. Memory grows with what there is, because who
// made an archive may say anything.
func readSized(r io.Reader, size int64) ([]byte, error) {
	data := make([]byte, 0, min(size, 1<<20))
	for int64(len(data)) < size {
		if len(data) == cap(data) {
			grown := make([]byte, len(data), min(size, 2*int64(cap(data))))
			copy(grown, data)
			data = grown
		}
		n, err := io.ReadFull(r, data[len(data):cap(data)])
		data = data[:len(data)+n]
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
	}
	return data, nil
}
