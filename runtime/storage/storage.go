package storage

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A Resolver finds the addresses of a host; *net.Resolver is one. network is "ip".
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Config says what a Storage may reach.
type Config struct {
	// Allow are prefixes of URLs that callers may name whatever their address is, and of other
	// schemes than https too: "http://minio.local:9000/models/", "s3://bucket/in/", "s3://" for
	// every bucket, "file:///data/" for the files in a folder. Scheme, host and port must be
	// equal, and the path begins with whole segments of the prefix. The default is none: https
	// to public addresses.
	Allow []string
	// MaxBytes is the most that one Fetch reads. The default is 1 GiB.
	MaxBytes int64
	// Timeout is the most time of one Fetch or Store; its context may end sooner. Of the other
	// methods it is the most time in which nothing comes. The default is a minute.
	Timeout time.Duration
	// Log takes a line for each address that is refused. Nil discards.
	Log *slog.Logger

	// Resolver finds addresses, Dial connects to one ("93.184.216.34:443", "tcp"); what is
	// refused is not dialled. TLS has the certificates that are trusted. Nil is the
	// system's of each.
	Resolver Resolver
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	TLS      *tls.Config
}

// A Storage fetches and stores. Make it with New. Many may use it at the same time.
type Storage struct {
	cfg   Config
	allow []prefix
	forms map[string]form // by scheme
}

// A form is a kind of URL.
type form interface {
	// fetch opens what is at a URL; size is -1 when it is not known.
	fetch(ctx context.Context, l location) (object, error)
	// store writes all of a file, or nothing that anybody sees.
	store(ctx context.Context, l location, f actions.File) error
	// check says why a caller may not name the URL, as far as that is known without a
	// connection.
	check(l location) error

	// What follows does as the methods of Storage say; the errors are *actions.Error, or those
	// of the context or the store, which mean that it broke off.

	stat(ctx context.Context, l location) (actions.Object, error)
	// list calls yield for each object until it returns false.
	list(ctx context.Context, l location, yield func(actions.Object) bool) error
	open(ctx context.Context, l location, offset, length int64) (io.ReadCloser, error)
	// put reads body to its end, and stores nothing when that fails.
	put(ctx context.Context, l location, body io.Reader, size int64, opts actions.PutOptions) error
	copy(ctx context.Context, from, to location) error
	remove(ctx context.Context, l location) error
}

// An object is what is at a URL, open for reading.
type object struct {
	body                  io.ReadCloser
	size                  int64 // -1 when it is not known
	filename, contentType string
}

// New makes a Storage. The error is about an entry of Config.Allow.
func New(cfg Config) (*Storage, error) {
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = 1 << 30
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	s := &Storage{cfg: cfg}
	for _, entry := range cfg.Allow {
		p, err := parsePrefix(entry)
		if err != nil {
			return nil, err
		}
		s.allow = append(s.allow, p)
	}
	web := newWeb(cfg, s.allow)
	s.forms = map[string]form{
		"https": web,
		"http":  web,

		"s3":     newBuckets(new(s3Opener).open, ""),
		"gs":     newBuckets(new(gsOpener).open, ""),
		"azblob": newBuckets(openAzure, azureOdd),

		fileScheme: &folders{allow: s.allow},
	}
	return s, nil
}

// Fetch writes what is at a URL to w and returns its name and media type; both may be
// empty. An error of w is returned as it is. The others are *actions.Error: Invalid (no
// such form of URL, or the server there refuses the request), Forbidden (the address is not
// allowed, or the server there says so), NotFound, TooLarge, Deadline, Canceled, and
// Unavailable (it cannot be reached, it breaks off, or it is at fault).
func (s *Storage) Fetch(ctx context.Context, url string, w io.Writer) (actions.File, error) {
	l, f, err := s.locate(url)
	if err != nil {
		return actions.File{}, err
	}
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	o, err := f.fetch(ctx, l)
	if err != nil {
		return actions.File{}, s.ended(parent, ctx, l, err)
	}
	defer func() { _ = o.body.Close() }()
	if o.size > s.cfg.MaxBytes {
		return actions.File{}, s.tooLarge(l)
	}
	if wrong, err := s.copy(w, o); wrong != nil {
		return actions.File{}, wrong
	} else if err != nil {
		return actions.File{}, s.ended(parent, ctx, l, brokenOff(l, err))
	}
	return actions.File{Filename: o.filename, ContentType: o.contentType}, nil
}

// copy writes an object to w. wrong is what the caller of Fetch shall see as it is, err
// why reading has ended too soon.
func (s *Storage) copy(w io.Writer, o object) (wrong, err error) {
	to := &sink{w: w}
	// One byte more than the limit tells that there is more.
	n, err := io.Copy(to, io.LimitReader(o.body, s.cfg.MaxBytes+1))
	switch {
	case to.err != nil:
		return to.err, nil
	case n > s.cfg.MaxBytes:
		return nil, errTooLarge
	}
	return nil, err
}

// A sink keeps the error of a writer apart from that of the reader beside it.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (n int, err error) {
	n, s.err = s.w.Write(p)
	return n, s.err
}

// MayStore says whether Store may write to a URL, as far as that is known without asking
// anybody: nil, Invalid or Forbidden.
func (s *Storage) MayStore(url string) error {
	_, _, err := s.locate(url)
	return err
}

// Store writes f.Data to a URL, with f.ContentType. Data is the caller's again when it
// returns. The errors are those of Fetch; Unavailable, too, if the server there says yes
// before it has taken all.
func (s *Storage) Store(ctx context.Context, url string, f actions.File) error {
	l, to, err := s.locate(url)
	if err != nil {
		return err
	}
	if f.ContentType == "" {
		f.ContentType = octets
	}
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if err := to.store(ctx, l, f); err != nil {
		return s.ended(parent, ctx, l, err)
	}
	return nil
}

// locate finds the form of a URL, and whether a caller may name it.
func (s *Storage) locate(url string) (location, form, error) {
	l, err := parse(url)
	if err != nil {
		return l, nil, err
	}
	return s.admit(l)
}

// admit finds the form of a location, and whether a caller may name it.
func (s *Storage) admit(l location) (location, form, error) {
	f, ok := s.forms[l.url.Scheme]
	if !ok {
		return l, nil, actions.Errorf(actions.Invalid, "%s is neither an https URL nor one of s3, gs, azblob or file", l)
	}
	l.allowed = allows(s.allow, l)
	return l, f, f.check(l)
}

// ended says why a call has ended: because of its time, else because of err.
func (s *Storage) ended(parent, ctx context.Context, l location, err error) error {
	switch {
	case errors.Is(parent.Err(), context.DeadlineExceeded):
		return &actions.Error{Code: actions.Deadline, Msg: l.String() + ": the time of the request was over", Err: err}
	case parent.Err() != nil:
		return &actions.Error{Code: actions.Canceled, Msg: l.String() + ": the request was given up", Err: err}
	case ctx.Err() != nil:
		e := actions.Errorf(actions.Deadline, "%s took more than %s", l, s.cfg.Timeout)
		e.Err = err
		return e
	case errors.Is(err, errTooLarge):
		return s.tooLarge(l)
	}
	return err
}

func (s *Storage) tooLarge(l location) error {
	return actions.Errorf(actions.TooLarge, "%s has more than the %d bytes that the server fetches at most (--max-body)", l, s.cfg.MaxBytes)
}
