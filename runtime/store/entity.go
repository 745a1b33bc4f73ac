package store

import (
	"bytes"

	"go.etcd.io/bbolt"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// A Key names an entity. Package is empty for one that is in none.
type Key struct {
	Collection               whisk.Collection
	Namespace, Package, Name string
}

func (k Key) bytes() []byte {
	return texts(string(k.Collection), k.Namespace, k.Package, k.Name)
}

// keyOf reads what bytes has written.
func keyOf(key []byte) (Key, bool) {
	parts, ok := cutTexts(key, 4)
	if !ok {
		return Key{}, false
	}
	return Key{whisk.Collection(parts[0]), parts[1], parts[2], parts[3]}, true
}

// A Tx reads, and within Update changes, entities as of one moment. It is for the function
// that it was given to, and for one goroutine.
type Tx struct {
	store    *Store
	entities *bbolt.Bucket
	err      error // the first of a page that could not be read
}

// View calls fn with the entities as they are. Its error is that of fn, or of the file.
// fn must not call the Store.
func (s *Store) View(fn func(*Tx) error) error {
	return s.wrap(s.db.View(func(tx *bbolt.Tx) error { return s.with(tx, fn) }))
}

// Update calls fn, once, with the entities, which nobody else changes meanwhile. With a
// nil error of fn its changes are on disk when Update returns nil; with any other they
// have not been made. fn must not call the Store.
func (s *Store) Update(fn func(*Tx) error) error {
	return s.wrap(s.commit(func(tx *bbolt.Tx) error { return s.with(tx, fn) }))
}

func (s *Store) with(tx *bbolt.Tx, fn func(*Tx) error) error {
	t := &Tx{store: s}
	err := t.guard(func() error {
		t.entities = tx.Bucket([]byte(entityBucket))
		return nil
	})
	if err != nil {
		return err
	}
	if err := fn(t); err != nil && t.err == nil {
		return err
	}
	return t.err
}

// guard runs what touches pages and keeps the error of one that is damaged.
func (tx *Tx) guard(fn func() error) error {
	err := tx.store.wrap(guard(fn))
	if err != nil && actions.CodeOf(err) == actions.Internal && tx.err == nil {
		tx.err = err
	}
	return err
}

// Entity returns the document of an entity, which is the caller's, or nil.
func (tx *Tx) Entity(k Key) (doc []byte) {
	_ = tx.guard(func() error { // it is the error of View or Update
		doc = bytes.Clone(tx.entities.Get(k.bytes()))
		return nil
	})
	return doc
}

// PutEntity makes an entity or replaces its document. The error is TooLarge or that of the
// file.
func (tx *Tx) PutEntity(k Key, doc []byte) error {
	return tx.guard(func() error { return tx.entities.Put(k.bytes(), bytes.Clone(doc)) })
}

// DeleteEntity removes an entity, if it is there.
func (tx *Tx) DeleteEntity(k Key) error {
	return tx.guard(func() error { return tx.entities.Delete(k.bytes()) })
}

// Entities calls each with the entities of a package, or with those in none if pkg is
// empty, in the order of names, until it returns false. The document is the caller's. each
// must not change entities.
func (tx *Tx) Entities(c whisk.Collection, namespace, pkg string, each func(Key, []byte) bool) error {
	return tx.walk(texts(string(c), namespace, pkg), each)
}

// AllEntities is Entities for all packages of a namespace: first the entities in none, then
// those of each package, in the order of the packages' names.
func (tx *Tx) AllEntities(c whisk.Collection, namespace string, each func(Key, []byte) bool) error {
	return tx.walk(texts(string(c), namespace), each)
}

func (tx *Tx) walk(prefix []byte, each func(Key, []byte) bool) error {
	var cursor *bbolt.Cursor
	var key, doc []byte
	next := func() error {
		if cursor == nil {
			cursor = tx.entities.Cursor()
			key, doc = cursor.Seek(prefix)
		} else {
			key, doc = cursor.Next()
		}
		return nil
	}
	for {
		if err := tx.guard(next); err != nil {
			return err
		}
		if key == nil || !bytes.HasPrefix(key, prefix) {
			return nil
		}
		k, ok := keyOf(key)
		if !ok {
			tx.err = damaged(tx.store.cfg.Path, pageError{"a key of an entity is wrong"})
			return tx.err
		}
		if !each(k, bytes.Clone(doc)) {
			return nil
		}
	}
}
