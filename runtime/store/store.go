package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/deepfn/deepfn/actions"
)

const (
	defaultActivations = 100_000
	defaultAge         = 7 * 24 * time.Hour
	defaultBytes       = 4 << 30

	folderMode = 0o700
	fileMode   = 0o600

	// lockTime is so short that one attempt is made: bbolt waits 50 ms before the next.
	lockTime = time.Millisecond
)

// Config is what a Store is made of.
type Config struct {
	// Path is the file. It and its folder are made when they are absent, for nobody else to
	// read.
	Path string
	// MaxActivations is how many activations are kept at most; the first to end go first.
	// The default is 100,000.
	MaxActivations int
	// MaxBytes is how many bytes of activations are kept at most. The default is 4 GiB.
	MaxBytes int64
	// MaxAge is how long an activation is kept after its end. The default is 7 days; a
	// negative value means for ever.
	MaxAge time.Duration
	// Log gets what goes wrong while nobody waits. Nil means slog.DiscardHandler.
	Log *slog.Logger
}

// A Store is an open file. Many may call it at the same time. Its errors are
// *actions.Error: NotFound, TooLarge, Unavailable (closed, no space on the disk, or the
// disk has failed), Internal (the file is damaged).
type Store struct {
	cfg Config
	log *slog.Logger
	db  *bbolt.DB

	// queue passes what is to be written to the writer, which answers when it is on disk.
	queue   chan *write
	closing chan struct{}
	close   sync.Once
	closed  error         // of the file; read after written is closed
	written chan struct{} // closed when the writer has ended

	// broken is why nothing can be written any more, or nil.
	broken atomic.Pointer[actions.Error]
}

// Open opens the file or makes it. The errors are *actions.Error: Unavailable if another
// process has it or the disk does not allow it, Internal if it is damaged or of another
// version.
func Open(cfg Config) (*Store, error) {
	if cfg.MaxActivations <= 0 {
		cfg.MaxActivations = defaultActivations
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = defaultBytes
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = defaultAge
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		cfg: cfg, log: cfg.Log,
		queue: make(chan *write), closing: make(chan struct{}), written: make(chan struct{}),
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	go s.writer()
	return s, nil
}

func (s *Store) open() error {
	dir := filepath.Dir(s.cfg.Path)
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return unavailable(s.cfg.Path, err)
	}
	_, absent := os.Stat(s.cfg.Path)
	var file *os.File
	openFile := func(name string, flag int, perm fs.FileMode) (f *os.File, err error) {
		file, err = os.OpenFile(name, flag, perm) // #nosec G304 -- the path of Config
		return file, err
	}
	err := guard(func() (err error) {
		s.db, err = bbolt.Open(s.cfg.Path, fileMode, &bbolt.Options{Timeout: lockTime, OpenFile: openFile})
		return err
	})
	if err != nil {
		if file != nil { // bbolt, if it has panicked, leaves it mapped, which keeps the lock
			_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
			_ = file.Close()
		}
		return s.openError(err)
	}
	err = guard(func() error { return s.db.View(s.check) })
	if errors.Is(err, errEmpty) {
		err = s.commit(s.setUp)
	}
	if err == nil && errors.Is(absent, fs.ErrNotExist) {
		err = syncFolder(dir) // the name of the file too
	}
	if err != nil {
		_ = s.db.Close()
		return s.openError(err)
	}
	return nil
}

// syncFolder writes the names in a folder to the disk. A file system that cannot do so for
// folders does it by itself.
func syncFolder(dir string) error {
	f, err := os.Open(dir) // #nosec G304 -- the path of Config
	if err != nil {
		return err
	}
	if err = f.Sync(); errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// openError says what is wrong with a file that cannot be opened, and what to do.
func (s *Store) openError(err error) error {
	var system syscall.Errno
	ours, commit := new(actions.Error), commitError{}
	switch path := s.cfg.Path; {
	case errors.As(err, &ours):
		return err
	case errors.Is(err, bolterrors.ErrTimeout):
		return &actions.Error{
			Code: actions.Unavailable, Err: err,
			Msg: fmt.Sprintf("store %s: another process has it: end that one, or use another file", path),
		}
	case errors.As(err, &system), errors.As(err, &commit):
		return unavailable(path, err)
	default:
		return damaged(path, err)
	}
}

// The buckets of the file, see the package's documentation.
const (
	aboutBucket       = "about"
	entityBucket      = "entities"
	pendingBucket     = "pending"
	activationsBucket = "activations"
	idBucket          = "ids"
	indexBucket       = "index"
)

// The keys of aboutBucket.
const (
	versionKey = "version"
	countKey   = "count"
	bytesKey   = "bytes"

	version = 1
)

// buckets are the names of all buckets.
func buckets() []string {
	return []string{aboutBucket, entityBucket, pendingBucket, activationsBucket, idBucket, indexBucket}
}

// errEmpty says that a file has no buckets yet.
var errEmpty = errors.New("it is empty")

// check looks whether the file is whole and of our version. It writes nothing, so that a
// server starts on a full disk.
func (s *Store) check(tx *bbolt.Tx) error {
	info, err := os.Stat(s.cfg.Path)
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("it has %d of %d bytes", info.Size(), tx.Size())
	}
	if name, _ := tx.Cursor().First(); name == nil {
		return errEmpty
	}
	for _, name := range buckets() {
		if tx.Bucket([]byte(name)) == nil {
			return fmt.Errorf("it has no %s", name)
		}
	}
	if got := number(tx, versionKey); got != version {
		return actions.Errorf(actions.Internal, "store %s: it has version %d of the format, and this program knows %d: use another file, or the program that made it", s.cfg.Path, got, version)
	}
	return nil
}

// setUp makes the buckets.
func (s *Store) setUp(tx *bbolt.Tx) error {
	for _, name := range buckets() {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	return setNumber(tx, versionKey, version)
}

// number reads a number of aboutBucket.
func number(tx *bbolt.Tx, key string) uint64 {
	value := tx.Bucket([]byte(aboutBucket)).Get([]byte(key))
	if len(value) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(value)
}

func setNumber(tx *bbolt.Tx, key string, n uint64) error {
	return tx.Bucket([]byte(aboutBucket)).Put([]byte(key), appendNumber(nil, n))
}

// Close waits for what was begun and closes the file. What comes later is Unavailable.
func (s *Store) Close() error {
	s.close.Do(func() {
		close(s.closing)
		<-s.written
		s.closed = s.db.Close()
	})
	return s.closed
}
