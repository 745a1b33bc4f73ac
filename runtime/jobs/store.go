package jobs

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

// The names in a folder of jobs, see the package's documentation.
const (
	recordName  = "job.json"
	lockName    = "lock"
	logName     = "log"
	resultName  = "result"
	requestName = "request"
	cancelName  = "cancel"
	sweepLock   = ".lock"
	newPrefix   = "new-"
	gonePrefix  = "gone-"
)

// A store is a folder of jobs on disk.
type store struct {
	root *os.Root
	log  *slog.Logger
	// resume says that jobs outlive their servers.
	resume bool
	// create makes a file that is not there yet. Tests put full disks here.
	create func(root *os.Root, name string) (*os.File, error)

	mu     sync.Mutex // guards warned
	warned map[string]bool
}

func openStore(dir string, log *slog.Logger) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &store{root: root, log: log, create: createFile, warned: map[string]bool{}}, nil
}

func createFile(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// sweep removes what servers left behind that ended while they made or removed a folder.
// It does nothing while another one makes one.
func (s *store) sweep() error {
	lock, err := s.lock(sweepLock, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock(lock)
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if name := entry.Name(); strings.HasPrefix(name, newPrefix) || strings.HasPrefix(name, gonePrefix) {
			errs = append(errs, s.root.RemoveAll(name))
		}
	}
	return errors.Join(errs...)
}

// add makes the folder of a job, with what fill puts into it, and returns its lock. The
// folder is there as a whole or not at all.
func (s *store) add(id string, fill func(folder string) error) (held *os.File, err error) {
	sweeping, err := s.lock(sweepLock, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer unlock(sweeping)
	folder := newPrefix + id
	if err := s.root.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unlock(held)
			held = nil
			err = errors.Join(err, s.root.RemoveAll(folder), s.root.RemoveAll(id))
		}
	}()
	if held, err = s.lock(folder+"/"+lockName, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return held, err
	}
	if err := fill(folder); err != nil {
		return held, err
	}
	if err := s.root.Rename(folder, id); err != nil {
		return held, err
	}
	return held, s.sync(".")
}

// remove removes a folder; it is no error if there is none. Others see it whole or not.
func (s *store) remove(id string) error {
	gone := gonePrefix + id
	err := s.root.Rename(id, gone)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(s.root.RemoveAll(gone), s.sync("."))
}

// ids returns the ids of the folders.
func (s *store) ids() ([]string, error) {
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, entry := range entries {
		if entry.IsDir() && isID(entry.Name()) {
			ids = append(ids, entry.Name())
		}
	}
	return ids, nil
}

// writeRecord replaces the record in a folder.
func (s *store) writeRecord(folder string, rec record) error {
	rec.Version = recordVersion
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false) // the arguments stay as they are
	if err := enc.Encode(rec); err != nil {
		return err
	}
	return s.replace(folder, recordName, data.Bytes())
}

// replace writes a file in a folder, which has the old bytes or the new ones, and on disk.
func (s *store) replace(folder, name string, data []byte) error {
	path := folder + "/" + name
	temp := path + ".new"
	if err := s.root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := s.write(temp, data)
	if err == nil {
		err = s.root.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, ignoreAbsent(s.root.Remove(temp)))
	}
	return s.sync(folder)
}

func (s *store) write(path string, data []byte) error {
	f, err := s.create(s.root, path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// sync writes the entries of a folder to disk.
func (s *store) sync(folder string) error {
	f, err := s.root.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// read reads a file of at most limit bytes, and nothing but a file.
func (s *store) read(path string, limit int64) ([]byte, error) {
	f, err := s.open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, err
}

// open opens a file to read it. A pipe, which would block, is refused.
func (s *store) open(path string) (*os.File, error) {
	f, err := s.root.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lock takes the lock path, which is made when it is absent.
func (s *store) lock(path string, how int) (*os.File, error) {
	f, err := s.root.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// unlock gives a lock back, if there is one.
func unlock(f *os.File) {
	if f != nil {
		_ = f.Close()
	}
}

// record reads the record of a job. If its server has ended, the record is rewritten first, or
// the job waits for another server.
func (s *store) record(id string) (record, error) {
	rec, held, err := s.take(id)
	if err != nil || held == nil {
		return rec, err
	}
	defer unlock(held)
	if s.resume {
		rec.Job.State = actions.JobQueued
		return rec, nil
	}
	rec.Job.Error = "the server ended while the job " + doing(rec.Job.State)
	rec.Job.State = actions.JobInterrupted
	// The clock of the file system may lag behind by some milliseconds.
	for _, at := range []time.Time{s.lastSign(id), rec.Job.Started, rec.Job.Created} {
		if at.After(rec.Job.Finished) {
			rec.Job.Finished = at
		}
	}
	err = errors.Join(s.writeRecord(id, rec), s.root.RemoveAll(id+"/"+requestName))
	if err != nil {
		s.log.Warn("job record not updated", "job", id, "err", err)
	}
	return rec, nil
}

// take reads the record of a job, and takes its lock if it has not ended and its server has.
// held is nil without that.
func (s *store) take(id string) (rec record, held *os.File, err error) {
	rec, err = s.readRecord(id)
	if err != nil || rec.Job.State.Final() {
		return rec, nil, err
	}
	held, err = s.lock(id+"/"+lockName, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return rec, nil, nil // it lives
	}
	if err != nil {
		return record{}, nil, err
	}
	// Its server may have written the last record just before it let the lock go.
	if rec, err = s.readRecord(id); err != nil || rec.Job.State.Final() {
		unlock(held)
		return rec, nil, err
	}
	return rec, held, nil
}

func (s *store) readRecord(id string) (record, error) {
	data, err := s.read(id+"/"+recordName, maxRecord)
	if err != nil {
		return record{}, err
	}
	rec, err := parseRecord(data, id)
	if err != nil {
		return record{}, fmt.Errorf("record of job %s: %w", id, err)
	}
	return rec, nil
}

// doing says in words what a job did in state.
func doing(state actions.JobState) string {
	if state == actions.JobQueued {
		return "waited"
	}
	return "ran"
}

// lastSign is when something was last written for a job that its server forgot.
func (s *store) lastSign(id string) time.Time {
	last := time.Time{}
	files := append(s.segments(id), segment{path: id + "/" + recordName})
	for _, file := range files {
		if info, err := s.root.Stat(file.path); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last.UTC()
}

// records reads all records of a model, or of all if it is "", oldest first. Those that
// cannot be read are logged, once, and left out.
func (s *store) records(model string) ([]record, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var records []record
	for _, id := range ids {
		rec, err := s.record(id)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !s.exists(id):
			// It was removed in the meantime.
		case err != nil:
			s.warn(id, err)
		case model == "" || rec.Job.Model == model:
			records = append(records, rec)
		}
	}
	slices.SortFunc(records, func(a, b record) int { return older(a.Job, b.Job) })
	return records, nil
}

// older orders jobs by their age.
func older(a, b actions.Job) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
}

func (s *store) exists(path string) bool {
	_, err := s.root.Lstat(path)
	return err == nil
}

func (s *store) warn(id string, err error) {
	s.mu.Lock()
	known := s.warned[id]
	s.warned[id] = true
	s.mu.Unlock()
	if !known {
		s.log.Warn("job record skipped", "job", id, "err", err)
	}
}

// ignoreAbsent is err, unless it says that a file is absent.
func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// reason is what the system said, without the paths of this machine.
func reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		return le.Err.Error()
	}
	if se, ok := errors.AsType[unix.Errno](err); ok {
		return se.Error()
	}
	return err.Error()
}
