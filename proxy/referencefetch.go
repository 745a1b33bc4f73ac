package proxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

// maxFetches is how many references of a request are fetched at one time.
const maxFetches = 4

// keysOf are the names in a map.
func keysOf[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

// fetch fetches all references of a call, some at a time, to disk. The first that fails ends
// the others.
func (s *Server) fetch(ctx context.Context, refs *references) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	refs.spools = make([]*spool, len(refs.list))
	errs := make([]error, len(refs.list))
	left := new(atomic.Int64)
	left.Store(s.cfg.MaxBody)
	places := make(chan struct{}, maxFetches)
	var wg sync.WaitGroup
	for i, ref := range refs.list {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if ctx.Err() != nil {
				errs[i] = ctx.Err()
				return
			}
			if errs[i] = s.fetchOne(ctx, ref, &refs.spools[i], left); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	var ended error
	for _, err := range errs {
		if err != nil && actions.CodeOf(err) != actions.Canceled && !errors.Is(err, context.Canceled) {
			return err
		}
		ended = cmp.Or(ended, err)
	}
	return ended
}

// fetchOne fetches one reference.
func (s *Server) fetchOne(ctx context.Context, ref *reference, to **spool, left *atomic.Int64) error {
	sp, err := newSpool(s.cfg.TempDir)
	if err != nil {
		return fetchDiskError(ref, err)
	}
	*to = sp // which references.close closes
	f, err := s.cfg.Storage.Fetch(ctx, ref.url, &limitedSpool{sp, left})
	if err == nil {
		err = sp.show()
	}
	switch {
	case errors.Is(err, errTogether):
		return &actions.Error{
			Code: actions.TooLarge, Err: err,
			Msg: fmt.Sprintf("%s cannot be fetched: what the request gives by reference is over the limit of %d bytes together (--max-body)",
				short(ref.argument), s.cfg.MaxBody),
		}
	case isDiskError(err):
		return fetchDiskError(ref, err)
	case err != nil:
		return referenceError(ref.argument, "cannot be fetched: ", err)
	}
	if ref.file.Filename == "" {
		ref.file.Filename = f.Filename
	}
	if ref.file.Filename == "" && sp.size == 0 {
		ref.file.Filename = "file" // an empty one without a name would be an empty field of a form
	}
	if ref.file.ContentType == "" {
		ref.file.ContentType = f.ContentType
	}
	ref.file.Name, ref.file.Data = ref.argument, sp.data
	return nil
}

// A limitedSpool takes what all references of a request may have together.
type limitedSpool struct {
	*spool
	left *atomic.Int64
}

func (l *limitedSpool) Write(p []byte) (int, error) {
	if l.left.Add(-int64(len(p))) < 0 {
		return 0, errTogether
	}
	if err := l.write(p); err != nil {
		return 0, &diskFault{err}
	}
	return len(p), nil
}

const errTogether = togetherError("over the limit together")

type togetherError string

func (e togetherError) Error() string { return string(e) }

// A diskFault is an error of this server's disk, not of who is asked.
type diskFault struct{ error }

func (d *diskFault) Unwrap() error { return d.error }

func isDiskError(err error) bool {
	_, ok := errors.AsType[*diskFault](err)
	return ok
}

// fetchDiskError says that the disk does not take what is fetched.
func fetchDiskError(ref *reference, err error) error {
	e := &actions.Error{
		Code: actions.Unavailable, Err: err,
		Msg: short(ref.argument) + " cannot be fetched: the server cannot keep it on its disk at the moment; try again later",
	}
	if cause, ok := errors.AsType[*actions.Error](err); ok {
		e.Status = cause.Status
	}
	return e
}

// wrongReference says what is wrong with an argument.
func wrongReference(name, problem string) *actions.Error {
	name = short(name)
	return &actions.Error{
		Code: actions.Invalid, Msg: name + " " + problem, Fields: map[string][]string{name: {problem}},
	}
}

// referenceError says why an argument cannot be fetched, or a result not be stored. What the
// caller can change about it is Invalid: to him it is an argument that is wrong.
func referenceError(name, what string, err error) error {
	e, ok := errors.AsType[*actions.Error](err)
	if !ok {
		return fmt.Errorf("%s %s%w", name, what, err)
	}
	told := wrongReference(name, what+message(e))
	told.Err, told.RetryAfter = e.Err, e.RetryAfter
	switch e.Code {
	case actions.Invalid, actions.NotFound, actions.Forbidden:
	case actions.Unavailable:
		told.Code, told.Status = e.Code, http.StatusBadGateway // this server is fine
	default:
		told.Code = e.Code
	}
	return told
}

// shownURL is what may be shown of a URL: not the query, which may be a key.
func shownURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "the URL"
	}
	return short((&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String())
}

