package rows

import (
	"context"
	"encoding/json"
	"io"
	"strconv"

	"github.com/deepfn/deepfn/actions"
)

// A position is where a row begins: in which object, and where in it. What an offset counts is
// the format's: bytes of the content, entries, rows.
type position struct {
	Object int   `json:"object"`
	Offset int64 `json:"offset"`
}

func (p position) json() json.RawMessage {
	b := append(make([]byte, 0, 40), `{"object":`...)
	b = strconv.AppendInt(b, int64(p.Object), 10)
	b = append(b, `,"offset":`...)
	b = strconv.AppendInt(b, p.Offset, 10)
	return append(b, '}')
}

// A reader reads the rows of one object. Its errors are *actions.Error, and the end of it: what
// is wrong with one row is that row's Err.
type reader interface {
	// more moves to the beginning of the next row, and says whether there is one.
	more() (bool, error)
	// offset is where that row begins.
	offset() int64
	// next reads the row that more has found, but for its Number, and returns how many bytes of
	// input it is. The bytes of the row lie in the arena. A nil row is only moved past, and is
	// as many bytes.
	next(a *arena, r *Row) (int64, error)
	// consumed is how many bytes of the object, as it is stored, are before that row.
	consumed() int64
	io.Closer
}

// A cursor is where a Source stands. The zero value stands nowhere.
type cursor struct {
	at     position
	reader reader // nil when the object is not open
	// past is how much of the object has been counted in a Part.
	past int64
	// open opens an object of the store, and cancel ends all that it opened. They outlive the
	// Read that made them, because the next one goes on.
	open   opener
	cancel context.CancelFunc
}

// An opener opens a part of an object; Store.Open with a context.
type opener func(url string, offset, length int64) (io.ReadCloser, error)

// shut closes the open object, drop forgets also where it was.
func (c *cursor) shut() {
	if c.reader != nil {
		_ = c.reader.Close() // it was only read
		c.reader = nil
	}
	c.past = 0
}

func (c *cursor) drop() {
	c.shut()
	if c.cancel != nil {
		c.cancel()
	}
	*c = cursor{}
}

// Read reads the rows from a position on, which nil is the beginning of; number is that of the
// first. The same position and limit give the same rows and the same Next, whatever was read
// before. Where the last Read ended it goes on without another request; else it seeks, and of
// compressed objects reads what is before the position.
//
// The errors are *actions.Error: Invalid for a position that is none, and for an object that
// is damaged as a whole; Unavailable when the store failed in the middle; what the store
// says. After an error the same Read may be tried again.
func (s *Source) Read(ctx context.Context, at json.RawMessage, number int64, limit Limit) (Part, error) {
	p, err := s.position(at)
	if err != nil {
		return Part{}, err
	}
	if s.format == actions.Objects {
		return s.readObjects(ctx, p, number, limit)
	}
	if s.cursor.open == nil || p != s.cursor.at {
		s.seek(ctx, p)
	}
	stop := context.AfterFunc(ctx, s.cursor.cancel)
	part, err := s.part(number, limit)
	if ended := !stop(); ended || err != nil {
		s.cursor.drop()
	}
	if err != nil {
		return Part{}, s.fault(ctx, err)
	}
	return part, nil
}

// position reads a position, which may come from anybody.
func (s *Source) position(at json.RawMessage) (p position, err error) {
	if at == nil {
		return position{}, nil
	}
	err = json.Unmarshal(at, &p)
	if err != nil || p.Object < 0 || p.Object >= s.objects.len() || p.Offset < 0 {
		return position{}, actions.Errorf(actions.Invalid, "%.100q is no position in %s", at, s.objects.shown)
	}
	return p, nil
}

// seek goes to a position. The stores' context is one of our own, which the next Read goes on
// with; each Read ends it when its own ends.
func (s *Source) seek(ctx context.Context, p position) {
	s.cursor.drop()
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cursor = cursor{at: p, cancel: cancel, open: func(url string, offset, length int64) (io.ReadCloser, error) {
		return s.store.Open(life, url, offset, length)
	}}
}

