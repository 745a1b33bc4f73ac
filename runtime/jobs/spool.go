package jobs

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

const (
	argsName   = "request.gob"
	maxSpooled = 4 << 30 // bytes of it
	chunk      = 4 << 20 // bytes that are written before the context is looked at
)

// A spooled is a request on disk, without the bytes of its files. It is a gob, because
// not all that callers send is UTF-8.
type spooled struct {
	Verb   actions.Verb
	ID     string
	Args   []byte
	Texts  []actions.Text
	Accept string
	Files  []spooledFile
}

type spooledFile struct {
	Name        string
	Filename    string
	ContentType string
	Size        int64
}

// spool writes a request into the folder of its job. Unless jobs outlive their servers, it
// need not either, and nobody waits for the disk.
func (s *store) spool(ctx context.Context, folder string, req *actions.Request) error {
	dir := folder + "/" + requestName
	if err := s.root.Mkdir(dir, 0o700); err != nil {
		return err
	}
	kept := spooled{Verb: req.Verb, ID: req.ID, Args: req.Args, Texts: req.Texts, Accept: req.Accept}
	for i, file := range req.Files {
		kept.Files = append(kept.Files, spooledFile{file.Name, file.Filename, file.ContentType, int64(len(file.Data))})
		if err := s.spoolBytes(ctx, dir+"/"+strconv.Itoa(i), file.Data); err != nil {
			return err
		}
	}
	var data bytes.Buffer
	if err := gob.NewEncoder(&data).Encode(kept); err != nil {
		return err
	}
	if err := s.spoolBytes(ctx, dir+"/"+argsName, data.Bytes()); err != nil || !s.resume {
		return err
	}
	return s.sync(dir)
}

func (s *store) spoolBytes(ctx context.Context, path string, data []byte) error {
	f, err := s.create(s.root, path)
	if err != nil {
		return err
	}
	for len(data) > 0 && err == nil {
		n := min(len(data), chunk)
		if err = ctx.Err(); err == nil {
			_, err = f.Write(data[:n])
		}
		data = data[n:]
	}
	if err == nil && s.resume {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// unspool returns the request of a job and removes it from its folder, unless another server may
// have to go on with the job. The files are mapped, so that they take memory only where they are read, until release is called.
func (s *store) unspool(id, model string) (req actions.Request, release func(), err error) {
	var mapped [][]byte
	release = func() {
		for _, data := range mapped {
			_ = unix.Munmap(data)
		}
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	dir := id + "/" + requestName
	data, err := s.read(dir+"/"+argsName, maxSpooled)
	if err != nil {
		return req, release, err
	}
	var kept spooled
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&kept); err != nil {
		return req, release, err
	}
	req = actions.Request{
		Model: model, Verb: kept.Verb, ID: kept.ID, Args: kept.Args, Texts: kept.Texts, Accept: kept.Accept,
	}
	for i, file := range kept.Files {
		data, err := s.mapFile(dir+"/"+strconv.Itoa(i), file.Size)
		if err != nil {
			return req, release, err
		}
		if len(data) > 0 {
			mapped = append(mapped, data)
		}
		req.Files = append(req.Files, actions.File{
			Name: file.Name, Filename: file.Filename, ContentType: file.ContentType, Data: data,
		})
	}
	if s.resume {
		return req, release, nil
	}
	// The mappings live on without the names, and nobody can make the files shorter.
	return req, release, s.root.RemoveAll(dir)
}

// mapFile maps a file of that size. What is written to the bytes does not reach the file.
func (s *store) mapFile(path string, size int64) ([]byte, error) {
	f, err := s.open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() != size || int64(int(size)) != size {
		return nil, fmt.Errorf("a file of %d bytes has %d", size, info.Size())
	}
	if size == 0 {
		return []byte{}, nil
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return data, nil
}
