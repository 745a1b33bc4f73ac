package worker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	headSize   = 16       // the four lengths before a request's own strings
	partSize   = 24       // the lengths before a part's strings
	dataAlign  = 64       // data begin at a multiple of it, so that they can be used in place
	partAlign  = 8        // so does a part
	maxString  = 64 << 10 // a name, a media type
	maxFailure = 1 << 20  // the JSON of an error
	jsonType   = "application/json"
)

// A part is a piece of a payload. The data of a part that was parsed lie in the
// payload still.
type part struct {
	name, contentType, filename string
	kind                        uint32
	data                        []byte
}

// kindWhole marks the response that is a whole document. The kinds of a request's parts
// are 0 for arguments and files, the Origin of a text, or kindTrace.
const kindWhole = 1

// kindTrace marks a header of the trace context. They come last, the names are those of
// the headers.
const (
	kindTrace   = 5
	traceParent = "traceparent"
	traceState  = "tracestate"
)

// wholeKind returns the kind of a response's part.
func wholeKind(whole bool) uint32 {
	if whole {
		return kindWhole
	}
	return 0
}

func align(n, to int) int { return (n + to - 1) &^ (to - 1) }

// end returns where a part that begins at n ends.
func (p *part) end(n int) int {
	n = align(n, partAlign) + partSize + len(p.name) + len(p.contentType) + len(p.filename)
	return align(n, dataAlign) + len(p.data)
}

// put writes p at n, for which there is room, and returns where it ends.
func (p *part) put(b []byte, n int) int {
	n = p.putHead(b, n, len(p.data))
	return n + copy(b[n:], p.data)
}

// putHead writes what stands before the size bytes of the data, and returns where those
// begin.
func (p *part) putHead(b []byte, n, size int) int {
	n = align(n, partAlign)
	le := binary.LittleEndian
	le.PutUint32(b[n:], uint32(len(p.name)))
	le.PutUint32(b[n+4:], uint32(len(p.contentType)))
	le.PutUint32(b[n+8:], uint32(len(p.filename)))
	le.PutUint32(b[n+12:], p.kind)
	le.PutUint64(b[n+16:], uint64(size))
	n += partSize
	n += copy(b[n:], p.name)
	n += copy(b[n:], p.contentType)
	n += copy(b[n:], p.filename)
	return align(n, dataAlign)
}

// checkStrings refuses strings that no receiver would take.
func checkStrings(strs ...string) error {
	for _, s := range strs {
		if len(s) > maxString {
			return actions.Errorf(actions.TooLarge, "a name or media type has %d bytes, the limit is %d",
				len(s), maxString)
		}
	}
	return nil
}

func tooLarge(what string, size, limit int) error {
	return actions.Errorf(actions.TooLarge, "%s needs %d bytes of shared memory, the limit is %d", what, size, limit)
}

// putParts writes parts after n and returns where they end.
func putParts(b []byte, n int, what string, parts []part) (int, error) {
	size := n
	for i := range parts {
		p := &parts[i]
		if err := checkStrings(p.name, p.contentType, p.filename); err != nil {
			return 0, err
		}
		size = p.end(size)
	}
	if size > len(b) {
		return 0, tooLarge(what, size, len(b))
	}
	for i := range parts {
		n = parts[i].put(b, n)
	}
	return n, nil
}

