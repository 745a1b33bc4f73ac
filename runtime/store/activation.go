package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/deepfn/deepfn/actions"
)

// A Record is an activation that has ended.
type Record struct {
	// Namespace is that of who invoked it, ID its id.
	Namespace, ID string
	// Name is the name of the action or trigger, Path its namespace/[package/]name as in
	// the annotation path. A query's name is compared with Path less its namespace, or with
	// Name if Path is empty.
	Name, Path string
	// Start is when it began. It is kept in microseconds.
	Start time.Time
	// Summary is its document in a list, Doc the whole without the logs, Logs those. Each
	// may be nil.
	Summary, Doc, Logs []byte
}

// A Pending is an activation that was accepted and has not ended.
type Pending struct {
	Namespace, ID string
	Name, Path    string
	Start         time.Time
	Doc           []byte
	// Again is what it takes to run it, nil from when its run begins. Store.Pending leaves it
	// on disk, where Store.Again finds it, and sets Waits.
	Again []byte
	Waits bool
}

// errDamaged is what decode says.
var errDamaged = errors.New("an activation is damaged")

// encode writes a record as a value: when it began and when it was kept in microseconds,
// then each text and document behind its length of 4 bytes.
func (r Record) encode(kept time.Time) []byte {
	value := make([]byte, 0, 64+len(r.Namespace)+len(r.ID)+len(r.Name)+len(r.Path)+len(r.Summary)+len(r.Doc)+len(r.Logs))
	value = appendNumber(value, uint64(micros(r.Start)))
	value = appendNumber(value, uint64(micros(kept)))
	for _, text := range []string{r.Namespace, r.ID, r.Name, r.Path} {
		value = append(binary.BigEndian.AppendUint32(value, uint32(len(text))), text...)
	}
	for _, doc := range [][]byte{r.Summary, r.Doc, r.Logs} {
		value = append(binary.BigEndian.AppendUint32(value, uint32(len(doc))), doc...)
	}
	return value
}

// decode reads what encode has written. The documents are parts of value.
func decode(value []byte) (r Record, kept time.Time, err error) {
	const numbers = 16
	if len(value) < numbers {
		return r, kept, errDamaged
	}
	r.Start = time.UnixMicro(int64(binary.BigEndian.Uint64(value)))
	kept = time.UnixMicro(int64(binary.BigEndian.Uint64(value[8:])))
	value = value[numbers:]
	var parts [7][]byte
	for i := range parts {
		if len(value) < 4 {
			return r, kept, errDamaged
		}
		length := uint64(binary.BigEndian.Uint32(value))
		value = value[4:]
		if uint64(len(value)) < length {
			return r, kept, errDamaged
		}
		parts[i], value = value[:length], value[length:]
	}
	if len(value) > 0 {
		return r, kept, errDamaged
	}
	r.Namespace, r.ID, r.Name, r.Path = string(parts[0]), string(parts[1]), string(parts[2]), string(parts[3])
	r.Summary, r.Doc, r.Logs = parts[4], parts[5], parts[6]
	return r, kept, nil
}

// queryName is what a query asks for.
func (r Record) queryName() string {
	if _, name, ok := strings.Cut(r.Path, "/"); ok {
		return name
	}
	return r.Name
}

// indexKeys are the keys of a record in indexBucket.
func (r Record) indexKeys(number uint64) [2][]byte {
	var keys [2][]byte
	for i, name := range []string{"", r.queryName()} {
		keys[i] = appendNumber(appendTime(texts(r.Namespace, name), micros(r.Start)), number)
	}
	return keys
}

// Begin marks an activation as accepted: with nil it is on disk, and Pending returns it
// until End. It replaces an earlier mark. If ctx ends first, it may or may not be there.
func (s *Store) Begin(ctx context.Context, p Pending) error {
	r := Record{Namespace: p.Namespace, ID: p.ID, Name: p.Name, Path: p.Path, Start: p.Start, Doc: p.Doc, Summary: p.Again}
	if err := r.check(); err != nil {
		return err
	}
	key, value := texts(p.Namespace, p.ID), r.encode(p.Start)
	return s.put(ctx, &write{size: len(value), apply: func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(pendingBucket)).Put(key, value)
	}})
}

// End keeps an activation that has ended and removes the mark of Begin, if there is one: with nil
// both are on disk. An activation of the same namespace and id is replaced. If ctx ends
// first, it may or may not be there.
func (s *Store) End(ctx context.Context, r Record) error {
	if err := r.check(); err != nil {
		return err
	}
	value := r.encode(time.Now())
	r.Summary, r.Doc, r.Logs = nil, nil, nil // the caller's
	return s.put(ctx, &write{size: len(value), adds: 1, apply: func(tx *bbolt.Tx) error {
		return add(tx, r, value)
	}})
}

// The most bytes of the documents of one activation, and of its names.
const (
	maxRecord = 1 << 30
	maxNames  = 8 << 10
)

// check refuses what the file cannot have.
func (r Record) check() error {
	switch {
	case r.ID == "" || r.Namespace == "":
		return actions.Errorf(actions.Invalid, "an activation without an id or a namespace")
	case len(r.Namespace)+len(r.ID)+len(r.Name)+len(r.Path) > maxNames:
		return actions.Errorf(actions.TooLarge, "the names of an activation have more than %d bytes", maxNames)
	case len(r.Summary)+len(r.Doc)+len(r.Logs) > maxRecord:
		return actions.Errorf(actions.TooLarge, "an activation has more than %d bytes", maxRecord)
	}
	return nil
}

