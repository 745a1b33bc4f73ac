package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"os"
	"path"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
)

const fileScheme = "file"

// Folders have files as objects: file:///path, below the folders that the operator allows.
// They are opened through an os.Root of that folder, so no symbolic link leads out of it.
type folders struct {
	allow []prefix
	sweep sweeper
}

// isPath says whether a path has no empty segments and is UTF-8, so that it has one way to be written.
func isPath(name string) bool {
	return utf8.ValidString(name) && !strings.Contains(name, "//") && !strings.Contains(name, "\x00")
}

func (f *folders) check(l location) error {
	switch {
	case l.url.RawQuery != "" || l.url.ForceQuery:
		return actions.Errorf(actions.Invalid, "%s must not have a query", l)
	case !isPath(l.url.Path):
		return actions.Errorf(actions.Invalid, "%s has empty segments in its path, or what is no UTF-8", l)
	case !l.allowed:
		return actions.Errorf(actions.Forbidden,
			"%s is a file of the server's machine, which its operator must allow by a folder, with --allow-url file:///FOLDER/", l)
	case !l.folder && strings.HasSuffix(l.url.Path, "/"):
		return actions.Errorf(actions.Invalid, "%s does not name a file, but a folder", l)
	case isTemporary(path.Base(l.url.Path)):
		return actions.Errorf(actions.Invalid, "%s is the name of a file that is being written", l)
	}
	return nil
}

// root opens the allowed folder that a location is in, and returns the location's path from there.
func (f *folders) root(l location) (*os.Root, string, error) {
	at := prefixOf(l)
	for _, p := range f.allow {
		if !p.has(at) {
			continue
		}
		dir := "/" + strings.Trim(strings.Join(p.segments, "/"), "/")
		rest, ok := strings.CutPrefix(l.url.Path, strings.TrimSuffix(dir, "/")+"/")
		switch {
		case l.url.Path == dir:
			rest = "."
		case !ok:
			continue
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, "", fileError(l, err)
		}
		return root, path.Clean(rest), nil // "." is the folder itself
	}
	return nil, "", actions.Errorf(actions.Forbidden, "%s is in no folder that the operator allows", l)
}

// within calls do with the folder that a location is in.
func (f *folders) within(l location, do func(root *os.Root, name string) error) error {
	root, name, err := f.root(l)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := do(root, name); err != nil {
		return fileError(l, err)
	}
	return nil
}

// regular opens a file for reading. A device or a pipe is not opened, since that may wait
// for ever, or do something.
func (f *folders) regular(l location) (*os.File, fs.FileInfo, error) {
	var file *os.File
	var info fs.FileInfo
	err := f.within(l, func(root *os.Root, name string) (err error) {
		if info, err = root.Stat(name); err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return errNoFile
		}
		if file, err = root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0); err != nil {
			return err
		}
		if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() { // it has been replaced
			err = errNoFile
		}
		if err != nil {
			_ = file.Close()
		}
		return err
	})
	return file, info, err
}

func (f *folders) fetch(_ context.Context, l location) (object, error) {
	file, info, err := f.regular(l)
	if err != nil {
		return object{}, err
	}
	return object{body: file, size: info.Size(), filename: baseName(l.url.Path), contentType: typeOf(l)}, nil
}

// typeOf is the media type that the name of a file says, since it has no other.
func typeOf(l location) string { return mime.TypeByExtension(path.Ext(l.url.Path)) }

func (f *folders) store(ctx context.Context, l location, file actions.File) error {
	return f.put(ctx, l, bytes.NewReader(file.Data), int64(len(file.Data)), actions.PutOptions{})
}

func (f *folders) stat(_ context.Context, l location) (actions.Object, error) {
	var o actions.Object
	err := f.within(l, func(root *os.Root, name string) error {
		info, err := root.Stat(name)
		if err == nil && !info.Mode().IsRegular() {
			err = errNoFile
		}
		if err == nil {
			o = fileObject(l.url.Path, info)
			o.ContentType = typeOf(l)
		}
		return err
	})
	return o, err
}

// fileObject describes a file. Its ETag is not of the content, but changes with it as far
// as the file system's clock can tell.
func fileObject(name string, info fs.FileInfo) actions.Object {
	o := actions.Object{URL: fileURL(name), Size: info.Size(), Modified: info.ModTime()}
	var inode uint64
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = stat.Ino
	}
	o.ETag = fmt.Sprintf(`"%x-%x-%x"`, inode, info.ModTime().UnixNano(), info.Size())
	return o
}

func (f *folders) open(_ context.Context, l location, offset, length int64) (io.ReadCloser, error) {
	file, info, err := f.regular(l)
	if err != nil {
		return nil, err
	}
	rest := max(info.Size()-offset, 0) // what is written to it meanwhile does not count
	if length < 0 || length > rest {
		length = rest
	}
	return &section{Reader: io.NewSectionReader(file, offset, length), left: length, file: file}, nil
}

// A section is a part of a file that has to be there.
type section struct {
	io.Reader
	left int64
	file *os.File
}

func (s *section) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if s.left -= int64(n); err == io.EOF && s.left > 0 {
		err = io.ErrUnexpectedEOF // it has become shorter
	}
	return n, err
}

func (s *section) Close() error { return s.file.Close() }

func (f *folders) remove(_ context.Context, l location) error {
	return f.within(l, func(root *os.Root, name string) error {
		info, err := root.Lstat(name)
		switch {
		case err != nil:
			return err
		case info.IsDir():
			return fs.ErrNotExist
		}
		return root.Remove(name)
	})
}

// errNoFile is that something is there that has no content of its own.
const errNoFile = refusal("it is no regular file")

// fileError says what went wrong with a file.
func fileError(l location, err error) error {
	if e, ok := errors.AsType[*actions.Error](err); ok {
		return e
	}
	e := &actions.Error{Code: actions.Unavailable, Err: err}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return full(l, err)
	case errors.Is(err, fs.ErrNotExist):
		e.Code, e.Msg = actions.NotFound, l.String()+": there is no such file"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Code, e.Msg = actions.Forbidden, l.String()+": the server has no right to do that"
	case errors.Is(err, errNoFile), errors.Is(err, syscall.EISDIR):
		e.Code, e.Msg = actions.Invalid, l.String()+" is no regular file"
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		e.Code, e.Msg = actions.Invalid, l.String()+": there is a file where a folder would have to be, or the reverse"
	case errors.Is(err, syscall.ENAMETOOLONG):
		e.Code, e.Msg = actions.Invalid, l.String()+" is too long for the file system"
	case errors.Is(err, syscall.ELOOP), isEscape(err):
		e.Code, e.Msg = actions.Forbidden, l.String()+" is a link that leads out of the folder that the operator allows"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	default:
		e.Msg, e.RetryAfter = l.String()+": the file system is at fault", later
	}
	return e
}

// isEscape says whether an os.Root has refused a path, for which it has no error of its own to compare with.
func isEscape(err error) bool {
	e, ok := errors.AsType[*fs.PathError](err)
	return ok && e.Err != nil && e.Err.Error() == "path escapes from parent"
}