// putRequest writes the payload of a call. It returns its length and its number of
// parts.
func putRequest(b []byte, req *actions.Request) (length, count int, err error) {
	verb := req.Verb
	if verb == "" {
		verb = actions.Predict
	}
	head := [4]string{req.Model, string(verb), req.ID, req.Accept}
	if err := checkStrings(head[:]...); err != nil {
		return 0, 0, err
	}
	n := headSize
	for _, s := range head {
		n += len(s)
	}
	if n > len(b) {
		return 0, 0, tooLarge("the request", n, len(b))
	}
	var few [4]part // enough for most requests, on the stack
	parts := append(few[:0], part{contentType: jsonType, data: req.Args})
	for _, f := range req.Files {
		parts = append(parts, part{f.Name, f.ContentType, f.Filename, 0, f.Data})
	}
	for _, t := range req.Texts {
		parts = append(parts, part{name: t.Name, kind: uint32(t.Origin), data: []byte(t.Value)})
	}
	if req.Trace.Parent != "" {
		parts = append(parts, part{name: traceParent, kind: kindTrace, data: []byte(req.Trace.Parent)})
		if req.Trace.State != "" {
			parts = append(parts, part{name: traceState, kind: kindTrace, data: []byte(req.Trace.State)})
		}
	}
	end, err := putParts(b, n, "the request", parts)
	if err != nil {
		return 0, 0, err
	}
	n = headSize
	for i, s := range head {
		binary.LittleEndian.PutUint32(b[4*i:], uint32(len(s)))
		n += copy(b[n:], s)
	}
	return end, len(parts), nil
}

// parsePart reads the part that begins at n. The lengths are copied out of the shared
// memory before they are looked at: the other side may change them at any time.
func parsePart(b []byte, n int) (p part, end int, err error) {
	n = align(n, partAlign)
	if n > len(b) || len(b)-n < partSize {
		return part{}, 0, errors.New("a part begins behind the end of the payload")
	}
	h := [partSize]byte(b[n:])
	n += partSize
	var strs [3]string
	for i := range strs {
		if strs[i], n, err = parseString(b, n, binary.LittleEndian.Uint32(h[4*i:])); err != nil {
			return part{}, 0, err
		}
	}
	size := binary.LittleEndian.Uint64(h[16:])
	n = align(n, dataAlign)
	if n > len(b) || size > uint64(len(b)-n) {
		return part{}, 0, fmt.Errorf("a part of %d bytes of data in a payload of %d", size, len(b))
	}
	end = n + int(size)
	kind := binary.LittleEndian.Uint32(h[12:])
	return part{strs[0], strs[1], strs[2], kind, b[n:end:end]}, end, nil
}

// parseString reads the string of size bytes at n.
func parseString(b []byte, n int, size uint32) (string, int, error) {
	if size > maxString || int(size) > len(b)-n {
		return "", 0, fmt.Errorf("a string of %d bytes in a payload of %d", size, len(b))
	}
	s := b[n : n+int(size)]
	switch string(s) { // without copies of the words that come all the time
	case jsonType:
		return jsonType, n + len(s), nil
	case string(actions.Predict):
		return string(actions.Predict), n + len(s), nil
	}
	return string(s), n + len(s), nil
}

// parseRequest reads the payload of a call. The bytes of the request lie in b.
func parseRequest(b []byte, count uint32) (actions.Request, error) {
	if len(b) < headSize {
		return actions.Request{}, fmt.Errorf("a request of %d bytes", len(b))
	}
	if count == 0 || uint64(count) > uint64(len(b)/partSize) {
		return actions.Request{}, fmt.Errorf("a request of %d parts in %d bytes", count, len(b))
	}
	h := [headSize]byte(b)
	var head [4]string
	n, err := headSize, error(nil)
	for i := range head {
		if head[i], n, err = parseString(b, n, binary.LittleEndian.Uint32(h[4*i:])); err != nil {
			return actions.Request{}, err
		}
	}
	args, n, err := parsePart(b, n)
	if err != nil {
		return actions.Request{}, err
	}
	req := actions.Request{Model: head[0], Verb: actions.Verb(head[1]), ID: head[2], Accept: head[3]}
	if len(args.data) > 0 {
		req.Args = args.data
	}
	for range count - 1 {
		var p part
		if p, n, err = parsePart(b, n); err != nil {
			return actions.Request{}, err
		}
		if err := addPart(&req, &p); err != nil {
			return actions.Request{}, err
		}
	}
	if req.Trace.Parent == "" {
		req.Trace.State = "" // it belongs to nothing
	}
	return req, nil
}

