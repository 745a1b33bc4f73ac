package rows_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

// memory is a store in memory. Its knobs make it fail and tell what was asked of it.
type memory struct {
	objects map[string][]byte
	// short is the most bytes that one Read gives, 0 for any number.
	short int
	// breakAt is after how many bytes of an Open the connection breaks, 0 for never; cut is
	// after how many it ends as if the object did.
	breakAt, cut int64
	// fail is the error of each Open, refuse the URL that is said to be none.
	fail   error
	refuse string

	mu    sync.Mutex // guards what follows
	opens int
	bytes int64
}

func (m *memory) Stat(_ context.Context, url string) (actions.Object, error) {
	data, ok := m.objects[url]
	if !ok {
		return actions.Object{}, actions.Errorf(actions.NotFound, "there is no %s", url)
	}
	return m.object(url, data), nil
}

func (m *memory) object(url string, data []byte) actions.Object {
	return actions.Object{URL: url, Size: int64(len(data)), ETag: fmt.Sprint(len(data)), Modified: time.Unix(1_700_000_000, 0)}
}

func (m *memory) List(_ context.Context, prefix string) iter.Seq2[actions.Object, error] {
	return func(yield func(actions.Object, error) bool) {
		for _, url := range slices.Sorted(maps.Keys(m.objects)) {
			if strings.HasPrefix(url, prefix) && !yield(m.object(url, m.objects[url]), nil) {
				return
			}
		}
	}
}

func (m *memory) Open(ctx context.Context, url string, offset, length int64) (io.ReadCloser, error) {
	m.mu.Lock()
	m.opens++
	m.mu.Unlock()
	data, ok := m.objects[url]
	switch {
	case m.fail != nil:
		return nil, m.fail
	case m.refuse == url:
		return nil, actions.Errorf(actions.Invalid, "%s is no UTF-8", url)
	case !ok:
		return nil, actions.Errorf(actions.NotFound, "there is no %s", url)
	case offset < 0 || offset > int64(len(data)) || length > int64(len(data))-offset:
		return nil, actions.Errorf(actions.Invalid, "%s has no bytes %d+%d", url, offset, length)
	}
	data = data[offset:]
	if length >= 0 {
		data = data[:length]
	}
	return &body{memory: m, ended: ctx.Err, data: data}, nil
}

// asked returns how many Opens and bytes there were since the last time.
func (m *memory) asked() (opens int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	opens, bytes = m.opens, m.bytes
	m.opens, m.bytes = 0, 0
	return opens, bytes
}

type body struct {
	memory *memory
	ended  func() error
	data   []byte
	read   int64
}

var errBroken = errors.New("connection reset by peer")

func (b *body) Read(p []byte) (int, error) {
	m := b.memory
	if err := b.ended(); err != nil {
		return 0, err
	}
	if m.short > 0 {
		p = p[:min(len(p), m.short)]
	}
	for _, stop := range []struct {
		at  int64
		err error
	}{{m.breakAt, errBroken}, {m.cut, io.EOF}} {
		if stop.at > 0 && b.read >= stop.at {
			return 0, stop.err
		}
		if stop.at > 0 {
			p = p[:min(int64(len(p)), stop.at-b.read)]
		}
	}
	if len(b.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.data)
	b.data, b.read = b.data[n:], b.read+int64(n)
	m.mu.Lock()
	m.bytes += int64(n)
	m.mu.Unlock()
	return n, nil
}

func (b *body) Close() error { return nil }

// storeOf is a store with one object.
func storeOf(url string, data []byte) *memory {
	return &memory{objects: map[string][]byte{url: data}}
}

func open(tb testing.TB, store rows.Store, in actions.BatchInput) *rows.Source {
	tb.Helper()
	s, err := rows.Open(tb.Context(), store, in)
	if err != nil {
		tb.Fatalf("open %s: %v", in.URL, err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// readAll reads an input in parts.
func readAll(tb testing.TB, s *rows.Source, limit rows.Limit) (all []rows.Row, parts []rows.Part) {
	tb.Helper()
	var at []byte
	for {
		part, err := s.Read(tb.Context(), at, int64(len(all)), limit)
		if err != nil {
			tb.Fatalf("read at %s: %v", at, err)
		}
		if part.Count != int64(len(part.Rows)) {
			tb.Fatalf("read at %s: got a count of %d, want the %d rows", at, part.Count, len(part.Rows))
		}
		all, parts = append(all, part.Rows...), append(parts, part)
		if part.Next == nil {
			return all, parts
		}
		if bytes.Equal(part.Next, at) {
			tb.Fatalf("read at %s goes nowhere", at)
		}
		at = part.Next
	}
}

// show writes rows as text, one a line.
func show(all []rows.Row) string {
	var b strings.Builder
	for _, r := range all {
		fmt.Fprintf(&b, "%d %s", r.Number, r.Key)
		switch {
		case r.Err != nil:
			fmt.Fprintf(&b, " ! %s: %v", actions.CodeOf(r.Err), r.Err)
		case r.File != nil:
			fmt.Fprintf(&b, " %s %s %.60q", r.File.Filename, r.File.ContentType, r.File.Data)
		default:
			fmt.Fprintf(&b, " %s", r.Columns)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// whole is a limit that no test reaches.
func whole() rows.Limit { return rows.Limit{Rows: 1 << 30, Bytes: 1 << 40} }
