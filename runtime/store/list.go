package store

import (
	"bytes"

	"go.etcd.io/bbolt"

	"github.com/deepfn/deepfn/actions/whisk"
)

// A step through a list reads so many activations, or bytes of them, in one transaction:
// while one lasts, no page that was freed is used again.
const (
	stepRecords = 256
	stepBytes   = 4 << 20
)

// Activations calls each with the activations of a namespace that a query asks for, the
// latest first, until it returns false. A Record has its Summary, and with q.Docs Doc and
// Logs; they are each's. q.Limit zero means all. each may call the Store.
func (s *Store) Activations(namespace string, q whisk.ActivationQuery, each func(Record) bool) error {
	span := newSpan(namespace, q)
	skip, left := max(q.Skip, 0), q.Limit
	for {
		var found []Record
		var err error
		if found, skip, err = s.step(span, q, skip, left); err != nil {
			return err
		}
		for _, r := range found {
			if !each(r) {
				return nil
			}
		}
		if left -= len(found); len(found) == 0 || left == 0 {
			return nil
		}
	}
}

// CountActivations returns how many activations a query asks for from q.Skip on, whatever its limit.
func (s *Store) CountActivations(namespace string, q whisk.ActivationQuery) (int, error) {
	span, n := newSpan(namespace, q), 0
	err := s.read(func(tx *bbolt.Tx) error {
		cursor := tx.Bucket([]byte(indexBucket)).Cursor()
		for key := span.last(cursor); key != nil; key = span.before(cursor) {
			n++
		}
		return nil
	})
	return max(n-max(q.Skip, 0), 0), err
}

// A span is the part of indexBucket that a query asks for.
type span struct {
	prefix []byte // namespace and name
	first  []byte // the least key
	end    []byte // the least key that is behind it
	least  []byte // the last key that step has seen, or nil
}

func newSpan(namespace string, q whisk.ActivationQuery) *span {
	prefix := texts(namespace, q.Name)
	first, last := between(q.Since, q.Upto)
	all := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	return &span{
		prefix: prefix,
		first:  appendTime(bytes.Clone(prefix), first),
		end:    append(appendTime(bytes.Clone(prefix), last), all...),
	}
}

// within returns the key if it is in the span, else nil.
func (s *span) within(key []byte) []byte {
	if key == nil || bytes.Compare(key, s.first) < 0 {
		return nil
	}
	return key
}

// last puts the cursor onto the last key of the span.
func (s *span) last(cursor *bbolt.Cursor) []byte {
	return s.lastBefore(cursor, s.end)
}

func (s *span) lastBefore(cursor *bbolt.Cursor, end []byte) []byte {
	if key, _ := cursor.Seek(end); key == nil {
		key, _ = cursor.Last()
		return s.within(key)
	}
	return s.before(cursor)
}

// before puts the cursor onto the key before.
func (s *span) before(cursor *bbolt.Cursor) []byte {
	key, _ := cursor.Prev()
	return s.within(key)
}

// step reads the next activations of a span. It returns none at its end, and how many are
// still to be skipped.
func (s *Store) step(span *span, q whisk.ActivationQuery, skip, limit int) (found []Record, left int, err error) {
	err = s.read(func(tx *bbolt.Tx) error {
		cursor := tx.Bucket([]byte(indexBucket)).Cursor()
		end := span.end
		if span.least != nil {
			end = span.least
		}
		size := 0
		var least []byte
		defer func() { span.least = bytes.Clone(least) }()
		for key := span.lastBefore(cursor, end); key != nil; key = span.before(cursor) {
			if size >= stepBytes || len(found) == stepRecords || limit > 0 && len(found) == limit {
				return nil
			}
			least = key
			if skip > 0 {
				skip--
				continue
			}
			r, _, err := decode(tx.Bucket([]byte(activationsBucket)).Get(key[len(key)-8:]))
			if err != nil {
				return pageError{err}
			}
			if !q.Docs {
				r.Doc, r.Logs = nil, nil
			}
			found = append(found, r.clone())
			size += len(r.Summary) + len(r.Doc) + len(r.Logs)
		}
		return nil
	})
	return found, skip, err
}
