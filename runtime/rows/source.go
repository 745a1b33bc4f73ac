package rows

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	// maxObjects is how many objects an input may have, and how many entries a zip.
	maxObjects = 1_000_000
	// maxCounted is how many objects are opened to find out how many rows they have.
	maxCounted = 16
	// maxRow is how many bytes a row may have, maxFile a file.
	maxRow  = 16 << 20
	maxFile = 1 << 30
)

// A Source reads an input. It is used by one goroutine at a time.
type Source struct {
	store       Store
	in          actions.BatchInput
	format      string
	objects     objects
	fingerprint string
	total       int64
	cursor      cursor
	demand      demand
}

// Open finds out what an input is: which objects, of which format. It reads none of their rows.
// The errors are *actions.Error: Invalid for what cannot be an input, NotFound where there is
// nothing, TooLarge for more than a million objects, and those of the store.
func Open(ctx context.Context, store Store, in actions.BatchInput) (*Source, error) {
	if err := CheckInput(in); err != nil {
		return nil, err
	}
	list, err := newObjects(in.URL)
	if err != nil {
		return nil, err
	}
	s := &Source{store: store, in: in, objects: list}
	h := sha256.New()
	if list.isPrefix() {
		err = s.list(ctx, h)
	} else {
		err = s.stat(ctx, h)
	}
	if err != nil {
		return nil, err
	}
	if len(in.Text) > 0 && s.format != actions.CSV {
		return nil, noText(s.format)
	}
	s.fingerprint = hex.EncodeToString(h.Sum(nil))
	if s.total, err = s.count(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// stat makes an input of one object.
func (s *Source) stat(ctx context.Context, h hash.Hash) error {
	o, err := s.store.Stat(ctx, s.in.URL)
	if err != nil {
		return err
	}
	name := s.objects.split()
	if s.format = s.in.Format; s.format == "" {
		s.format = formatOf(name)
	}
	if s.format == "" {
		return invalid("input.format", "is missing: the name of %s does not tell what it is; the formats are %s", s.objects.shown, formats)
	}
	o.URL = s.objects.shown // without a query, which is another each time it is signed
	addTo(h, o)
	s.objects.add(name, o.Size)
	return nil
}

// list makes an input of all objects below a prefix. Without a format in the request all of
// them have to be of one: an input is never silently a part of what is there.
func (s *Source) list(ctx context.Context, h hash.Hash) error {
	s.format = s.in.Format
	told, first := s.in.Format != "", ""
	for o, err := range s.store.List(ctx, s.in.URL) {
		if err != nil {
			return err
		}
		name, ok := s.objects.nameOf(o.URL)
		if !ok {
			return actions.Errorf(actions.Internal, "rows: the store lists %s below %s", o.URL, s.objects.shown)
		}
		if name == "" || strings.HasSuffix(name, "/") || !s.wanted(name, told) {
			continue
		}
		if format := formatOf(name); !told && first == "" {
			s.format, first = format, name
		} else if !told && format != s.format {
			return invalid("input.format", "is missing: below %s are both %s and %s, which are not of one format; say format, or match", s.objects.shown, first, name)
		}
		if s.objects.len() == maxObjects {
			return actions.Errorf(actions.TooLarge, "there are more than %d objects below %s: make several batches of it, by prefix or match", maxObjects, s.objects.shown)
		}
		addTo(h, o)
		s.objects.add(name, o.Size)
	}
	if s.objects.len() == 0 {
		return s.nothing()
	}
	if s.format == "" {
		s.format = actions.Objects
	}
	return nil
}

// wanted says whether an object belongs to the input. Of archives the pattern is for what is in
// them.
func (s *Source) wanted(name string, told bool) bool {
	if !told && isHidden(name) {
		return false
	}
	format := s.in.Format
	if !told {
		format = formatOf(name)
	}
	return format == actions.Tar || format == actions.Zip || matches(s.in.Match, name)
}

func (s *Source) nothing() error {
	if s.in.Match != "" {
		return actions.Errorf(actions.NotFound, "no object below %s matches %q", s.objects.shown, s.in.Match)
	}
	return actions.Errorf(actions.NotFound, "there is no object below %s", s.objects.shown)
}

// addTo adds an object to the fingerprint.
func addTo(h hash.Hash, o actions.Object) {
	b := strconv.AppendQuote(make([]byte, 0, 256), o.URL)
	b = strconv.AppendInt(append(b, ' '), o.Size, 10)
	b = strconv.AppendQuote(append(b, ' '), o.ETag)
	b = append(b, ' ')
	if !o.Modified.IsZero() {
		b = o.Modified.UTC().AppendFormat(b, time.RFC3339Nano)
	}
	_, _ = h.Write(append(b, '\n')) // a hash takes everything
}

// count finds out how many rows there are, as far as few requests tell.
func (s *Source) count(ctx context.Context) (total int64, err error) {
	counted := s.format == actions.Parquet || s.format == actions.Zip
	if s.format == actions.Objects {
		return int64(s.objects.len()), nil
	}
	if !counted || s.objects.len() > maxCounted {
		return 0, nil
	}
	for i := range s.objects.len() {
		open := func(url string, offset, length int64) (io.ReadCloser, error) {
			return s.store.Open(ctx, url, offset, length)
		}
		r, err := s.openObject(open, position{Object: i})
		if err != nil {
			return 0, s.fault(ctx, err)
		}
		if c, ok := r.(interface{ count() int64 }); ok {
			total += c.count()
		}
		_ = r.Close() // it was only read
	}
	return total, nil
}

// Format is the format of the input.
func (s *Source) Format() string { return s.format }

// Fingerprint tells whether an input has changed: it is a hash over the URL, size, ETag and time
// of all objects, in hexadecimal digits.
func (s *Source) Fingerprint() string { return s.fingerprint }

// Size is how many bytes the objects are as they are stored.
func (s *Source) Size() int64 { return s.objects.size }

// Objects is how many objects there are.
func (s *Source) Objects() int { return s.objects.len() }

// Total is how many rows there are if that is known without reading them: files of a prefix, and
// the rows of up to 16 Parquet and zip files. Else it is 0.
func (s *Source) Total() int64 { return s.total }

// has says whether an input of objects has one of that name. Many may ask at the same time as one
// reads.
func (s *Source) has(name string) bool {
	if s.format != actions.Objects {
		return false
	}
	i := sort.Search(s.objects.len(), func(i int) bool { return s.objects.name(i) >= name })
	return i < s.objects.len() && s.objects.name(i) == name
}

// Close ends what is open.
func (s *Source) Close() error {
	s.cursor.drop()
	return nil
}
