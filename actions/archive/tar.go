package archive

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
)

// tarGz unpacks a tar archive that gzip has compressed.
func (u *unpacker) tarGz(r io.Reader) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	// Sparse files and long headers are small in the archive, so what is read counts too.
	all := &io.LimitedReader{R: z, N: 2*u.limits.Bytes + int64(u.limits.Files)*(8<<10) + 1<<20}
	t := tar.NewReader(all)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // names are checked by clean
			return err
		}
		if err := u.tarEntry(h, t); err != nil {
			return err
		}
	}
	// What follows the end of the archive is read for gzip's checksum; bytes that are no
	// gzip after that are common, and harmless.
	_, err = io.Copy(io.Discard, &input{ctx: u.ctx, r: all})
	if errors.Is(err, gzip.ErrHeader) {
		return nil
	}
	return err
}

func (u *unpacker) tarEntry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return u.count()
	}
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(name, h.FileInfo().Mode(), r)
	case tar.TypeDir:
		if err := u.count(); err != nil {
			return err
		}
		return u.mkdir(name)
	case tar.TypeSymlink:
		return u.link(name, h.Linkname)
	case tar.TypeLink:
		return u.hardLink(name, h.Linkname)
	}
	return refuse(h.Name, "is neither a file nor a folder nor a link")
}

// hardLink gives a file that is unpacked already another name.
func (u *unpacker) hardLink(name, target string) error {
	target, err := clean(target)
	if err != nil {
		return err
	}
	info, err := u.root.Lstat(target)
	if err != nil || !info.Mode().IsRegular() || name == "." {
		return refuse(name, "is a link to %.100q, which is no file before it in the archive", target)
	}
	f, err := u.root.Open(target)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	if name == target {
		return nil
	}
	return u.file(name, info.Mode(), f) // a copy: each file is changed alone
}