// part reads rows until the limit or the end.
func (s *Source) part(number int64, limit Limit) (part Part, err error) {
	var a arena
	if !limit.Skip {
		part.Rows = make([]Row, 0, min(limit.Rows, 1024))
	}
	read := int64(0)
	for {
		more, err := s.more(&part)
		if err != nil {
			return Part{}, err
		}
		if !more {
			s.cursor.drop()
			return part, nil
		}
		if part.Count >= int64(limit.Rows) || read >= limit.Bytes {
			break
		}
		n, err := part.next(s.cursor.reader, &a, number, limit.Skip)
		if err != nil {
			return Part{}, err
		}
		read += n
	}
	s.cursor.at.Offset = s.cursor.reader.offset()
	part.Next = s.cursor.at.json()
	part.Bytes += s.cursor.advance(s.cursor.reader.consumed())
	return part, nil
}

// next reads one row into the part, or moves past it.
func (p *Part) next(from reader, a *arena, number int64, skip bool) (int64, error) {
	p.Count++
	if skip {
		return from.next(a, nil)
	}
	p.Rows = append(p.Rows, Row{Number: number + p.Count - 1})
	r := &p.Rows[len(p.Rows)-1]
	n, err := from.next(a, r)
	if r.Key == nil {
		r.Key = a.number(r.Number)
	}
	return n, err
}

// advance returns how many bytes of the object are new since the last time.
func (c *cursor) advance(consumed int64) int64 {
	n := max(0, consumed-c.past)
	c.past += n
	return n
}

// more moves to the next row, through the objects, and says whether there is one.
func (s *Source) more(part *Part) (bool, error) {
	c := &s.cursor
	for {
		if c.reader == nil {
			r, err := s.openObject(c.open, c.at)
			if err != nil {
				return false, err
			}
			c.reader = r
			if c.at.Offset > 0 {
				c.past = r.consumed()
			}
		}
		more, err := c.reader.more()
		if more || err != nil {
			return more, err
		}
		part.Bytes += c.advance(s.objects.sizes[c.at.Object])
		c.shut()
		if c.at.Object+1 == s.objects.len() {
			return false, nil
		}
		c.at = position{Object: c.at.Object + 1}
	}
}

// openObject opens the object of a position for reading from there.
func (s *Source) openObject(open opener, p position) (reader, error) {
	o := object{
		url: s.objects.url(p.Object), shown: s.objects.showing(p.Object), name: s.objects.name(p.Object), size: s.objects.sizes[p.Object],
		only: s.objects.len() == 1, key: s.in.Key, match: s.in.Match, delimited: s.in.Delimiter != "", text: s.in.Text,
		demand: s.demand, open: open,
	}
	switch s.format {
	case actions.CSV:
		return newCSV(o, p.Offset, delimiterOf(s.in, o.name))
	case actions.Tar:
		return newTar(o, p.Offset)
	case actions.Zip:
		return newZip(o, p.Offset)
	case actions.Parquet:
		return newParquet(o, p.Offset)
	default:
		return newNDJSON(o, p.Offset)
	}
}

// fault is err as a caller sees it: what its own context ended is Canceled or Deadline.
func (s *Source) fault(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil:
		return err
	case context.Cause(ctx) == context.DeadlineExceeded: //nolint:errorlint // the cause is exactly this
		return &actions.Error{Code: actions.Deadline, Msg: "reading " + s.objects.shown + ": the time is over", Err: err}
	}
	return &actions.Error{Code: actions.Canceled, Msg: "reading " + s.objects.shown + " was cancelled", Err: err}
}

// An object is one object of the input, and what of the input its reader has to know.
type object struct {
	// url is for the store, shown for people: without a query, which may be a key.
	url, shown, name string
	size             int64
	only             bool // there is no other in the input
	key              string
	match            string
	delimited        bool     // somebody has said what separates the columns of a CSV
	text             []string // columns of a CSV that are read as text
	demand           demand
	open             opener
}

// damaged is the error of an object that cannot be read on.
func (o object) damaged(format string, args ...any) error {
	e := actions.Errorf(actions.Invalid, format, args...)
	e.Msg = o.shown + ": " + e.Msg
	return e
}

// fileKey is the name of an entry of an archive in the input.
func (o object) fileKey(entry string) string {
	if o.only {
		return entry
	}
	return o.name + "/" + entry
}