// replace puts what was fetched into the places of the references, and takes result_to away
// from models that have no such argument. A function gets its arguments as they came.
func (c *call) replace(m actions.Model, refs *references, members map[string]json.RawMessage, takes map[string]expected) error {
	if refs.function {
		return nil
	}
	changed := map[string]json.RawMessage{} // nil is gone
	if refs.to != "" || string(members[resultTo]) == "null" {
		if _, own := takes[resultTo]; !own {
			changed[resultTo] = nil
		}
	}
	var files []actions.File
	for _, ref := range refs.list {
		if _, done := changed[ref.argument]; done {
			continue // with the rest of its list
		}
		e := takes[ref.argument]
		if !e.files {
			raw, err := refs.value(ref, e.kind)
			if err != nil {
				return err
			}
			changed[ref.argument] = raw
			continue
		}
		changed[ref.argument] = nil
		found, err := refs.files(ref)
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	c.change(m, changed, files)
	return nil
}

// value is a document that stands in the place of its reference, in memory that is taken.
func (refs *references) value(ref *reference, kind actions.ArgumentType) (json.RawMessage, error) {
	size := int64(len(ref.file.Data))
	if size > payload {
		if !refs.bodies.take(size) {
			return nil, busyError()
		}
		refs.taken += size
	}
	return ref.document(kind)
}

// files are the files of an argument, in their order: those that were fetched, and in a list
// those beside them.
func (refs *references) files(first *reference) ([]actions.File, error) {
	if first.at < 0 {
		return []actions.File{first.typed()}, nil
	}
	var files []actions.File
	for i, raw := range refs.lists[first.argument] {
		at := slices.IndexFunc(refs.list, func(r *reference) bool { return r.argument == first.argument && r.at == i })
		if at >= 0 {
			files = append(files, refs.list[at].typed())
			continue
		}
		size := int64(len(raw)) / 4 * 3
		if !refs.bodies.take(size) {
			return nil, busyError()
		}
		refs.taken += size
		found, err := actions.ParseFiles(first.argument, raw)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

// typed is a file that says that it is JSON if nobody said what it is.
func (ref *reference) typed() actions.File {
	f := ref.file
	if f.ContentType == "" || f.ContentType == "application/octet-stream" || f.ContentType == "binary/octet-stream" {
		if text := bytes.TrimSpace(f.Data[:min(len(f.Data), 64)]); len(text) > 0 && (text[0] == '[' || text[0] == '{') && json.Valid(f.Data) {
			f.ContentType = jsonType
		}
	}
	return f
}

// change changes members of the arguments, removes texts of these names, and adds files.
func (c *call) change(m actions.Model, changed map[string]json.RawMessage, files []actions.File) {
	if len(changed) == 0 {
		return
	}
	if !m.ParsesArguments() {
		c.values.JSON = maps.Clone(c.values.JSON)
		if c.values.JSON == nil {
			c.values.JSON = map[string]json.RawMessage{}
		}
		for name, raw := range changed {
			delete(c.values.Text, name)
			if c.values.JSON[name] = raw; raw == nil {
				delete(c.values.JSON, name)
			}
		}
		c.values.Files = append(c.values.Files, files...)
		return
	}
	c.given.texts = slices.DeleteFunc(c.given.texts, func(t actions.Text) bool {
		_, gone := changed[t.Name]
		return gone && isParameter(t)
	})
	c.given.files = append(c.given.files, files...)
	if len(c.given.args) > 0 {
		c.given.args = rewritten(c.given.args, changed)
	}
}

// rewritten is a JSON object with other values of some members, or without them.
func rewritten(object json.RawMessage, changed map[string]json.RawMessage) json.RawMessage {
	out := append(make([]byte, 0, len(object)), '{')
	put := map[string]bool{}
	_ = scanMembers(object, -1, func(s *jsonscan.Scanner, key []byte) bool {
		raw, ok := s.Raw()
		value, other := changed[string(key)]
		if other {
			if value == nil || put[string(key)] {
				return ok
			}
			put[string(key)] = true
			raw = value
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(out, quoted(string(key))...), ':')
		out = append(out, raw...)
		return ok
	})
	return append(out, '}')
}

// A stored is the result of a call whose answer is elsewhere.
type stored struct {
	ResultTo    string `json:"result_to"`
	ContentType string `json:"content_type"`
	Filename    string `json:"filename,omitempty"`
	Size        int    `json:"size"`
	SHA256      string `json:"sha256"`
}

// storeResult stores the answer of a call, as it is, where the caller wants it, and makes
// what it answers say so. A function that says itself where its result is has stored it.
func (s *Server) storeResult(ctx context.Context, c *call) error {
	refs, a := c.references, &c.response
	if refs == nil || refs.to == "" || refs.function && hasMember(a, resultTo) {
		return nil
	}
	f := actions.File{Filename: a.Filename, ContentType: a.ContentType, Data: a.Data}
	if err := s.cfg.Storage.Store(ctx, refs.to, f); err != nil {
		what := fmt.Sprintf("was asked for, and the model has answered, but its answer (%d bytes of %s) is not stored; "+
			"give a URL that takes it, or call again without %s to get the answer itself: ", len(a.Data), short(a.ContentType), resultTo)
		return referenceError(resultTo, what, err)
	}
	hash := sha256.Sum256(a.Data)
	doc := jsonResponse(0, stored{shownURL(refs.to), a.ContentType, a.Filename, len(a.Data), hex.EncodeToString(hash[:])})
	a.ContentType, a.Filename, a.Whole = jsonType, "", false
	a.Data = bytes.TrimSuffix(doc.body, []byte("\n"))
	return nil
}

// hasMember says whether an answer is a JSON object with a member.
func hasMember(a *actions.Response, name string) bool {
	if !isJSON(a.ContentType) || !bytes.Contains(a.Data, []byte(`"`+name+`"`)) {
		return false
	}
	found := false
	bad := scanMembers(a.Data, -1, func(s *jsonscan.Scanner, key []byte) bool {
		found = found || string(key) == name
		return s.Value()
	})
	return bad == nil && found
}
