package rows

import (
	"archive/tar"
	"archive/zip"
	"io"
	"time"
)

// A tarWriter writes a tar of files that have no time and nobody's name.
type tarWriter struct {
	out   *tar.Writer
	files *Files
	rows  int64
}

func newTarWriter(w io.Writer, f *Files) *tarWriter {
	return &tarWriter{out: tar.NewWriter(w), files: f}
}

func (t *tarWriter) Rows() int64 { return t.rows }

func (t *tarWriter) Write(a Answer) error {
	file, err := t.files.File(a)
	if err != nil {
		return err
	}
	err = t.out.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: file.Filename, Mode: 0o644, Size: int64(len(file.Data)), ModTime: time.Unix(0, 0),
	})
	if err == nil {
		_, err = t.out.Write(file.Data)
	}
	t.rows++
	return err
}

func (t *tarWriter) Close() error { return t.out.Close() }

// A zipWriter writes a zip of files that are all of the first day that a zip can tell. Without a
// time they were of a day and a month 0, which is no date.
type zipWriter struct {
	out   *zip.Writer
	files *Files
	rows  int64
}

func newZipWriter(w io.Writer, f *Files) *zipWriter {
	return &zipWriter{out: zip.NewWriter(w), files: f}
}

func (z *zipWriter) Rows() int64 { return z.rows }

func (z *zipWriter) Write(a Answer) error {
	file, err := z.files.File(a)
	if err != nil {
		return err
	}
	h := zip.FileHeader{Name: file.Filename, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	h.SetMode(0o644)
	if isPacked(file.ContentType) {
		h.Method = zip.Store
	}
	w, err := z.out.CreateHeader(&h)
	if err == nil {
		_, err = w.Write(file.Data)
	}
	z.rows++
	return err
}

func (z *zipWriter) Close() error { return z.out.Close() }
