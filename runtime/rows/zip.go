package rows

import (
	"archive/zip"
	"errors"
	"io"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// A zipped reads the files of a zip in the order of its directory. An offset counts them.
type zipped struct {
	object object
	from   *ranged
	files  []*zip.File
	at     int
	// before is how many bytes the files before at are in the archive.
	before int64
}

func newZip(o object, offset int64) (reader, error) {
	z := &zipped{object: o, from: newRanged(o)}
	r, err := zip.NewReader(z.from, o.size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are looked at where files are written
		return nil, z.from.fault(err)
	}
	for _, f := range r.File {
		if f.Mode().IsRegular() && !strings.HasSuffix(f.Name, "/") && matches(o.match, f.Name) {
			z.files = append(z.files, f)
		}
	}
	if len(z.files) > maxObjects {
		return nil, o.damaged("there are more than %d files in it", maxObjects)
	}
	if offset > int64(len(z.files)) {
		return nil, o.damaged("there is no file %d among %d", offset, len(z.files))
	}
	for z.at < int(offset) {
		z.pass()
	}
	return z, nil
}

// pass moves past a file.
func (z *zipped) pass() {
	z.before = min(z.object.size, z.before+int64(min(z.files[z.at].CompressedSize64, 1<<62)))
	z.at++
}

func (z *zipped) more() (bool, error) { return z.at < len(z.files), nil }
func (z *zipped) count() int64        { return int64(len(z.files)) }
func (z *zipped) offset() int64       { return int64(z.at) }
func (z *zipped) consumed() int64     { return z.before }
func (z *zipped) Close() error        { return nil }

func (z *zipped) next(_ *arena, r *Row) (int64, error) {
	f := z.files[z.at]
	z.pass()
	size := int64(min(f.UncompressedSize64, 1<<62))
	if r == nil {
		return size, nil
	}
	name := entryName(f.Name)
	r.Key = quote(z.object.fileKey(name))
	if size > maxFile {
		r.Err = tooLarge(size)
		return size, nil
	}
	data, err := z.read(f, size)
	switch {
	case z.from.err != nil:
		return 0, z.from.err
	case err != nil:
		r.Err = err
	default:
		r.File = newFile(name, data)
	}
	return size, nil
}

// read unpacks a file. It takes no more than the directory says that there is.
func (z *zipped) read(f *zip.File, size int64) ([]byte, error) {
	if f.Flags&1 != 0 {
		return nil, actions.Errorf(actions.Invalid, "the file is encrypted: pack it without a password")
	}
	r, err := f.Open()
	if errors.Is(err, zip.ErrAlgorithm) {
		return nil, actions.Errorf(actions.Invalid, "the file is compressed by method %d, but only deflate (8) and none (0) are known", f.Method)
	}
	if err != nil {
		return nil, actions.Errorf(actions.Invalid, "the file is damaged: %w", err)
	}
	defer func() { _ = r.Close() }() // it was only read
	data, err := readSized(r, size)
	if err == nil { // the end is where the checksum is looked at
		if _, err = r.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			return data, nil
		}
		if err == nil {
			err = errors.New("it is longer than the directory says")
		}
	}
	return nil, actions.Errorf(actions.Invalid, "the file is damaged: %w", err)
}