// add keeps a record with its value.
func add(tx *bbolt.Tx, r Record, value []byte) error {
	id := texts(r.Namespace, r.ID)
	if old := tx.Bucket([]byte(idBucket)).Get(id); old != nil {
		if err := remove(tx, old); err != nil {
			return err
		}
	}
	all := tx.Bucket([]byte(activationsBucket))
	all.FillPercent = 1 // numbers only grow
	number, err := all.NextSequence()
	if err != nil {
		return err
	}
	key := appendNumber(nil, number)
	err = errors.Join(
		all.Put(key, value),
		tx.Bucket([]byte(idBucket)).Put(id, key),
		tx.Bucket([]byte(pendingBucket)).Delete(id),
		grow(tx, 1, int64(len(value))),
	)
	for _, entry := range r.indexKeys(number) {
		err = errors.Join(err, tx.Bucket([]byte(indexBucket)).Put(entry, nil))
	}
	return err
}

// remove removes the record with a key of activationsBucket.
func remove(tx *bbolt.Tx, key []byte) error {
	all := tx.Bucket([]byte(activationsBucket))
	key = bytes.Clone(key)
	value := all.Get(key)
	r, _, err := decode(value)
	if err != nil {
		return pageError{err}
	}
	err = errors.Join(
		grow(tx, -1, -int64(len(value))),
		tx.Bucket([]byte(idBucket)).Delete(texts(r.Namespace, r.ID)),
	)
	for _, entry := range r.indexKeys(binary.BigEndian.Uint64(key)) {
		err = errors.Join(err, tx.Bucket([]byte(indexBucket)).Delete(entry))
	}
	return errors.Join(err, all.Delete(key))
}

// grow counts activations and their bytes.
func grow(tx *bbolt.Tx, count, size int64) error {
	return errors.Join(
		setNumber(tx, countKey, uint64(int64(number(tx, countKey))+count)),
		setNumber(tx, bytesKey, uint64(int64(number(tx, bytesKey))+size)),
	)
}

// tooMuch reports whether the first activation must go.
func (s *Store) tooMuch(tx *bbolt.Tx, now time.Time) bool {
	if number(tx, countKey) > uint64(s.cfg.MaxActivations) || number(tx, bytesKey) > uint64(s.cfg.MaxBytes) {
		return true
	}
	key, value := tx.Bucket([]byte(activationsBucket)).Cursor().First()
	if key == nil || s.cfg.MaxAge < 0 {
		return false
	}
	_, kept, err := decode(value)
	return err != nil || now.Sub(kept) > s.cfg.MaxAge
}

// trim removes the first activations while there are too many, but not more than most. It
// reports whether there are still.
func (s *Store) trim(tx *bbolt.Tx, now time.Time, most int) (more bool, err error) {
	for range most {
		if !s.tooMuch(tx, now) {
			return false, nil
		}
		key, _ := tx.Bucket([]byte(activationsBucket)).Cursor().First()
		if key == nil {
			return false, nil
		}
		if err := remove(tx, key); err != nil {
			return false, err
		}
	}
	return s.tooMuch(tx, now), nil
}

// read calls fn in a transaction.
func (s *Store) read(fn func(*bbolt.Tx) error) error {
	return s.wrap(guard(func() error { return s.db.View(fn) }))
}

// Pending returns what Begin has marked and End has not: at the start, what a dead server
// has left behind. The first to begin comes first.
func (s *Store) Pending() ([]Pending, error) {
	var found []Pending
	err := s.read(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(pendingBucket)).ForEach(func(_, value []byte) error {
			r, _, err := decode(value)
			if err != nil {
				return pageError{err}
			}
			found = append(found, Pending{
				Namespace: r.Namespace, ID: r.ID, Name: r.Name, Path: r.Path, Start: r.Start,
				Doc: bytes.Clone(r.Doc), Waits: len(r.Summary) > 0,
			})
			return nil
		})
	})
	slices.SortStableFunc(found, func(a, b Pending) int { return a.Start.Compare(b.Start) })
	return found, err
}

// Again returns what it takes to run an activation that was accepted, nil if its run has
// begun. NotFound if there is none with this id in the namespace.
func (s *Store) Again(namespace, id string) (again []byte, err error) {
	err = s.read(func(tx *bbolt.Tx) error {
		value := tx.Bucket([]byte(pendingBucket)).Get(texts(namespace, id))
		if value == nil {
			return actions.Errorf(actions.NotFound, "there is no activation %.40q under way", id)
		}
		r, _, err := decode(value)
		if err != nil {
			return pageError{err}
		}
		again = bytes.Clone(r.Summary)
		return nil
	})
	return again, err
}

// Record returns an activation that has ended; what it has is the caller's. NotFound if
// there is none with this id in the namespace.
func (s *Store) Record(namespace, id string) (Record, error) {
	var found Record
	err := s.read(func(tx *bbolt.Tx) error {
		key := tx.Bucket([]byte(idBucket)).Get(texts(namespace, id))
		if key == nil {
			return actions.Errorf(actions.NotFound, "there is no activation %.40q", id)
		}
		r, _, err := decode(tx.Bucket([]byte(activationsBucket)).Get(key))
		if err != nil {
			return pageError{err}
		}
		found = r.clone()
		return nil
	})
	return found, err
}

// clone is a record that is no part of the file.
func (r Record) clone() Record {
	r.Summary, r.Doc, r.Logs = bytes.Clone(r.Summary), bytes.Clone(r.Doc), bytes.Clone(r.Logs)
	return r
}

// Activation returns the document of an activation that has ended. The error is NotFound or
// that of the file.
func (s *Store) Activation(namespace, id string) ([]byte, error) {
	r, err := s.Record(namespace, id)
	return r.Doc, err
}

// Logs returns the logs of an activation that has ended. The error is NotFound or that of
// the file.
func (s *Store) Logs(namespace, id string) ([]byte, error) {
	r, err := s.Record(namespace, id)
	return r.Logs, err
}
