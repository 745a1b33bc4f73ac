package archive

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// zip unpacks a zip archive.
func (u *unpacker) zip(r io.ReaderAt, size int64) error {
	z, err := zip.NewReader(r, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are checked by clean
		return err
	}
	for _, f := range z.File {
		if err := u.zipEntry(f); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) zipEntry(f *zip.File) error {
	name, err := clean(f.Name)
	if err != nil {
		return err
	}
	mode := f.Mode()
	switch {
	case f.Flags&1 != 0:
		return refuse(f.Name, "is encrypted")
	case mode.IsDir() || strings.HasSuffix(f.Name, "/"):
		return u.mkdir(name)
	case mode.Type()&^fs.ModeSymlink != 0:
		return refuse(f.Name, "is neither a file nor a folder nor a link")
	}
	r, err := f.Open()
	if errors.Is(err, zip.ErrAlgorithm) {
		return refuse(f.Name, "is compressed by method %d, but only deflate (8) and none (0) are known", f.Method)
	}
	if err != nil {
		return fmt.Errorf("%.100q: %w", f.Name, err)
	}
	defer func() { _ = r.Close() }() // it was only read
	if mode.IsRegular() {
		return u.file(name, mode, r)
	}
	target, err := io.ReadAll(io.LimitReader(r, maxPath+1))
	if err != nil {
		return fmt.Errorf("%.100q: %w", f.Name, err)
	}
	return u.link(name, string(target))
}
