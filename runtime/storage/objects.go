package storage

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// Stat describes the object at a URL. Like the methods below it is for who serves the
// operator: a batch prediction, not the argument of a call. Their errors are those of Fetch
// but for time: Deadline is the end of ctx, and a store that does not answer within
// Config.Timeout is Unavailable. With RetryAfter an Unavailable may go away; without, somebody
// has to do something.
func (s *Storage) Stat(ctx context.Context, url string) (actions.Object, error) {
	l, k, err := s.locate(url)
	if err != nil {
		return actions.Object{}, err
	}
	var o actions.Object
	err = s.within(ctx, l, func(ctx context.Context, _ *watch) error {
		o, err = k.stat(ctx, l)
		return err
	})
	return o, err
}

// List returns all objects below a prefix, a URL that ends in "/", in the order of their
// keys' bytes. Folders, and the empty objects that stand for them, are left out. It ends
// with an error; a prefix that has nothing below it is none.
func (s *Storage) List(ctx context.Context, prefix string) iter.Seq2[actions.Object, error] {
	return func(yield func(actions.Object, error) bool) {
		l, k, err := s.folder(prefix)
		if err != nil {
			yield(actions.Object{}, err)
			return
		}
		err = s.within(ctx, l, func(ctx context.Context, w *watch) error {
			return k.list(ctx, l, func(o actions.Object) bool {
				w.pause() // what the caller does with it is its own time
				defer w.resume()
				return yield(o, nil)
			})
		})
		if err != nil {
			yield(actions.Object{}, err)
		}
	}
}

// Open reads length bytes of an object from offset on, all that follow when length is
// negative. They are the bytes as they are stored, so what is compressed stays so. After the
// end there is nothing. Reading may take any time as long as something comes within each
// Config.Timeout; the errors of Read are like those of Open. An https server that does not
// know ranges is Unsupported when offset is not 0.
func (s *Storage) Open(ctx context.Context, url string, offset, length int64) (io.ReadCloser, error) {
	l, k, err := s.locate(url)
	if err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, actions.Errorf(actions.Invalid, "%s has no byte %d", l, offset)
	}
	ctx, w := s.watch(ctx, l)
	from, err := k.open(ctx, l, offset, length)
	w.pause()
	if err != nil {
		defer w.end()
		return nil, w.ended(err)
	}
	return &body{l: l, from: from, w: w}, nil
}

// Put writes an object of size bytes, which are all of body from its beginning: it is seen
// whole or not at all. Without Once it takes the place of one that is there; with Once the
// error is Conflict then, and the object stays as it is. Conflict may also mean that this
// very call has put it and that the answer was lost on its way. Body is the caller's again
// when Put returns. The errors are those of Stat. A store that is full is Unavailable, one
// that has no way to put an object only once is Unsupported, and so is https.
func (s *Storage) Put(ctx context.Context, url string, body io.ReadSeeker, size int64, opts actions.PutOptions) error {
	l, k, err := s.locate(url)
	if err != nil {
		return err
	}
	if opts.ContentType == "" {
		opts.ContentType = octets
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return actions.Errorf(actions.Internal, "%s: the beginning of what is to be stored: %w", l, err)
	}
	return s.within(ctx, l, func(ctx context.Context, w *watch) error {
		from := &source{from: body, left: size, read: w.resume}
		err := k.put(ctx, l, from, size, opts)
		if from.err != nil {
			return actions.Errorf(actions.Internal, "%s: reading what is to be stored: %w", l, from.err)
		}
		return err
	})
}

// Copy copies an object within its bucket, or a file, without the bytes going through this
// server where the store can do it. It takes the place of one that is there.
func (s *Storage) Copy(ctx context.Context, from, to string) error {
	a, k, err := s.locate(from)
	if err != nil {
		return err
	}
	b, _, err := s.locate(to)
	if err != nil {
		return err
	}
	if a.url.Scheme != b.url.Scheme || a.url.Host != b.url.Host {
		return actions.Errorf(actions.Unsupported, "%s cannot be copied to %s, which is in another store", a, b)
	}
	return s.within(ctx, b, func(ctx context.Context, _ *watch) error { return k.copy(ctx, a, b) })
}

// Remove removes an object. That there is none is no error.
func (s *Storage) Remove(ctx context.Context, url string) error {
	l, k, err := s.locate(url)
	if err != nil {
		return err
	}
	err = s.within(ctx, l, func(ctx context.Context, _ *watch) error { return k.remove(ctx, l) })
	if actions.CodeOf(err) == actions.NotFound {
		return nil
	}
	return err
}

// octets is the media type of what has none.
const octets = "application/octet-stream"

// folder finds the form of all that is below a URL, and whether a caller may name it.
func (s *Storage) folder(prefix string) (location, form, error) {
	l, err := parse(prefix)
	if err != nil {
		return l, nil, err
	}
	if !strings.HasSuffix(l.url.Path, "/") {
		return l, nil, actions.Errorf(actions.Invalid, "%s does not end in a slash, so it is no prefix", l)
	}
	l.folder = true
	return s.admit(l)
}

// within calls do with a context that ends when nothing comes for Config.Timeout.
func (s *Storage) within(parent context.Context, l location, do func(ctx context.Context, w *watch) error) error {
	ctx, w := s.watch(parent, l)
	defer w.end()
	return w.ended(do(ctx, w))
}

// A watch ends a call in which nothing comes for too long.
type watch struct {
	time   time.Duration
	timer  *time.Timer
	cancel context.CancelFunc
	// ended says why the call has ended with an error: because of its time, or because of the
	// error itself.
	ended func(err error) error
}

// watch begins to count the time of a call, whose context it returns.
func (s *Storage) watch(parent context.Context, l location) (context.Context, *watch) {
	ctx, cancel := context.WithCancel(parent)
	w := &watch{time: s.cfg.Timeout, timer: time.AfterFunc(s.cfg.Timeout, cancel), cancel: cancel}
	w.ended = func(err error) error {
		switch {
		case err == nil:
			return nil
		case errors.Is(parent.Err(), context.DeadlineExceeded):
			return &actions.Error{Code: actions.Deadline, Msg: l.String() + ": the time of the request was over", Err: err}
		case parent.Err() != nil:
			return &actions.Error{Code: actions.Canceled, Msg: l.String() + ": the request was given up", Err: err}
		case ctx.Err() != nil:
			return passing(err, "%s: nothing came for %s", l, w.time)
		}
		if e, ok := errors.AsType[*actions.Error](err); ok {
			return e
		}
		return passing(err, "%s broke off", l)
	}
	return ctx, w
}

// pause stops the clock, resume sets it back to the beginning.
func (w *watch) pause()  { w.timer.Stop() }
func (w *watch) resume() { w.timer.Reset(w.time) }

// end lets go of what the call holds.
func (w *watch) end() {
	w.timer.Stop()
	w.cancel()
}