// addPart adds a part that is not the arguments to a request.
func addPart(req *actions.Request, p *part) error {
	switch {
	case p.kind == 0:
		req.Files = append(req.Files, actions.File{
			Name: p.name, Filename: p.filename, ContentType: p.contentType, Data: p.data,
		})
	case p.kind <= uint32(actions.FromContext):
		req.Texts = append(req.Texts, actions.Text{Origin: actions.Origin(p.kind), Name: p.name, Value: string(p.data)})
	case p.kind == kindTrace && p.name == traceParent:
		req.Trace.Parent = string(p.data)
	case p.kind == kindTrace && p.name == traceState:
		req.Trace.State = string(p.data)
	case p.kind == kindTrace: // of a later version of trace contexts
	default:
		return fmt.Errorf("a part of kind %d", p.kind)
	}
	return nil
}

// parseOne reads a payload that has to be of one part.
func parseOne(b []byte, count uint32) (part, error) {
	if count != 1 {
		return part{}, fmt.Errorf("a payload of %d parts where there must be one", count)
	}
	p, _, err := parsePart(b, 0)
	return p, err
}

// A failure is an actions.Error as it crosses to the parent.
type failure struct {
	Code         actions.Code        `json:"code"`
	Msg          string              `json:"msg"`
	Fields       map[string][]string `json:"fields,omitempty"`
	Status       int                 `json:"status,omitempty"`
	RetryAfterMS int64               `json:"retry_after_ms,omitempty"`
}

// putFailure writes the payload of an error. What is too long for it is left out.
func putFailure(b []byte, e *actions.Error) (int, error) {
	f := failure{e.Code, e.Error(), e.Fields, e.Status, e.RetryAfter.Milliseconds()}
	data, err := json.Marshal(f)
	if err != nil || len(data) > maxFailure || len(data) > len(b)-2*dataAlign {
		msg := f.Msg[:min(len(f.Msg), maxString/8)]
		data, err = json.Marshal(failure{Code: f.Code, Msg: msg})
	}
	if err != nil {
		return 0, err
	}
	return putParts(b, 0, "the error", []part{{contentType: jsonType, data: data}})
}

// parseFailure reads the payload of an error.
func parseFailure(b []byte, count uint32) (*actions.Error, error) {
	if len(b) > maxFailure+2*dataAlign {
		return nil, fmt.Errorf("an error of %d bytes", len(b))
	}
	p, err := parseOne(b, count)
	if err != nil {
		return nil, err
	}
	return parseFailurePart(p.data)
}

// parseFailurePart reads the JSON of an error.
func parseFailurePart(data []byte) (*actions.Error, error) {
	if len(data) > maxFailure {
		return nil, fmt.Errorf("an error of %d bytes", len(data))
	}
	var f failure
	// The JSON is copied first: the other side could change it while it is parsed.
	if err := json.Unmarshal(append([]byte(nil), data...), &f); err != nil {
		return nil, fmt.Errorf("an error that cannot be read: %w", err)
	}
	retry := time.Duration(min(max(f.RetryAfterMS, 0), int64(time.Hour/time.Millisecond))) * time.Millisecond
	if f.Status < 400 || f.Status > 599 {
		f.Status = 0
	}
	return &actions.Error{Code: knownCode(f.Code), Msg: f.Msg, Fields: f.Fields, Status: f.Status, RetryAfter: retry}, nil
}

// knownCode returns c, or Failed for a code that no protocol would know.
func knownCode(c actions.Code) actions.Code {
	switch c {
	case actions.Invalid, actions.NotFound, actions.Unsupported, actions.TooLarge, actions.Conflict,
		actions.Busy, actions.Unavailable, actions.Deadline, actions.Canceled, actions.Failed, actions.NoAnswer,
		actions.Exited, actions.Internal:
		return c
	case actions.Unauthorized, actions.Forbidden: // no child's to say
	}
	return actions.Failed
}
